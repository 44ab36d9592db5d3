//! Places that the root lacks: in directories of other users, for sources that may be missing, from descriptors.

use chainroot_tests::scene::{scene, ways, ways_for};
use chainroot_tests::{Work, kernel_at_least, needs_root, skip};

/// A root of root's, and the words before a chain of a user to whom nothing in it belongs.
fn anothers() -> (Work, &'static str) {
    let work = scene();
    work.sh(
        "chmod 755 . root; mkdir -p root/home/there/dir root/srv; echo f >root/home/file; ln -s there root/home/link
         mkdir -m 755 mine; echo mine >mine/file; chown 4321:4321 mine mine/file; chmod 1777 root/tmp",
    )
    .expect(0, "");
    (work, "setpriv --reuid=4321 --regid=4321 --clear-groups isolate --map-root --pid --")
}

#[test]
fn a_user_binds_below_a_directory_of_another_users_root() {
    needs_root!();
    let (work, user) = anothers();
    for options in ["--ephemeral", "", "--read-only", "--ephemeral --read-only"] {
        if options.contains("--ephemeral") && !kernel_at_least(5, 11) {
            continue;
        }
        for next in ["", "mountclean --"] {
            let inside = "cat /home/me/x/file /home/file /home/link/../there/../file; ls /home; \
                          echo x >/home/me/x/new && echo writable; ls -d /home/there/dir /home/you/z";
            work.sh(&format!(
                "{user} pivot {options} --bind mine:/home/me/x --bind mine:/home/you/z:ro root -- {next} sh -c '{inside}'"
            ))
            .expect(0, "mine\nf\nf\nfile\nlink\nme\nthere\nyou\nwritable\n/home/there/dir\n/home/you/z\n");
            work.sh("find root/home | sort; rm mine/new")
                .expect(0, "root/home\nroot/home/file\nroot/home/link\nroot/home/there\nroot/home/there/dir\n");
        }
    }
    // What the user may change below can be changed as before.
    work.sh(&format!("{user} pivot --bind mine:/srv/x root -- sh -c 'echo x >/tmp/new; ls /srv'; cat root/tmp/new"))
        .expect(0, "x\nx\n");
}

#[test]
fn in_the_root_itself_that_takes_an_option_which_the_message_names() {
    needs_root!();
    let (work, user) = anothers();
    work.sh(&format!("{user} pivot --bind mine:/new root -- true"))
        .expect_refusal(&["/new in the root is missing and cannot be made", "use --ephemeral"]);
    if !kernel_at_least(5, 11) {
        skip!("an overlay in a user namespace is of Linux 5.11");
    }
    work.sh(&format!("{user} pivot --ephemeral --bind mine:/new root -- cat /new/file")).expect(0, "mine\n");
}

#[test]
fn why_a_place_cannot_be_made_is_found_by_looking() {
    for way in ways() {
        let work = scene();
        let way = way.replace("--pid", "--pid --mount");
        work.sh("mkdir data").expect(0, "");
        let read_only =
            "mount --bind root root; mount -o remount,bind,ro root; exec pivot --bind data:/new root -- true";
        work.sh(&format!("{way} sh -ec '{read_only}'"))
            .expect_refusal(&["/new in the root is missing and cannot be made", "hint: the root is read-only"]);
        // Below it, in memory.
        work.sh(&format!("{way} pivot --bind data:/mnt:ro --bind data:/mnt/new root -- true")).expect(0, "");
    }
    needs_root!();
    let work = scene();
    if work.sh("mkdir data && chattr +i root").status != 0 {
        skip!("no immutable directories here");
    }
    let (refused, below) =
        (work.sh("isolate --mount -- pivot --bind data:/new root -- true"), "isolate --mount -- pivot --ephemeral");
    let ephemeral = work.sh(&format!("{below} --bind data:/new root -- echo started"));
    work.sh("chattr -i root").expect(0, "");
    refused.expect_refusal(&["Operation not permitted", "hint: / in the root is immutable: chattr -i"]);
    ephemeral.expect(0, "started\n");
}

/// Mounted in a user namespace that knows other users: nothing can be made there, by the host's root neither.
#[test]
fn a_filesystem_that_does_not_know_the_user_is_named() {
    needs_root!();
    let work = scene();
    let image = chainroot_tests::busybox_image().display().to_string();
    let dir = work.path().display().to_string();
    work.sh("mkdir data t; mkfifo -m 666 up down; chmod 755 .").expect(0, "");
    let inside = "mount -t tmpfs -o mode=755 t t; cp -r root t/; echo $$ >up; read x <down";
    let run = |line: &str| {
        work.sh(&format!(
            "isolate --map-users 0:100000:10 --map-groups 0:100000:10 --setuid 0 --setgid 0 --mount -- sh -c '{inside}' & read pid <up; \
             nsenter --target $pid --mount sh -c 'cd {dir}; {line}'; s=$?; echo >down; wait; exit $s"
        ))
    };
    let unknown = "hint: user 0 or group 0 has no number on the filesystem there";
    run("pivot --bind data:/new t/root -- true").expect_refusal(&[
        "/new in the root is missing",
        "Value too large",
        "hint: this user has no number on ROOT",
    ]);
    run("pivot --overlay t/changes root -- true").expect_refusal(&["t/changes", "Value too large", unknown]);
    run(&format!("unpack --quiet {image} t/new >/dev/null")).expect_refusal(&["Value too large", unknown]);
    // Below another directory than / it is made in memory.
    run("pivot --bind data:/etc/new t/root -- ls -d /etc/new").expect(0, "/etc/new\n");
    run("pivot --ephemeral --bind data:/new t/root -- ls -d /new").expect(0, "/new\n");
}

