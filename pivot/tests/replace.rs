//! unpack --replace while containers start: each runs in one whole tree.

use std::sync::atomic::{AtomicBool, Ordering};

use chainroot_tests::scene::{stopped_at, ways};
use chainroot_tests::{Work, kernel_at_least, skip};

/// How often ROOT is replaced; `CHAINROOT_SWAPS=all` (scripts/soak swaps) does it a thousand times.
fn replacements() -> usize {
    if std::env::var("CHAINROOT_SWAPS").is_ok_and(|value| value == "all") { 1000 } else { 60 }
}

/// A hundred files, all of which say which tree it is.
fn images(work: &Work) {
    for tree in ["one", "two"] {
        let make = "mkdir TREE TREE/bin TREE/many && cp $(command -v busybox || echo /bin/busybox) TREE/bin/busybox && \
             for n in sh cat sort uniq tr wc; do ln -s busybox TREE/bin/$n; done && \
             for n in $(seq 100); do echo TREE >TREE/many/$n; done && tar -C TREE -cf TREE.tar . && rm -r TREE";
        work.sh(&make.replace("TREE", tree)).expect(0, "");
    }
}

#[test]
fn a_container_sees_one_whole_tree_however_often_root_is_replaced_meanwhile() {
    if !kernel_at_least(5, 12) {
        skip!("there is no lock before Linux 5.12");
    }
    let options = &["", "--ephemeral"][..];
    for way in ways() {
        let work = Work::new();
        images(&work);
        work.sh("unpack --quiet one.tar >/dev/null").expect(0, "");
        let done = AtomicBool::new(false);
        let (mut started, count) = (0, replacements() / ways().len());
        std::thread::scope(|scope| {
            let replacer = scope.spawn(|| {
                let replace = "set -e; for n in $(seq COUNT); do for t in two one; do unpack --quiet --replace $t.tar >/dev/null; done; done";
                let outcome = work.sh(&replace.replace("COUNT", &(count / 2).to_string()));
                done.store(true, Ordering::Relaxed);
                outcome
            });
            // It looks twice, so that a tree that is being removed under it would be seen.
            let look = "cat /many/* | sort | uniq -c | tr -s \" \"; cat /many/* | wc -l";
            while !done.load(Ordering::Relaxed) {
                for option in options {
                    let outcome = work.sh(&format!("{way} pivot --no-handoff {option} root -- sh -c '{look}'"));
                    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
                    assert!(
                        [" 100 one\n100\n", " 100 two\n100\n"].contains(&outcome.stdout.as_str()),
                        "after {started} containers: {}",
                        outcome.stdout
                    );
                    started += 1;
                }
            }
            replacer.join().unwrap().expect(0, "");
        });
        println!("{way} {started} containers, {count} replacements");
        assert!(started > 10, "only {started} containers started meanwhile");
        // What containers kept from being removed goes with the next run.
        work.sh("unpack --quiet --replace two.tar >/dev/null; ls -A | grep -c unpack").expect(1, "0\n");
    }
}

/// The moments that a race seldom hits, one by one: pivot has opened ROOT and not locked it yet.
#[test]
fn a_root_that_is_replaced_between_its_opening_and_its_lock_is_the_new_one() {
    if !chainroot_tests::have("strace") {
        skip!("needs strace");
    }
    let way = if chainroot_tests::is_root() { "" } else { ways()[0] };
    let line = "pivot --no-handoff root -- cat /many/7";
    let replace = "unpack --quiet --replace two.tar >/dev/null";
    // The tree that it has opened is removed by then, or kept by another container, or locked by who removes it.
    let lock = |kind: &str| {
        let call = "fcntl.fcntl(9, fcntl.F_OFD_SETLK, struct.pack(\"hhqqi4x\", fcntl.KIND, 0, 0, 0, 0))";
        format!("python3 -c 'import fcntl, struct; {}' || exit 9;", call.replace("KIND", kind))
    };
    for keeper in [String::new(), lock("F_RDLCK"), lock("F_WRLCK")] {
        let work = Work::new();
        images(&work);
        work.sh("unpack --quiet one.tar >/dev/null").expect(0, "");
        stopped_at(&work, "open_tree", way, line, &format!("exec 9<>root.image.json; {keeper} {replace}"))
            .expect(0, "two\n");
    }
}
