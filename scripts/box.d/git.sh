# What box does for a repository: everything that git runs or reads as orders stays as it is, and the rest can be written.
# shellcheck shell=sh
# shellcheck disable=SC2154 # box sets it

# Read-only at its place. A directory above it that could be renamed would take it along, and another could come in its place:
# so each becomes a mount itself, which cannot be (rename(2), EBUSY).
pin() { # TOP PATH
    rest=${2#"$1"/} above=$1
    while [ "$rest" != "${rest#*/}" ]; do
        above=$above/${rest%%/*} rest=${rest#*/}
        case " $pinned " in *" $above "*) ;; *) pinned="$pinned $above " && bind "$above" ;; esac
    done
    bind "$2" ro,nosuid,nodev
}

# One that is not there could be made, and on the host's disk nothing is made to prevent it.
must_exist() { [ -d "$1" ] || die "$1: not there, so COMMAND could make it, and git would run what is in it (mkdir it, or -G)"; }

find_repository() {
    pinned='' git=$dir/.git
    # A worktree's is a file that names its directory, which names the common one (gitrepository-layout(5)).
    common=$git
    if [ -f "$git" ]; then
        read -r word place <"$git" || :
        [ "$word" = gitdir: ] || die "$git: not a repository of git's"
        real "$place" && private=$real
        common=$private
        if [ -f "$private/commondir" ]; then
            read -r place <"$private/commondir" || :
            case $place in /*) ;; *) place=$private/$place ;; esac
            real "$place" && common=$real
        fi
        # The directory's own file could be written by who made the work.
        if [ ! -d "$common/objects" ] || [ ! -O "$common" ]; then die "$common: not a repository of yours"; fi
        case $common/ in "$dir"/*) ;; *) nothing_hidden_in "$common" && bind "$common" ;; esac
        bind "$git" ro,nosuid,nodev
    else
        # Only a worktree's has one. Nothing keeps COMMAND from making it, and git would read its configuration where it says.
        [ ! -e "$git/commondir" ] || die "$git/commondir: git reads hooks and configuration elsewhere; look at it, and rm it"
        bind "$git"
    fi
    [ -z "$open_git" ] || return 0
    must_exist "$common/hooks"
    for name in hooks config config.worktree commondir info/attributes modules; do
        [ ! -e "$common/$name" ] || pin "$common" "$common/$name"
    done
    for file in "$common"/worktrees/*/commondir "$common"/worktrees/*/gitdir "$common"/worktrees/*/config.worktree; do
        [ ! -e "$file" ] || pin "$common" "$file"
    done
    # What the configuration leads to in the tree: hooks, and files that it includes (git-config(1)).
    config=$(git -C "$dir" config --null --get-regexp --path '^(core\.hookspath|include\.path|includeif\..*\.path)$' 2>/dev/null | tr '\0\n' '\n\t') || :
    while IFS='	' read -r key place; do
        case $key in '') continue ;; core.hookspath) from=$dir ;; *) from=$common ;; esac
        case $place in /*) ;; *) place=$from/$place ;; esac
        place=$(realpath -m -- "$place")
        case $place in "$dir"/*) ;; *) continue ;; esac
        case $place in "$common"/*) continue ;; esac
        if [ "$key" = core.hookspath ]; then must_exist "$place"; fi
        [ -e "$place" ] || die "$place: not there, so COMMAND could make it, and git reads it as configuration (make it, or -G)"
        pin "$dir" "$place"
    done <<CONFIG
$config
CONFIG
}
