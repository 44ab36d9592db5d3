//! Every system call of unpack fails once: there is no ROOT, the old one or a whole one, and the
//! next run leaves nothing behind.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::path::PathBuf;
use std::process::Stdio;

use chainroot_tests::faults::{Case, behind_a_wall, fail_every_call};
use chainroot_tests::inject::{Fault, Traced, run};
use chainroot_tests::{Snapshot, Work, needs_root, skip, snapshot};
use nix::errno::Errno;
use nix::libc;

/// An image of two small layers with an entry of every kind, as docker save writes it, and the first
/// of its layers as a plain tar.
fn make_images(work: &Work) {
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
        mkdir images && tar -cf images/layered.tar manifest.json config.json layer1.tar layer2.tar
        mkdir -p images/layout/blobs/sha256 && blob() {
            id=$(id "$1") && cp "$1" images/layout/blobs/sha256/$id
            printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$2" "$id" "$(stat -c %s "$1")"
        }
        type=application/vnd.oci.image
        printf '{"schemaVersion":2,"config":%s,"layers":[%s,%s]}' "$(blob config.json $type.config.v1+json)" \
            "$(blob layer1.tar $type.layer.v1.tar)" "$(blob layer2.tar $type.layer.v1.tar)" >oci.json
        printf '{"schemaVersion":2,"manifests":[%s]}' "$(blob oci.json $type.manifest.v1+json)" >images/layout/index.json
        printf '{"imageLayoutVersion":"1.0.0"}' >images/layout/oci-layout
        mv layer1.tar images/plain.tar && cd images && gzip -k plain.tar && xz -k plain.tar && bzip2 -k plain.tar && zstd -q plain.tar
        mkdir old && echo old >old/file && tar -C old -cf old.tar . && rm -r old && cd ..
        rm -r a b layer2.tar config.json manifest.json oci.json"#;
    work.sh(script).expect(0, "");
}

/// What a directory of the test's holds, names only; those below `bundle` as well.
fn names(work: &Work) -> BTreeSet<PathBuf> {
    let list = |dir: PathBuf| {
        let entries = fs::read_dir(work.join(&dir)).into_iter().flatten();
        entries.map(|entry| dir.join(entry.expect("an entry").file_name())).collect::<BTreeSet<_>>()
    };
    let mut found = list(PathBuf::new());
    found.append(&mut list("bundle".into()));
    found
}

fn without_attributes(tree: &Snapshot) -> Snapshot {
    let facts = |facts: &String| facts.lines().filter(|fact| !fact.starts_with("user.")).collect();
    tree.iter().map(|(path, of)| (path.clone(), facts(of))).collect()
}

/// An unpack that is to fail: its options and image, where it puts the root, and whether there is another there already.
struct Unpack<'a> {
    words: &'a str,
    root: &'a str,
    replaces: bool,
}

impl Unpack<'_> {
    fn fail(&self, work: &Work) {
        let line = format!("unpack --quiet {}", self.words);
        let clear = || {
            for path in [work.join("bundle"), work.join("root")].iter().filter(|path| path.exists()) {
                fs::remove_dir_all(path).expect("remove");
            }
            let _ = fs::remove_file(work.join("root.image.json"));
        };
        let reset = || {
            let old = "unpack --quiet --replace images/old.tar root";
            // What the last fault has left is judged already.
            if !self.replaces {
                clear();
            } else if work.sh(old).status != 0 {
                clear();
                assert_eq!(work.sh(old).status, 0);
            }
        };
        let tree = || work.join(self.root).symlink_metadata().is_ok().then(|| snapshot(&work.join(self.root)));
        clear();
        assert_eq!(work.sh(&line.replace("--replace ", "")).status, 0);
        let (whole, expected) = (tree(), names(work));
        clear();
        reset();
        let before = tree();
        let after = |status| {
            let root = tree();
            if root == whole {
                // Failing after the rename is failing all the same, but nothing half done.
            } else if status == 0 {
                // An attribute that the filesystem refuses is left out, and the receipt says so.
                let attributes = root.as_ref().map(without_attributes) == whole.as_ref().map(without_attributes);
                let receipt = fs::read_to_string(work.join(format!("{}.image.json", self.root))).unwrap_or_default();
                let noted = attributes && receipt.contains("xattrs");
                return if noted { Ok(()) } else { Err("it succeeded without a whole root".into()) };
            } else if root != before {
                return Err(format!("ROOT is neither the old one nor the new one: {root:?}"));
            }
            // The next run sweeps.
            let again = work.sh(&line);
            if again.status != 0 || tree() != whole {
                return Err(format!("the next run fails: {}", again.stderr));
            }
            let left = names(work);
            if left == expected { Ok(()) } else { Err(format!("left after the next run: {left:?}")) }
        };
        let stdout = format!("{}\n", work.join(self.root).display());
        fail_every_call(work, &Case { tool: "unpack", line: &line, stdout, before: &reset, after: &after });
    }
}

fn fail(images: &[&str], options: &str) {
    behind_a_wall();
    let work = Work::new();
    make_images(&work);
    for image in images {
        Unpack { words: &format!("{options}images/{image} root"), root: "root", replaces: false }.fail(&work);
    }
}

#[test]
fn whatever_fails_in_unpack_there_is_no_root_or_a_whole_one() {
    needs_root!();
    fail(&["plain.tar", "plain.tar.gz"], "");
}

