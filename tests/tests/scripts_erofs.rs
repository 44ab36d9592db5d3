//! scripts/erofs: a root that is an image file.

use chainroot_tests::{Work, busybox_image, have, needs_root, script, skip};

const FILES: [(&str, &str); 2] = [("root.erofs", "mkfs.erofs"), ("root.squashfs", "mksquashfs")];

/// The files that this machine can make, of an image with something of every kind.
fn files(work: &Work) -> Vec<&'static str> {
    work.sh(&format!(
        "mkdir image; tar -xf '{}' -C image; cd image; ln etc/image etc/linked; mkfifo pipe; echo x >bin/set; chmod 4755 bin/set
        touch -d '2001-02-03 04:05:06' bin/set; ln -s nowhere link; chmod 1777 tmp
        tar --numeric-owner --owner=0 --group=0 -cf ../img.tar .",
        busybox_image().display()
    ))
    .expect(0, "");
    let can = |&(_, program): &(&str, &str)| have(program) || std::path::Path::new("/usr/sbin").join(program).exists();
    let made: Vec<&str> = FILES.iter().filter(|file| can(file)).map(|&(file, _)| file).collect();
    for file in &made {
        work.sh(&format!("{} -c img.tar {file}", script("erofs"))).expect(0, "");
    }
    made
}

#[test]
fn an_image_file_is_a_root_in_each_of_pivots_modes() {
    needs_root!();
    let work = Work::new();
    let erofs = script("erofs");
    for file in files(&work) {
        let look = "sh -c 'cat /etc/image /etc/linked; stat -c %a /bin/set; mount | cut -d \" \" -f 3 | grep -v ^/dev'";
        work.sh(&format!("{erofs} {file} {look}")).expect(0, "busybox\nbusybox\n4755\n/\n/proc\n");
        work.sh(&format!("{erofs} {file} sh -c 'echo mine >/etc/image; rm -r /usr; mkdir /new; cat /etc/image'"))
            .expect(0, "mine\n");
        work.sh(&format!("{erofs} -r {file} sh -c 'cat /etc/image; echo x >/etc/image'")).expect(1, "busybox\n");
        work.sh(&format!("{erofs} -k changes {file} sh -c 'echo kept >/etc/image; rm -r /usr'")).expect(0, "");
        work.sh(&format!("{erofs} -k changes {file} sh -c 'cat /etc/image; ls -d /usr'")).expect(1, "kept\n");
        for mode in ["", "-r", "-k changes"] {
            work.sh(&format!(
                "mkdir data; echo d >data/file; {erofs} {mode} -v data:/a/b {file} cat /a/b/file; rm -r data"
            ))
            .expect(0, "d\n");
        }
        // pivot itself takes the mount as it is, and makes the places of volumes in memory.
        let pivot = "exec pivot --no-handoff --read-only --bind data:/a/b /mnt -- cat /etc/image /a/b/file";
        work.sh(&format!(
            "mkdir data; echo d >data/file; isolate --mount --pid -- sh -c 'mount -o ro {file} /mnt && {pivot}'"
        ))
        .expect(0, "busybox\nd\n");
        work.sh(&format!("rm -r changes data; {erofs} {file} sh -c 'exit 7'")).expect(7, "");
    }
}

/// Nothing is lost on the way: the tree of the mount has the digest of the image's.
#[test]
fn the_tree_in_an_image_file_is_the_images() {
    needs_root!();
    let work = Work::new();
    let files = files(&work);
    let wanted = work.sh("unpack --quiet --digest img.tar one; rm -r one*").stdout;
    for file in files {
        let packed = "tar --numeric-owner --xattrs --xattrs-include=\"*\" --acls -cf packed.tar -C /mnt .";
        work.sh(&format!("isolate --mount -- sh -c 'mount -o ro {file} /mnt && {packed}' && unpack --quiet --digest packed.tar two; rm -r two*"))
            .expect(0, &wanted);
    }
}

#[test]
fn an_image_file_that_cannot_be_made_or_mounted_leaves_nothing() {
    let work = Work::new();
    let erofs = script("erofs");
    work.sh("echo no image >text; mkdir dir").expect(0, "");
    if !have("mksquashfs") {
        skip!("no mksquashfs");
    }
    work.sh(&format!("{erofs} -c text root.squashfs")).expect_refusal(&["unpack: text: "]);
    work.sh(&format!("{erofs} -c none root.squashfs")).expect_refusal(&["unpack: none: "]);
    work.sh(&format!("{erofs} -c text none/root.squashfs")).expect_refusal(&["the directory for it does not exist"]);
    work.sh(&format!("mkdir dir.squashfs; {erofs} -c text dir.squashfs; rmdir dir.squashfs")).expect(0, "");
    if chainroot_tests::is_root() {
        work.sh(&format!("{erofs} none true")).expect_refusal(&["none: no such file"]);
        let outcome = work.sh(&format!("{erofs} text echo started"));
        assert!(outcome.status == 125 && outcome.stdout.is_empty(), "{outcome:?}");
    } else {
        work.sh(&format!("{erofs} text true")).expect_refusal(&["only root can mount an image file"]);
    }
    work.sh("ls -A").expect(0, "dir\ntext\n");
}
