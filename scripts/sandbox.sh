# What container, ci-sandbox, enter, box and erofs have in common; each sources this file.
# shellcheck shell=sh
# shellcheck disable=SC2034 # not each of them uses everything

script=${0##*/}
clean_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
usage() { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p;}' "$0"; }
wrong() { usage >&2; exit 125; }
die() { echo "$script: $*" >&2; exit 125; }

# Reports what getopts found wrong; its option string must begin with a colon.
no_option() {
    # shellcheck disable=SC2154 # getopts sets it
    case $option in
    :) die "-$OPTARG: its value is missing" ;;
    *) die "-$OPTARG: no such option; $script --help lists them" ;;
    esac
}

# Quotes a word so that eval reads it back unchanged, whatever it contains.
quote() {
    case $1 in
    *\'*) printf "'"; printf %s "$1" | sed "s/'/'\\\\''/g"; printf "' " ;;
    *) printf "'%s' " "$1" ;;
    esac
}

# -e NAME=VALUE, or -e NAME for the caller's value: quoted, or nothing if the caller has none.
variable() {
    case $1 in
    [!A-Za-z_]* | '') die "-e $1: not a variable" ;;
    *=*) quote "$1" ;;
    *) ! value=$(printenv -- "$1" && echo .) || quote "$1=${value%??}" ;;
    esac
}

# Passes on $1, whose assignment is $2. A value that was given has been on a command line anyway; the caller's own stays
# in the environment, which nobody else can read (proc_pid_environ(5)), unless it must override a value given before.
kept=''
pass() {
    case "$1 $passed" in
    "${1%%=*}="* | *" '$1="*) passed=$passed$2 ;;
    *) kept="$kept-e $(quote "$1")" ;;
    esac
}

# The options of env(1) that remove everything from the caller's environment but what is kept. With env -i, the values
# would be arguments, which anybody can read for a moment.
find_others() {
    others=$(
        export LC_ALL=C
        eval "env -0 | cut -z -d = -f 1 | grep -zvxF -e '' $kept" | sed -z "s/'/'\\\\''/g; s/.*/--unset='&'/" | tr '\0' ' '
    )
    # The shell sets at least PWD.
    [ -n "$others" ] || die "the caller's environment: cannot list it"
}

# Makes a path independent of the working directory.
absolute() {
    case $1 in
    /*) printf %s "$1" ;;
    *) printf %s "$PWD/$1" ;;
    esac
}

# The same for the SRC of SRC:DST, where a colon in the working directory's path must be escaped.
absolute_source() {
    case $1 in
    /*) printf %s "$1" ;;
    *) printf '%s/%s' "$(printf %s "$PWD" | sed 's/:/\\:/g')" "$1" ;;
    esac
}

find_tools() {
    case $0 in */*) beside=${0%/*} ;; *) beside=. ;; esac
    PATH=${CHAINROOT_BIN:+$CHAINROOT_BIN:}$PATH:$beside/../target/chainroot
    isolate=$(command -v isolate) || die 'isolate: not found (scripts/build makes it)'
    case $isolate in /*) ;; *) isolate=$PWD/$isolate ;; esac
}

# Reads the options of container and ci-sandbox into lists of quoted words. Sets $operands to the number of words read.
read_options() {
    binds='' variables='' chdir='' memory='' pids='' cpus='' net=--net resolv='' keep='' ids='' read_only='' hostname=$script
    terminal=''
    as_image=--as-image
    case ${1-} in
    --help) usage; exit ;;
    --prune) [ $# = 1 ] || wrong; find_tools; find_cache; prune "$cache"/*.image.json; rm -f "$cache"/resolv.conf*; exit ;;
    esac
    while getopts :hv:e:w:m:p:c:n:k:u:rtH:x option; do
        case $option in
        v) binds="$binds--bind=$(quote "$(absolute_source "$OPTARG")")" ;;
        e)
            # On a line of its own: a substitution that fails within words goes unnoticed.
            assignment=$(variable "$OPTARG") || exit
            # By the environment, which is the caller's to read: ps(1) shows everybody a command line. But what a program of
            # the host's would act on is not for isolate.
            case $assignment in
            '') ;;
            \'PATH=* | \'LD_*) variables="$variables--env=$assignment" ;;
            *) pass "$OPTARG" "$assignment"; variables="$variables--env=$(quote "${OPTARG%%=*}")" ;;
            esac
            ;;
        w) chdir=--chdir=$(quote "$OPTARG") ;;
        m) memory=--memory=$(quote "$OPTARG") ;;
        p) pids=--pids-max=$(quote "$OPTARG") ;;
        c) cpus=--cpus=$(quote "$OPTARG") ;;
        n)
            case $OPTARG in
            */*) net=--join=$(quote "net=$(absolute "$OPTARG")") ;;
            pasta) net=--net=pasta resolv=yes ;;
            *) die "-n $OPTARG: pasta, or the FILE of a network namespace" ;;
            esac
            ;;
        k) keep=$OPTARG ;;
        u) ids="--setuid=$(quote "${OPTARG%%:*}")--setgid=$(quote "${OPTARG#*:}")" ;;
        r) read_only='--read-only --tmpfs=/tmp ' ;;
        t) terminal=yes ;;
        H) hostname=$OPTARG ;;
        x) as_image='' ;;
        h) usage; exit ;;
        *) no_option ;;
        esac
    done
    operands=$((OPTIND - 1))
}

# For root, the image's users are those of the host. An ordinary user is root inside, with the image's other users if
# subordinate ids were granted.
find_user() {
    user=''
    [ "$(id -u)" != 0 ] || return 0
    user=--map-root
    ! isolate --map-auto -- true 2>/dev/null || user=--map-auto
}

