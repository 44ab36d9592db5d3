//! How much memory this process may have: the machine's, or what its control groups leave of it.

use std::path::{Path, PathBuf};

/// The least of all limits, in bytes; None where none can be read.
pub fn limit() -> Option<u64> {
    let machine = nix::sys::sysinfo::sysinfo().ok().map(|info| info.ram_total());
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let files = groups.lines().flat_map(|line| files(line, Path::new("/sys/fs/cgroup")));
    // "max" is no limit and no number.
    let limits = files.filter_map(|file| std::fs::read_to_string(file).ok()?.trim().parse().ok());
    limits.chain(machine).min()
}

/// The files that may hold a limit, for a line of proc_pid_cgroup(5): those of the group and of all groups above it. In a
/// container the mount may begin at our own group, whatever the path says; then it is the last file.
fn files(line: &str, mounts: &Path) -> Vec<PathBuf> {
    let mut fields = line.splitn(3, ':');
    let (Some(_), Some(controllers), Some(path)) = (fields.next(), fields.next(), fields.next()) else {
        return Vec::new();
    };
    let (roots, file) = match controllers {
        "" => (vec![mounts.to_owned(), mounts.join("unified")], "memory.max"),
        _ if controllers.split(',').any(|name| name == "memory") => {
            (vec![mounts.join("memory")], "memory.limit_in_bytes")
        }
        _ => return Vec::new(),
    };
    let groups = Path::new(path.trim_start_matches('/')).ancestors();
    groups.flat_map(|group| roots.iter().map(move |root| root.join(group).join(file))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_and_all_groups_around_it_may_have_a_limit() {
        let shown = |line: &str| -> Vec<String> {
            files(line, Path::new("/c")).iter().map(|file| file.display().to_string()).collect()
        };
        assert_eq!(
            shown("4:memory:/a/b"),
            ["/c/memory/a/b/", "/c/memory/a/", "/c/memory/"].map(|dir| format!("{dir}memory.limit_in_bytes"))
        );
        assert_eq!(
            shown("0::/a"),
            ["/c/a/", "/c/unified/a/", "/c/", "/c/unified/"].map(|dir| format!("{dir}memory.max"))
        );
        assert!(shown("3:cpuset:/").is_empty() && shown("").is_empty());
    }

    #[test]
    fn there_is_a_limit_and_it_is_no_more_than_the_machine_has() {
        let machine = nix::sys::sysinfo::sysinfo().unwrap().ram_total();
        assert!((1 << 20..=machine).contains(&limit().unwrap()));
    }
}
