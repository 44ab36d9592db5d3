# shellcheck shell=sh disable=SC2154 # repo and work are the callers'
# What test-kernels and test-systemd share: the programs to test, on a disk for a machine under qemu.
# Sourced with $repo, the checkout, and $work, a directory that goes.

# needs WHO PROGRAM:PACKAGE...
needs() {
    who=$1
    shift
    PATH=$PATH:/usr/sbin:/sbin
    for need in "$@"; do
        command -v "${need%%:*}" >/dev/null || {
            echo "$who: ${need%%:*}: not found" >&2
            echo "$who: hint: apt install ${need#*:}" >&2
            exit 125
        }
    done
}

# programs DIR [PACKAGE/NAME]...: this repository's files, tools and test programs (these, or all of them) below DIR under
# the same names as here, since that is what the tests have compiled in; DIR/tests lists the test programs, a line
# PACKAGE/NAME PROGRAM each.
programs() {
    disk=$1
    shift
    mkdir -p "$disk$repo"
    git ls-files -z | tar --null --ignore-failed-read -T - -cf - 2>/dev/null | tar -C "$disk$repo" -xf -
    # In the whole workspace, as .ci/run builds them: for one package, dependencies would have other features.
    # shellcheck disable=SC2046 # words
    cargo test --quiet --workspace $(for name in "$@"; do echo "--test ${name#*/}"; done) --no-run \
        --message-format=json >"$work/messages"
    cargo build --quiet --workspace --bins --message-format=json >>"$work/messages"
    sed -n 's|.*"package_id":"path+file://'"$repo"'/\([^"#]*\)#.*"target":{[^}]*"name":"\([^"]*\)".*"executable":"\([^"]*\)".*|\1/\2 \3|p' \
        "$work/messages" | sort -u >"$work/programs"
    while read -r name program; do
        case $program in
        */deps/*)
            case " ${*:-$name} " in *" $name "*) echo "$name $program" ;; *) continue ;; esac
            ;;
        esac
        mkdir -p "$disk${program%/*}"
        cp "$program" "$disk$program"
        strip "$disk$program" 2>/dev/null || true
    done <"$work/programs" >"$disk/tests"
}
