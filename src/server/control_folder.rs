//! The folder of the sockets with control over this process: the control socket, and the socket that passes listeners
//! on.
//!
//! A user who can create files there can impersonate the gateway. So it must belong to this user, and other users
//! must not be able to write to it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// The folder that systemd creates for our unit. Operators expect it there too.
const SYSTEM: &str = "/run/portcullis";
/// Write permission of group and others.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// The hint in each rejection.
pub(super) const HINT: &str =
    "set RUNTIME_DIRECTORY to a folder of mode 0700 that belongs to this user";

/// The first private folder of [`candidates`]. `/run/portcullis` is created if necessary and possible.
///
/// # Errors
/// There is none. The text contains the reason for each candidate.
pub(super) fn private() -> Result<PathBuf, String> {
    choose(&candidates())
}

fn choose(folders: &[PathBuf]) -> Result<PathBuf, String> {
    let mut reasons = Vec::new();
    for folder in folders {
        if folder == Path::new(SYSTEM) {
            // Only root can create it, and it may exist already. Its properties are checked next.
            let _ = fs::DirBuilder::new().mode(0o700).create(folder);
        }
        match checked(folder) {
            Ok(real) => return Ok(real),
            Err(reason) => reasons.push(format!("{}: {reason}", folder.display())),
        }
    }
    Err(format!("{}; {HINT}", reasons.join("; ")))
}

/// The folders that may contain the sockets: only `$RUNTIME_DIRECTORY` if it is set, otherwise `$XDG_RUNTIME_DIR`,
/// `/run/portcullis` and `/run/user/UID`.
pub(super) fn candidates() -> Vec<PathBuf> {
    if let Some(folder) = variable("RUNTIME_DIRECTORY") {
        return vec![folder];
    }
    let user = PathBuf::from(format!("/run/user/{}", geteuid().as_raw()));
    let mut folders: Vec<PathBuf> = variable("XDG_RUNTIME_DIR").into_iter().collect();
    folders.extend([PathBuf::from(SYSTEM), user]);
    folders.dedup();
    folders
}

/// The folders of the running gateways whose environment this user may read, for a shell that does not have the
/// variables of their service. None if this process has the variable itself.
pub(super) fn of_running() -> Vec<PathBuf> {
    if variable("RUNTIME_DIRECTORY").is_some() {
        return Vec::new();
    }
    let Ok(own_name) = fs::read("/proc/self/comm") else {
        return Vec::new();
    };
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes
        .map(|entry| entry.path())
        .filter(|process| fs::read(process.join("comm")).is_ok_and(|name| name == own_name))
        .filter_map(|process| in_environment(&fs::read(process.join("environ")).ok()?))
        .collect()
}

/// The folder that the environment of a process names, as in `proc_pid_environ(5)`.
fn in_environment(variables: &[u8]) -> Option<PathBuf> {
    let value = |name: &[u8]| {
        let mut all = variables.split(|byte| *byte == 0);
        let value = all.find_map(|one| one.strip_prefix(name)?.strip_prefix(b"="))?;
        first(std::str::from_utf8(value).ok()?)
    };
    value(b"RUNTIME_DIRECTORY").or_else(|| value(b"XDG_RUNTIME_DIR"))
}

fn variable(name: &str) -> Option<PathBuf> {
    first(&std::env::var(name).ok()?)
}

/// systemd separates several folders by colons.
fn first(value: &str) -> Option<PathBuf> {
    let first = value.split(':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(first))
}

/// The real path of the folder, if it is private to this user.
pub(super) fn checked(folder: &Path) -> Result<PathBuf, String> {
    let real = fs::canonicalize(folder).map_err(|error| error.to_string())?;
    let owner = owner(&real).map_err(|error| error.to_string())?;
    let me = geteuid().as_raw();
    match owner {
        Some(uid) if uid == me => Ok(real),
        Some(uid) => Err(format!("belongs to user {uid}, and this is user {me}")),
        None => Err("is not a folder, or other users may write to it".to_owned()),
    }
}

/// The owner of the folder. `None` if other users may write to it, or it is not a folder.
pub(super) fn owner(folder: &Path) -> io::Result<Option<u32>> {
    let meta = fs::metadata(folder)?;
    let alone = meta.is_dir() && meta.permissions().mode() & WRITABLE_BY_OTHERS == 0;
    Ok(alone.then(|| meta.uid()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with_mode(parent: &Path, name: &str, mode: u32) -> PathBuf {
        let folder = parent.join(name);
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(mode)).unwrap();
        folder
    }

    #[test]
    fn the_environment_of_a_process_names_its_folder() {
        let folder = |variables: &str| in_environment(variables.as_bytes());
        let run = |name: &str| Some(PathBuf::from(name));
        let both = "A=1\0XDG_RUNTIME_DIR=/run/user/7\0RUNTIME_DIRECTORY=/run/shop:/run/two\0";
        assert_eq!(folder(both), run("/run/shop"));
        assert_eq!(folder("XDG_RUNTIME_DIR=/run/user/7"), run("/run/user/7"));
        assert_eq!(
            folder("RUNTIME_DIRECTORY=\0MY_RUNTIME_DIRECTORY=/x\0"),
            None
        );
    }

    #[test]
    fn a_folder_that_others_may_write_to_is_rejected_with_a_hint() {
        let parent = tempfile::tempdir().unwrap();
        for (name, mode) in [("sticky", 0o1777), ("group", 0o770), ("all", 0o777)] {
            let folder = with_mode(parent.path(), name, mode);
            let reason = choose(std::slice::from_ref(&folder)).unwrap_err();
            assert!(reason.contains("other users may write"), "{reason}");
            assert!(reason.contains(HINT), "{reason}");
        }
        let reason = choose(&[parent.path().join("missing")]).unwrap_err();
        assert!(reason.contains("missing"), "{reason}");
    }

    #[test]
    fn the_first_private_folder_is_used() {
        let parent = tempfile::tempdir().unwrap();
        let open = with_mode(parent.path(), "open", 0o777);
        let private = with_mode(parent.path(), "private", 0o700);
        let other = with_mode(parent.path(), "other", 0o755);
        let real = fs::canonicalize(&private).unwrap();
        assert_eq!(choose(&[open, private.clone(), other]), Ok(real));
        // A link is treated like its target.
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&private, &link).unwrap();
        assert!(choose(&[link]).is_ok());
    }

    #[test]
    fn a_folder_of_another_user_is_rejected() {
        if geteuid().is_root() {
            let parent = tempfile::tempdir().unwrap();
            let folder = with_mode(parent.path(), "theirs", 0o700);
            std::os::unix::fs::chown(&folder, Some(65_534), None).unwrap();
            let reason = choose(&[folder]).unwrap_err();
            assert!(reason.contains("belongs to user 65534"), "{reason}");
        } else {
            let reason = choose(&[PathBuf::from("/etc")]).unwrap_err();
            assert!(reason.contains("belongs to user 0"), "{reason}");
        }
    }
}
