//! The examples in the scripts' own headers run as they stand. Those of service run in scripts_systemd,
//! and what initramfs makes is booted in scripts_initramfs.

use chainroot_tests::{Outcome, Work, busybox_image, examples, have, is_root, needs_root, script, skip};

/// The images that the examples name: busybox with programs that say how they were called.
fn images(work: &Work) {
    let program = r#"#!/bin/sh
echo "${0##*/} $* in $PWD${CC:+ with $CC}"
"#;
    std::fs::write(work.join("program"), program).expect("write");
    work.sh(&format!(
        "mkdir image; tar -xf '{}' -C image
        for name in make gcc bash simulate; do install -m 755 program image/bin/$name; done
        tar -C image --owner=0 --group=0 -cf debian.tar .; cp debian.tar debian-gcc.tar; cp debian.tar image.tar",
        busybox_image().display()
    ))
    .expect(0, "");
}

/// Runs a script in which the scripts are called as their examples call them.
fn sh(work: &Work, commands: &str) -> Outcome {
    let scripts = script("container").replace("/container", "");
    work.sh(&format!("PATH={scripts}:$PATH; export PATH XDG_CACHE_HOME=$PWD/cache\n{commands}"))
}

#[test]
fn of_container_and_ci_sandbox() {
    let work = Work::new();
    images(&work);
    let [container, scope] = &examples("container")[..] else { panic!("two examples") };
    sh(&work, container).expect(0, "make  in /src\n");
    let [sandbox] = &examples("ci-sandbox")[..] else { panic!("one example") };
    sh(&work, sandbox).expect(0, "make test in /work with clang\n");
    // As an ordinary user it has another option, and needs a session.
    if !is_root() || !std::path::Path::new("/run/systemd/system").exists() {
        skip!("no systemd on version 2 of cgroups (scripts/test-systemd boots one), or not root");
    }
    sh(&work, scope).expect(0, "");
}

#[test]
fn of_debian_in_a_root_that_is_there() {
    let work = Work::new();
    images(&work);
    let [example] = &examples("debian")[..] else { panic!("one example") };
    sh(&work, &format!("unpack --quiet debian.tar debian >/dev/null; echo 'trixie --include=gcc,libc6-dev' >debian.debian; {example}"))
        .expect(0, "gcc --version in /\n");
}

#[test]
fn of_docker_image_with_a_layout_and_then_the_same_root() {
    if !have("umoci") || !have("skopeo") {
        skip!("no umoci or skopeo");
    }
    let work = Work::new();
    images(&work);
    let [registry, layout, daemon] = &examples("docker-image")[..] else { panic!("three examples") };
    let made = "umoci init --layout layout && umoci new --image layout:latest &&
        umoci raw add-layer --image layout:latest debian.tar && umoci config --image layout:latest --config.cmd make";
    sh(&work, &format!("{made} && {layout} && rm root.source && {registry} && {daemon}"))
        .expect(0, "make  in /\nbash  in /\nmake  in /\n");
}

#[test]
fn of_enter() {
    let work = Work::new();
    images(&work);
    let [example] = &examples("enter")[..] else { panic!("one example") };
    // In a pid namespace of the test's own, or the newest isolate would be another test's.
    let user = if is_root() { "" } else { "--user --map-root-user" };
    std::fs::write(
        work.join("commands"),
        format!(
            "unpack --quiet debian.tar >/dev/null; mkfifo ready
            isolate --pid --init --uts -- pivot --ephemeral --dev ./root -- mountclean -- \
                sh -c 'echo; exec sleep 1000' >ready & read -r line <ready
            {example}; echo $?; kill $!"
        ),
    )
    .expect("write");
    let outcome = sh(&work, &format!("unshare {user} --pid --fork --kill-child --mount-proc sh commands"));
    assert!(outcome.stdout.contains("sleep 1000\n") && outcome.stdout.ends_with("ps\n0\n"), "{outcome:?}");
}

#[test]
fn of_bridge_net() {
    needs_root!();
    let work = Work::new();
    images(&work);
    let [add, run, del] = &examples("bridge-net")[..] else { panic!("three examples") };
    std::fs::write(
        work.join("commands"),
        format!(
            "mount -t tmpfs none /run
            unpack --quiet debian.tar >/dev/null; {add} || exit
            {run} & until busybox wget -O - http://10.88.0.2/ 2>&1 | grep '404 Not Found'; do sleep .1; done
            kill $!; wait; {del}; ip -o link | wc -l"
        ),
    )
    .expect("write");
    let outcome = sh(&work, "unshare --net --mount --propagation private sh commands");
    if outcome.stderr.contains("Operation not supported") {
        skip!("the kernel has no bridge or no veth");
    }
    assert!(outcome.stdout.contains("404 Not Found\n") && outcome.stdout.ends_with("\n1\n"), "{outcome:?}");
}

#[test]
fn of_initramfs_but_for_the_boot() {
    let work = Work::new();
    images(&work);
    let [example, boot] = &examples("initramfs")[..] else { panic!("two examples") };
    assert!(boot.starts_with("qemu-system-x86_64 ") && boot.contains(" -initrd boot.img "), "{boot}");
    sh(&work, &format!("{example} && gzip -t boot.img && echo made")).expect(0, "made\n");
}

#[test]
fn of_on_slurm() {
    needs_root!();
    if !["munged", "slurmctld", "slurmd", "sbatch"].iter().all(|program| have(program)) {
        skip!("no Slurm (Debian: munge slurmctld slurmd slurm-client)");
    }
    let work = Work::new();
    images(&work);
    let [example] = &examples("on-slurm")[..] else { panic!("one example") };
    std::fs::write(work.join("commands"), format!("{example} >/dev/null; echo $?; cat slurm-*.out")).expect("write");
    let outcome =
        sh(&work, &format!("cp program simulate; chmod 755 . simulate; {} sh commands", script("test-slurm")));
    outcome.expect(0, &format!("0\n{}", "simulate  in /work\n".repeat(8)));
}
