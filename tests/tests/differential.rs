//! The same request to other programs, and what each of them made of it.
//!
//! A dozen contents in seven packagings each, and Debian as mmdebstrap makes it, by default; Debian with
//! layers over it in all of them with `CHAINROOT_DIFFERENTIAL=all` (scripts/soak differential; `debian` for that alone).

use std::path::{Path, PathBuf};

use chainroot_tests::{Work, busybox_image, debian_image, differences, have, needs_root, skip, snapshot};

/// What each layer of an image does to the root below it: shell in its mounted root.
const STORIES: &[(&str, &[&str])] = &[
    ("plain", &["mkdir -p a/b; echo x >a/b/c; touch -d '2001-02-03 04:05:06' a/b/c a/b"]),
    ("whiteouts", &["mkdir -p gone/deep kept; touch gone/deep/file kept/gone kept/stays", "rm -r gone kept/gone"]),
    ("opaque", &["mkdir -p d/sub; touch d/old d/sub/old", "rm -r d; mkdir -p d/sub; touch d/sub/new"]),
    (
        "kinds",
        &[
            "echo f >file-dir; mkdir -p dir-file/x dir-link/x; ln -s a link-file; ln -s dir-file link-dir; mkfifo pipe",
            "rm -r file-dir dir-file dir-link link-file link-dir; mkdir file-dir; echo f >dir-file; ln -s bin dir-link; echo f >link-file; mkdir -p link-dir/y; touch link-dir/y/z",
        ],
    ),
    (
        "privileges",
        &[
            "cp bin/busybox su; cp bin/busybox ping; touch acl; mkdir sticky; chmod 4755 su; setcap cap_net_raw+ep ping; chmod 3777 sticky; setfattr -n user.a -v b acl",
            "chown 1000:2000 su; chmod 2711 su; setfattr -n user.c -v d acl; chown 12345:54321 sticky",
        ],
    ),
    (
        "links",
        &[
            "mkdir -p l/x; echo 1 >l/one; ln l/one l/two; ln l/one l/x/three; ln -s one l/soft; ln l/soft l/softer",
            "ln l/one l/four; rm l/two; echo other >l/x/new; ln l/x/new l/x/newer",
            "rm l/one; touch l/x/last",
        ],
    ),
    (
        "metadata",
        &["mkdir -p m/n; touch m/n/f", "chmod 700 m", "chown 7:8 m/n", "touch -d '1999-01-01' m/n/f; chmod 400 m/n/f"],
    ),
    (
        "attributes",
        &[
            "mkdir x; touch x/f x/g; setfattr -n user.one -v 1 x; setfattr -n user.two -v '' x/f; setfattr -n user.bytes -v 0x00ff0a3d x/g; setfattr -n trusted.t -v v x/f",
            "setfattr -x user.one x; setfattr -n user.two -v changed x/f; mkdir y; setfacl -m u:1000:rwx,d:g:7:r y; touch y/inherits",
            "setfattr -x user.two x/f; setfacl -b y",
        ],
    ),
    (
        "sparse",
        &[
            "truncate -s 8M hole; echo end >>hole; truncate -s 1M none; printf x | dd of=mid bs=1 seek=300000 2>/dev/null; truncate -s 600K mid",
            "ln hole hole2; printf y | dd of=mid bs=1 seek=400000 conv=notrunc 2>/dev/null",
        ],
    ),
    (
        "hidden",
        &[
            "mkdir -p h/a/b h/c; echo 1 >h/a/b/f; ln h/a/b/f h/c/g; touch h/.wh-is-no-whiteout",
            "rm h/a/b/f; ln -s ../../c/g h/a/b/f",
            "rm -r h/a; echo 2 >h/a; rm h/c/g",
            "rm h/a; mkdir h/a; echo 3 >h/a/b; touch -h -d '2002-02-02' h/a h",
        ],
    ),
    (
        "names",
        &[
            "mkdir -p 'a b' 'tab\tx'; touch -- 'a b/ü' \"$(printf 'latin1-\\351')\" -dash .hidden \"$(printf '%0200d' 0)\"",
            "rm 'a b/ü'",
        ],
    ),
    (
        "many",
        &[
            "mkdir many; touch many/0",
            "touch many/1",
            "touch many/2; rm many/0",
            "touch many/3",
            "rm many/1; mkdir many/1",
            "touch many/1/x",
            "rm -r many",
            "mkdir many; touch many/9",
        ],
    ),
];

