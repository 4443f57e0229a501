//! The control groups of this process (cgroups(7)).

use std::fs;
use std::path::{Path, PathBuf};

/// Where the kernel shows the control groups.
const ROOT: &str = "/sys/fs/cgroup";

/// The folders with the files of `controller`: of our own group and its parents.
pub(super) fn folders(controller: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    folders_in(Path::new(ROOT), &groups, controller)
}

/// The same below `root`. `groups` is the text of `/proc/self/cgroup`: version 2 uses the line `0::/path`, version 1 the
/// line with the controller. In a container the path may not exist; its own group is then the root.
pub(super) fn folders_in(root: &Path, groups: &str, controller: &str) -> Vec<PathBuf> {
    let folders = groups.lines().flat_map(|line| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next().unwrap_or(""), parts.next().unwrap_or(""));
        let base = match controllers {
            "" => Some(root.to_owned()),
            list if list.split(',').any(|one| one == controller) => {
                let named = root.join(list);
                Some(if named.is_dir() {
                    named
                } else {
                    root.join(controller)
                })
            }
            _ => None,
        };
        base.map(|base| around(&base, path)).unwrap_or_default()
    });
    folders.collect()
}

/// The folders of the group `path` and of its parents.
fn around(base: &Path, path: &str) -> Vec<PathBuf> {
    let own = base.join(path.trim_start_matches('/'));
    own.ancestors()
        .take_while(|folder| folder.starts_with(base))
        .map(Path::to_path_buf)
        .collect()
}
