# box -k DIR: the directory as an overlay. DIR says whose changes these are, and since when (box.d/changes).
# shellcheck shell=sh
# shellcheck disable=SC2154 # box sets it

keep=$(realpath -m -- "$keep")
[ -z "$as" ] || die '-k: not for root, who would own the changes'
case $keep/ in "$dir"/*) die "-k $keep: lies in the directory whose changes it takes" ;; esac
case $keep in *,*) die "-k $keep: has a comma in its name" ;; esac
if [ -e "$keep/of" ]; then
    [ "$(cat "$keep/of"; echo .)" = "$dir." ] || die "-k $keep: has the changes of $(cat "$keep/of")"
elif [ -e "$keep" ] && ! rmdir -- "$keep" 2>/dev/null; then
    die "-k $keep: is there, and not from box -k"
elif [ -z "$explain" ]; then
    (umask 077 && mkdir -p -- "$keep/changes" && printf %s "$dir" >"$keep/of") || die "-k $keep: cannot be made"
fi
mount "--bind=.:$escaped:nosuid,nodev,overlay=$keep/changes"
