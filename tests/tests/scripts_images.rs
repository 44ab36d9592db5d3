//! scripts/docker-image and scripts/debian: an image from elsewhere straight into the chain.

use chainroot_tests::{Work, busybox_image, debian_image, have, is_root, needs_root, script, skip};

/// An OCI layout `layout` with the image `tag`, made by umoci around busybox.
fn layout(work: &Work) {
    let make = format!(
        "umoci init --layout layout && umoci new --image layout:tag &&
        umoci raw add-layer --image layout:tag '{}' &&
        umoci config --image layout:tag --config.entrypoint sh --config.cmd -c --config.cmd 'echo the image: $GREETING in $PWD' \
            --config.env GREETING=hello --config.workingdir /var",
        busybox_image().display()
    );
    let outcome = work.sh(&make);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
}

#[test]
fn docker_image_runs_what_the_image_says_or_what_is_typed() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    layout(&work);
    let run = format!("{} oci:layout:tag", script("docker-image"));
    work.sh(&run).expect(0, "the image: hello in /var\n");
    // The second time nothing is copied: the source may even be gone.
    assert_eq!(work.sh("rm -r layout").status, 0);
    work.sh(&run).expect(0, "the image: hello in /var\n");
    work.sh(&format!("{run} -c 'cat /etc/image; echo $$; exit 7'")).expect(7, "busybox\n1\n");
    work.with_input("sh", &format!("{run} -c cat"), b"data\n").expect(0, "data\n");
}

#[test]
fn docker_image_does_not_run_one_image_where_another_was_asked_for() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    layout(&work);
    let docker_image = script("docker-image");
    work.sh(&format!("{docker_image} oci:layout:tag -c 'echo one'")).expect(0, "one\n");
    let other = work.sh(&format!("{docker_image} docker://docker.io/library/alpine sh"));
    other.expect_refusal(&["root: was made from oci:layout:tag, not from docker://docker.io/library/alpine", "-r"]);
}

#[test]
fn docker_image_that_cannot_be_copied_starts_nothing_and_leaves_nothing() {
    if !have("skopeo") {
        skip!("no skopeo");
    }
    let work = Work::new();
    let outcome = work.sh(&format!("{} oci:no-such:tag echo started", script("docker-image")));
    outcome.expect(125, "");
    assert!(outcome.stderr.contains("no-such"), "{}", outcome.stderr);
    assert_eq!(work.sh("ls -A").stdout, "");
}

#[test]
fn docker_image_keeps_its_root_where_it_is_told() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    layout(&work);
    work.sh(&format!(
        "{} -r 'some where' oci:layout:tag -c 'echo x >/mark'; cat 'some where/mark'",
        script("docker-image")
    ))
    .expect(0, "x\n");
}

#[test]
fn a_slash_behind_the_roots_name_is_none_of_it() {
    if !have("umoci") {
        skip!("no umoci");
    }
    let work = Work::new();
    layout(&work);
    work.sh("unpack --quiet layout root >/dev/null").expect(0, "");
    for (name, options) in [("docker-image", "-r root// oci:none -c"), ("debian", "-r ./root/ sh -c")] {
        work.sh(&format!("{} {options} 'echo started'; ls -A", script(name)))
            .expect(0, "started\nlayout\nroot\nroot.image.json\n");
    }
    for line in ["docker-image -r '' oci:none", "docker-image -r / oci:none", "debian -r .", "debian -r x/.."] {
        let (name, options) = line.split_once(' ').expect("words");
        work.sh(&format!("{} {options} true", script(name))).expect_refusal(&[name, "not a name for a new directory"]);
    }
}

/// In a directory like /tmp others can make a ROOT with a receipt: theirs is not run.
#[test]
fn another_users_root_is_not_run() {
    needs_root!();
    if !have("umoci") {
        skip!("no umoci");
    }
    let work = Work::new();
    layout(&work);
    work.sh("unpack --quiet layout root >/dev/null; chown 65534 root root.image.json").expect(0, "");
    let outcome = work.sh(&format!("{} oci:none -c 'echo started'", script("docker-image")));
    assert!(outcome.status == 125 && outcome.stdout.is_empty(), "{outcome:?}");
    assert!(outcome.stderr.contains("another user") || outcome.stderr.contains("belong"), "{outcome:?}");
}

