//! Places that pivot starts from: chroots, other chains, user namespaces inside privileged ones.

use chainroot_tests::needs_root;
use chainroot_tests::scene::{scene, stopped_at, ways};

const COPY: &str = "mkdir -p root/tools root/inner && cp -a root/bin root/etc root/proc root/inner/ && mkdir -p root/inner/tmp root/inner/mnt && \
     for t in isolate pivot mountclean; do cp $(command -v $t) root/tools/; done";

#[test]
fn a_chroot_that_is_no_mount_is_told_from_other_causes() {
    needs_root!();
    let work = scene();
    work.sh(COPY).expect(0, "");
    work.sh("unshare --mount sh -c 'mount --rbind /proc root/proc; chroot root /tools/pivot /inner -- true'")
        .expect_refusal(&["pivot: ", "this is a chroot", "hint: "]);
}

/// The kernel lets a chroot pivot that is a mount point; what was above it would stay there.
#[test]
fn a_chroot_that_is_a_mount_is_no_place_to_start_from() {
    needs_root!();
    let work = scene();
    work.sh(COPY).expect(0, "");
    let start = "unshare --mount --pid --fork --kill-child sh -c 'mount --rbind root root; mount --rbind /proc root/proc; chroot root";
    work.sh(&format!("{start} /tools/pivot /inner -- echo started'"))
        .expect_refusal(&["chroot", "hint: start the chain outside"]);
    work.sh(&format!("{start} /tools/pivot /inner -- mountclean -- echo started'"))
        .expect_refusal(&["none of the tools is there", "chroot"]);
}

#[test]
fn chains_work_inside_chains_three_deep() {
    for way in ways() {
        let work = scene();
        work.sh(COPY).expect(0, "");
        work.sh("cp -a root/inner root/inner2 && mv root/inner2 root/inner/inner && cp -a root/tools root/inner/tools && echo deep >root/inner/inner/etc/image")
            .expect(0, "");
        let third = "/tools/isolate --pid -- /tools/pivot /inner -- mountclean -- sh -c \"cat /etc/image; mount | wc -l; ls /.. | wc -l; echo \\$\\$\"";
        let second = format!("/tools/isolate --pid -- /tools/pivot /inner -- mountclean -- {third}");
        let first = format!("{way} pivot root -- mountclean -- {second}");
        let entries = work.sh("ls root/inner/inner | wc -l").stdout;
        work.sh(&first).expect(0, &format!("deep\n2\n{entries}1\n"));
    }
}

#[test]
fn an_unprivileged_chain_works_inside_a_privileged_one() {
    needs_root!();
    let work = scene();
    work.sh(COPY).expect(0, "");
    work.sh("chmod 755 root; chmod 777 root/inner; chown -R 65534 root/inner");
    work.sh("echo nobody:x:65534:65534::/:/bin/sh >>root/etc/passwd");
    let inner = "/tools/isolate --user --map-root --pid -- /tools/pivot /inner -- mountclean -- sh -c \\\"id -u; mount | wc -l\\\"";
    work.sh(&format!("isolate --pid -- pivot root -- mountclean -- su -s /bin/sh nobody -c \"{inner}\""))
        .expect(0, "0\n2\n");
}

#[test]
fn a_missing_command_is_127_and_leaves_no_mount() {
    for way in ways() {
        let work = scene();
        let outcome = work.sh(&format!("{way} pivot root -- no-such-command"));
        outcome.expect(127, "");
        assert!(outcome.stderr.contains("no-such-command: command not found"), "{}", outcome.stderr);
        work.sh(&format!("{way} pivot root -- /etc/image")).expect(126, "");
    }
}

#[test]
fn without_a_command_it_is_the_images_shell() {
    for way in ways() {
        let work = scene();
        let outcome = work.with_input("sh", &format!("{way} pivot root"), b"cat /etc/image\nexit 7\n");
        outcome.expect(7, "busybox\n");
    }
}

#[test]
fn arguments_reach_the_command_as_they_were_typed() {
    for way in ways() {
        let work = scene();
        work.sh(&format!("{way} pivot root echo --help -- --bind 'a  b'")).expect(0, "--help -- --bind a  b\n");
        work.sh(&format!("{way} pivot root -- echo -- x")).expect(0, "-- x\n");
        work.sh(&format!("{way} pivot root -- -x")).expect(127, "");
    }
}

