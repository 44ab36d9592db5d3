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
    for compression in ["", "gz", "xz", "zst"] {
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

/// A docker save archive of the Debian image in two layers, the second of which hides a directory.
fn docker_save(work: &Work, debian: &Path) {
    let script = r#"mkdir usr && touch usr/.wh.share && tar -cf layer2 usr && rm -r usr && mkdir -p blobs/sha256
        blob() { id=$(sha256sum <"$1" | cut -d ' ' -f 1) && mv "$1" blobs/sha256/$id && echo $id; }
        one=$(blob layer1) && two=$(blob layer2)
        printf '{"architecture":"amd64","os":"linux","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:%s","sha256:%s"]}}' \
            $one $two >config && config=$(blob config)
        printf '[{"Config":"blobs/sha256/%s","RepoTags":["x:1"],"Layers":["blobs/sha256/%s","blobs/sha256/%s"]}]' \
            $config $one $two >manifest.json
        tar -cf image.tar blobs manifest.json && rm -r blobs"#;
    work.sh(&format!("cp '{}' layer1 && {script}", debian.display())).expect(0, "");
}

#[test]
fn ninety_six_mebibytes_and_sixty_four_descriptors_are_enough_for_a_docker_save_archive() {
    needs_root!();
    let Some(small) = Small::new("save", "100663296") else { skip!("no memory controller to make a group in") };
    let Some(debian) = debian_image("") else { skip!("no Debian image") };
    let work = Work::new();
    docker_save(&work, &debian);
    for unpack in ["unpack --quiet image.tar", "cat image.tar | unpack --quiet - piped"] {
        let script = format!("ulimit -n 64 && echo 0 >'{}/cgroup.procs' && {unpack} >/dev/null", small.dir.display());
        work.sh(&script).expect(0, "");
    }
    work.sh("ls root/usr piped/usr | grep -c share; ls root/usr | grep -c bin").expect(0, "0\n2\n");
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
