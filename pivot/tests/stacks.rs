//! ROOT is a stack of layers, NAME.mstack, as systemd.mstack(7) has it.

use chainroot_tests::scene::{scene, ways_for};
use chainroot_tests::{Work, is_root, kernel_at_least, needs_root};

/// `x.mstack` of three layers in two stores, made by hand: names, what hides others, and the order of numbers.
fn stacked() -> Work {
    let work = scene();
    work.sh("mkdir -p store other x.mstack; mv root store/base; mkdir -p store/two/etc store/two/usr other/ten/etc
        echo two >store/two/etc/name; echo two >store/two/etc/two; echo ten >other/ten/etc/name
        mkdir -p store/base/usr/hidden store/base/usr/own; setfattr -n user.overlay.opaque -v y store/two/usr
        ln -s ../store/base x.mstack/layer@0; ln -s ../store/two x.mstack/layer@2; ln -s ../other/ten x.mstack/layer@10
        chmod 751 other/ten; echo {} >x.mstack/.of-a-layer.json")
        .expect(0, "");
    work
}

const LOOK: &str = "cat /etc/name /etc/two /etc/image; ls /usr; stat -c %a /";
const SEEN: &str = "ten\ntwo\nbusybox\n751\n";

#[test]
fn the_layers_of_a_stack_are_one_root_that_nothing_can_change() {
    for way in ways_for("x.mstack") {
        let work = stacked();
        let before = work.sh("find store other x.mstack | sort");
        for next in ["", "mountclean --"] {
            work.sh(&format!("{way} pivot x.mstack -- {next} sh -c '{LOOK}'")).expect(0, SEEN);
            let written =
                work.sh(&format!("{way} pivot x.mstack -- {next} sh -c 'echo x >/etc/name; echo x >/x; rm -r /usr'"));
            assert!(written.status == 1 && written.stderr.matches("Read-only").count() == 3, "{written:?}");
        }
        // The places of volumes are in memory, and what is around them stays.
        work.sh(&format!(
            "mkdir data; echo d >data/file; {way} pivot --dev --bind data:/new/deep --bind data:/etc/dir --tmpfs /usr/t x.mstack -- mountclean -- \
             sh -c '{LOOK}; cat /new/deep/file /etc/dir/file; echo more >>/new/deep/file; touch /new/x /etc/x 2>/dev/null; echo $?; rm -r /etc/dir 2>/dev/null'"
        ))
        .expect(1, "ten\ntwo\nbusybox\nt\n751\nd\nd\n1\n");
        work.sh("rm data/file; rmdir data").expect(0, "");
        assert_eq!(work.sh("find store other x.mstack | sort").stdout, before.stdout);
    }
}

#[test]
fn changes_to_a_stack_vanish_or_are_kept() {
    for way in ways_for("x.mstack") {
        let work = stacked();
        let before = work.sh("find store other x.mstack | sort; cat store/*/etc/name");
        let change = "echo mine >/etc/name; rm /etc/two; rm -r /bin/vi; mkdir /bin/vi /usr/new; echo $?";
        // In memory the marks of directories are of Linux 6.6.
        let in_memory = if kernel_at_least(6, 6) { change } else { "echo mine >/etc/name; rm /etc/two; echo $?" };
        let pivot =
            |options: &str, inside: &str| work.sh(&format!("{way} pivot {options} x.mstack -- sh -c '{inside}'"));
        let vanishing = pivot("--ephemeral", in_memory);
        vanishing.expect(0, "0\n");
        assert_eq!(vanishing.stderr.contains("has no extended attributes"), !kernel_at_least(6, 6), "{vanishing:?}");
        pivot("--overlay changes", LOOK).expect(0, SEEN);
        pivot("--overlay changes", change).expect(0, "0\n");
        pivot("--overlay changes --read-only", "cat /etc/name; ls /usr /bin/vi /etc/two; touch /x")
            .expect(1, "mine\n/bin/vi:\n\n/usr:\nnew\n");
        assert_eq!(work.sh("find store other x.mstack | sort; cat store/*/etc/name").stdout, before.stdout);
        work.sh("rm -r changes").expect(0, "");
    }
}

#[test]
fn a_stack_is_one_by_whatever_name_it_is_reached() {
    for way in ways_for("x.mstack") {
        let work = stacked();
        work.sh("ln -s x.mstack link").expect(0, "");
        let look = format!("-- sh -c '{LOOK}'");
        work.sh(&format!("{way} pivot link {look}")).expect(0, SEEN);
        work.sh(&format!("cd x.mstack; {way} pivot . {look}")).expect(0, SEEN);
        work.sh(&format!("cd store; {way} pivot ../x.mstack/ {look}")).expect(0, SEEN);
        work.sh(&format!("echo $PWD/x.mstack | {way} pivot - {look}")).expect(0, SEEN);
        work.sh(&format!("echo $PWD/x.mstack | {way} pivot --ephemeral - {look}")).expect(0, SEEN);
        work.sh(&format!(
            "mkdir data; echo $PWD/x.mstack | {way} pivot --bind data:/a/b --bind data:/a/c - -- ls /a; rmdir data"
        ))
        .expect(0, "b\nc\n");
        // To move it, move its store as well.
        work.sh(&format!("mkdir sub; mv x.mstack store other sub; {way} pivot sub/x.mstack {look}")).expect(0, SEEN);
    }
}

#[test]
fn one_layer_is_a_stack_and_five_hundred_are() {
    for way in ways_for("x.mstack") {
        let work = scene();
        work.sh("mkdir one.mstack; mv root one.mstack/layer@7; touch one.mstack/layer@7/gone; mkdir -m 700 one.mstack/layer@7/own").expect(0, "");
        work.sh(&format!("{way} pivot one.mstack -- sh -c 'cat /etc/image; touch /x'")).expect(1, "busybox\n");
        work.sh(&format!("{way} pivot --ephemeral one.mstack -- sh -c 'cat /etc/image; touch /x'"))
            .expect(0, "busybox\n");
        // Before Linux 6.8 they have to fit into one option of mount(2).
        let most = if kernel_at_least(6, 8) { 500 } else { 200 };
        work.sh(&format!(
            "mkdir many.mstack; mv one.mstack/layer@7 many.mstack/layer@000; n=1
            while [ $n -lt {most} ]; do mkdir -p many.mstack/layer@$n/etc; echo $n >many.mstack/layer@$n/etc/$n; echo $n >many.mstack/layer@$n/etc/top; n=$((n+1)); done"
        ))
        .expect(0, "");
        for option in ["", "--ephemeral", "--overlay changes"] {
            work.sh(&format!(
                "{way} pivot {option} many.mstack -- sh -c 'cat /etc/image /etc/top; ls /etc | grep -c ^[0-9]'"
            ))
            .expect(0, &format!("busybox\n{top}\n{top}\n", top = most - 1));
        }
        work.sh("n=$(ls many.mstack | wc -l); while [ $n -le 500 ]; do mkdir many.mstack/layer@$n; n=$((n+1)); done")
            .expect(0, "");
        work.sh(&format!("{way} pivot many.mstack -- true")).expect_refusal(&["501 layers, and an overlay takes 500"]);
        work.sh("rm -r changes").expect(0, "");
    }
}

#[test]
fn what_systemd_knows_and_pivot_does_not_is_refused_by_its_name() {
    for way in ways_for("x.mstack") {
        let work = stacked();
        for name in ["rw", "bind@var", "robind@var", "root", "usr", "layer@top", "layer@", "layer@0.raw", "more"] {
            work.sh(&format!("mkdir x.mstack/{name}")).expect(0, "");
            for option in ["", "--ephemeral"] {
                work.sh(&format!("{way} pivot {option} x.mstack -- echo started"))
                    .expect_refusal(&[&format!("x.mstack: {name} is not known in a stack"), "hint: "]);
            }
            work.sh(&format!("rmdir x.mstack/{name}")).expect(0, "");
        }
        work.sh(&format!("mkdir x.mstack/layer@02; {way} pivot x.mstack -- echo started")).expect_refusal(&[
            "layer@02",
            "layer@2",
            "have one number",
        ]);
        work.sh(&format!("mkdir empty.mstack; {way} pivot empty.mstack -- echo started"))
            .expect_refusal(&["a stack without layers"]);
        work.sh(&format!("rmdir x.mstack/layer@02; {way} pivot --idmap 0:1:1 x.mstack -- echo started"))
            .expect_refusal(&["--idmap: not for a stack"]);
    }
}

#[test]
fn what_cannot_be_a_layer_is_named() {
    for way in ways_for("x.mstack") {
        let work = stacked();
        let refused = |make: &str, words: &[&str]| {
            work.sh(make).expect(0, "");
            work.sh(&format!("{way} pivot x.mstack -- echo started")).expect_refusal(words);
            work.sh("rm -rf x.mstack/layer@3").expect(0, "");
        };
        refused("ln -s nowhere x.mstack/layer@3", &["layer@3: No such file", "hint: its layer is gone"]);
        refused("touch x.mstack/layer@3", &["layer@3: Not a directory", "hint: a layer is a directory"]);
        refused(
            "mkdir -m 777 x.mstack/layer@3",
            &["layer@3: the layer can be written by others (mode 0777)", "chmod go-w"],
        );
        refused(
            "ln -s ../store/two x.mstack/layer@3",
            &["hint: the directories of an overlay must not lie in each other"],
        );
        work.sh(&format!("{way} pivot --overlay store/two/changes x.mstack -- echo started; ls store/two"))
            .expect(0, "etc\nusr\n");
    }
}

#[test]
fn a_layer_of_another_users_is_refused() {
    needs_root!();
    if ways_for("x.mstack").is_empty() {
        return;
    }
    let work = stacked();
    work.sh("chown 4321 store/two").expect(0, "");
    work.sh("isolate --pid -- pivot x.mstack -- echo started")
        .expect_refusal(&["layer@2: the layer belongs to another user (4321)"]);
    // Who is not mapped cannot be told from root, whose store is for everybody: the tree shows nobody.
    work.sh("chown -R 0 store other; chmod 755 .; mkdir -m 755 own; chown 4321 own; cp -a x.mstack own/; sed -i d own/x.mstack/.of*; chown -hR 4321 own; ln -s ../store ../other own/").expect(0, "");
    let user = "setpriv --reuid=4321 --regid=4321 --clear-groups";
    let outcome =
        work.sh(&format!("{user} isolate --map-root --pid -- pivot own/x.mstack -- sh -c '{LOOK}; stat -c %U /'"));
    assert!(outcome.status == 0 && outcome.stdout.starts_with(SEEN), "{outcome:?}");
    assert!(outcome.stderr.contains("another user's layers: their owners show as nobody"), "{outcome:?}");
}

/// A receipt as unpack writes it.
fn receipt(work: &Work, tree: &str, config: &str) {
    work.sh(&format!(
        "set -- $(stat -c '%Hd:%Ld %i' {tree}); python3 - {tree} \"$1\" '{config}' <<'END'
import ctypes, json, os, struct, sys
tree, device, config = sys.argv[1:]
buffer = ctypes.create_string_buffer(256)
assert ctypes.CDLL(None).statx(-100, os.fsencode(tree), 0, 0xfff, buffer) == 0
birth = list(struct.unpack_from('qI', buffer, 80))
json.dump({{'version': 1, 'root': {{'device': device, 'inode': os.stat(tree).st_ino, 'birth': birth}}, 'config': json.loads(config)}},
    open(tree + '.image.json', 'w'))
END
        chmod 644 {tree}.image.json"
    ))
    .expect(0, "");
}

#[test]
fn what_the_image_says_is_in_the_receipt_of_the_stack() {
    for way in ways_for("x.mstack") {
        let work = stacked();
        let config = |user: &str| {
            format!(
                r#"{{"config": {{"User": "{user}", "Env": ["A=b"], "WorkingDir": "/made/here", "Cmd": ["sh", "-c", "echo $A $HOME; pwd; id -u"]}}}}"#
            )
        };
        receipt(&work, "x.mstack", &config(""));
        work.sh(&format!("{way} pivot --as-image x.mstack")).expect(0, "b /root\n/made/here\n0\n");
        // The users are those of the merged tree: the uppermost file counts.
        work.sh("echo root:x:0:0:root:/low:/bin/sh >store/two/etc/passwd").expect(0, "");
        work.sh(&format!("{way} pivot --as-image --overlay changes x.mstack")).expect(0, "b /low\n/made/here\n0\n");
        work.sh("mkdir -p other/ten/etc; cp store/two/etc/passwd other/ten/etc/; echo who:x:77:77::/who:/bin/sh >>other/ten/etc/passwd").expect(0, "");
        receipt(&work, "x.mstack", &config("who"));
        if is_root() && !way.contains("--user") {
            work.sh(&format!("{way} pivot --as-image x.mstack")).expect(0, "b /who\n/made/here\n77\n");
        }
        receipt(&work, "x.mstack", &config("nobody"));
        work.sh(&format!("{way} pivot --as-image x.mstack")).expect_refusal(&["user nobody is not in its /etc/passwd"]);
        work.sh("rm -rf changes").expect(0, "");
    }
}

/// Whether somebody could remove the layer of fives, and that of ones.
const REMOVABLE: &str = r#"python3 -c 'import fcntl, struct
F_OFD_SETLK, F_WRLCK = 37, 1
f = open("store/.lock", "r+")
for byte in 2 * 0x555555555555555, 2 * 0x111111111111111:
    try:
        fcntl.fcntl(f, F_OFD_SETLK, struct.pack("hhqqi4x", F_WRLCK, 0, byte, 1, 0)); print("free")
    except BlockingIOError: print("in use")'"#;

#[test]
fn a_container_keeps_the_layers_of_its_store() {
    let hex = "5".repeat(64);
    for way in ways_for("x.mstack") {
        let work = stacked();
        work.sh(&format!(
            "mv store/two store/sha256-{hex}-00000000; ln -sfn ../store/sha256-{hex}-00000000 x.mstack/layer@2
            (umask 077; >store/.lock); chmod 755 store; mkfifo up down"
        ))
        .expect(0, "");
        work.sh(&format!(
            "exec 3<>down; {way} pivot --no-handoff x.mstack -- mountclean -- sh -c 'echo; read -r line' >up <down 3>&- &
            read -r line <up; {REMOVABLE}; echo >&3; wait; {REMOVABLE}"
        ))
        .expect(0, "in use\nfree\nfree\nfree\n");
        // Through the lock nothing of the host's is reached.
        work.sh(&format!(
            "{way} pivot --no-handoff x.mstack -- mountclean -- sh -c 'for n in /proc/1/fd/1??; do readlink $n; ls $n/.. 2>&1 | head -n 1; done'"
        ))
        .expect(0, "/\nls: /proc/1/fd/100/..: Not a directory\n");
    }
}

#[test]
fn changes_are_not_taken_for_those_of_another_kind_of_root() {
    needs_root!();
    if ways_for("x.mstack").is_empty() {
        return;
    }
    let work = stacked();
    let way = "isolate --pid --";
    work.sh(&format!("cp -a store/base plain; {way} pivot --overlay of-plain plain -- rm /etc/image; {way} pivot --overlay of-stack x.mstack -- rm /etc/image"))
        .expect(0, "");
    work.sh(&format!("{way} pivot --overlay of-plain x.mstack -- echo started"))
        .expect_refusal(&["of-plain: the changes are those of a plain ROOT"]);
    work.sh(&format!("{way} pivot --overlay of-stack plain -- echo started"))
        .expect_refusal(&["of-stack: the changes are those of a stack"]);
}

/// The script that --explain prints has the same mounts and the same tree.
#[test]
fn the_script_of_a_stack_does_the_same() {
    for way in ways_for("x.mstack") {
        let unshare = match way.contains("user") {
            true => "unshare --user --map-root-user --pid --fork --kill-child --",
            false => "unshare --pid --fork --kill-child --",
        };
        for option in ["", "--read-only --dev --bind data:/new/deep", "--ephemeral", "--overlay changes"] {
            let work = stacked();
            work.sh("mkdir -p data one.mstack; ln -s ../store/base one.mstack/layer@3; rm x.mstack/.of*").expect(0, "");
            for stack in ["x.mstack", "one.mstack"] {
                let look = "cut -d\" \" -f5,6 /proc/self/mountinfo | sort; ls /usr /etc; stat -c %a /; touch /new-file; echo $?";
                let chain = format!("pivot {option} {stack} -- mountclean -- sh -c '{look}'");
                let real = work.sh(&format!("{unshare} {chain}"));
                assert_eq!(real.status, 0, "{option}: {}", real.stderr);
                work.sh(&format!("rm -rf changes; {} >script", chain.replacen("pivot", "pivot --explain", 1)))
                    .expect(0, "");
                let script = work.sh(&format!("{unshare} sh script; rm -rf changes"));
                assert_eq!(
                    (script.status, &script.stdout),
                    (0, &real.stdout),
                    "{way} {option} {stack}: {}",
                    script.stderr
                );
            }
        }
    }
}
