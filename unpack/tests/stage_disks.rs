//! Disks that fail for real, each in a mount namespace of its own: a quota, a backing store that is full, a device
//! that ends too early. (`tests/tests/faults_unpack.rs` has every system call fail.)

mod archive;
mod scene;

use std::process::{Command, Output};

use archive::{Block, END};
use scene::{Scene, UNPACK, is_root, skip, text};

/// What a script exits with that cannot make its disk.
const NO_DISK: i32 = 77;

/// A scene with an archive of 24 MiB that nothing compresses or deduplicates.
fn with_image() -> Scene {
    let scene = Scene::new();
    let mut state = 1_u64;
    let mut word = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()
    };
    let content: Vec<u8> = (0..(24 << 20) / 8).flat_map(|_| word()).collect();
    scene.write("img.tar", &[Block::file("file", &content).bytes(), END.to_vec()].concat());
    scene
}

/// Nothing where the script's disk cannot be had, which is said.
fn on_a_disk(scene: &Scene, what: &str, script: &str) -> Option<Output> {
    if !is_root() {
        skip("only root mounts a filesystem or sets up a loop device");
        return None;
    }
    let script = script.replace("UNPACK", UNPACK);
    let mut command = Command::new("unshare");
    command.args(["-m", "sh", "-c", &script]).current_dir(scene.path("")).env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    let output = command.output().unwrap();
    if output.status.code() == Some(NO_DISK) {
        skip(&format!("no {what} to be had"));
        return None;
    }
    Some(output)
}

/// One line, 125, and nothing beside where ROOT would be: the scripts list what is there on stdout.
fn nothing_is_left(output: &Output, why: &str) {
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    assert_eq!(output.status.code(), Some(125), "{stdout}{stderr}");
    assert!(stderr.lines().count() == 1 && stderr.starts_with("unpack: ") && stderr.contains(why), "{stderr}");
    assert_eq!(stdout.lines().last(), Some("left:"), "{stdout}");
}

#[test]
fn a_quota_that_is_used_up_leaves_nothing() {
    let scene = with_image();
    let Some(output) = on_a_disk(
        &scene,
        "btrfs with quotas",
        "{ truncate -s 300M disk && mkfs.btrfs -q disk && mkdir m && mount -o loop disk m && btrfs quota enable m &&
           btrfs subvolume create m/sub && btrfs qgroup limit 4M m/sub; } >/dev/null 2>&1 || exit 77
         UNPACK img.tar m/sub/root; status=$?
         echo; echo left: $(ls -A m/sub); umount m; exit $status",
    ) else {
        return;
    };
    nothing_is_left(&output, "Disk quota exceeded");
}

/// The page cache takes everything; that the disk did not, only a sync finds out.
#[test]
fn what_cannot_be_made_durable_does_not_appear_with_sync() {
    let scene = with_image();
    // A sparse disk in a tmpfs that is smaller than what is written to it: the block layer makes EIO of its ENOSPC.
    let disk = "{ mkdir t m && mount -t tmpfs -o size=12m none t && truncate -s 100M t/disk &&
                  mkfs.ext4 -q -O ^has_journal t/disk && mount -o loop t/disk m; } >/dev/null 2>&1 || exit 77";
    let Some(output) = on_a_disk(
        &scene,
        "loop device",
        &format!(
            "{disk}
             UNPACK --sync img.tar m/root; status=$?
             rmdir m/lost+found; echo; echo left: $(ls -A m); umount m; exit $status"
        ),
    ) else {
        return;
    };
    nothing_is_left(&output, "Input/output error");
}

#[test]
fn a_device_that_ends_too_early_leaves_nothing() {
    let scene = with_image();
    let Some(output) = on_a_disk(
        &scene,
        "loop device",
        "device=$(losetup --show -f img.tar 2>/dev/null) || exit 77
         truncate -s 3M img.tar
         UNPACK $device root; status=$?
         losetup -d $device; exit $status",
    ) else {
        return;
    };
    let stderr = text(&output.stderr);
    assert!(stderr.contains("read its content: Input/output error"), "{stderr}");
    assert!(!scene.path("root").exists() && !scene.path("root.image.json").exists());
    assert_eq!(output.status.code(), Some(125), "{stderr}");
    scene.nothing_staged();
}

/// xfs shows each ACL a second time, as trusted.SGI_ACL_FILE, btrfs inlines small files,
/// a tmpfs has no blocks: none of it is the tree's.
#[test]
fn a_tree_has_one_digest_on_every_filesystem() {
    let scene = Scene::new();
    let Some(output) = on_a_disk(
        &scene,
        "loop device",
        "{ mkdir s s/d && echo x >s/d/f && setfacl -m u:1000:rx s/d/f && setfacl -d -m u:1000:rwx s/d &&
           setfattr -n user.a -v b s/d/f && setfattr -n trusted.t -v c s/d/f && setcap cap_net_raw+ep s/d/f &&
           ln s/d/f s/hard && ln -s d/f s/soft && mkfifo s/fifo && mknod s/null c 1 3 && truncate -s 100M s/sparse &&
           chmod 4755 s/hard && chown 5:6 s/fifo && tar --xattrs --xattrs-include='*' --acls -C s -cf img.tar . &&
           for fs in ext4 btrfs xfs; do truncate -s 400M $fs.disk && mkfs.$fs -q $fs.disk && mkdir $fs && mount -o loop $fs.disk $fs || exit; done &&
           mkdir tmpfs && mount -t tmpfs none tmpfs; } >/dev/null 2>&1 || exit 77
         for fs in ext4 btrfs xfs tmpfs; do echo $(UNPACK --quiet --digest img.tar $fs/root) $(getfattr -Rdm- $fs/root 2>/dev/null | grep -c SGI_ACL); done
         umount ext4 btrfs xfs tmpfs",
    ) else {
        return;
    };
    let (stdout, stderr) = (text(&output.stdout), text(&output.stderr));
    let lines: Vec<Vec<&str>> = stdout.lines().map(|line| line.split(' ').collect()).collect();
    assert_eq!(lines.len(), 4, "{stdout}{stderr}");
    assert!(lines[0][0].len() >= 64 && lines.iter().all(|line| line[0] == lines[0][0]), "{stdout}{stderr}");
    assert_ne!(lines[2][1], "0", "xfs shows no ACL twice: {stdout}");
}
