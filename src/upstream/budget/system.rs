//! The memory that the system grants this process.

use std::fs;
use std::path::{Path, PathBuf};

use crate::upstream::control_group;

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
    let group = smallest(&control_group::folders("memory"));
    match group.unwrap_or(u64::MAX).min(total) {
        0 => UNKNOWN,
        bytes => bytes,
    }
}

/// The smallest limit in these folders.
fn smallest(folders: &[PathBuf]) -> Option<u64> {
    folders.iter().filter_map(|folder| limit_in(folder)).min()
}

/// The limit of version 2 or 1. "max" does not parse as a number and means no limit.
fn limit_in(folder: &Path) -> Option<u64> {
    let limits = ["memory.max", "memory.limit_in_bytes"].into_iter();
    let texts = limits.filter_map(|name| fs::read_to_string(folder.join(name)).ok());
    texts.filter_map(|text| text.trim().parse().ok()).min()
}

#[cfg(test)]
mod tests {
    use super::control_group::folders_in;
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
        let limit = |groups| smallest(&folders_in(root.path(), groups, "memory"));
        assert_eq!(limit("0::/a/b\n"), Some(1000));
        assert_eq!(limit("0::/c\n"), None);
        assert_eq!(limit("12:cpu,memory:/x\n0::/a/b\n"), Some(500));
        // What a container sees.
        at("memory.max", "300");
        assert_eq!(limit("0::/not/there\n"), Some(300));
        assert!(half_of_memory() > 0);
    }
}
