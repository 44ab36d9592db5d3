//! How a tool starts, without std's own start: closed streams, SIGPIPE and words are what the caller gave.

use chainroot_tests::{Work, busybox_image};

/// The next file that is opened gets the number of a closed stream:
/// https://github.com/att/ast/pull/1125, https://github.com/soedinglab/MMseqs2/pull/974
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

/// https://github.com/uutils/coreutils/issues/10631: a Rust program that aborts where its message cannot be written.
#[test]
fn a_message_that_cannot_be_written_leaves_the_status_as_it_is() {
    let work = Work::new();
    for tool in ["unpack ./no-such.tar", "isolate --no-such", "pivot ./no-such -- true", "mountclean --no-such"] {
        work.sh(&format!("{tool} >/dev/full 2>/dev/full; echo $?")).expect(0, "125\n");
    }
    work.sh("isolate --fork -- ./no-such 2>/dev/full; echo $?").expect(0, "127\n");
}

/// https://github.com/containers/crun/issues/2058: an ignored SIGPIPE cannot be trapped by a shell, a default one can;
/// https://github.com/uutils/coreutils/pull/9619: and an ignored one stays ignored.
#[test]
fn the_command_can_trap_sigpipe_exactly_where_the_caller_left_it_at_its_default() {
    let work = Work::new();
    let u = work.user();
    let image = busybox_image();
    let command = "sh -c 'trap \"echo trapped\" PIPE; kill -PIPE $$; echo done'";
    for chain in [
        format!("unpack --quiet '{}' -- ", image.display()),
        format!("isolate {u} --uts -- "),
        format!("isolate {u} --pid -- "),
        format!("isolate {u} --init -- "),
        format!("isolate {u} --pid -- pivot ./root -- mountclean -- "),
    ] {
        work.sh(&format!("exec {chain} {command}")).expect(0, "trapped\ndone\n");
        work.sh(&format!("trap '' PIPE; exec {chain} {command}")).expect(0, "done\n");
    }
}

/// https://github.com/python/cpython/issues/141041: an empty PATH is the working directory, as execvp(3) has it.
/// https://github.com/containers/crun/pull/134: a path with a slash is taken from the working directory that was asked for.
#[test]
fn a_command_is_found_from_the_working_directory_as_execvp_finds_it() {
    let work = Work::new();
    let u = work.user();
    work.sh("mkdir d && printf '#!/bin/sh\\necho here\\n' >d/tool && chmod 755 d/tool").expect(0, "");
    work.sh(&format!("i=$(command -v isolate); cd d && PATH= \"$i\" {u} --uts -- tool")).expect(0, "here\n");
    work.sh(&format!("isolate {u} --uts --wd d -- ./tool")).expect(0, "here\n");
    work.sh(&format!("unpack --quiet '{}' -- true && cp -r d root/d", busybox_image().display())).expect(0, "");
    work.sh(&format!("isolate {u} --pid -- pivot --chdir /d ./root -- ./tool")).expect(0, "here\n");
    work.sh(&format!("isolate {u} --pid -- pivot --chdir /d ./root -- tool")).expect(127, "");
}
