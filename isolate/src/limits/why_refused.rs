//! Why the kernel refused a group, a process or a value.

use std::fs::read_to_string;
use std::io::Error;
use std::path::Path;

use chain::sys::errno_of;
use nix::errno::Errno;

/// mkdir(2) of a group.
pub fn group(error: &Error, dir: &Path) -> Option<String> {
    match errno_of(error)? {
        Errno::EAGAIN => dir.ancestors().skip(1).zip(1..).find_map(|(above, depth)| full(above, depth)),
        //: a cgroup | mkdir: EACCES, EPERM, EROFS | the group above is not the own user's | the only causes |
        //: isolate/src/limits/why_refused::a_group_that_may_have_no_other_below_it_is_named
        Errno::EACCES | Errno::EPERM | Errno::EROFS => {
            Some("limits need root, or a cgroup that is delegated to you".into())
        }
        _ => None,
    }
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
    let file = above.join(file);
    let file = file.display();
    //: a cgroup | mkdir: EAGAIN | cgroup.max.descendants or cgroup.max.depth of a group above | each group above |
    //: isolate/src/limits/why_refused::a_group_that_may_have_no_other_below_it_is_named
    Some(format!("{file} is {most} and allows no further group: raise it"))
}

pub fn value(error: &Error, file: &Path) -> Option<String> {
    match errno_of(error)? {
        Errno::EINVAL if file.ends_with("cpu.cfs_quota_us") => file.ancestors().skip(2).find_map(limited),
        Errno::EACCES if file.ends_with("cgroup.procs") => {
            //: a process cannot be moved | write of cgroup.procs: EACCES | its old group, or the new one, is another user's |
            //: the only cause | isolate/src/limits/why_refused::a_process_that_may_not_be_moved_is_told_from_other_values
            Some("moving a process takes root, or write access to both its old and its new cgroup".into())
        }
        _ => None,
    }
}

/// The quota of a group above, which version 1 lets none below exceed (tg_cfs_schedulable_down in Linux).
fn limited(above: &Path) -> Option<String> {
    let number = |name: &str| read_to_string(above.join(name)).ok()?.trim().parse::<u64>().ok();
    let (dir, most) = (above.display(), processors(number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?));
    //: cpu.cfs_quota_us (version 1; version 2 takes the value, and the smaller of the two holds) | write: EINVAL | a group
    //: above has less | each group above | isolate/hierarchies::a_quota_above_that_of_the_group_above_is_refused_with_the_most_that_it_gives
    Some(format!("{dir} has {most} of a processor, and a group below it gets no more: --cpus {most} or less"))
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
            assert_eq!(said, Err(Some(expected)));
        }
        let denied = Error::from_raw_os_error(Errno::EACCES as i32);
        assert!(group(&denied, &below).is_some_and(|hint| hint.starts_with("limits need root")));
        assert_eq!(group(&Error::from_raw_os_error(Errno::ENOMEM as i32), &below), None);
    }

    #[test]
    fn a_process_that_may_not_be_moved_is_told_from_other_values() {
        let said = |errno: Errno, file: &str| value(&Error::from_raw_os_error(errno as i32), Path::new(file));
        assert!(
            said(Errno::EACCES, "/x/cgroup.procs").is_some_and(|hint| hint.starts_with("moving a process takes root"))
        );
        for (errno, file) in [(Errno::ESRCH, "/x/cgroup.procs"), (Errno::EACCES, "/x/memory.max")] {
            assert_eq!(said(errno, file), None);
        }
    }
}
