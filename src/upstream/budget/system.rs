//! The memory that the system grants this process.

use std::fs;
use std::path::{Path, PathBuf};

/// The limit if neither the system nor the configuration gives one.
const UNKNOWN: u64 = 1 << 30;

/// Half of the memory available to this process.
pub(crate) fn half_of_memory() -> u64 {
    available() / 2
}

/// The memory available to this process: of its control group, or of the machine.
// On 32-bit systems these fields are narrower.
#[allow(clippy::useless_conversion)]
pub(crate) fn available() -> u64 {
    let machine = rustix::system::sysinfo();
    let total = u64::from(machine.totalram).saturating_mul(u64::from(machine.mem_unit));
    let group = fs::read_to_string("/proc/self/cgroup")
        .ok()
        .and_then(|groups| group_limit(Path::new("/sys/fs/cgroup"), &groups));
    match group.unwrap_or(u64::MAX).min(total) {
        0 => UNKNOWN,
        bytes => bytes,
    }
}

/// The smallest limit of the control groups in `groups`, which is the text of `/proc/self/cgroup` (cgroups(7)):
/// version 2 uses the line `0::/path`, version 1 the line with `memory`. In a container the path may not exist; its
/// own group is then the root.
fn group_limit(root: &Path, groups: &str) -> Option<u64> {
    groups
        .lines()
        .filter_map(|line| {
            let mut parts = line.splitn(3, ':').skip(1);
            let (controllers, path) = (parts.next()?, parts.next()?);
            let path = path.trim_start_matches('/');
            match controllers {
                "" => least(root, path, "memory.max"),
                _ if controllers.split(',').any(|name| name == "memory") => {
                    least(&root.join("memory"), path, "memory.limit_in_bytes")
                }
                _ => None,
            }
        })
        .min()
}

/// The smallest number in the files called `name` in the directories from `root`/`path` up to `root`.
fn least(root: &Path, path: &str, name: &str) -> Option<u64> {
    let mut folder: PathBuf = root.join(path);
    let mut least = None;
    loop {
        // "max" does not parse as a number and means no limit.
        let limit = fs::read_to_string(folder.join(name))
            .ok()
            .and_then(|text| text.trim().parse::<u64>().ok());
        least = match (least, limit) {
            (Some(one), Some(other)) => Some(u64::min(one, other)),
            (one, other) => one.or(other),
        };
        if folder == root || !folder.pop() {
            return least;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_limit_of_all_groups_is_used() {
        let root = tempfile::tempdir().unwrap();
        let at = |path: &str, text: &str| {
            let file = root.path().join(path);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        at("a/memory.max", "1000\n");
        at("a/b/memory.max", "max\n");
        at("memory/x/memory.limit_in_bytes", "500\n");
        at("memory/memory.limit_in_bytes", "9223372036854771712\n");
        let limit = |groups| group_limit(root.path(), groups);
        assert_eq!(limit("0::/a/b\n"), Some(1000));
        assert_eq!(limit("0::/c\n"), None);
        assert_eq!(limit("12:cpu,memory:/x\n0::/a/b\n"), Some(500));
        // What a container sees.
        at("memory.max", "300");
        assert_eq!(limit("0::/not/there\n"), Some(300));
        assert!(half_of_memory() > 0);
    }
}
