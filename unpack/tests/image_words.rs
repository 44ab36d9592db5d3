//! What is no image says what it is and what to type; what is pinned is compared.

mod archive;
mod scene;

use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::process::Command;

use archive::layout::{Layout, config, digest, docker, gzip, layer};
use archive::{Block, END};
use scene::{Scene, has, skip, text};
use serde_json::{Value, json};

fn at(offset: usize, mark: &[u8]) -> Vec<u8> {
    let mut bytes = vec![0; 1 << 20];
    bytes[offset..offset + mark.len()].copy_from_slice(mark);
    bytes
}

fn with(mark: &[u8]) -> Vec<u8> {
    [mark, &[0x17; 4096]].concat()
}

/// By magic numbers of file(1), each refused from a file and from a pipe, and never an empty root for --format rootfs.
#[test]
fn what_is_no_archive_is_called_by_its_name() {
    let tar = layer("f", "x");
    let cases: Vec<(Vec<u8>, &str, &str)> = vec![
        (with(b"PK\x03\x04"), "a zip archive", "bsdtar"),
        (with(b"7z\xbc\xaf\x27\x1c"), "a 7z archive", "bsdtar"),
        (with(b"hsqs"), "a squashfs filesystem", "sqfs2tar"),
        (at(1080, b"\x53\xef"), "ext4 filesystem", "mount -o loop"),
        (at(0x10040, b"_BHRfS_M"), "a btrfs filesystem", "mount -o loop"),
        (with(b"XFSB"), "an xfs filesystem", "mount -o loop"),
        (at(1024, b"\xe2\xe1\xf5\xe0"), "an erofs filesystem", "mount -o loop"),
        (at(0x8001, b"CD001"), "an ISO 9660 image", "bsdtar"),
        (with(b"QFI\xfb\0\0\0\x03"), "a qcow2 disk image", "virt-tar-out"),
        (with(b"vhdxfile"), "a VHDX disk image", "virt-tar-out"),
        (at(512, b"EFI PART"), "a disk image with partitions", "virt-tar-out"),
        (at(510, b"\x55\xaa"), "a disk image with a boot sector", "virt-tar-out"),
        (at(70_000, b"something far behind"), "begins with zeros", "disk"),
        (with(b"\x04\x22\x4d\x18"), "compressed by lz4", "lz4 -dc IMAGE | unpack -"),
        (with(b"\x5d\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0"), "compressed by lzma", "xz --format=lzma -dc"),
        (with(b"LZIP\x01"), "compressed by lzip", "lzip -dc"),
        (with(b"\x89LZO\0\r\n\x1a\n"), "compressed by lzop", "lzop -dc"),
        (with(b"\x1f\x9d\x90"), "compressed by compress (.Z)", "gzip -dc"),
        (with(b"070701"), "a cpio archive", "bsdtar"),
        (with(b"!<arch>\ndebian-binary   "), "a Debian package", "dpkg-deb --fsys-tarfile"),
        (with(b"\xed\xab\xee\xdb"), "an RPM package", "rpm2archive"),
        (with(b"\0asm\x01\0\0\0"), "a WebAssembly module", "root filesystem"),
        (gzip(&gzip(&tar)), "is compressed twice: gzip in gzip", "gzip -dc IMAGE | unpack -"),
        (zstd::encode_all(&gzip(&tar)[..], 1).unwrap(), "is compressed twice: gzip in zstd", "zstd -dc IMAGE"),
        (gzip(&with(b"hsqs")), "a squashfs filesystem", "sqfs2tar"),
        (b"<!DOCTYPE html>\n<html>".to_vec(), "an HTML page", "curl -fL"),
        (b"\n <HTML lang=en>".to_vec(), "an HTML page", "curl -fL"),
        (b"<?xml version='1.0'?><Error>".to_vec(), "an XML document", "curl -fL"),
        (
            br#"{"errors":[{"code":"UNAUTHORIZED"}]}"#.to_vec(),
            "a registry's error in JSON: UNAUTHORIZED",
            "skopeo copy",
        ),
        (br#"{"schemaVersion": 2, "layers": []}"#.to_vec(), "one document of an image", "skopeo copy"),
        (br#"{"message": "no"}"#.to_vec(), "but JSON", "curl -fL"),
        (b"# syntax=docker/dockerfile:1\nARG V=1\nFROM debian:$V\nRUN x\n".to_vec(), "a Dockerfile", "docker build"),
        (b"version https://git-lfs.github.com/spec/v1\n".to_vec(), "a pointer to a file in Git LFS", "git lfs pull"),
        (b"404 page not found\n".to_vec(), "but text", "curl -fL"),
        (b"Getting image source signatures\nCopying".to_vec(), "skopeo's progress", "skopeo copy --quiet"),
    ];
    for (bytes, what, hint) in &cases {
        for format in ["auto", "rootfs", "docker", "oci"] {
            let scene = Scene::new();
            let message = scene.refused(bytes, &["--format", format]);
            let (first, second) = message.split_once('\n').unwrap();
            assert!(first.contains(what) && second.contains(hint), "{format}: {message}, not {what} and {hint}");
            let piped = scene.failed(&scene.unpack_bytes(bytes, &["--format", format, "-", "root"]));
            assert_eq!(piped, message.replace("img.tar:", "-:"), "{format}");
        }
    }
}

/// An archive whose first name begins like another format.
#[test]
fn an_archive_is_one_whatever_its_first_name_is() {
    for name in ["070701", "LZIP", "hsqs", "{", "PK\u{3}\u{4}", "<html", "FROM x"] {
        Scene::new().extracted(&layer(name, "x"), &[]);
    }
}

#[test]
fn filesystems_and_archives_of_real_programs_are_known() {
    let scene = Scene::new();
    let programs = [
        ("mkfs.ext4", "truncate -s 4M x && mkfs.ext4 -q x", "ext4"),
        ("mksquashfs", "mkdir d && mksquashfs d x -quiet", "squashfs"),
        ("qemu-img", "qemu-img create -q -f qcow2 x 1M", "qcow2"),
        ("lz4", "tar c -T /dev/null | lz4 -q > x", "lz4"),
        ("bsdtar", "bsdtar --format=newc -cf x /etc/hostname", "cpio"),
        ("bsdtar", "bsdtar --format=odc -cf x /etc/hostname", "cpio"),
        ("bsdtar", "bsdtar --format=zip -cf x /etc/hostname", "zip"),
        ("bsdtar", "bsdtar --format=iso9660 -cf x /etc/hostname", "ISO"),
        ("bsdtar", "bsdtar --format=7zip -cf x /etc/hostname", "7z"),
        ("bsdtar", "bsdtar --lzma -cf x /etc/hostname", "lzma"),
    ];
    for (program, script, what) in programs {
        if !has(program) {
            skip(&format!("no {program} here"));
            continue;
        }
        let script = format!("rm -rf d x; {script} 2>/dev/null");
        assert!(Command::new("sh").args(["-ec", &script]).current_dir(scene.path("")).status().unwrap().success());
        let message = scene.failed(&scene.unpack(&["x", "root"]));
        assert!(message.contains(what), "{program}: {message}");
    }
}

#[test]
fn a_name_of_a_registry_is_answered_with_the_line_that_fetches_it() {
    let scene = Scene::new();
    for (image, fetched) in [
        ("alpine", "docker://alpine"),
        ("alpine:3.20", "docker://alpine:3.20"),
        ("docker://alpine", "docker://alpine"),
        ("docker.io/library/alpine", "docker://docker.io/library/alpine"),
        ("https://quay.io/alpine", "docker://quay.io/alpine"),
    ] {
        let message = scene.failed(&scene.unpack(&[image, "root"]));
        let line = format!("skopeo copy --quiet {fetched} docker-archive:/dev/stdout | unpack -");
        assert!(message.contains("IMAGE is a file") && message.contains(&line), "{message}");
    }
    let message = scene.failed(&scene.unpack(&["img.tar", "root"]));
    assert!(message.contains("No such file") && !message.contains("hint"), "{message}");
}

/// As archlinux-bootstrap's.
#[test]
fn a_root_filesystem_below_a_directory_is_extracted_with_a_note_where_it_is() {
    let entries = [
        Block::file("pkglist.x86_64.txt", b"x").bytes(),
        Block::new("root.x86_64/", b'5').bytes(),
        Block::file("root.x86_64/usr/bin/sh", b"x").bytes(),
        END.to_vec(),
    ];
    let scene = Scene::new();
    scene.write("img.tar", &entries.concat());
    let output = scene.unpack(&["img.tar", "root"]);
    let inner = scene.path("root/root.x86_64").display().to_string();
    assert!(text(&output.stderr).contains(&format!("pivot {inner}")), "{}", text(&output.stderr));
    assert!(scene.path("root/root.x86_64/usr/bin/sh").exists());
    for bytes in [layer("usr/bin/sh", "x"), layer("app/data", "x")] {
        scene.write("img.tar", &bytes);
        let output = scene.unpack(&["--replace", "img.tar", "root"]);
        assert!(output.status.success() && !text(&output.stderr).contains("pivot"), "{}", text(&output.stderr));
    }
}

fn sha256(bytes: &[u8]) -> String {
    digest(bytes)
}

#[test]
fn a_plain_archive_is_pinned_by_its_own_digest() {
    let tar = [layer("f", "x"), vec![0; 200_000]].concat();
    let wrong = format!("sha256:{}", "0".repeat(64));
    for bytes in [tar.clone(), gzip(&tar)] {
        let right = sha256(&bytes);
        let scene = Scene::new();
        scene.extracted(&bytes, &["--ref", &right]);
        // Known again, by its content where the file is another.
        scene.write("img.tar", &bytes);
        let again = scene.unpack(&["--ref", &right, "img.tar", "root"]);
        assert!(again.status.success(), "{}", text(&again.stderr));
        let piped = scene.unpack_bytes(&bytes, &["--ref", &right, "-", "piped"]);
        assert!(piped.status.success(), "{}", text(&piped.stderr));
        let again = scene.unpack_bytes(&bytes, &["--ref", &right, "-", "piped"]);
        assert!(again.status.success(), "{}", text(&again.stderr));
        let scene = Scene::new();
        for message in [
            scene.refused(&bytes, &["--ref", &wrong]),
            scene.failed(&scene.unpack_bytes(&bytes, &["--ref", &wrong, "-", "root"])),
        ] {
            assert!(message.contains(&wrong) && message.contains(&right), "{message}");
        }
    }
}

#[test]
fn a_plain_archive_has_no_name_and_no_platform() {
    let tar = layer("f", "x");
    let message = Scene::new().refused(&tar, &["--ref", "debian:12"]);
    assert!(message.contains(r#"has no name "debian:12""#) && message.contains("--ref sha256:"), "{message}");
    let message = Scene::new().refused(&tar, &["--platform", "linux/amd64"]);
    assert!(message.contains("has no platform") && message.contains("leave --platform out"), "{message}");
}

#[test]
fn a_layered_image_is_pinned_by_its_manifests_its_configs_and_its_indexs_digest() {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[layer("f", "x")], gzip);
    let config = digest(config("linux/amd64", &[layer("f", "x")]).as_bytes());
    let manifest = image["digest"].as_str().unwrap().to_owned();
    let index = json!({"schemaVersion": 2, "manifests": [image]});
    let index = layout.blob("application/vnd.oci.image.index.v1+json", index.to_string().as_bytes());
    let pinned = index["digest"].as_str().unwrap().to_owned();
    let bytes = layout.index(json!([index])).tar();
    for pin in [&manifest, &config, &pinned] {
        Scene::new().extracted(&bytes, &["--ref", pin]);
    }
    let wrong = format!("sha256:{}", "0".repeat(64));
    let message = Scene::new().refused(&bytes, &["--ref", &wrong]);
    assert!(message.contains(&wrong) && message.contains(&manifest) && message.contains(&config), "{message}");
    let docker = docker("x:1", &[layer("f", "x")], &["layer.tar".into()]).tar();
    Scene::new().extracted(&docker, &["--ref", &config]);
    let message = Scene::new().refused(&docker, &["--ref", &wrong]);
    assert!(message.contains(&wrong) && message.contains(&config), "{message}");
}

#[test]
fn layers_that_are_no_archives_are_named() {
    let with = |media_type: &str, bytes: &[u8]| {
        let mut layout = Layout::oci();
        let config = layout
            .blob("application/vnd.oci.image.config.v1+json", config("linux/amd64", &[bytes.to_vec()]).as_bytes());
        let layer = layout.blob(media_type, bytes);
        let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
        let manifest = layout.blob("application/vnd.oci.image.manifest.v1+json", manifest.as_bytes());
        layout.index(json!([manifest])).tar()
    };
    for (media_type, bytes, says) in [
        ("application/vnd.oci.image.layer.v1.tar+gzip+encrypted", &[9; 2000][..], "is encrypted"),
        ("application/vnd.oci.image.layer.v1.tar+encrypted", &[9; 2000][..], "skopeo copy --decryption-key"),
        ("application/vnd.wasm.content.layer.v1+wasm", b"\0asm\x01\0\0\0", "is WebAssembly"),
        ("application/vnd.sylabs.sif.layer.v1.sif", b"hsqs\0\0\0\0", "a squashfs filesystem"),
    ] {
        let message = Scene::new().refused(&with(media_type, bytes), &[]);
        assert!(message.contains("layer 1 of 1") && message.contains(says), "{message}");
    }
}

fn written(layout: &Layout, directory: &std::path::Path) {
    for (name, bytes) in &layout.files {
        let path = directory.join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::File::create(path).unwrap().write_all(bytes).unwrap();
    }
}

/// A layout whose blobs lie elsewhere, as rules_oci, Nix and a cache shared by layouts have it.
#[test]
fn blobs_may_be_links_out_of_the_layout_and_nothing_else_may() {
    let mut layout = Layout::oci();
    let image = layout.image("linux/amd64", &[layer("f", "x")], gzip);
    let layout = layout.index(json!([image]));
    let scene = Scene::new();
    written(&layout, &scene.path("layout"));
    fs::create_dir(scene.path("elsewhere")).unwrap();
    let blobs = scene.path("layout/blobs/sha256");
    for blob in fs::read_dir(&blobs).unwrap().map(|blob| blob.unwrap().path()) {
        let there = scene.path("elsewhere").join(blob.file_name().unwrap());
        fs::rename(&blob, &there).unwrap();
        symlink(&there, &blob).unwrap();
    }
    let output = scene.unpack(&["layout", "by-blob"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    fs::remove_dir_all(&blobs).unwrap();
    symlink("../../elsewhere", &blobs).unwrap();
    let output = scene.unpack(&["layout", "by-directory"]);
    assert!(output.status.success(), "{}", text(&output.stderr));
    // The digest is what vouches.
    let blob = fs::read_dir(scene.path("elsewhere")).unwrap().next().unwrap().unwrap().path();
    let good = fs::read(&blob).unwrap();
    fs::write(&blob, vec![b'x'; good.len()]).unwrap();
    let message = scene.failed(&scene.unpack(&["layout", "root"]));
    assert!(
        message.contains("does not match") || message.contains("malformed") || message.contains("tar archive"),
        "{message}"
    );
    fs::write(&blob, good).unwrap();
    for name in ["index.json", "oci-layout"] {
        let path = scene.path("layout").join(name);
        fs::rename(&path, scene.path(name)).unwrap();
        symlink(scene.path(name), &path).unwrap();
        let message = scene.failed(&scene.unpack(&["layout", "root"]));
        assert!(
            message.contains(&format!("{name}: leads out of the directory")) && message.contains("cp -rL"),
            "{message}"
        );
        fs::remove_file(&path).unwrap();
        fs::rename(scene.path(name), &path).unwrap();
    }
    // What cp -rL makes is taken.
    assert!(Command::new("cp").args(["-rL", "layout", "copy"]).current_dir(scene.path("")).status().unwrap().success());
    assert!(scene.unpack(&["copy", "root"]).status.success());
}

/// A docker manifest names files as it likes.
#[test]
fn no_name_in_a_directory_leads_out_of_it() {
    let scene = Scene::new();
    let hex = "0".repeat(64);
    for name in ["blobs/../../secret", "../secret", &format!("blobs/sha256/{hex}")] {
        let _ = fs::remove_dir_all(scene.path("d"));
        fs::create_dir_all(scene.path("d/blobs/sha256")).unwrap();
        scene.write("secret", br#"{"rootfs":{"diff_ids":[]}}"#);
        symlink(scene.path("secret"), scene.path("d/blobs/sha256").join(&hex)).unwrap();
        let manifest: Value = json!([{"Config": name, "Layers": []}]);
        scene.write("d/manifest.json", manifest.to_string().as_bytes());
        let message = scene.failed(&scene.unpack(&["d", "root"]));
        assert!(message.contains("leads out") || message.contains("does not match"), "{name}: {message}");
    }
}

/// What a bomb may cost at the defaults is in unpack(1); this much of it is no bomb.
#[test]
fn a_large_file_of_zeros_is_no_bomb() {
    let scene = Scene::new();
    let header = Block::new("var/log/lastlog", b'0').size(300 << 20).header();
    let bytes = [gzip(&header), gzip(&[0; 1 << 20]).repeat(300), gzip(&END)].concat();
    let root = scene.extracted(&bytes, &[]);
    assert_eq!(fs::metadata(root.join("var/log/lastlog")).unwrap().len(), 300 << 20);
}
