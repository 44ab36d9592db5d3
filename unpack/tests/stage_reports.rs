//! What happened to people with other tools among users, mounts and bombs, tried here; where another test has the
//! situation already, the address stands there.

mod archive;
mod layout;
mod scene;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::{Command, Output};

use archive::{Block, END};
use scene::{Scene, UNPACK, has, is_root, skip, text};

const OTHER: u32 = 31347;

fn image(mark: &[u8]) -> Vec<u8> {
    let dirs = ["dev", "home", "var/cache"].map(|name| Block::new(name, b'5').mode(0o755).bytes()).concat();
    [dirs, Block::file("etc/mark", mark).bytes(), END.to_vec()].concat()
}

fn ok(output: &Output) {
    assert!(output.status.success(), "{}", text(&output.stderr));
}

/// A root of one image and another image, where mounts can be made.
fn with_a_root_to_mount_in() -> Option<Scene> {
    if !is_root() {
        skip("only root mounts outside of a user namespace");
        return None;
    }
    let scene = Scene::new();
    scene.extracted(&image(b"old"), &[]);
    scene.write("new.tar", &image(b"new"));
    Some(scene)
}

fn script(scene: &Scene, script: &str) -> Output {
    let script = script.replace("UNPACK", UNPACK);
    Command::new("bash").args(["-ec", &script]).current_dir(scene.path("")).output().unwrap()
}

/// https://github.com/deeplethe/forkd/issues/264: an unmount that fails without a word, and then rm -rf on the root.
/// https://github.com/alpinelinux/alpine-chroot-install/issues/26: the root removed with the host's /dev still in it.
/// https://github.com/open-edge-platform/image-composer-tool/pull/760: a table of mounts that was read as text.
#[test]
fn a_root_with_the_hosts_directories_still_mounted_in_it_is_not_removed() {
    let Some(scene) = with_a_root_to_mount_in() else { return };
    // A name with blanks and a new line in it, as tables of mounts escape them; a lazy unmount that is still in use.
    let output = script(
        &scene,
        "mkdir -p 'the host' && echo kept >'the host/file'
         unshare -m bash -c 'mkdir \"root/home/a b\"$'\"'\\n'\"'c && mount --bind \"the host\" root/home/a* && mount --bind \"the host\" root/dev &&
             exec 5<root/dev && umount -l root/dev && { UNPACK --replace new.tar root >printed 2>errors && exit 3; cat root/etc/mark; }'",
    );
    let errors = fs::read_to_string(scene.path("errors")).unwrap_or_default();
    assert_eq!(text(&output.stdout), "old", "{}{errors}", text(&output.stderr));
    assert!(errors.contains("mounted"), "{errors}");
    assert_eq!(fs::read_to_string(scene.path("the host/file")).unwrap(), "kept\n");
}

/// https://github.com/sabamdarif/chroot-distro/issues/5: a process nobody thought of still had the storage mounted below
/// the root, in a mount namespace that the one who removed it did not see.
#[test]
fn what_another_mount_namespace_has_mounted_in_a_root_is_not_removed() {
    let Some(scene) = with_a_root_to_mount_in() else { return };
    let output = script(
        &scene,
        "mkdir storage && echo kept >storage/file && mkfifo up down
         unshare -m sh -c 'mount --bind storage root/home && echo >up && read x <down && cat root/home/file' &
         read x <up; UNPACK -q --replace new.tar root >/dev/null; echo >down; wait; cat root/etc/mark storage/file",
    );
    ok(&output);
    assert!(text(&output.stdout).ends_with("newkept\n"), "{}{}", text(&output.stdout), text(&output.stderr));
    scene.nothing_staged();
}