fn images(work: &Work, name: &str, base: PathBuf, layers: &[&str]) {
    // One script a step: a Debian root takes a slow machine minutes.
    let run = |script: &str| {
        let with = "set -e; b=\"buildah --root $PWD/storage --runroot $PWD/run --storage-driver vfs\"\n";
        let outcome = work.sh(&format!("{with}{script}"));
        assert_eq!(outcome.status, 0, "{script}: {}", outcome.stderr);
    };
    run(&format!(
        r#"c=$($b from scratch); m=$($b mount "$c"); tar -C "$m" --xattrs --xattrs-include='*' -xpf '{}'; $b umount "$c" >/dev/null
        $b commit -q "$c" localhost/{name} >/dev/null; $b rm "$c" >/dev/null"#,
        base.display()
    ));
    for layer in layers {
        run(&format!(
            r#"c=$($b from localhost/{name}); m=$($b mount "$c"); (cd "$m"; {layer}); $b umount "$c" >/dev/null
            $b commit -q "$c" localhost/{name} >/dev/null; $b rm "$c" >/dev/null"#
        ));
    }
    run(&format!(r#"skopeo copy -q "containers-storage:[vfs@$PWD/storage+$PWD/run]localhost/{name}" oci:oci:{name}"#));
    run("rm -rf storage run");
    run(&format!("skopeo copy -q oci:oci:{name} docker-archive:docker.tar:{name}:latest; gzip -k docker.tar"));
    run(&format!("skopeo copy -q oci:oci:{name} oci-archive:oci.tar:{name}"));
    run(&format!("skopeo copy -q --dest-compress-format zstd oci:oci:{name} oci:zstd:{name}"));
    run(&format!("umoci unpack --image oci:{name} theirs >/dev/null 2>&1"));
    run(r#"tar -C theirs/rootfs --xattrs --xattrs-include='*' --format=pax --sort=name -cf export.pax.tar .
        tar -C theirs/rootfs --format=gnu --sort=name -cf export.gnu.tar ."#);
}

/// One story in every packaging: layered ones against umoci's tree, plain ones against GNU tar's.
fn compare(name: &str, base: PathBuf, layers: &[&str], found: &mut Vec<String>) -> usize {
    let work = Work::new();
    images(&work, name, base, layers);
    let umoci = snapshot(&work.join("theirs/rootfs"));
    let mut compared = 0;
    for image in ["oci", "docker.tar", "docker.tar.gz", "oci.tar", "zstd"] {
        let outcome = work.sh(&format!("unpack --quiet --owner keep {image} ours"));
        assert_eq!(outcome.status, 0, "{name} {image}: {}", outcome.stderr);
        let against = format!("{name} as {image}, ours and umoci\'s");
        found.extend(
            differences(&snapshot(&work.join("ours")), &umoci).into_iter().map(|line| format!("{against}: {line}")),
        );
        work.sh("rm -rf ours ours.image.json").expect(0, "");
        compared += 1;
    }
    for image in ["export.pax.tar", "export.gnu.tar"] {
        compare_with_tar(&work, name, &work.join(image), found);
        compared += 1;
    }
    compared
}

/// A root file system's archive, against GNU tar's tree.
fn compare_with_tar(work: &Work, name: &str, image: &Path, found: &mut Vec<String>) {
    let image = image.display();
    let script = format!(
        "unpack --quiet --owner keep {image} ours && mkdir tars && tar -C tars --numeric-owner --xattrs --xattrs-include='*' --acls -xpf {image}"
    );
    let outcome = work.sh(&script);
    assert_eq!(outcome.status, 0, "{name} {image}: {}", outcome.stderr);
    let lines = differences(&snapshot(&work.join("ours")), &snapshot(&work.join("tars")));
    found.extend(lines.into_iter().map(|line| format!("{name} as {image}, ours and GNU tar\'s: {line}")));
    work.sh("rm -rf ours ours.image.json tars").expect(0, "");
}

/// What layers do to a Debian root.
const DEBIAN: &[(&str, &[&str])] = &[
    ("mmdebstrap", &[]),
    (
        "mmdebstrap-changed",
        &[
            "rm -rf usr/share/doc usr/share/man var/cache/apt; mkdir -p usr/share/doc/mine",
            "chroot . useradd --create-home somebody; rm -rf usr/share/doc",
        ],
    ),
    (
        "mmdebstrap-upgraded",
        &[
            "cp -a usr/bin usr/bin.new; rm -r usr/bin; mv usr/bin.new usr/bin; chmod u+s,g+s usr/bin/mount; setcap cap_net_raw+ep usr/bin/hostname",
            "rm usr/bin/perl*; ln usr/bin/mount usr/bin/mount.again; find usr/lib -name '*.so*' -type l -exec touch -h -d 2003-03-03 {} +",
            "rm -r var/lib/dpkg/info; mkdir var/lib/dpkg/info; echo new >var/lib/dpkg/info/format; chown -R 1:1 var/mail",
        ],
    ),
];

#[test]
fn our_trees_are_umocis_and_gnu_tars_for_images_of_buildah_and_skopeo() {
    needs_root!();
    for program in ["buildah", "skopeo", "umoci", "setcap", "setfattr", "setfacl"] {
        if !have(program) {
            skip!("{program} is not installed");
        }
    }
    let (mut compared, mut found) = (0, Vec::new());
    let asked = std::env::var("CHAINROOT_DIFFERENTIAL").unwrap_or_default();
    let (small, large) = (asked != "debian", matches!(&asked[..], "all" | "debian"));
    for (name, layers) in STORIES.iter().filter(|_| small) {
        compared += compare(name, busybox_image(), layers, &mut found);
    }
    let Some(debian) = debian_image("") else { skip!("no Debian image") };
    for (name, layers) in DEBIAN.iter().filter(|_| large) {
        compared += compare(name, debian.clone(), layers, &mut found);
    }
    // As mmdebstrap wrote them.
    let work = Work::new();
    for compression in if large { &["", "gz", "xz", "zst"][..] } else { &["zst"] } {
        let image = debian_image(compression).expect("the plain one is there");
        compare_with_tar(&work, "mmdebstrap's", &image, &mut found);
        compared += 1;
    }
    eprintln!("{compared} images compared");
    assert!(found.is_empty(), "{}", found.join("\n"));
}
