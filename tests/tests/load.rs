//! Little memory and few descriptors.

use std::fs;
use std::path::{Path, PathBuf};

use chainroot_tests::{Work, busybox_image, debian_image, needs_root, skip};

fn with_root() -> Work {
    let work = Work::new();
    assert_eq!(work.sh(&format!("unpack --quiet '{}'", busybox_image().display())).status, 0);
    work
}

/// A control group of this test's that has this much memory.
struct Small {
    dir: PathBuf,
}

impl Small {
    fn new(name: &str, limit: &str) -> Option<Small> {
        let name = format!("chainroot-load-{name}-{}", std::process::id());
        let groups = fs::read_to_string("/proc/self/cgroup").expect("cgroup");
        let own = |prefix: &str| {
            let line = groups.lines().find(|line| line.split(':').nth(1) == Some(prefix))?;
            line.splitn(3, ':').nth(2).map(|path| path.trim_start_matches('/').to_owned())
        };
        let root = Path::new("/sys/fs/cgroup");
        let (dir, file) = match own("memory") {
            Some(path) => (root.join("memory").join(path).join(name), "memory.limit_in_bytes"),
            None => (root.join(name), "memory.max"),
        };
        fs::create_dir(&dir).ok()?;
        let small = Small { dir };
        fs::write(small.dir.join(file), limit).ok()?;
        Some(small)
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        fs::remove_dir(&self.dir).expect("the group is empty");
    }
}

#[test]
fn ninety_six_mebibytes_are_enough_to_unpack_with() {
    needs_root!();
    let Some(small) = Small::new("any", "100663296") else { skip!("no memory controller to make a group in") };
    for compression in ["", "gz", "xz", "zst", "bz2"] {
        let Some(image) = debian_image(compression) else { skip!("no Debian image") };
        let work = Work::new();
        let script =
            format!("echo $$ >'{}/cgroup.procs'; exec unpack --quiet '{}'", small.dir.display(), image.display());
        work.sh(&script).expect(0, &format!("{}\n", work.join("root").display()));
        let script = format!(
            "cat '{}' | (echo 0 >'{}/cgroup.procs'; exec unpack --quiet - piped)",
            image.display(),
            small.dir.display()
        );
        work.sh(&script).expect(0, &format!("{}\n", work.join("piped").display()));
    }
}

/// The Debian image and a layer that hides a directory of it, as `one` and `two`, and their configuration.
const LAYERS: &str = r#"mkdir usr && touch usr/.wh.share && tar -cf two usr && rm -r usr && mkdir -p blobs/sha256
    id() { sha256sum <"$1" | cut -d ' ' -f 1; }
    blob() { blob=$(id "$1") && mv "$1" blobs/sha256/$blob && echo $blob; }
    printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' \
        $(id one) $(id two) >config"#;

/// A docker save archive of those.
const DOCKER_SAVE: &str = r#"printf '[{"Config":"blobs/sha256/%s","RepoTags":["x:1"],"Layers":["blobs/sha256/%s","blobs/sha256/%s"]}]' \
        $(blob config) $(blob one) $(blob two) >manifest.json
    tar -cf image.tar blobs manifest.json && rm -r blobs"#;

/// An OCI layout of those, compressed by gzip and zstd, as a directory and as an archive of it.
const OCI_LAYOUT: &str = r#"type=application/vnd.oci.image
    gzip -1 one && zstd -q --rm two
    described() {
        size=$(stat -c %s "$2")
        printf '{"mediaType":"%s","digest":"sha256:%s","size":%s}' "$type.$1" $(blob "$2") $size
    }
    printf '{"schemaVersion":2,"mediaType":"%s","config":%s,"layers":[%s,%s]}' $type.manifest.v1+json \
        "$(described config.v1+json config)" "$(described layer.v1.tar+gzip one.gz)" "$(described layer.v1.tar+zstd two.zst)" >manifest
    mkdir layout && printf '{"imageLayoutVersion":"1.0.0"}' >layout/oci-layout
    printf '{"schemaVersion":2,"manifests":[%s]}' "$(described manifest.v1+json manifest)" >layout/index.json
    mv blobs layout/ && tar -C layout -cf image.tar ."#;

/// Unpacks an image in each of these ways within 96 MiB and 64 descriptors, and looks at what came of it.
fn unpacked_with_little(name: &str, image: &str, ways: &[&str]) {
    let Some(small) = Small::new(name, "100663296") else { skip!("no memory controller to make a group in") };
    let Some(debian) = debian_image("") else { skip!("no Debian image") };
    let work = Work::new();
    work.sh(&format!("set -e; cp '{}' one; {LAYERS}\n{image}", debian.display())).expect(0, "");
    for way in ways {
        let script = format!("ulimit -n 64 && echo 0 >'{}/cgroup.procs' && {way} >/dev/null", small.dir.display());
        work.sh(&script).expect(0, "");
        work.sh("ls root/usr | grep -c share; ls root/usr | grep -c bin; rm -r root").expect(0, "0\n2\n");
    }
}

#[test]
fn ninety_six_mebibytes_and_sixty_four_descriptors_are_enough_for_a_docker_save_archive() {
    needs_root!();
    unpacked_with_little("save", DOCKER_SAVE, &["unpack --quiet image.tar", "cat image.tar | unpack --quiet -"]);
}

#[test]
fn ninety_six_mebibytes_and_sixty_four_descriptors_are_enough_for_an_oci_layout() {
    needs_root!();
    let ways = ["unpack --quiet layout", "unpack --quiet image.tar", "cat image.tar | unpack --quiet -"];
    unpacked_with_little("layout", OCI_LAYOUT, &ways);
}

/// `xz -T0` writes blocks that two threads at once would need more than this for.
#[test]
fn ninety_six_mebibytes_are_enough_for_an_xz_of_large_blocks() {
    needs_root!();
    let Some(small) = Small::new("xz", "100663296") else { skip!("no memory controller to make a group in") };
    let work = Work::new();
    let script = format!(
        "yes chainroot | head -c 200M >file && tar -c file | xz -0 -T2 --block-size=64MiB >img.xz && rm file &&
         echo 0 >'{}/cgroup.procs' && exec unpack --quiet img.xz",
        small.dir.display()
    );
    work.sh(&script).expect(0, &format!("{}\n", work.join("root").display()));
}

#[test]
fn sixty_four_descriptors_are_enough_to_unpack_with() {
    let image = debian_image("gz").unwrap_or_else(busybox_image);
    let work = Work::new();
    let script = format!("ulimit -n 64 && exec unpack --quiet '{}'", image.display());
    work.sh(&script).expect(0, &format!("{}\n", work.join("root").display()));
}

#[test]
fn a_directory_of_more_directories_than_there_are_descriptors_can_be_unpacked() {
    let work = Work::new();
    let script = "mkdir d && (cd d && seq 3000 | xargs mkdir) && tar -cf d.tar d && ulimit -n 64 && \
                  unpack --quiet d.tar >/dev/null && ls root/d | wc -l";
    work.sh(script).expect(0, "3000\n");
}

#[test]
fn sixty_four_descriptors_are_enough_for_a_chain() {
    let work = with_root();
    let user = work.user();
    let script = format!("ulimit -n 64 && isolate {user} --pid -- pivot ./root -- mountclean -- echo done");
    work.sh(&script).expect(0, "done\n");
}