/// https://github.com/vllm-project/vllm/issues/2179, https://github.com/tox-dev/filelock/pull/317,
/// https://github.com/bit-team/backintime/issues/1676: the lock that somebody else made in a sticky directory, with
/// fs.protected_regular as distributions set it.
#[test]
fn the_lock_of_another_user_in_a_sticky_directory_fails_nobody() {
    if !is_root() {
        skip("only root makes files of other users");
        return;
    }
    let scene = Scene::new();
    fs::set_permissions(scene.path(""), fs::Permissions::from_mode(0o1777)).unwrap();
    scene.write("img.tar", &image(b"x"));
    let lock = scene.write(".root.unpack-lock", b"");
    chown(&lock, Some(OTHER), Some(OTHER)).unwrap();
    fs::set_permissions(&lock, fs::Permissions::from_mode(0o666)).unwrap();
    // The setting is the kernel's, not a namespace's: as it is here, and by the open(2) that it forbids.
    for _ in 0..2 {
        ok(&scene.unpack(&["-q", "img.tar", "root"]));
    }
    assert_eq!(fs::read(scene.path("root/etc/mark")).unwrap(), b"x");
    // https://github.com/Tripstack-Corp/spyc/pull/316, https://github.com/libsdl-org/SDL/issues/11887: a link of the name that
    // will be written, to a file of the victim's.
    fs::remove_file(&lock).unwrap();
    let victim = scene.write("victim", b"precious");
    for name in ["two", ".two.unpack-lock", "two.image.json"] {
        symlink(&victim, scene.path(name)).unwrap();
        std::os::unix::fs::lchown(scene.path(name), Some(OTHER), Some(OTHER)).unwrap();
        let _ = scene.unpack(&["-q", "img.tar", "two"]);
        let _ = scene.unpack(&["-q", "--replace", "img.tar", "two"]);
        assert_eq!(fs::read(&victim).unwrap(), b"precious", "{name}");
        let _ = fs::remove_dir_all(scene.path("two"));
        for name in ["two", ".two.unpack-lock", "two.image.json"] {
            let _ = fs::remove_file(scene.path(name));
        }
    }
}

/// https://github.com/drakkar-lig/debootstick/issues/3: the cleaning of an image that went through to the host's /var.
#[test]
fn an_image_that_clears_its_own_directories_clears_nothing_of_the_hosts() {
    let scene = Scene::new();
    let host = scene.path("host");
    fs::create_dir_all(host.join("cache")).unwrap();
    fs::write(host.join("cache/file"), b"kept").unwrap();
    let target = host.to_str().unwrap().to_owned();
    let base = [Block::new("var", b'2').link(&target).bytes(), Block::new("lib", b'5').bytes(), END.to_vec()].concat();
    let names = ["var/cache/.wh..wh..opq", "var/cache/.wh.file", "var/.wh.cache", ".wh.var", "lib/../var/.wh.cache"];
    for name in names {
        let layer = [Block::file(name, b"").bytes(), END.to_vec()].concat();
        layout::layout(&scene, &[base.clone(), layer]);
        let output = scene.unpack(&["-q", "--replace", "oci", "root"]);
        assert!(matches!(output.status.code(), Some(0 | 125)), "{}", text(&output.stderr));
        assert_eq!(fs::read(host.join("cache/file")).unwrap(), b"kept", "{name}");
    }
}

/// https://github.com/bytepunx/signet/issues/64, https://github.com/vibed-project/vibeD/issues/51: a cap on bytes and none
/// on how many files. https://github.com/cisagov/Malcolm/issues/1054, https://github.com/jdx/aube/pull/296: a cap on what
/// goes into the decompressor, or on one of the decompressors.
#[test]
fn every_compression_counts_what_comes_out_and_how_many_entries() {
    let scene = Scene::new();
    for (program, name) in [("gzip -9", "gz"), ("xz -9", "xz"), ("zstd -q -19", "zst"), ("bzip2 -9", "bz2")] {
        if !has(program.split(' ').next().unwrap()) {
            skip(&format!("needs {program}"));
            continue;
        }
        ok(&script(
            &scene,
            &format!(
                "mkdir -p many && (cd many && seq 20000 | xargs touch) && tar -cf - many | {program} >many.{name}
                 truncate -s 4M big && tar -cf - big | {program} >big.{name}"
            ),
        ));
        for (what, option, limit) in [("many", "--limit", "entries=10000"), ("big", "--limit", "bytes=1M")] {
            let archive = format!("{what}.{name}");
            let output = scene.unpack(&[option, limit, "-q", &archive, "root"]);
            let stderr = text(&output.stderr);
            assert_eq!(output.status.code(), Some(125), "{archive}: {stderr}");
            assert!(stderr.contains(option), "{archive}: {stderr}");
            assert!(!scene.path("root").exists());
            scene.nothing_staged();
        }
    }
}
