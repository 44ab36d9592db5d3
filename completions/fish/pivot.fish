complete -c pivot -l chdir -d 'Start COMMAND in this directory of the root instead of /' -r -F
complete -c pivot -l put-old -d 'Keep the host\'s tree, under this directory of the root' -r -F
complete -c pivot -l keep-fd -d 'Pass an inherited descriptor on to COMMAND (can be given again); others from 3 up are closed' -r
complete -c pivot -l read-only -d 'Make the root read-only, and every mount that it brings along'
complete -c pivot -l keep-host -d 'Keep the host\'s tree stacked on /, where /.. leads to it'
complete -c pivot -l no-handoff -d 'Leave standard input alone: do not look for unpack\'s line in it'
complete -c pivot -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c pivot -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c pivot -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pivot -s V -l version -d 'Print version'
complete -c pivot -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
