complete -c unpack -l ref -d 'Which image: its tag or annotated name, or the digest that it must have (a pin)' -r
complete -c unpack -l platform -d 'Which image of an index: os/arch or os/arch/variant [default: this machine\'s]' -r
complete -c unpack -l owner -d 'Owners: keep the image\'s; squash all to you; or map: keep those that this user namespace maps and squash the rest [default: map with CAP_CHOWN, squash without]' -r -f -a "keep\t'The image\'s; one that cannot be set is an error'
squash\t'All yours'
map\t'The image\'s if this user namespace maps them, otherwise yours'"
complete -c unpack -l bundle -d 'Write an OCI runtime bundle: DIR/rootfs and DIR/config.json, for runc and crun' -r -F
complete -c unpack -l layers -d 'Keep each layer once, in STORE; ROOT, named NAME.mstack, becomes a directory of links to them' -r -F
complete -c unpack -l status-fd -d 'Write JSON lines to descriptor N: started, progress, complete (what was skipped), exited (failed, message)' -r
complete -c unpack -l format -d 'What IMAGE is, if its content misleads' -r -f -a "auto\t'By content'
rootfs\t'A plain root filesystem archive, even if it holds a manifest.json'
docker\t'What docker save writes'
oci\t'An OCI layout, directory or archive'"
complete -c unpack -l limit -d 'Limit what the image may cost: bytes, entries, depth, name, pax, sparse, ratio, window (can be given again)' -r
complete -c unpack -l threads -d 'Threads that write files [default: the number of processors, at most 8]' -r
complete -c unpack -l replace -d 'Replace ROOT with a fresh extraction, in one atomic exchange'
complete -c unpack -s q -l quiet -d 'Print no progress, and no notes about what was skipped'
complete -c unpack -l prune -d 'Remove the layers of a STORE, given in IMAGE\'s place, that no stack uses and no container runs on'
complete -c unpack -l inspect -d 'Print the image\'s configuration as JSON; extract nothing'
complete -c unpack -l digest -d 'Print the digest of the finished tree instead of its path'
complete -c unpack -l sync -d 'Write the result to disk (syncfs) before it appears'
complete -c unpack -l devices -d 'Make all device nodes, not only null, zero, full, random, urandom, tty, console and ptmx'
complete -c unpack -l strict -d 'Refuse archives that GNU tar, bsdtar and Python read differently, naming the offset'
complete -c unpack -l explain -d 'Print what the chain would do as a shell script over util-linux; change nothing'
complete -c unpack -s v -l verbose -d 'Print each step on stderr as it happens'
complete -c unpack -s h -l help -d 'Print help (see more with \'--help\')'
complete -c unpack -s V -l version -d 'Print version'
complete -c unpack -n 'contains -- -- (commandline -opc)' -x -a '(set -l words (commandline -opc) (commandline -ct); set -l next (math 1 + (contains -i -- -- $words)); complete -C (string join -- " " $words[$next..-1]))'
