complete -c mountclean -l keep-mount -d 'Keep the mount at DST, and those below it (can be given again)' -r -F
complete -c mountclean -l keep-fd -d 'Let COMMAND have this descriptor, wherever it leads (can be given again)' -r
complete -c mountclean -l proc-opts -d 'Mount options for /proc, comma-separated, such as hidepid=2 or subset=pid' -r
complete -c mountclean -l proc -d 'Show the host\'s /proc if COMMAND has no pid namespace of its own; through it, processes of the same user lead to the host\'s tree' -r -f -a "bind\t''"
complete -c mountclean -l sys -d 'Mount a /sys for the chain\'s own net namespace; ro: without one, mount the host\'s read-only' -r -f -a "ro\t''"
complete -c mountclean -l mask -d 'Hide the paths of /proc and /sys that container runtimes hide, or make them read-only as they do; this prevents nesting in user namespaces'
complete -c mountclean -l hold -d 'Run no COMMAND: print "ready" when the proof holds, and stay until standard input ends, for others to come in by isolate --join; reap what they leave behind'
complete -c mountclean -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c mountclean -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c mountclean -s h -l help -d 'Print help'
complete -c mountclean -s V -l version -d 'Print version'
complete -c mountclean -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
