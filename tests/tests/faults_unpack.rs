//! Every system call of unpack fails once: there is no ROOT, the old one or a whole one, and the
//! next run leaves nothing behind.

use std::process::Stdio;

use chainroot_tests::faults::{Case, behind_a_wall, fail_every_call};
use chainroot_tests::inject::{Fault, Traced, run};
use chainroot_tests::{Work, needs_root};
use nix::errno::Errno;
use nix::libc;

/// An image of two small layers with an entry of every kind, as docker save writes it, and the first
/// of its layers as a plain tar.
fn images(work: &Work) {
    let script = r#"set -e
        mkdir -p a/dir/deep b/dir && cd a
        echo content >dir/file && ln dir/file hard && ln -s dir/file soft && mkfifo fifo && mknod null c 1 3
        truncate -s 1M sparse && echo end >>sparse && head -c 300000 /dev/zero >zeros && chmod 4755 dir/file
        setfattr -n user.name -v value dir/file || true
        touch dir/gone dir/deep/hidden
        cd ../b
        echo second >dir/second && touch dir/.wh.gone && mkdir dir/deep && touch dir/deep/.wh..wh..opq
        cd ..
        tar --xattrs --format=pax --sort=name -S -C a -cf layer1.tar . && tar --sort=name -C b -cf layer2.tar .
        id() { sha256sum <"$1" | cut -d ' ' -f 1; }
        printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' "$(id layer1.tar)" "$(id layer2.tar)" >config.json
        printf '[{"Config":"config.json","RepoTags":["x:1"],"Layers":["layer1.tar","layer2.tar"]}]' >manifest.json
        tar -cf layered.tar manifest.json config.json layer1.tar layer2.tar
        mv layer1.tar plain.tar && gzip -k plain.tar && mkdir images && mv layered.tar plain.tar plain.tar.gz images/
        rm -rf a b layer2.tar config.json manifest.json"#;
    work.sh(script).expect(0, "");
}

/// Everything that a tree has, in one text.
fn tree(work: &Work, root: &str) -> String {
    let script = format!(
        "cd {root} && find . ! -type d -printf '%p %y %m %U %G %s %T@ %l\\n' -o -printf '%p %y %m %U %G %T@\\n' | sort && find . -type f ! -name null -exec sha256sum {{}} + | sort"
    );
    let outcome = work.sh(&script);
    assert_eq!(outcome.status, 0, "{}", outcome.stderr);
    outcome.stdout
}

/// Fails every call of an unpack of this image, onto nothing or, with `--replace`, onto the root of another.
fn fail_unpack(work: &Work, image: &str, replaces: bool) {
    let own = format!("unpack --quiet images/{image} root");
    let old = "unpack --quiet --replace images/old.tar root";
    let reset = || {
        if replaces {
            // What the last fault has left is judged already.
            let outcome = work.sh(&format!("{old} || {{ rm -rf root root.image.json; {old}; }}"));
            assert_eq!(outcome.status, 0, "{}", outcome.stderr);
        } else {
            work.sh("rm -rf root root.image.json").expect(0, "");
        }
    };
    work.sh("rm -rf root root.image.json; mkdir other && echo old >other/file && tar -C other -cf images/old.tar . && rm -r other").expect(0, "");
    reset();
    let before = replaces.then(|| tree(work, "root"));
    assert_eq!(work.sh("rm -rf root root.image.json").status, 0);
    assert_eq!(work.sh(&own).status, 0);
    let whole = tree(work, "root");
    let after = |status| {
        let root = work.join("root").symlink_metadata().is_ok().then(|| tree(work, "root"));
        if root.as_ref() == Some(&whole) {
            // Failing after the rename is failing all the same, but nothing half done.
        } else if status == 0 {
            return Err("it succeeded without a whole root".into());
        } else if root != before {
            return Err(format!("ROOT is neither the old one nor the new one: {root:?}"));
        }
        // The next run sweeps.
        let again = work.sh(&own.replace(" root", if replaces { " --replace root" } else { " root" }));
        if again.status != 0 || tree(work, "root") != whole {
            return Err(format!("the next run fails: {}", again.stderr));
        }
        let left = work.sh("ls -A").stdout;
        if left != "images\nroot\nroot.image.json\n" { Err(format!("left after the next run: {left}")) } else { Ok(()) }
    };
    let option = if replaces { " --replace" } else { "" };
    let line = format!("unpack --quiet{option} images/{image} root");
    let stdout = format!("{}\n", work.join("root").display());
    fail_every_call(work, &Case { tool: "unpack", line: &line, stdout, before: &reset, after: &after });
}

#[test]
fn whatever_fails_in_unpack_there_is_no_root_or_a_whole_one() {
    needs_root!();
    behind_a_wall();
    let work = Work::new();
    images(&work);
    fail_unpack(&work, "plain.tar", false);
    fail_unpack(&work, "plain.tar.gz", false);
}

#[test]
fn whatever_fails_in_a_replace_there_is_the_old_root_or_the_new_one() {
    needs_root!();
    behind_a_wall();
    let work = Work::new();
    images(&work);
    fail_unpack(&work, "plain.tar", true);
}

/// What a sync that fails keeps away came after it.
#[test]
fn sync_makes_the_tree_durable_before_it_appears_and_its_name_after() {
    let work = Work::new();
    work.sh("mkdir images d && echo content >d/file && tar -C d -cf images/plain.tar . && rm -r d").expect(0, "");
    let unpack = |options: &str, fault| -> Traced {
        work.sh("rm -rf root root.image.json").expect(0, "");
        let mut command = work.command(work.tool("unpack"));
        command.args(options.split(' ')).args(["--quiet", "images/plain.tar", "root"]).stdin(Stdio::null());
        run(&mut command, "unpack", fault)
    };
    let fault = |call| Some(Fault { call, nth: 1, errno: Errno::EIO });
    let calls = |traced: &Traced, call| traced.calls.get(&call).copied().unwrap_or(0);

    let plain = unpack("--verbose", None);
    assert_eq!((plain.outcome.status, calls(&plain, libc::SYS_syncfs), calls(&plain, libc::SYS_fsync)), (0, 0, 0));
    let synced = unpack("--sync", None);
    assert_eq!((synced.outcome.status, calls(&synced, libc::SYS_syncfs), calls(&synced, libc::SYS_fsync)), (0, 1, 1));

    let failed = unpack("--sync", fault(libc::SYS_syncfs));
    assert_eq!((failed.outcome.status, failed.hit.is_some()), (125, true), "{:?}", failed.outcome);
    assert_eq!(calls(&failed, libc::SYS_renameat2), 0);
    work.sh("ls -A").expect(0, "images\n");

    let failed = unpack("--sync", fault(libc::SYS_fsync));
    assert_eq!((failed.outcome.status, failed.hit.is_some()), (125, true), "{:?}", failed.outcome);
    assert!(failed.outcome.stderr.contains("in place and complete, but may not outlive"), "{:?}", failed.outcome);
    work.sh("ls -A").expect(0, "images\nroot\nroot.image.json\n");
}