/// The kernel's own refusals: each has its cause told apart by looking.
#[test]
fn why_the_kernel_refuses_to_pivot_is_found_by_looking() {
    needs_root!();
    if !chainroot_tests::have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    let root = "root";
    for (script, words) in [
        ("mount --make-rshared /", ["Invalid argument", "shared with other namespaces", "hint: make it private"]),
        ("umount -l ROOT", ["No such file", "ROOT's mount is gone", "hint: ROOT was unmounted"]),
        ("cd ROOT; pivot_root . .", ["Device or resource busy", "ROOT's mount is / already", "hint: another process"]),
    ] {
        let work = scene();
        let script = script.replace("ROOT", &work.join(root).display().to_string());
        let script = format!("nsenter --target $PID --mount sh -ec '{script}'");
        stopped_at(&work, "fchdir", "", "pivot root -- echo started", &script).expect_refusal(&words);
    }
    let work = scene();
    work.sh(COPY).expect(0, "");
    work.sh("isolate --pid --mount --root root -- pivot /inner -- echo started").expect_refusal(&[
        "Invalid argument",
        "/ is not a mount point: this is a chroot",
        "hint: ",
    ]);
    work.sh("isolate --mount -- isolate --cap-drop SYS_ADMIN -- pivot root -- echo started 2>&1 >/dev/null | grep -v sandbox >&2; exit 125")
        .expect_refusal(&["no CAP_SYS_ADMIN over the mount namespace", "hint: this needs root"]);
}

/// What cannot be had here comes from strace: no cause is left that could be seen by looking. (An
/// initramfs, the last one, is in scripts/test-initramfs.)
#[test]
fn what_the_kernel_says_of_the_pivot_is_explained() {
    if !chainroot_tests::have("strace") {
        chainroot_tests::skip!("needs strace");
    }
    let way = if chainroot_tests::is_root() { "" } else { ways()[0] };
    let work = scene();
    for (errno, words) in [
        ("EINVAL", &["Invalid argument", "none of its documented causes holds", "hint: "]),
        ("EBUSY", &["Device or resource busy", "in use by the pivot", "hint: "]),
        ("EPERM", &["Operation not permitted", "no CAP_SYS_ADMIN", "hint: "]),
    ] {
        let strace = format!("strace -o /dev/null -e trace=pivot_root -e inject=pivot_root:error={errno}");
        work.sh(&format!("{way} {strace} pivot root -- echo started")).expect_refusal(words);
    }
}

#[test]
fn a_directory_on_the_way_that_lets_nobody_through_is_named() {
    needs_root!();
    let work = scene();
    work.sh("chmod 755 . && mkdir -p closed/data && chmod 700 closed && ln -s closed/data link && ln -s ../root closed/root && chmod 755 root");
    let user = "setpriv --reuid=65534 --regid=65534 --clear-groups isolate --map-root --";
    let hint = ["Permission denied", "hint: ", "closed (mode 0700, user 65534) cannot be searched by this user"];
    for options in ["--bind ./closed/data:/mnt root", "--bind ./link:/mnt root", "./closed/root", "link"] {
        work.sh(&format!("{user} pivot {options} -- echo started")).expect_refusal(&hint);
    }
    work.sh("chmod 711 closed");
    work.sh(&format!("{user} pivot --bind ./link:/mnt root -- echo started")).expect(0, "started\n");
}

/// The kernel keeps everybody but its owner out of it, root too; no request reaches the filesystem.
/// https://github.com/yandex-cloud/geesefs/issues/33
#[test]
fn a_fuse_mount_without_allow_root_is_named() {
    needs_root!();
    if !std::path::Path::new("/dev/fuse").exists() {
        chainroot_tests::skip!("no /dev/fuse");
    }
    let work = scene();
    let mount =
        "mkdir fuse; exec 9<>/dev/fuse; mount -i -t fuse -o fd=9,rootmode=40000,user_id=65534,group_id=65534 x fuse";
    for options in ["fuse/root", "fuse", "--bind ./fuse/data:/mnt root", "--bind ./fuse:/mnt root"] {
        work.sh(&format!("unshare --mount sh -ec '{mount}; exec pivot {options} -- echo started 9<&-'"))
            .expect_refusal(&[
                "Permission denied",
                "hint: ",
                "fuse is a FUSE mount for user 65534 alone",
                "allow_root",
            ]);
        work.sh("rmdir fuse").expect(0, "");
    }
}

#[test]
fn at_a_terminal_a_root_without_a_null_device_gets_a_hint() {
    for way in ways() {
        let work = scene();
        let run =
            |options: &str| work.sh(&format!("script -qec '{way} pivot {options} root -- true' /dev/null </dev/null"));
        if !chainroot_tests::have("script") {
            chainroot_tests::skip!("needs script");
        }
        assert!(run("").stdout.contains("pivot: hint: the root has no device /dev/null"));
        assert_eq!(run("--dev").stdout, "");
        assert_eq!(work.sh(&format!("{way} pivot root -- true")).stderr, "");
    }
}
