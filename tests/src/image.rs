//! Images to try chains on: a Debian root made by mmdebstrap once, and a small one around the
//! machine's static busybox.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The directory in which images are kept from one run to the next.
fn cache() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let dir = std::env::var_os("CHAINROOT_TEST_IMAGES")
            .map_or_else(|| format!("/var/tmp/chainroot-images-{}", nix::unistd::geteuid()).into(), PathBuf::from);
        fs::create_dir_all(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        dir
    })
}

/// Makes a file in the cache once, however many want it at the same time.
fn cached(name: &str, make: impl FnOnce(&Path)) -> PathBuf {
    let file = cache().join(name);
    if !file.exists() {
        let lock = fs::File::create(cache().join(format!("{name}.lock"))).expect("lock file");
        lock.lock().expect("lock");
        if !file.exists() {
            let part = cache().join(format!("{name}.part"));
            make(&part);
            fs::rename(&part, &file).expect("rename");
        }
    }
    file
}

/// A Debian root with procps, as mmdebstrap makes it: plain (`""`) or compressed (`"gz"`, `"xz"`, `"zst"`, `"bz2"`).
/// None where it cannot be had.
pub fn debian_image(compression: &str) -> Option<PathBuf> {
    let can_make = crate::is_root() && have("mmdebstrap");
    if !can_make && !cache().join("debian.tar").exists() {
        return None;
    }
    let plain = cached("debian.tar", |part| {
        run(Command::new("mmdebstrap")
            .args(["--quiet", "--variant=minbase", "--include=procps,hostname,mount", "--format=tar", "bookworm"])
            .arg(part));
    });
    let program = match compression {
        "" => return Some(plain),
        "gz" => "gzip -1",
        "xz" => "xz -1 -T0",
        "zst" => "zstd -q",
        "bz2" => "bzip2 -9",
        other => panic!("{other}: no such compression"),
    };
    Some(cached(&format!("debian.tar.{compression}"), |part| {
        run(Command::new("sh").arg("-c").arg(format!("{program} -c <'{}' >'{}'", plain.display(), part.display())));
    }))
}

/// A root of a few directories and busybox under all its names. Always to be had: the tests need busybox-static.
pub fn busybox_image() -> PathBuf {
    cached("busybox.tar", |part| image_of(part, ""))
}

/// A busybox root, after a shell script that runs in it has changed it, as a tar at `file`. Where the tools
/// are not static, as under a sanitizer, `CHAINROOT_TEST_LIBRARIES` names the files that they need in it; and
/// `/proc/self/exe`, for which the sanitizer looks before there is a /proc.
pub fn image_of(file: &Path, change: &str) {
    let script = format!(
        r#"set -e
        busybox=$(command -v busybox || echo /bin/busybox)
        dir=$(mktemp -d)
        trap 'rm -rf "$dir"' EXIT
        cd "$dir"
        chmod 755 .
        mkdir -p bin sbin usr/bin usr/sbin etc dev proc sys tmp root var
        chmod 1777 tmp
        cp "$busybox" bin/busybox
        for applet in $("$busybox" --list); do [ "$applet" = busybox ] || ln -s busybox "bin/$applet"; done
        echo root:x:0:0:root:/root:/bin/sh >etc/passwd
        echo root:x:0: >etc/group
        echo busybox >etc/image
        for file in $CHAINROOT_TEST_LIBRARIES; do mkdir -p ".${{file%/*}}"; cp -L "$file" ".$file"; done
        [ -z "$CHAINROOT_TEST_LIBRARIES" ] || {{ mkdir proc/self; ln -s /bin/busybox proc/self/exe; }}
        {change}
        tar --numeric-owner --owner=0 --group=0 --sort=name --mtime=@1700000000 -cf '{}' ."#,
        file.display()
    );
    run(Command::new("sh").arg("-c").arg(script));
}

pub fn have(program: &str) -> bool {
    Command::new("sh")
        .args(["-c", "command -v \"$1\" >/dev/null", "sh", program])
        .status()
        .is_ok_and(|status| status.success())
}

fn run(command: &mut Command) {
    let output = command.output().expect("spawn");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

#[cfg(test)]
mod tests {
    /// Run first where others can read the images but not make them: `--ignored make_the_images`.
    #[test]
    #[ignore = "fills the cache"]
    fn make_the_images() {
        super::busybox_image();
        for compression in ["", "gz", "xz", "zst", "bz2"] {
            super::debian_image(compression).expect("mmdebstrap");
        }
    }
}
