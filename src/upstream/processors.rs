//! The number of processors that this process may use.
//!
//! In a container with a quota of 1.5 processors the standard library returns 1, because it rounds down, and half a
//! processor would be unused. Here the quota is rounded up.

use std::fs;
use std::path::{Path, PathBuf};

use once_cell::sync::Lazy;

use super::control_group;

/// The processors that are available: machine, affinity, and the quota of the control group, rounded up. All that
/// follows from their number uses this one: the worker threads, and what may run at a time. It is at least 1, and does
/// not change while the process runs.
pub(crate) fn granted() -> usize {
    *GRANTED
}

static GRANTED: Lazy<usize> = Lazy::new(|| {
    let machine = std::thread::available_parallelism().map_or(1, usize::from);
    match quota(&control_group::folders("cpu")) {
        // Only the quota makes the library's number too small, because affinity is a whole number of processors.
        Some(quota) => machine.max(quota.min(affinity())),
        None => machine,
    }
});

/// The processors that this process may run on.
fn affinity() -> usize {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let list = status
        .lines()
        .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
    list.and_then(|list| counted(list.trim()))
        .unwrap_or(usize::MAX)
}

/// `0-3,8` gives 5.
fn counted(list: &str) -> Option<usize> {
    list.split(',').try_fold(0_usize, |count, part| {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let (first, last) = (first.parse::<usize>().ok()?, last.parse::<usize>().ok()?);
        Some(count + last.checked_sub(first)? + 1)
    })
}

/// The smallest quota in these folders, in processors, rounded up.
fn quota(folders: &[PathBuf]) -> Option<usize> {
    folders.iter().filter_map(|folder| quota_in(folder)).min()
}

fn quota_in(folder: &Path) -> Option<usize> {
    let read = |name: &str| fs::read_to_string(folder.join(name)).ok();
    let (quota, period) = match read("cpu.max") {
        // Version 2: `150000 100000`, or `max 100000`.
        Some(text) => {
            let (quota, period) = text.trim().split_once(' ')?;
            (quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?)
        }
        // Version 1: -1 means no quota.
        None => (
            read("cpu.cfs_quota_us")?.trim().parse().ok()?,
            read("cpu.cfs_period_us")?.trim().parse().ok()?,
        ),
    };
    if period == 0 {
        return None;
    }
    usize::try_from(quota.div_ceil(period).max(1)).ok()
}

#[cfg(test)]
mod tests {
    use super::control_group::folders_in;
    use super::*;

    fn quota(root: &Path, groups: &str) -> Option<usize> {
        super::quota(&folders_in(root, groups, "cpu"))
    }

    fn file(folder: &Path, name: &str, text: &str) {
        fs::create_dir_all(folder).unwrap();
        fs::write(folder.join(name), text).unwrap();
    }

    #[test]
    fn quotas_are_rounded_up_and_the_smallest_is_used() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let groups = "0::/kube/pod\n";
        assert_eq!(quota(root, groups), None);
        file(&root.join("kube/pod"), "cpu.max", "150000 100000\n");
        assert_eq!(quota(root, groups), Some(2));
        file(&root.join("kube/pod"), "cpu.max", "max 100000\n");
        assert_eq!(quota(root, groups), None);
        file(&root.join("kube"), "cpu.max", "50000 100000\n");
        assert_eq!(quota(root, groups), Some(1));
        // The limit of a slice of systemd applies to the services in it.
        let slice = root.join("system.slice");
        file(&slice, "cpu.max", "max 100000\n");
        file(&slice.join("portcullis.service"), "cpu.max", "max 100000\n");
        let service = "0::/system.slice/portcullis.service\n";
        assert_eq!(quota(root, service), None);
        file(&slice, "cpu.max", "210000 100000\n");
        assert_eq!(quota(root, service), Some(3));
        file(
            &slice.join("portcullis.service"),
            "cpu.max",
            "100000 100000\n",
        );
        assert_eq!(quota(root, service), Some(1));
        // The group of the process is outside of its name space.
        assert_eq!(quota(root, "0::/../../other\n"), None);
        // A container with its own name space sees its group as the root.
        file(root, "cpu.max", "320000 100000\n");
        assert_eq!(quota(root, "0::/\n"), Some(4));
    }

    #[test]
    fn the_older_version_is_supported_too() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let groups = "5:memory:/docker/x\n4:cpu,cpuacct:/docker/x\n0::/system\n";
        let group = root.join("cpu,cpuacct/docker/x");
        file(&group, "cpu.cfs_period_us", "100000\n");
        file(&group, "cpu.cfs_quota_us", "-1\n");
        assert_eq!(quota(root, groups), None);
        file(&group, "cpu.cfs_quota_us", "250000\n");
        assert_eq!(quota(root, groups), Some(3));
    }

    #[test]
    fn a_list_of_processors_is_counted() {
        assert_eq!(counted("0-3,8"), Some(5));
        assert_eq!(counted("7"), Some(1));
        assert_eq!(counted(""), None);
        assert_eq!(counted("3-1"), None);
    }
}
