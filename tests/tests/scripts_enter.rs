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

/// Which has a session of its own, and so one isolate more.
#[test]
fn a_container_is_entered_by_the_process_that_was_started() {
    let work = Work::new();
    let outcome = work.sh(&format!(
        "export XDG_CACHE_HOME=$PWD/cache; mkdir shared; mkfifo shared/up
        {} -H web -v ./shared:/shared '{}' sh -c 'echo up >/shared/up; exec sleep 1000' & timeout 100 cat shared/up
        {} $! hostname; kill $!",
        script("container"),
        busybox_image().display(),
        script("enter")
    ));
    outcome.expect(0, "up\nweb\n");
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
    assert!(outside.stderr.contains("in no namespace"), "{}", outside.stderr);
    work.sh(&format!("{enter} web")).expect(125, "");
}

#[test]
fn either_of_the_processes_that_wait_names_the_chain() {
    let work = Work::new();
    // pgrep -n gives the newest of that name, which may be the guard, or a reaper inside.
    let enter = script("enter");
    let outcome = with_running(
        &work,
        &format!(
            "for waiting in $! $(cat /proc/$!/task/$!/children); do
                [ \"$(cat /proc/$waiting/comm)\" = isolate ] && {enter} $waiting hostname
            done"
        ),
    );
    assert!(outcome.stdout.matches("inside\n").count() >= 2, "{outcome:?}");
}

#[test]
fn nothing_of_the_callers_gets_in_unless_it_is_named() {
    let work = Work::new();
    let enter = script("enter");
    let look = "sh -c 'env | grep -v ^PWD= | grep -v ^SHLVL= | sort; ls /proc/self/fd | wc -l; pwd'";
    let outcome = with_running(
        &work,
        &format!(
            "export SECRET=1 PASSED=\"it's
two\" TERM=dumb; {enter} -e PASSED -e NOT_THERE -e 'GIVEN=a  b' $! {look} 7</ 8<$PWD"
        ),
    );
    let path = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    // Three and the one that ls reads the directory by.
    outcome.expect(0, &format!("GIVEN=a  b\nHOME=/root\nPASSED=it's\n{path}\nTERM=dumb\ntwo\n4\n/\nstatus 0\n"));
    for bad in ["=x", "2=x", ""] {
        work.sh(&format!("{enter} -e '{bad}' 1 true")).expect_refusal(&["enter: ", "not a variable"]);
    }
}

#[test]
fn a_descriptor_that_leads_elsewhere_is_not_taken_along_as_a_stream() {
    for (stream, kind) in
        [("</", "standard input is a directory"), ("</proc/self/ns/net", "standard input is a namespace")]
    {
        let work = Work::new();
        let outcome = with_running(&work, &format!("{} $! true {stream}", script("enter")));
        assert!(outcome.stdout.ends_with("status 125\n"), "{outcome:?}");
        assert!(outcome.stderr.contains(kind), "{outcome:?}");
    }
}
