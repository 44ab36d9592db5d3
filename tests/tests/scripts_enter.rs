//! scripts/enter: another process in a running chain.

use chainroot_tests::{Work, busybox_image, script};

/// Starts a chain in the background that says when it runs, enters it, and ends it.
fn with_running(work: &Work, enter: &str) -> chainroot_tests::Outcome {
    work.sh(&format!(
        r#"unpack --quiet '{}' >/dev/null && mkfifo ready || exit
        isolate {} --pid --init --uts --ipc --net --hostname inside -- pivot --ephemeral --dev ./root -- mountclean -- \
            sh -c 'echo here >/tmp/mark; echo up; exec sleep 1000' >ready &
        read -r line <ready
        {enter}
        echo "status $?"
        kill $!"#,
        busybox_image().display(),
        work.user()
    ))
}

#[test]
fn it_is_in_all_the_namespaces_of_the_chain() {
    let work = Work::new();
    let inside =
        "sh -c 'hostname; cat /tmp/mark; ps -o comm= | grep -c sleep; ip -o link | wc -l; ls /.. | head -n 1; exit 6'";
    let outcome = with_running(&work, &format!("{} $! {inside}", script("enter")));
    outcome.expect(0, "inside\nhere\n1\n1\nbin\nstatus 6\n");
}

#[test]
fn it_has_no_capabilities_unless_it_is_asked_to_keep_them() {
    let work = Work::new();
    let look = "grep CapEff /proc/self/status";
    let outcome = with_running(&work, &format!("{0} $! {look}; {0} -k $! {look}", script("enter")));
    let lines: Vec<&str> = outcome.stdout.lines().collect();
    assert_eq!(lines.len(), 3, "{outcome:?}");
    assert_eq!(lines[0], "CapEff:\t0000000000000000");
    assert_ne!(lines[1], lines[0]);
    assert_eq!(lines[2], "status 0");
}

#[test]
fn a_process_inside_will_do_as_well() {
    let work = Work::new();
    let enter =
        format!("for inside in $(cat /proc/$!/task/$!/children); do :; done; {} $inside hostname", script("enter"));
    with_running(&work, &enter).expect(0, "inside\nstatus 0\n");
}

#[test]
fn what_is_not_a_running_chain_is_refused() {
    let work = Work::new();
    let enter = script("enter");
    let gone = work.sh(&format!("true & wait $!; {enter} $!"));
    gone.expect(125, "");
    assert!(gone.stderr.contains("no such process"), "{}", gone.stderr);
    let outside = work.sh(&format!("{enter} $$"));
    outside.expect(125, "");
    assert!(outside.stderr.contains("enter: "), "{}", outside.stderr);
    work.sh(&format!("{enter} web")).expect(125, "");
}
