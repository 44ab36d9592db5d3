complete -c pivot -l overlay -d 'Let changes go to this directory, which is yours alone, and be there the next time; ROOT itself is never changed' -r -F
complete -c pivot -l idmap -d 'Show the owners of the root\'s files under other ids, as mount(8)\'s X-mount.idmap does: ID and those that follow appear as SHOWN and those that follow, a u: or g: before it makes it users or groups alone; several maps in one word, with spaces between them, or the path of a user namespace (/proc/PID/ns/user)' -r
complete -c pivot -l bind -d 'Mount a file or directory of the host\'s at DST (SRC where it is left out or empty); OPTIONS, comma-separated: ro, rw, nosuid, nodev, noexec; bind, without what is mounted below SRC; rslave, with what is mounted there later; ephemeral, where changes vanish at the end; overlay=DIR, where they go to DIR and are there the next time; lower=DIR, with DIR showing below SRC; idmap=MAP, with other owners, as --idmap has it (can be given again)' -r
complete -c pivot -l bind-try -d 'Like --bind, but do nothing where SRC is not there (can be given again)' -r
complete -c pivot -l tmpfs -d 'Mount an empty filesystem in memory at DST, nosuid and nodev; OPTIONS are size=BYTES (k, m, g, %), mode=OCTAL, nr_inodes=N, ro, rw, noexec and the like, comma-separated (can be given again)' -r
complete -c pivot -l hide -d 'Cover what is at PATH with an empty file or directory; do nothing where nothing is (can be given again)' -r
complete -c pivot -l dir -d 'Make a directory in the root, where it is not there (can be given again)' -r
complete -c pivot -l symlink -d 'Make a symbolic link to TARGET in the root, where nothing is (can be given again)' -r
complete -c pivot -l etc -d 'Put read-only copies of these files in /etc, comma-separated: the host\'s resolv.conf and hosts, the uts namespace\'s hostname, the root\'s own passwd and group with the caller\'s entry added' -r -f -a "resolv\t''
hosts\t''
hostname\t''
passwd\t''
group\t''"
complete -c pivot -l env -d 'Set a variable for COMMAND, or keep the caller\'s, over what the image says (can be given again)' -r
complete -c pivot -l chdir -d 'Start COMMAND in this directory of the root instead of /' -r -F
complete -c pivot -l put-old -d 'Keep the host\'s tree, under this directory of the root' -r -F
complete -c pivot -l keep-fd -d 'Pass an inherited descriptor on to COMMAND (can be given again); others from 3 up are closed' -r
complete -c pivot -l read-only -d 'Make the root read-only, and every mount that it brings along; volumes stay as they were given'
complete -c pivot -l nosuid -d 'Let no setuid or setgid file, nor file capability, of the root give privileges'
complete -c pivot -l nodev -d 'Open no device node of the root'
complete -c pivot -l noexec -d 'Run no program of the root'
complete -c pivot -l ephemeral -d 'Let changes go to memory and vanish at the end; ROOT itself is never changed'
complete -c pivot -l dev -d 'Make a minimal /dev: null, zero, full, random, urandom, tty, a devpts of its own, shm, and mqueue in an own ipc namespace'
complete -c pivot -l as-image -d 'Run what the image says: its Env, WorkingDir, User, Entrypoint and Cmd; COMMAND replaces Cmd'
complete -c pivot -l keep-host -d 'Keep the host\'s tree stacked on /, where /.. leads to it: no directory of ROOT is needed'
complete -c pivot -l no-handoff -d 'Leave standard input alone: do not look for unpack\'s line in it'
complete -c pivot -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c pivot -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c pivot -s h -l help -d 'Print help'
complete -c pivot -s V -l version -d 'Print version'
complete -c pivot -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
