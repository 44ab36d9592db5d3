complete -c isolate -s m -l mount -d 'New mount namespace; bind it to FILE if given'
complete -c isolate -s u -l uts -d 'New hostname and domain name'
complete -c isolate -s i -l ipc -d 'New System V IPC objects and POSIX message queues'
complete -c isolate -s n -l net -d 'New network with only a loopback, which is up'
complete -c isolate -s p -l pid -d 'New process ids; COMMAND is PID 1. This always forks'
complete -c isolate -s U -l user -d 'New user and group ids, and capabilities over the namespaces made with them'
complete -c isolate -s C -l cgroup -d 'New view of the cgroup hierarchy'
complete -c isolate -s T -l time -d 'New boot-time and monotonic clocks'
complete -c isolate -l hostname -d 'Set the hostname (implies --uts)' -r
complete -c isolate -l propagation -d 'How mounts and unmounts pass between the new mount namespace and the old: private, slave, shared or unchanged' -r -f -a "private\t''
slave\t''
shared\t''
unchanged\t''"
complete -c isolate -l mount-proc -d 'Mount a fresh proc on DIR, /proc if not given (implies --mount)'
complete -c isolate -l mount-binfmt -d 'Mount the binfmt_misc of the new user namespace on DIR, /proc/sys/fs/binfmt_misc if not given (implies --mount)'
complete -c isolate -l boottime -d 'Shift the boot-time clock by SECONDS (with --time)' -r
complete -c isolate -l monotonic -d 'Shift the monotonic clock by SECONDS (with --time)' -r
complete -c isolate -l join -d 'Enter what exists: of process PID, or of the one that FILE of a --status-fd names once it has started, all namespaces and the limits it is under, or WHAT of it: namespaces, root, wd, env; or namespaces kept in files' -r
complete -c isolate -l map-user -d 'Map the own user to USER, a number or name (implies --user)' -r
complete -c isolate -l map-group -d 'Map the own group to GROUP, a number or name (implies --user)' -r
complete -c isolate -l map-users -d 'Map a range of users; also `auto`, `subids`, `all`, and the older OUTER,INNER,COUNT (implies --user)' -r
complete -c isolate -l map-groups -d 'Map a range of groups, in the same forms (implies --user)' -r
complete -c isolate -l owner -d 'Make the new user namespace as this user and group, numbers or names: it is theirs, and so are "own" ids above; for root, who may map what they may not (implies --user)' -r
complete -c isolate -l setgroups -d 'Whether setgroups(2) may be used in the new user namespace: allow or deny' -r
complete -c isolate -s S -l setuid -d 'Become this user, a number or name' -r
complete -c isolate -s G -l setgid -d 'Become this group, a number or name, and leave all others' -r
complete -c isolate -l groups -d 'Supplementary groups, numbers or names; with --setgid these are kept, and without it the group as well' -r
complete -c isolate -l kill-child -d 'What COMMAND gets when isolate dies, by name or number; SIGKILL is the default. A PID 1 that would not see it is killed (implies --fork)'
complete -c isolate -s R -l root -d 'Change the root directory' -r -F
complete -c isolate -s w -l wd -d 'Change the working directory, after --root' -r -F
complete -c isolate -l whitelist-env -d 'Start with these variables alone, or with --clean-env with these as well' -r
complete -c isolate -l status-fd -d 'Write JSON lines to descriptor N: started (pid, namespaces) and exited (code or signal, limit)' -r
complete -c isolate -l memory -d 'Memory, swap included: bytes, or with K, M, G, T of 1024' -r
complete -c isolate -l cpus -d 'Processors\' time: 0.5 is half of one' -r
complete -c isolate -l pids-max -d 'Number of processes and threads' -r
complete -c isolate -l rlimit -d 'A limit of setrlimit(2), such as nofile=64:128; a number, or `unlimited`, soft[:hard]' -r
complete -c isolate -l cap-keep -d 'Keep only these capabilities: names, ALL, or `default` for those of container runtimes' -r
complete -c isolate -l cap-drop -d 'Drop these capabilities' -r
complete -c isolate -l cap-add -d 'Keep these though dropped; for a command that is not root, make them effective' -r
complete -c isolate -l seccomp -d 'Filter system calls: `default`; `fakeroot`, where chown, setgroups and set*id do nothing and succeed; both with +NAME and -NAME, to let a call pass or refuse it; or a JSON profile as container runtimes have them, in a file or open as N' -r -F
complete -c isolate -l all -d 'All eight namespaces'
complete -c isolate -s r -l map-root -d 'Be root in the new user namespace (implies --user)'
complete -c isolate -s c -l map-current -d 'Keep the own user and group in the new user namespace (implies --user); links of ours that follow have the capabilities that they need, and COMMAND has none of them'
complete -c isolate -l map-auto -d 'Map the ranges of /etc/subuid and /etc/subgid as well, around the own id; to be root if nothing says who (implies --user)'
complete -c isolate -l map-subids -d 'Map the ranges of /etc/subuid and /etc/subgid to themselves (implies --user)'
complete -c isolate -s f -l fork -d 'Stay and wait for COMMAND even where no namespace needs it'
complete -c isolate -l forward-signals -d 'Pass signals on to COMMAND, which isolate always does; for scripts of unshare(1) (implies --fork)'
complete -c isolate -l die-with-parent -d 'End with the process that started isolate, whatever ends that (implies --fork)'
complete -c isolate -l init -d 'Put a small reaper at PID 1 and COMMAND under it (implies --pid and --mount)'
complete -c isolate -l pty -d 'Give COMMAND a terminal and a session of its own: it can neither read, set nor push into the caller\'s (implies --fork)'
complete -c isolate -l new-session -d 'Give COMMAND a session of its own without a terminal: what it reads of one is empty, what it writes to one is passed on (implies --fork)'
complete -c isolate -l clean-env -d 'Start with PATH, HOME and TERM alone in the environment'
complete -c isolate -l clear-env -d 'Start with an empty environment'
complete -c isolate -l keep-caps -d 'Keep the capabilities of the new user namespace for a command that is not root in it'
complete -c isolate -l no-new-privs -d 'Let no setuid or setgid file or file capability give privileges (no_new_privs)'
complete -c isolate -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c isolate -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c isolate -s h -l help -d 'Print help'
complete -c isolate -s V -l version -d 'Print version'
complete -c isolate -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