#[test]
fn debian_comes_through_the_pipe_once() {
    needs_root!();
    // Where the tests could make their own image, there is a mirror.
    if debian_image("").is_none() {
        skip!("no Debian image: it takes root, mmdebstrap and a mirror");
    }
    let work = Work::new();
    let debian = script("debian");
    let first =
        work.sh(&format!("{debian} -s bookworm sh -c '. /etc/os-release; echo $ID $$; hostname; echo x >/mark'"));
    if first.status == 125 && first.stderr.contains("mmdebstrap failed to run") {
        skip!("no mirror: {}", first.stderr.lines().next().unwrap_or_default());
    }
    first.expect(0, "debian 1\ndebian\n");
    work.sh(&format!("{debian} sh -c 'cat /mark; exit 3'")).expect(3, "x\n");
}

#[test]
fn a_suite_that_does_not_exist_starts_nothing_and_leaves_nothing() {
    if !have("mmdebstrap") {
        skip!("no mmdebstrap");
    }
    let work = Work::new();
    let outcome = work.sh(&format!("{} -s no-such-suite echo started", script("debian")));
    outcome.expect(125, "");
    assert!(outcome.stderr.contains("pivot: unpack did not finish"), "{}", outcome.stderr);
    assert_eq!(work.sh("ls -A").stdout, "", "root: {}", is_root());
}

#[test]
fn a_source_that_skopeo_refuses_is_answered_by_skopeo_alone() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    let outcome = work.sh(&format!("{} -a none.json oci:no-such:tag true", script("docker-image")));
    outcome.expect(125, "");
    assert!(!outcome.stderr.contains("unpack") && !outcome.stderr.contains("pivot"), "{}", outcome.stderr);
    assert!(outcome.stderr.contains("no-such"), "{}", outcome.stderr);
    work.sh("ls -A").expect(0, "");
    // What it is asked for, by a skopeo that only says so.
    let asked = work.sh(&format!(
        "mkdir bin; printf '#!/bin/sh\necho \"$@\" >&2; exit 1\n' >bin/skopeo; chmod +x bin/skopeo; PATH=$PWD/bin:$PATH
        {} -a auth.json -t certs -p docker://registry:5000/name:tag@sha256:0123 true; rm -r bin",
        script("docker-image")
    ));
    let line = "copy --quiet --authfile auth.json --src-cert-dir certs --src-tls-verify=false \
        docker://registry:5000/name@sha256:0123 docker-archive:/dev/stdout\n";
    assert_eq!(asked.stderr, line);
}

#[test]
fn where_unpack_fails_first_it_is_unpack_that_says_why() {
    if !have("skopeo") || !have("umoci") {
        skip!("no skopeo or no umoci");
    }
    let work = Work::new();
    layout(&work);
    let run = format!("mkdir root; echo mine >root/file; {} oci:layout:tag -c true", script("docker-image"));
    work.sh(&run).expect_refusal(&["unpack: ", "root: "]);
    work.sh("cat root/file; ls -A").expect(0, "mine\nlayout\nroot\n");
}

#[test]
fn debian_refuses_options_that_the_root_was_not_made_with() {
    let work = Work::new();
    let debian = script("debian");
    work.sh(&format!("unpack --quiet '{}' debian >/dev/null", busybox_image().display())).expect(0, "");
    work.sh(&format!("{debian} echo started")).expect(0, "started\n");
    // Nobody knows.
    work.sh(&format!("{debian} -i gcc echo started"))
        .expect_refusal(&["debian: ./debian: was made with \"other options\""]);
    work.sh(&format!("echo 'stable --include=gcc' >debian.debian; {debian} -i gcc echo started"))
        .expect(0, "started\n");
    for options in ["-s trixie -i gcc", "-i make", "-s stable"] {
        let outcome = work.sh(&format!("{debian} {options} echo started"));
        outcome.expect_refusal(&["was made with \"stable --include=gcc\"", "rm -r ./debian"]);
    }
}
