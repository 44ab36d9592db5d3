complete -c pivot -l overlay -d 'Keep changes in DIR, which must be yours alone, for the next time; ROOT itself is never changed' -r -F
complete -c pivot -l idmap -d 'Show the owners of the root\'s files under other ids, like mount(8)\'s X-mount.idmap: COUNT ids from ID on appear as those from SHOWN on, with u: or g: in front only for users or groups; several maps in one word, separated by spaces, or the path of a user namespace (/proc/PID/ns/user)' -r
complete -c pivot -l bind -d 'Mount a file or directory of the host at DST (SRC if omitted or empty); OPTIONS, comma-separated: ro, rw, nosuid, nodev, noexec; bind, without what is mounted below SRC; rslave, with what is mounted there later; ephemeral, to discard changes at the end; overlay=DIR, to keep changes in DIR for the next time; lower=DIR, to show DIR below SRC; idmap=MAP, to show other owners, as with --idmap (can be given again)' -r
complete -c pivot -l bind-try -d 'Like --bind, but do nothing if SRC does not exist (can be given again)' -r
complete -c pivot -l tmpfs -d 'Mount an empty filesystem in memory at DST, nosuid and nodev; OPTIONS are size=BYTES (k, m, g, %), mode=OCTAL, nr_inodes=N, ro, rw, noexec and the like, comma-separated (can be given again)' -r
complete -c pivot -l hide -d 'Cover PATH with an empty file or directory; do nothing if it does not exist (can be given again)' -r
complete -c pivot -l dir -d 'Make a directory in the root, unless it exists (can be given again)' -r
complete -c pivot -l symlink -d 'Make a symbolic link to TARGET in the root, unless PATH exists (can be given again)' -r
complete -c pivot -l etc -d 'Put read-only copies of these files in /etc, comma-separated: the host\'s resolv.conf and hosts, the uts namespace\'s hostname, the root\'s own passwd and group with your entry added' -r -f -a "resolv\t''
hosts\t''
hostname\t''
passwd\t''
group\t''"
complete -c pivot -l env -d 'Set a variable for COMMAND, or pass on yours, whatever the image says (can be given again)' -r
complete -c pivot -l chdir -d 'Start COMMAND in this directory of the root instead of /' -r -F
complete -c pivot -l put-old -d 'Keep the host\'s tree, below this directory of the root' -r -F
complete -c pivot -l keep-fd -d 'Pass an inherited descriptor on to COMMAND (can be given again); others from 3 up are closed' -r
complete -c pivot -l read-only -d 'Make the root and all mounts in it read-only; volumes stay as their options say'
complete -c pivot -l nosuid -d 'Ignore setuid and setgid bits and file capabilities in the root'
complete -c pivot -l nodev -d 'Allow no device node of the root to be opened'
complete -c pivot -l noexec -d 'Allow no program of the root to run'
complete -c pivot -l ephemeral -d 'Keep changes in memory and discard them at the end; ROOT itself is never changed'
complete -c pivot -l dev -d 'Make a minimal /dev: null, zero, full, random, urandom, tty, a new devpts, shm, and mqueue if the ipc namespace is new'
complete -c pivot -l as-image -d 'Run what the image says: its Env, WorkingDir, User, Entrypoint and Cmd; COMMAND replaces Cmd'
complete -c pivot -l keep-host -d 'Keep the host\'s tree stacked on /, where /.. leads to it; needs no directory in ROOT'
complete -c pivot -l no-handoff -d 'Leave standard input alone: do not look for unpack\'s line in it'
complete -c pivot -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c pivot -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c pivot -s h -l help -d 'Print help'
complete -c pivot -s V -l version -d 'Print version'
complete -c pivot -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
