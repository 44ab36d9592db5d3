//! --hold: a container that waits for others, with no program of its own.

use chainroot_tests::scene::scene;

const MAP: &str = "isolate --map-root --mount --pid --status-fd 3 -- pivot --no-handoff root -- mountclean";

#[test]
fn others_can_join_once_it_is_ready_until_its_input_ends() {
    let work = scene();
    let script = format!(
        "mkfifo end; {MAP} --hold 3>status <end | {{
            exec 4>end; read -r ready; echo $ready
            isolate --join ./status -- sh -c 'cat /etc/image; exit 7'; echo $?
            exec 4>&-; cat; isolate --join ./status -- true 2>/dev/null; echo $?; }}"
    );
    work.sh(&script).expect(0, "ready\nbusybox\n7\n125\n");
}

#[test]
fn it_reaps_what_those_leave_behind() {
    let work = scene();
    let script = format!(
        "mkfifo end; {MAP} --hold 3>status <end | {{
            exec 4>end; read -r ready
            isolate --join ./status -- sh -c 'for n in 1 2 3; do (sh -c \"exit 3\" & ) ; done'
            isolate --join ./status -- sh -c 'while ps | grep -q \"\\[sh\\]\"; do sleep 0.1; done; echo reaped'; exec 4>&-; }}"
    );
    work.sh(&script).expect(0, "reaped\n");
}

#[test]
fn a_failed_proof_never_says_that_it_is_ready() {
    let work = scene();
    let outcome = work.sh("isolate --map-root --mount -- pivot --no-handoff root -- mountclean --hold </dev/null");
    assert_eq!((outcome.status, outcome.stdout.as_str()), (125, ""), "{outcome:?}");
}

#[test]
fn a_command_beside_it_is_refused() {
    scene().sh("mountclean --hold true").expect_refusal(&["mountclean: ", "--hold"]);
}

#[test]
fn it_explains_itself() {
    let outcome = scene().sh("mountclean --explain --hold");
    assert!(outcome.stdout.contains("\nexec sh -c 'echo ready; exec cat >/dev/null'\n"), "{outcome:?}");
}
