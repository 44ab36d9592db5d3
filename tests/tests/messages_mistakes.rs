//! What a newcomer sees of each common mistake: what was wrong and what to do, in words of the command line.

use chainroot_tests::{Work, busybox_image};

/// A mistake, typed, and what must be among its answer.
const MISTAKES: [(&str, i32, &[&str]); 34] = [
    ("unpack", 125, &["<IMAGE>: missing", "usage: unpack"]),
    ("unpack <img.tar", 125, &["<IMAGE>: missing", "unpack - [ROOT] <IMAGE"]),
    ("unpack --tag latest img.tar ./new", 125, &["--tag: unknown option", "--ref NAME"]),
    ("unpack -xf img.tar", 125, &["unknown option", "unpack IMAGE ROOT"]),
    ("isolate --unshare-pid -- sh", 125, &["--unshare-pid: unknown option", "hint: isolate --pid"]),
    ("isolate --env A=b -- sh", 125, &["--env: unknown option", "env NAME=VALUE COMMAND"]),
    ("isolate --rm -- sh", 125, &["--rm: unknown option", "pivot --ephemeral"]),
    ("pivot --rm ./root -- sh", 125, &["--rm: unknown option", "pivot --ephemeral"]),
    ("pivot --ro ./root -- sh", 125, &["--ro: unknown option", "pivot --read-only"]),
    ("pivot -b ./x:/x ./root -- sh", 125, &["-b: unknown option", "pivot --bind SRC:DST"]),
    ("pivot --volume ./x:/x ./root -- sh", 125, &["--volume: unknown option", "pivot --bind SRC:DST"]),
    ("pivot --volume=./x:/x ./root -- sh", 125, &["--volume: unknown option", "pivot --bind SRC:DST"]),
    ("unpack no-such.tar ./new", 125, &["no-such.tar: No such file or directory"]),
    ("unpack /etc/passwd ./new", 125, &["/etc/passwd: is not a tar archive"]),
    ("unpack img.tar ./there", 125, &["exists and unpack did not make it", "name another ROOT"]),
    ("unpack img.tar ./no/where/root", 125, &["./no/where: No such file or directory", "mkdir -p"]),
    ("head -c 300000 img.tar | unpack - ./new", 125, &["truncated"]),
    ("unpack img.tar ./root sh", 125, &["sh: unexpected operand", "usage: unpack"]),
    ("isolate --hostnam x -- sh", 125, &["--hostnam: unknown option", "did you mean --hostname?"]),
    ("isolate --memory lots -- sh", 125, &["\"lots\": not a size"]),
    ("$AS_USER isolate --pid -- sh", 125, &["Operation not permitted", "add --user --map-root"]),
    ("$AS_USER pivot ./root -- sh", 125, &["Operation not permitted", "isolate --user --map-root --"]),
    (
        "isolate --map-root --pid -- mountclean -- sh",
        125,
        &["locked in a user namespace", "-- pivot ROOT -- mountclean"],
    ),
    ("isolate --map-root -- mountclean -- sh", 125, &["--map-root --pid --"]),
    ("isolate --map-root -- pivot ./rot -- sh", 125, &["./rot: No such file", "unpack IMAGE ./rot"]),
    (
        "isolate --map-root -- pivot img.tar -- sh",
        125,
        &["img.tar: Not a directory", "unpack img.tar ./root -- pivot ./root"],
    ),
    ("isolate --map-root -- pivot -- sh", 125, &["ROOT comes before COMMAND: pivot ROOT -- sh"]),
    (
        "isolate --map-root -- pivot ./root -v ./x:/x",
        125,
        &["options come first", "pivot --bind SRC:DST ROOT -- COMMAND"],
    ),
    ("isolate --map-root -- pivot ./x:/x ./root", 125, &["a volume is --bind ./x:/x, before ROOT"]),
    (
        "isolate --map-root -- pivot ./root --read-only -- sh",
        125,
        &["--read-only: stands behind an operand", "options come first"],
    ),
    ("isolate --map-root --pid -- mountclean -- pivot ./root -- sh", 125, &["pivot ROOT -- mountclean -- COMMAND"]),
    (
        "mountclean -- pivot ./root -- sh",
        125,
        &["mountclean comes behind pivot", "pivot ROOT -- mountclean -- COMMAND"],
    ),
    ("isolate --map-root -- pivot ./root -- shh", 127, &["shh: command not found"]),
    ("unpack no-such.tar | isolate --map-root -- pivot ./root -- sh", 125, &["COMMAND was not started", "no-such.tar"]),
];

#[test]
fn every_common_mistake_is_answered_with_what_to_do() {
    let work = Work::new();
    let prepare = format!(
        "chmod 755 . && cp '{}' img.tar && mkdir there && unpack --quiet img.tar >/dev/null",
        busybox_image().display()
    );
    work.sh(&prepare).expect(0, "");
    let as_user = match chainroot_tests::is_root() {
        true => "setpriv --reuid=1234 --regid=1234 --clear-groups --bounding-set=-all",
        false => "",
    };
    for (typed, status, words) in MISTAKES {
        let line = typed.replace("$AS_USER", as_user);
        let terminal = work.terminal("sh", &["-c", &format!("{line}; exit $?")]);
        let (shown, ended) = terminal.end();
        let shown = shown.replace('\r', "");
        assert_eq!(ended, status, "{typed}\n{shown}");
        for word in words {
            assert!(shown.contains(word), "{typed}: no {word:?} in\n{shown}");
        }
        // A line and a hint, from each tool that has to say something.
        assert!(shown.lines().count() <= 2 + typed.matches('|').count(), "{typed}\n{shown}");
        for inner in ["unmount_all\n", "unmount_all:", "Errno", "Os {", "panicked", ".rs:", "ENOENT", "EPERM"] {
            assert!(!shown.contains(inner), "{typed}: {inner:?} is of the source:\n{shown}");
        }
    }
    work.sh("ls -A there; ls -d new cut 2>/dev/null; true").expect(0, "");
}
