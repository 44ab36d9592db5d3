//! Why the kernel refused a group or a value: a group above it has a limit of its own.

use std::fs::read_to_string;
use std::io::Error;
use std::path::Path;

use nix::errno::Errno;

/// mkdir(2) of a group.
pub fn group(error: &Error, dir: &Path) -> String {
    let full = || dir.ancestors().skip(1).zip(1..).find_map(|(above, depth)| full(above, depth));
    match error.raw_os_error() {
        Some(errno) if errno == Errno::EAGAIN as i32 => full(),
        _ => None,
    }
    .unwrap_or_else(|| "limits need root, or a cgroup that is delegated to you".into())
}

/// A group that lets no more be made below it, `depth` levels up (cgroup.max.* in Linux's cgroup-v2.rst).
fn full(above: &Path, depth: u64) -> Option<String> {
    let most = |file: &str| read_to_string(above.join(file)).ok()?.trim().parse::<u64>().ok();
    let stat = read_to_string(above.join("cgroup.stat")).unwrap_or_default();
    let there = stat.lines().find_map(|line| line.strip_prefix("nr_descendants ")?.parse::<u64>().ok());
    let descendants = most("cgroup.max.descendants").filter(|&most| there.is_some_and(|there| there >= most));
    let levels = most("cgroup.max.depth").filter(|&most| depth > most);
    let (file, most) = match (descendants, levels) {
        (Some(most), _) => ("cgroup.max.descendants", most),
        (None, Some(most)) => ("cgroup.max.depth", most),
        (None, None) => return None,
    };
    Some(format!("{} is {most} and allows no further group: raise it", above.join(file).display()))
}

/// A value that version 1 does not take: a quota above that of a group above (tg_cfs_schedulable_down in Linux).
pub fn value(error: &Error, file: &Path) -> Option<String> {
    let of_cpu = file.ends_with("cpu.cfs_quota_us") && error.raw_os_error() == Some(Errno::EINVAL as i32);
    let limited = |above: &Path| {
        let number = |name: &str| read_to_string(above.join(name)).ok()?.trim().parse::<u64>().ok();
        let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
        Some(format!(
            "{} has {} of a processor, and a group below it gets no more: --cpus {} or less",
            above.display(),
            processors(quota, period),
            processors(quota, period)
        ))
    };
    of_cpu.then(|| file.ancestors().skip(2).find_map(limited)).flatten()
}

/// In thousandths, rounded down.
fn processors(quota: u64, period: u64) -> String {
    let thousandths = quota.saturating_mul(1000) / period.max(1);
    format!("{}.{:03}", thousandths / 1000, thousandths % 1000)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{create_dir, remove_dir, write};

    /// Version 2 counts groups whether or not it has a controller.
    #[test]
    fn a_group_that_may_have_no_other_below_it_is_named() {
        let table = chain::mountinfo::read().expect("mountinfo");
        let hierarchy = table.into_iter().find(|mount| mount.kind == "cgroup2").map(|mount| mount.point);
        let Some(hierarchy) = hierarchy.filter(|_| nix::unistd::geteuid().is_root()) else {
            eprintln!("skipped: needs root and version 2 of cgroups");
            return;
        };
        let top = hierarchy.join(format!("isolate-test-most-{}", std::process::id()));
        let (middle, below) = (top.join("middle"), top.join("middle/below"));
        create_dir(&top).expect("mkdir");
        create_dir(&middle).expect("mkdir");
        let said = [("cgroup.max.descendants", "1"), ("cgroup.max.depth", "1")].map(|(file, most)| {
            write(top.join(file), most).expect("write");
            let said = create_dir(&below).map_err(|error| group(&error, &below));
            write(top.join(file), "max").expect("write");
            said
        });
        create_dir(&below).expect("mkdir");
        for dir in [&below, &middle, &top] {
            remove_dir(dir).expect("rmdir");
        }
        for (said, file) in said.into_iter().zip(["cgroup.max.descendants", "cgroup.max.depth"]) {
            let expected = format!("{} is 1 and allows no further group: raise it", top.join(file).display());
            assert_eq!(said, Err(expected));
        }
        let denied = Error::from_raw_os_error(Errno::EACCES as i32);
        assert!(group(&denied, &below).starts_with("limits need root"));
    }
}
