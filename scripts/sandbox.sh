# What container, ci-sandbox and enter have in common: each reads this file, and its functions.
# shellcheck shell=sh
# shellcheck disable=SC2034 # what the one does not need, another does

script=${0##*/}
clean_path=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
usage() { sed -n '2,/^set -e/{/^set -e/d;s/^# \{0,1\}//;p;}' "$0"; }
wrong() { usage >&2; exit 125; }
die() { echo "$script: $*" >&2; exit 125; }

# What getopts found, where the first character of its options is a colon.
no_option() {
    # shellcheck disable=SC2154 # getopts sets it
    case $option in
    :) die "-$OPTARG: its value is missing" ;;
    *) die "-$OPTARG: no such option; $script --help lists them" ;;
    esac
}

# A word that eval reads back as it is, whatever is in it.
quote() {
    case $1 in
    *\'*) printf "'"; printf %s "$1" | sed "s/'/'\\\\''/g"; printf "' " ;;
    *) printf "'%s' " "$1" ;;
    esac
}

# -e NAME=VALUE, or -e NAME for the caller's: quoted, and nothing where the caller has none.
variable() {
    case $1 in
    [!A-Za-z_]* | '') die "-e $1: not a variable" ;;
    *=*) quote "$1" ;;
    *) ! value=$(printenv -- "$1" && echo .) || quote "$1=${value%??}" ;;
    esac
}

# To pass $1, whose assignment is $2. What was given has been on a command line; what is the caller's stays in the
# environment, which nobody else can read (proc_pid_environ(5)), unless something given before has to be overridden.
kept=''
pass() {
    case "$1 $passed" in
    "${1%%=*}="* | *" '$1="*) passed=$passed$2 ;;
    *) kept="$kept-e $(quote "$1")" ;;
    esac
}

# The options of env(1) that leave nothing of the caller's environment but what is kept. The arguments that come after
# env -i would be everybody's to read for a moment.
find_others() {
    others=$(
        export LC_ALL=C
        eval "env -0 | cut -z -d = -f 1 | grep -zvxF -e '' $kept" | sed -z "s/'/'\\\\''/g; s/.*/--unset='&'/" | tr '\0' ' '
    )
    # There is PWD at least, by the shell.
    [ -n "$others" ] || die "the caller's environment: cannot be listed"
}

# A path that still leads there from another working directory.
absolute() {
    case $1 in
    /*) printf %s "$1" ;;
    *) printf %s "$PWD/$1" ;;
    esac
}

# The same for the SRC of SRC:DST, where a colon of the working directory's own has to be escaped.
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

# The options of container and ci-sandbox, as lists of quoted words. Sets $operands to how many words they were.
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
            # In a list of its own: what fails in a substitution within words is not heard.
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

# As root the image's users are those of the host; an ordinary user is root inside, and has the image's other users where
# he was granted ids for them.
find_user() {
    user=''
    [ "$(id -u)" != 0 ] || return 0
    user=--map-root
    ! isolate --map-auto -- true 2>/dev/null || user=--map-auto
}

# Refuses a cache in which others could have written a root, or could give its name to another: anyone who can write to a
# directory can rename what is in it, but in a sticky one only his own. The owner of / has everything anyway, also where a
# user namespace does not show him as root.
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
    [ -n "$cache" ] || die 'neither XDG_CACHE_HOME nor HOME is set: where to keep roots is not known'
    cache=$(realpath -m -- "$cache/chainroot")
    # Before anything is made there, and after it, for what others made meanwhile in a sticky directory.
    refuse_others "$cache"
    why=$(umask 077 && mkdir -p "$cache" 2>&1) || die "$cache: ${why##*: }"
    refuse_others "$cache"
    [ -n "$(find "$cache" -maxdepth 0 -user "$(id -u)" ! -perm /022)" ] ||
        die "$cache: must be yours, and nobody else may write there"
}

# A container holds a lock on its root's receipt as long as it runs (proc_locks(5)).
runs() { grep -q ":$(stat -c %i "$1") " /proc/locks; }

# Removes roots by their receipts, but for those that a container runs on. A container that is just starting looks for the
# root's name again once it has its lock, so what is locked under another name never started.
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

# Unpacks $image once. Another image at the same place gets another root, and the older one goes when nothing runs on it.
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
    # What the image says of variables, directory, user and command counts, where it says anything.
    grep -q '"config": *{' "$root.image.json" || as_image=''
}

# A limit that was asked for is set or is an error. The default ones are set, or we say that they are not.
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

# A terminal for COMMAND where the caller's is ours to read; no terminal anywhere else. The process group is the third field
# after the name, and the terminal's the sixth (proc_pid_stat(5)).
find_session() {
    session=--new-session
    if [ ! -t 0 ]; then
        [ -z "$terminal" ] || die '-t: standard input is not a terminal'
        return 0
    fi
    # The reader of a pipe may want the keys itself, as less(1) does, and only one of the two can have them.
    [ -n "$terminal" ] || { [ ! -p "/proc/$$/fd/1" ] && [ ! -S "/proc/$$/fd/1" ]; } || return 0
    read -r stat </proc/$$/stat
    # shellcheck disable=SC2086 # words
    set -- ${stat##*) }
    [ "$3" != "$6" ] || session=--pty
}

# pasta answers here for the resolver that the host asks, be it one on the host's loopback.
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
