# What box wants to know of the machine, as assignments for a shell: one program that reads, since each costs a
# millisecond. Reads the environment, /proc/self/status, limits, mountinfo, /etc/passwd and /proc/net/unix.

function quoted(text) { gsub(/'/, "'\\''", text); return "'" text "'" }
# As mountinfo writes a path (proc_pid_mountinfo(5)).
function unescaped(text) {
    gsub(/\\040/, " ", text); gsub(/\\011/, "\t", text); gsub(/\\012/, "\n", text); gsub(/\\134/, "\\", text)
    return text
}
# What follows in a path that lies below a directory, or nothing where it does not.
function below(path, directory) {
    if (directory == "/") directory = ""
    return index(path "/", directory "/") == 1 ? substr(path, length(directory) + 1) "/" : ""
}
# A socket's name, and those that it has by other mounts of its filesystem.
function hide(path,    i, rest, on, there) {
    if (path in seen) return
    seen[path]
    names = names quoted(path) " "
    hidden = hidden "--hide=" quoted(path) " "
    for (i = 1; i <= mounts; i++) if (below(path, point[i]) != "") on = i
    there = (root[on] == "/" ? "" : root[on]) "/" below(path, point[on])
    gsub(/\/+/, "/", there); sub(/\/$/, "", there)
    for (i = 1; i <= mounts; i++) {
        if (i == on || device[i] != device[on]) continue
        rest = below(there, root[i])
        if (rest == "") continue
        rest = point[i] "/" rest
        gsub(/\/+/, "/", rest); sub(/\/$/, "", rest)
        if (!(rest in seen)) hidden = hidden "--hide=" quoted(rest) " "
        seen[rest]
    }
}

FILENAME == "/proc/self/status" && $1 == "Uid:" { uid = $3 }
FILENAME == "/proc/self/limits" && /^Max processes/ { nproc = $3 }
FILENAME == "/proc/self/limits" && /^Max core file size/ { core = $6 }
FILENAME == "/proc/self/mountinfo" { mounts++; device[mounts] = $3; root[mounts] = unescaped($4); point[mounts] = unescaped($5) }
FILENAME == "/etc/passwd" && split($0, account, ":") > 6 && account[3] == uid && home == "" { home = account[6]; shell = account[7] }
# Its name comes last, and may have blanks in it.
FILENAME == "/proc/net/unix" && FNR > 1 && NF > 7 {
    for (i = 1; i <= 7; i++) sub(/^[^ ]+ +/, "")
    if (/^\//) hide($0)
    else if (!/^@/) relative = relative quoted($0) " "
}

END {
    print "uid=" uid
    # Some hundred threads are a compiler's; a bomb has thousands.
    print "nproc=" (nproc != "unlimited" && nproc + 0 < 4096 ? nproc : 4096)
    # A pipe to a program is what a size of 1 keeps the kernel from too, and 0 does not (core(5)).
    print "core=" (core == "0" ? 0 : 1)
    print "account_home=" quoted(home) " account_shell=" quoted(shell)
    for (name in ENVIRON) if (name ~ /^[A-Za-z_][A-Za-z0-9_]*$/) variables = variables name " "
    print "variables=" quoted(variables)
    print "sockets=" quoted(hidden) " names=" quoted(names) " relative=" quoted(relative)
}
