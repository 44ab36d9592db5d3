//! Scripts whose standard input is the command's: a caller's open pipe does not hold them up, and bytes that
//! look like unpack's line reach the command.

use chainroot_tests::{Work, busybox_image, have, script, skip};

/// Runs `start COMMAND` under a caller that keeps an empty pipe open, and with data that begins with the line
/// by which unpack would name the root. `root` is the shell's word for it, known once the first run is over.
fn stdin_is_the_commands(work: &Work, start: &str, root: &str) {
    work.sh(&format!("mkfifo held; exec 3<>held; {start} echo hi <held 3>&-")).expect(0, "hi\n");
    let told = work.sh(&format!("{{ echo {root}; echo more; }} >data; cat data"));
    assert!(told.stdout.starts_with(&work.path().display().to_string()), "{told:?}");
    work.sh(&format!("cat data | {start} cat")).expect(0, &told.stdout);
    // The line of an unpack that is still at work, and of one of another root.
    work.sh(&format!("printf %s {root} | {start} cat")).expect(0, told.stdout.lines().next().expect("a line"));
    work.sh(&format!("printf %s $PWD/other | {start} cat; rm held data"))
        .expect(0, &work.join("other").display().to_string());
}

#[test]
fn of_container_and_ci_sandbox() {
    let work = Work::new();
    let image = busybox_image();
    let cached = "$(ls -d $PWD/cache/chainroot/*[0-9])";
    let start = |name: &str, operands: &str| format!("XDG_CACHE_HOME=$PWD/cache {} {operands}", script(name));
    stdin_is_the_commands(&work, &start("container", &format!("'{}'", image.display())), cached);
    stdin_is_the_commands(&work, &start("ci-sandbox", &format!("'{}' .", image.display())), cached);
}

#[test]
fn of_debian_and_docker_image_in_a_root_that_is_there() {
    let work = Work::new();
    work.sh(&format!("unpack --quiet '{}' debian >/dev/null", busybox_image().display())).expect(0, "");
    stdin_is_the_commands(&work, &script("debian"), "$PWD/debian");
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    work.sh(&format!(
        "umoci init --layout layout && umoci new --image layout:tag && umoci raw add-layer --image layout:tag '{}'",
        busybox_image().display()
    ))
    .expect(0, "");
    stdin_is_the_commands(&work, &format!("{} oci:layout:tag", script("docker-image")), "$PWD/root");
}

#[test]
fn of_a_unit_and_of_an_initramfs() {
    let work = Work::new();
    let image = busybox_image().display().to_string();
    let user = work.user();
    // What systemd runs, and what the machine's first process does, with the command left out.
    work.sh(&format!(
        "{} web '{image}' COMMAND | sed -n '/^ExecStart=/,/COMMAND/p' | tr -d '\\\\\\n' |
         sed 's/^ExecStart=//; s|%C/web|cache|g; s|%S/web|state|g; s/isolate /isolate {user} /; s/\"COMMAND\"//' >unit
         mkdir cache state",
        script("service")
    ))
    .expect(0, "");
    let unit = std::fs::read_to_string(work.join("unit")).expect("the unit's line");
    stdin_is_the_commands(&work, unit.trim(), "$PWD/cache/root");
    if !have("busybox") {
        skip!("no busybox");
    }
    work.sh(&format!(
        "{} '{image}' boot.img COMMAND && mkdir boot && cd boot && gzip -dc ../boot.img | busybox cpio -i 2>/dev/null &&
         sed -n '/ unpack --quiet/,/COMMAND/p' init | tr -d '\\\\\\n' |
         sed \"s/.*cttyhack //; s|/image|./boot/image|; s|/new|new|g; s/isolate /isolate {user} /; s/'COMMAND'//\" >../init",
        script("initramfs")
    ))
    .expect(0, "");
    let init = std::fs::read_to_string(work.join("init")).expect("its line");
    stdin_is_the_commands(&work, init.trim(), "$PWD/new");
}

#[test]
fn of_a_task_of_a_job() {
    let work = Work::new();
    // As srun does on one node, with standard input for the task alone. It hands on what names the task's own root.
    std::fs::create_dir(work.join("bin")).expect("mkdir");
    std::fs::write(
        work.join("bin/srun"),
        "#!/bin/sh\nwhile case $1 in -*) ;; *) ! : ;; esac; do shift; done\n\
         case $ON_SLURM in\nrun) { ls -d \"$NODE_DIR\"/*/root; echo more; } | \"$@\" ;;\n*) \"$@\" ;;\nesac\n",
    )
    .expect("write");
    let outcome = work.sh(&format!(
        "mkdir disk; chmod +x bin/srun; ln -s /bin/true bin/scontrol; export PATH=$PWD/bin:$PATH NODE_DIR=$PWD/disk SLURM_JOB_ID=7 SLURM_JOB_NUM_NODES=1 \
         SLURMD_NODENAME=one; {} '{}' cat",
        script("on-slurm"),
        busybox_image().display()
    ));
    let (root, rest) = outcome.stdout.split_once('\n').unwrap_or_default();
    assert!(root.starts_with(&work.join("disk").display().to_string()) && root.ends_with("/root"), "{outcome:?}");
    outcome.expect(0, &format!("{root}\n{rest}"));
    assert_eq!(rest, "more\n");
}
