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
complete -c isolate -l join -d 'Enter existing namespaces: all those of process PID, and its limits, or only WHAT of it (namespaces, root, wd, env); those of the process named in FILE, which another isolate\'s --status-fd writes; or namespaces kept in files' -r
complete -c isolate -l map-user -d 'Map your user to USER, a number or name (implies --user)' -r
complete -c isolate -l map-group -d 'Map your group to GROUP, a number or name (implies --user)' -r
complete -c isolate -l map-users -d 'Map a range of users; also `auto`, `subids`, `all`, and the older OUTER,INNER,COUNT (implies --user)' -r
complete -c isolate -l map-groups -d 'Map a range of groups, in the same forms (implies --user)' -r
complete -c isolate -l owner -d 'Make the new user namespace as this user and group, numbers or names: it is theirs, and so are "own" ids above; for root, who may map what they may not (implies --user)' -r
complete -c isolate -l setgroups -d 'Whether setgroups(2) may be used in the new user namespace: allow or deny' -r
complete -c isolate -s S -l setuid -d 'Become this user, a number or name' -r
complete -c isolate -s G -l setgid -d 'Become this group, a number or name, and leave all others' -r
complete -c isolate -l groups -d 'Have these supplementary groups, numbers or names, beside the current group or that of --setgid' -r
complete -c isolate -l kill-child -d 'Send COMMAND this signal when isolate dies, by name or number, SIGKILL by default; a PID 1 that would not see it is killed (implies --fork)'
complete -c isolate -s R -l root -d 'Change the root directory' -r -F
complete -c isolate -s w -l wd -d 'Change the working directory, after --root' -r -F
complete -c isolate -l whitelist-env -d 'Start with only these variables, or, with --clean-env, these in addition' -r
complete -c isolate -l status-fd -d 'Write JSON lines to descriptor N: started (pid, namespaces) and exited (code or signal, limit)' -r
complete -c isolate -l memory -d 'Memory, including swap: bytes, or with K, M, G, T of 1024' -r
complete -c isolate -l cpus -d 'Processor time: 0.5 is half a processor' -r
complete -c isolate -l pids-max -d 'Number of processes and threads' -r
complete -c isolate -l rlimit -d 'A limit of setrlimit(2), such as nofile=64:128; a number, or `unlimited`, soft[:hard]' -r
complete -c isolate -l cap-keep -d 'Keep only these capabilities: names, ALL, or `default` for those of container runtimes' -r
complete -c isolate -l cap-drop -d 'Drop these capabilities' -r
complete -c isolate -l cap-add -d 'Keep these even if dropped; make them effective for a command that is not root' -r
complete -c isolate -l seccomp -d 'Filter system calls: `default`; `fakeroot`, with which chown, setgroups and set*id do nothing and succeed; either with +NAME or -NAME to allow or refuse one more call; or a JSON profile in the form of container runtimes, in a file or open as N' -r -F
complete -c isolate -l all -d 'All eight namespaces'
complete -c isolate -s r -l map-root -d 'Be root in the new user namespace (implies --user)'
complete -c isolate -s c -l map-current -d 'Keep your user and group in the new user namespace (implies --user); later links of the chain have the capabilities that they need, COMMAND has none'
complete -c isolate -l map-auto -d 'Also map your ranges in /etc/subuid and /etc/subgid, around your own id; you are root unless another option says otherwise (implies --user)'
complete -c isolate -l map-subids -d 'Map your ranges in /etc/subuid and /etc/subgid to themselves (implies --user)'
complete -c isolate -s f -l fork -d 'Stay and wait for COMMAND even if no namespace needs it'
complete -c isolate -l forward-signals -d 'Accepted for scripts written for unshare(1): isolate always passes signals on to COMMAND (implies --fork)'
complete -c isolate -l die-with-parent -d 'End with the process that started isolate, whatever ends that (implies --fork)'
complete -c isolate -l init -d 'Put a small reaper at PID 1 and COMMAND under it (implies --pid and --mount)'
complete -c isolate -l pty -d 'Give COMMAND a terminal and a session of its own: it cannot read or configure the caller\'s, nor type into it (implies --fork)'
complete -c isolate -l new-session -d 'Give COMMAND a session of its own without a terminal: it reads nothing from the caller\'s, and what it writes there is passed on (implies --fork)'
complete -c isolate -l clean-env -d 'Start with only PATH, HOME and TERM in the environment'
complete -c isolate -l clear-env -d 'Start with an empty environment'
complete -c isolate -l keep-caps -d 'Keep the capabilities of the new user namespace for a command that is not root in it'
complete -c isolate -l no-new-privs -d 'Gain no privileges from setuid or setgid files or file capabilities (no_new_privs)'
complete -c isolate -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c isolate -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c isolate -s h -l help -d 'Print help'
complete -c isolate -s V -l version -d 'Print version'
complete -c isolate -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
