//! Owners, modes and attributes, for each user who extracts and each place.

mod archive;
mod entries;
mod layout;
mod scene;

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::process::{Command, Output};

use archive::{Block, END, extended, record};
use entries::{dir, file, packed};
use scene::{Scene, UNPACK, is_root, skip, text};

fn script(scene: &Scene, text: &str) -> Output {
    let text = text.replace("UNPACK", UNPACK);
    Command::new("unshare").args(["-m", "sh", "-c", &text]).current_dir(scene.path("")).output().unwrap()
}

/// setxattr(2) asks of an ordinary user the permission to write, also of one who has the file open.
#[test]
fn an_ordinary_user_keeps_attributes_of_files_that_nobody_may_write() {
    let scene = Scene::new();
    let attribute = extended(&[record("SCHILY.xattr.user.a", "b")]);
    let entries = [0o444, 0o0, 0o555].map(|mode| Block::file(&format!("f{mode:o}"), b"x").mode(mode).bytes());
    let large = Block::file("large", &[b'x'; 400_000]).mode(0o444).bytes();
    let all: Vec<u8> =
        entries.into_iter().chain([large]).flat_map(|entry| [attribute.clone(), entry].concat()).collect();
    scene.write("img.tar", &[all, END.to_vec()].concat());
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o777)).unwrap();
    let as_user = if is_root() { "setpriv --reuid 65534 --regid 65534 --clear-groups " } else { "" };
    scene.put_tool();
    let output = script(&scene, &format!("{as_user}./unpack img.tar root"));
    let output = if is_root() { output } else { scene.unpack(&["img.tar", "root"]) };
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("attributes not set"), "{}", text(&output.stderr));
    for (name, mode) in [("f444", 0o444), ("f0", 0), ("f555", 0o555), ("large", 0o444)] {
        let path = scene.path("root").join(name);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode, "{name}");
        if is_root() || mode != 0 {
            let mut value = [0; 8];
            let length = rustix::fs::lgetxattr(&path, "user.a", &mut value[..]).unwrap();
            assert_eq!(&value[..length], b"b", "{name}");
        }
    }
}

#[test]
fn groups_are_the_images_on_a_filesystem_that_gives_files_their_directorys() {
    if !is_root() {
        return skip("only root mounts a filesystem");
    }
    let scene = Scene::new();
    let group = |block: Block, gid: u32| block.field(116, format!("{gid:07o}\0").as_bytes());
    scene.write(
        "img.tar",
        &packed(&[
            group(dir("d"), 50),
            group(file("d/f", "x"), 0),
            group(Block::new("d/fifo", b'6'), 0),
            group(dir("d/sub"), 0),
            group(file("d/sub/g", "x"), 50),
            group(file("h", "x"), 0),
        ]),
    );
    let output = script(
        &scene,
        "PATH=$PATH:/usr/sbin; { truncate -s 20M disk && mkfs.ext4 -q disk && mkdir m && mount -o loop,grpid disk m &&
           chgrp 9 m; } >/dev/null 2>&1 || exit 77
         UNPACK -q img.tar m/root >/dev/null; s=$?
         cd m/root && stat -c '%n %g' . d d/f d/fifo d/sub d/sub/g h; cd ../..; umount m; exit $s",
    );
    if output.status.code() == Some(77) {
        return skip("no loop device to be had");
    }
    let found = text(&output.stdout);
    assert_eq!(found, ". 0\nd 50\nd/f 0\nd/fifo 0\nd/sub 0\nd/sub/g 50\nh 0\n", "{}", text(&output.stderr));
}

#[test]
fn the_roots_mode_is_the_images_whatever_umask_setgid_and_acl_are_around_it() {
    let scene = Scene::new();
    fs::create_dir(scene.path("around")).unwrap();
    fs::set_permissions(scene.path("around"), fs::Permissions::from_mode(0o2777)).unwrap();
    let _ = Command::new("setfacl").args(["-d", "-m", "u:1:rwx,g::rwx,o::rwx"]).arg(scene.path("around")).status();
    scene.write("without.tar", &packed(&[file("f", "x")]));
    for mode in [0o700, 0o755, 0o711] {
        scene.write(&format!("with{mode:o}.tar"), &packed(&[Block::new("./", b'5').mode(mode), file("f", "x")]));
    }
    for umask in ["000", "022", "077", "0277"] {
        for (image, mode) in [("without", 0o755), ("with700", 0o700), ("with755", 0o755), ("with711", 0o711)] {
            let output = Command::new("sh")
                .args(["-c", &format!("umask {umask}; exec {UNPACK} -q --replace {image}.tar around/root")])
                .current_dir(scene.path(""))
                .output()
                .unwrap();
            assert!(output.status.success(), "umask {umask}: {}", text(&output.stderr));
            let found = fs::metadata(scene.path("around/root")).unwrap().mode() & 0o7777;
            assert_eq!(found, mode, "{image} with umask {umask}: {found:o}");
            let acl = rustix::fs::lgetxattr_query(scene.path("around/root"), "system.posix_acl_default");
            assert!(acl.is_err(), "the root has taken a default ACL over");
        }
    }
}

#[test]
fn a_trees_digest_is_the_same_whatever_hard_links_lead_in_from_outside() {
    let scene = Scene::new();
    let root = scene.extracted(&packed(&[file("a", "1"), file("b", "2"), entries::hard_link("c", "b")]), &[]);
    let digest = || text(&scene.unpack(&["--digest", "img.tar", "root"]).stdout);
    let before = digest();
    assert!(before.starts_with("sha256:"), "{before}");
    for name in ["a", "b"] {
        fs::hard_link(root.join(name), scene.path(name)).unwrap();
    }
    assert_eq!(digest(), before);
    // But what is one file inside is not two.
    fs::remove_file(root.join("c")).unwrap();
    fs::copy(root.join("b"), root.join("c")).unwrap();
    assert_ne!(digest(), before);
}