#[test]
fn whatever_fails_in_an_unpack_of_other_compressions_there_is_no_root_or_a_whole_one() {
    needs_root!();
    fail(&["plain.tar.xz", "plain.tar.zst", "plain.tar.bz2"], "");
}

#[test]
fn whatever_fails_in_an_unpack_of_layers_there_is_no_root_or_a_whole_one() {
    needs_root!();
    fail(&["layered.tar", "layout"], "");
}

#[test]
fn whatever_fails_in_an_unpack_from_a_pipe_there_is_no_root_or_a_whole_one() {
    needs_root!();
    behind_a_wall();
    let work = Work::new();
    make_images(&work);
    for image in ["plain.tar.gz", "layered.tar"] {
        Unpack { words: &format!("--sync - root <images/{image}"), root: "root", replaces: false }.fail(&work);
    }
}

#[test]
fn whatever_fails_in_a_replace_there_is_the_old_root_or_the_new_one() {
    needs_root!();
    behind_a_wall();
    let work = Work::new();
    make_images(&work);
    Unpack { words: "--replace images/plain.tar root", root: "root", replaces: true }.fail(&work);
}

#[test]
fn whatever_fails_in_a_bundle_there_is_no_root_or_a_whole_one() {
    needs_root!();
    behind_a_wall();
    let work = Work::new();
    make_images(&work);
    let words = "--bundle bundle images/layered.tar";
    Unpack { words, root: "bundle/rootfs", replaces: false }.fail(&work);
}

#[test]
fn whatever_fails_in_layers_apart_each_layer_is_whole_or_not_there() {
    needs_root!();
    behind_a_wall();
    let work = Work::new();
    make_images(&work);
    let line = "unpack --quiet --layers store images/layered.tar n.mstack";
    let reset = || {
        work.sh("rm -rf store n.mstack n.mstack.image.json").expect(0, "");
    };
    let names = || -> BTreeSet<String> {
        let entries = fs::read_dir(work.join("store")).into_iter().chain(fs::read_dir(work.path())).flatten();
        entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
    };
    let layers = || -> BTreeMap<String, Snapshot> {
        let layers = names().into_iter().filter(|name| name.starts_with("sha256-") && !name.ends_with(".json"));
        layers.map(|name| (name.clone(), snapshot(&work.join("store").join(name)))).collect()
    };
    reset();
    assert_eq!(work.sh(line).status, 0);
    let (whole, expected) = (layers(), names());
    assert_eq!(whole.len(), 2);
    let after = |status| {
        for (name, layer) in layers() {
            let receipt = fs::read_to_string(work.join(format!("store/{name}.image.json"))).unwrap_or_default();
            // An attribute of the image's that the filesystem refuses is left out, and the receipt says so.
            let noted = receipt.contains("xattrs") && without_attributes(&layer) == without_attributes(&whole[&name]);
            // Where a device is refused, the whiteout is a file with an attribute.
            let but_for_whiteout = |mut layer: Snapshot| {
                layer.remove(Path::new("./dir/gone"));
                without_attributes(&layer)
            };
            let other_form = receipt.contains("\"whiteouts\": \"xattr\"")
                && layer.get(Path::new("./dir/gone")).is_some_and(|gone| gone.contains("user.overlay.whiteout"))
                && but_for_whiteout(layer.clone()) == but_for_whiteout(whole[&name].clone());
            if layer != whole[&name] && !noted && !other_form {
                return Err(format!("{name} is not whole: {layer:?}"));
            }
        }
        let there = work.join("n.mstack").exists();
        if status == 0 && !(there && layers().len() == 2) {
            return Err("it succeeded without a whole stack".into());
        }
        // The next run sweeps.
        let again = work.sh(line);
        if again.status != 0 || !layers().keys().eq(whole.keys()) {
            return Err(format!("the next run fails: {}", again.stderr));
        }
        let left = names();
        if left == expected { Ok(()) } else { Err(format!("left after the next run: {left:?}")) }
    };
    let stdout = format!("{}\n", work.join("n.mstack").display());
    fail_every_call(&work, &Case { tool: "unpack", line, stdout, before: &reset, after: &after });
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

/// What writes is behind a second wall (landlock(7)); what renames and becomes the command is not.
#[test]
fn the_threads_that_write_confine_themselves_and_the_one_that_goes_on_does_not() {
    let work = Work::new();
    work.sh("mkdir images d && echo content >d/file && tar -C d -cf images/plain.tar . && rm -r d").expect(0, "");
    let mut command = work.command(work.tool("unpack"));
    command.args([
        "--quiet",
        "--threads",
        "3",
        "images/plain.tar",
        "root",
        "--",
        "sh",
        "-c",
        "echo >beside && ls root",
    ]);
    let traced = run(command.stdin(Stdio::null()), "unpack", None);
    traced.outcome.expect(0, "file\n");
    let confined = traced.calls.get(&libc::SYS_landlock_restrict_self).copied().unwrap_or(0);
    let here = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    if confined == 0 && !here.contains("landlock") {
        skip!("no Landlock here");
    }
    // Each confines itself, or is started from one that is confined: it is inherited.
    assert!(confined >= 1, "{:?}", traced.calls);
    assert!(work.join("beside").exists());
}
