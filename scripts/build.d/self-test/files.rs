//! Files and directories.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirEntryExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, UNIX_EPOCH};

use crate::{Checked, ensure};

/// stat(2) and statx(2) against what stat(1) says, and against what was set.
pub(crate) fn metadata(dir: &Path) -> Checked {
    let path = dir.join("file");
    let file = File::create(&path)?;
    file.set_len(12_345)?;
    file.set_permissions(fs::Permissions::from_mode(0o4751))?;
    let time = UNIX_EPOCH + Duration::new(1_234_567_890, 123_456_789);
    file.set_modified(time)?;
    fs::hard_link(&path, dir.join("second"))?;
    std::os::unix::fs::symlink("file", dir.join("link"))?;
    let out = Command::new("stat").args(["-c", "%d %i %f %h %u %g %s %Y"]).arg(&path).output()?;
    for m in [path.metadata()?, file.metadata()?, dir.join("link").metadata()?] {
        let ours = [m.dev(), m.ino(), m.mode().into(), m.nlink(), m.uid().into(), m.gid().into(), m.size()];
        let text = format!("{} {:x} {}", spaced(&ours[..2]), m.mode(), spaced(&ours[3..]));
        ensure!(String::from_utf8_lossy(&out.stdout).trim() == format!("{text} {}", m.mtime()));
        ensure!(m.modified()? == time && m.mtime_nsec() == 123_456_789);
    }
    ensure!(fs::symlink_metadata(dir.join("link"))?.is_symlink());
    let raw = nix::sys::stat::lstat(&path)?;
    ensure!(raw.st_size == 12_345 && raw.st_mode & 0o7777 == 0o4751 && raw.st_nlink == 2);
    ensure!(nix::sys::statfs::statfs("/proc")?.filesystem_type() == nix::sys::statfs::PROC_SUPER_MAGIC);
    ensure!(fs::metadata("/dev/null")?.file_type().is_char_device() && fs::metadata("/dev/null")?.rdev() == 0x103);
    Ok(())
}

fn spaced(numbers: &[u64]) -> String {
    numbers.iter().map(u64::to_string).collect::<Vec<_>>().join(" ")
}

/// readdir(3): every name once, with its type.
pub(crate) fn directories(dir: &Path) -> Checked {
    let inside = dir.join("directory");
    fs::create_dir(&inside)?;
    for n in 0..500 {
        File::create(inside.join(format!("{n:0200}")))?;
    }
    File::create(inside.join(OsStr::from_bytes(b"\xff")))?;
    fs::create_dir(inside.join("sub"))?;
    let mut names: Vec<_> = fs::read_dir(&inside)?.collect::<Result<_, _>>()?;
    ensure!(names.iter().all(|name| name.ino() != 0));
    ensure!(names.iter().filter(|name| name.file_type().is_ok_and(|t| t.is_dir())).count() == 1);
    names.retain(|name| name.file_name().len() == 200);
    names.sort_by_key(|name| name.file_name());
    names.dedup_by_key(|name| name.file_name());
    ensure!(names.len() == 500 && inside.join(OsStr::from_bytes(b"\xff")).exists());
    let mut listing = nix::dir::Dir::open(&inside, nix::fcntl::OFlag::O_RDONLY, nix::sys::stat::Mode::empty())?;
    ensure!(listing.iter().filter_map(Result::ok).count() == 504);
    fs::remove_dir_all(&inside)?;
    ensure!(!inside.exists());
    Ok(())
}