#[test]
fn a_source_that_is_missing_is_left_out_only_where_that_was_asked_for() {
    for way in ways() {
        let work = scene();
        work.sh("mkdir data; echo there >data/file").expect(0, "");
        for options in ["", "--read-only"] {
            let line = format!("{way} pivot {options} --bind-try data:/mnt:ro --bind-try none:/none root --");
            work.sh(&format!(
                "{line} sh -c 'cat /mnt/file; ls -d /none 2>/dev/null; echo x 2>/dev/null >/mnt/file || echo read-only'"
            ))
            .expect(0, "there\nread-only\n");
        }
        work.sh(&format!("{way} pivot --bind none:/none root -- true"))
            .expect_refusal(&["none: No such file", "never made"]);
        // What is there and cannot be mounted is an error all the same.
        work.sh(&format!("{way} pivot --bind-try data:/etc/image root -- true")).expect_refusal(&["is a file"]);
    }
}

#[test]
fn directories_and_links_that_an_image_lacks_are_made() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        let options = "--ephemeral --tmpfs /run --dir /run/a/b --dir opt/x --symlink ../image:/etc/sub/link --symlink /opt:/run/o";
        for options in [options.to_owned(), format!("--read-only {options}")] {
            work.sh(&format!(
                "{way} pivot {options} --symlink /opt:/run/o root -- sh -c 'ls -d /run/a/b /opt/x; cat /etc/sub/link; readlink /run/o'"
            ))
            .expect(0, "/opt/x\n/run/a/b\nbusybox\n/opt\n");
        }
        work.sh(&format!("{way} pivot --dir /etc/image root -- true"))
            .expect_refusal(&["/etc/image in the root: Not a directory"]);
        work.sh(&format!("{way} pivot --symlink x:/etc/image root -- true"))
            .expect_refusal(&["/etc/image in the root exists and is not a link to x", "where nothing is"]);
        for wrong in ["--symlink x", "--symlink :/x", "--symlink x:/", "--dir /", "--dir ''"] {
            work.sh(&format!("{way} pivot {wrong} root -- true"))
                .expect_refusal(&[wrong.split(' ').next().unwrap_or("")]);
        }
    }
}

#[test]
fn the_script_of_these_options_does_the_same() {
    let work = scene();
    work.sh("mkdir data; echo there >data/file").expect(0, "");
    let options = "--bind-try data:/mnt:ro --bind-try none:/none --tmpfs /run:noexec,size=64k --dir /run/a --symlink /a:/run/l --etc passwd,group";
    let inside = "cat /mnt/file; ls /none 2>/dev/null; ls /run; readlink /run/l; id -un; echo $HOME; cut -d\" \" -f5,6 /proc/self/mountinfo";
    let unshare = format!(
        "unshare {} --pid --fork --kill-child --",
        if chainroot_tests::is_root() { "" } else { "--user --map-root-user" }
    );
    let chain = format!("pivot {options} root -- mountclean -- sh -c '{inside}'");
    let real = work.sh(&format!("rm -f root/etc/passwd; {unshare} {chain}"));
    assert!(real.stdout.starts_with("there\na\nl\n/a\nroot\n/root\n"), "{real:?}");
    work.sh(&format!(
        "rm -f root/etc/passwd; {} >script; {unshare} sh script",
        chain.replacen("pivot", "pivot --explain", 1)
    ))
    .expect(0, &real.stdout);
}

#[test]
fn a_descriptor_can_be_a_source_and_the_root() {
    for way in ways_for("--ephemeral") {
        let work = scene();
        work.sh("mkdir data; echo there >data/file").expect(0, "");
        for (root, options) in
            [("/proc/self/fd/8", ""), ("/dev/fd/8", "--ephemeral"), ("/proc/self/fd/8", "--read-only")]
        {
            work.sh(&format!(
                "exec 8<root 9<data 7<data/file; {way} pivot {options} --bind /proc/self/fd/9:/mnt --bind /dev/fd/7:/etc/new {root} -- mountclean -- cat /etc/image /mnt/file /etc/new"
            ))
            .expect(0, "busybox\nthere\nthere\n");
        }
        work.sh(&format!("mkdir gone; exec 9<gone; rmdir gone; {way} pivot --bind /proc/self/fd/9:/mnt root -- true"))
            .expect_refusal(&["/proc/self/fd/9", "is not there under that name", "must not be removed"]);
        work.sh(&format!("{way} pivot --bind /proc/self/fd/77:/mnt root -- true"))
            .expect_refusal(&["no such descriptor"]);
    }
}

#[test]
fn a_tmpfs_takes_the_flags_of_mount_and_only_sizes_that_are_limits() {
    for way in ways() {
        let work = scene();
        for (given, wanted) in [
            ("rw,nosuid,noexec,size=64k", "rw,nosuid,nodev,noexec"),
            ("ro", "ro,nosuid,nodev"),
            ("exec,dev,suid,nr_inodes=1k", "rw"),
        ] {
            work.sh(&format!("{way} pivot --tmpfs /mnt:{given} root -- mountclean -- sed -n 's|.* /mnt \\([^ ]*\\),relatime .*|\\1|p' /proc/self/mountinfo"))
                .expect(0, &format!("{wanted}\n"));
        }
        for given in ["size=0", "size=0%", "nr_inodes=0", "size=0m", "size=99999999999999999999", "size=-1", "size=1x"]
        {
            work.sh(&format!("{way} pivot --tmpfs /mnt:{given} root -- true")).expect_refusal(&[given, "is no limit"]);
        }
    }
}