# Refuses a cache in which others could have written a root, or whose name they could give to another directory: anyone
# who can write to a directory can rename what is in it, except in a sticky one. The owner of / has everything anyway,
# even if a user namespace does not show that owner as root.
refuse_others() {
    way=${1%/*}
    set -- /
    while [ -n "$way" ]; do
        set -- "$@" "$way"
        way=${way%/*}
    done
    foreign=$(find "$@" -maxdepth 0 ! \( \( -user "$(id -u)" -o -user 0 -o -user "$(stat -c %u /)" \) \
        \( ! -perm /022 -o -perm -1000 \) \) 2>/dev/null | head -n 1)
    [ -z "$foreign" ] || die "$cache: another user owns $foreign or may write there (set XDG_CACHE_HOME to another directory)"
}

find_cache() {
    # A system service has neither variable (systemd.exec(5)).
    cache=${XDG_CACHE_HOME:-${HOME:+$HOME/.cache}}
    [ -n "$cache" ] || [ "$(id -u)" != 0 ] || cache=/var/cache
    [ -n "$cache" ] || die 'neither XDG_CACHE_HOME nor HOME is set: no place to keep roots'
    cache=$(realpath -m -- "$cache/chainroot")
    # Check before making anything there, and again after, for what others made meanwhile in a sticky directory.
    refuse_others "$cache"
    why=$(umask 077 && mkdir -p "$cache" 2>&1) || die "$cache: ${why##*: }"
    refuse_others "$cache"
    [ -n "$(find "$cache" -maxdepth 0 -user "$(id -u)" ! -perm /022)" ] ||
        die "$cache: must be yours, and nobody else may write there"
}

# A container locks its root's receipt as long as it runs (proc_locks(5)).
runs() { grep -q ":$(stat -c %i "$1") " /proc/locks; }

# Removes roots by their receipts, except those in which a container runs. A container that is just starting looks the
# root's name up again once it has its lock, so a root locked under another name never started.
prune() {
    find_user
    for receipt in "$@"; do
        old=${receipt%.image.json}
        if [ ! -d "$old" ] || [ "$old" = "${root-}" ] || runs "$receipt"; then continue; fi
        mv "$receipt" "$receipt.gone"
        if runs "$receipt.gone"; then
            mv "$receipt.gone" "$receipt"
            continue
        fi
        mv "$old" "$old.gone"
        # shellcheck disable=SC2086 # an option or none
        isolate $user -- rm -rf --one-file-system "$old.gone" "$receipt.gone"
    done
}

# Unpacks $image once. Another image at the same path gets another root, and the older root goes once nothing runs in it.
find_root() {
    find_cache
    # shellcheck disable=SC2154 # whose file this is sets it
    index=$image
    [ ! -d "$image" ] || index=$image/index.json
    sum() { cksum | cut -d ' ' -f 1; }
    place=$cache/$(basename "$image").$(printf %s "$image$user" | sum)
    root=$place.$(stat -c '%d %i %s %y %z' "$index" | sum)
    # shellcheck disable=SC2086 # an option or none
    isolate $user -- unpack --quiet "$image" "$root" >/dev/null
    prune "$place".*.image.json
    # The image's variables, directory, user and command count, if it has any.
    grep -q '"config": *{' "$root.image.json" || as_image=''
}

# A limit that was asked for is set, or it is an error. Default limits are set, or we say that they are not.
find_limits() {
    asked=$memory$pids$cpus
    limits="${memory:---memory=512M }${pids:---pids-max=512 }$cpus"
    why=$(eval "isolate $user $limits -- true" 2>&1) && return
    if [ -n "$asked" ]; then
        limits=$asked
        eval "isolate $user $limits -- true" 2>/dev/null || { own_words "$why" >&2; exit 125; }
    else
        limits=''
    fi
    echo "$script: running WITHOUT the usual limits (memory 512M, 512 processes):" >&2
    own_words "$why" >&2
}

# Makes the hint's command line one with this script.
own_words() { printf '%s\n' "$1" | sed "s/^isolate:/$script:/; s/ -- isolate …/ -- $script …/"; }

# COMMAND gets a terminal if we are in the foreground of the caller's, otherwise none. The process group is the third
# field after the name, the terminal's foreground group the sixth (proc_pid_stat(5)).
find_session() {
    session=--new-session
    if [ ! -t 0 ]; then
        [ -z "$terminal" ] || die '-t: standard input is not a terminal'
        return 0
    fi
    # The reader of a pipe may want the keys itself, as less(1) does, and only one of them can have them.
    [ -n "$terminal" ] || { [ ! -p "/proc/$$/fd/1" ] && [ ! -S "/proc/$$/fd/1" ]; } || return 0
    read -r stat </proc/$$/stat
    # shellcheck disable=SC2086 # words
    set -- ${stat##*) }
    [ "$3" != "$6" ] || session=--pty
}

# pasta answers at this address for the host's resolver, even if that is on the host's loopback.
find_resolver() {
    [ -n "$resolv" ] || return 0
    if grep -q '^nameserver [0-9.]*$' /etc/resolv.conf; then
        { echo 'nameserver 169.254.1.1' && sed /^nameserver/d /etc/resolv.conf; } >"$cache/resolv.conf.$$"
        mv "$cache/resolv.conf.$$" "$cache/resolv.conf"
        resolv=--bind=$(quote "$cache/resolv.conf:/etc/resolv.conf:ro")
    else
        resolv='--etc=resolv '
    fi
}
