//! How a tool starts, without std's own start: closed streams, SIGPIPE and words are what the caller gave.

use chainroot_tests::{Work, busybox_image};

#[test]
fn a_closed_stream_is_never_a_file_that_a_tool_opens() {
    let work = Work::new();
    let image = busybox_image();
    let whole = work.sh(&format!("unpack --quiet --digest '{}' whole", image.display())).stdout;
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        // Its own path has nowhere to go where stdout is closed; the root is whole or not there.
        work.sh(&format!("unpack --quiet '{}' root -- true {closed}", image.display())).expect(0, "");
        let digest = work.sh(&format!("unpack --quiet --digest '{}' root", image.display())).stdout;
        assert_eq!(digest, whole, "{closed}");
        work.sh(&format!("(unpack ./no-such.tar other {closed}) >out; echo $?; ls -A | grep other")).expect(1, "125\n");
        work.sh("rm -rf root root.image.json");
    }
    work.sh(&format!("unpack --quiet '{}' root >&-; echo $?", image.display())).expect(0, "125\n");
}

#[test]
fn a_command_finds_closed_what_the_caller_closed() {
    let work = Work::new();
    let u = work.user();
    work.sh(&format!("unpack --quiet '{}' -- true", busybox_image().display())).expect(0, "");
    for chain in [
        format!("unpack --quiet '{}' -- ", busybox_image().display()),
        format!("isolate {u} --uts -- "),
        format!("isolate {u} --pid -- pivot --no-handoff ./root -- mountclean -- "),
        format!("isolate {u} --pid -- pivot ./root -- mountclean -- "),
    ] {
        for (stream, closed) in [(0, "<&-"), (1, ">&-"), (2, "2>&-")] {
            let command = format!("sh -c 'test ! -e /proc/self/fd/{stream} && exit 7'");
            let outcome = work.sh(&format!("{chain} {command} {closed}"));
            assert_eq!(outcome.status, 7, "{chain} {closed}: {outcome:?}");
        }
    }
}

#[test]
fn a_message_that_nobody_reads_leaves_the_status_as_it_is() {
    let work = Work::new();
    for tool in ["unpack ./no-such.tar", "isolate --no-such", "pivot ./no-such -- true", "mountclean --no-such"] {
        // The reading end is closed before the tool starts.
        let script = format!("mkfifo f; exec 3<>f 4>f 3<&-; rm f; {tool} 2>&4 >&4; echo $?");
        work.sh(&script).expect(0, "125\n");
    }
}

#[test]
fn an_unpack_whose_reader_has_gone_leaves_nothing_half_done() {
    let work = Work::new();
    let unpack = format!("unpack --quiet '{}'", busybox_image().display());
    work.sh(&format!("mkfifo f; exec 3<>f 4>f 3<&-; rm f; {unpack} >&4; echo $?; ls -A")).expect(0, "125\n");
}
