//! The folder for the sockets that give power over this process: orders, and the listening sockets themselves.
//!
//! Whoever can make files there can pose as the gateway. So it belongs to this user, and nobody else may write to it.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Where systemd puts it for our unit; also where an operator's shell looks.
const SYSTEM: &str = "/run/portcullis";
/// Group and others may not write.
const WRITABLE_BY_OTHERS: u32 = 0o022;

/// What to do about it, in each refusal.
pub const HINT: &str = "set RUNTIME_DIRECTORY to a folder of mode 0700 that belongs to this user";

/// The first private folder of [`candidates`]; `/run/portcullis` is made where it is needed and possible.
///
/// # Errors
/// There is none; the text says why, for each that was tried.
pub fn private() -> Result<PathBuf, String> {
    choose(&candidates())
}

fn choose(folders: &[PathBuf]) -> Result<PathBuf, String> {
    let mut reasons = Vec::new();
    for folder in folders {
        if folder == Path::new(SYSTEM) {
            // Only root can, and it may be there already: what it is like is checked next.
            let _ = fs::DirBuilder::new().mode(0o700).create(folder);
        }
        match checked(folder) {
            Ok(real) => return Ok(real),
            Err(reason) => reasons.push(format!("{}: {reason}", folder.display())),
        }
    }
    Err(format!("{}; {HINT}", reasons.join("; ")))
}

/// Folders that may hold the sockets: `$RUNTIME_DIRECTORY` alone where it is set, otherwise `$XDG_RUNTIME_DIR`,
/// `/run/portcullis` and `/run/user/UID`.
pub fn candidates() -> Vec<PathBuf> {
    // systemd lists several with colons between them.
    if let Some(first) = variable("RUNTIME_DIRECTORY") {
        return vec![first];
    }
    let user = PathBuf::from(format!("/run/user/{}", geteuid().as_raw()));
    let mut folders: Vec<PathBuf> = variable("XDG_RUNTIME_DIR").into_iter().collect();
    folders.extend([PathBuf::from(SYSTEM), user]);
    folders.dedup();
    folders
}

fn variable(name: &str) -> Option<PathBuf> {
    let value = std::env::var(name).ok()?;
    let first = value.split(':').next()?;
    (!first.is_empty()).then(|| PathBuf::from(first))
}

/// The folder's real path, if it is private to this user.
fn checked(folder: &Path) -> Result<PathBuf, String> {
    let real = fs::canonicalize(folder).map_err(|error| error.to_string())?;
    let owner = owner(&real).map_err(|error| error.to_string())?;
    let me = geteuid().as_raw();
    match owner {
        Some(uid) if uid == me => Ok(real),
        Some(uid) => Err(format!("belongs to user {uid}, and this is user {me}")),
        None => Err("is no folder, or others may write to it".to_owned()),
    }
}

/// Whose folder it is; `None` when others may write to it too, or it is no folder.
pub fn owner(folder: &Path) -> io::Result<Option<u32>> {
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
    fn a_folder_that_others_may_write_to_is_refused_with_a_hint() {
        let parent = tempfile::tempdir().unwrap();
        for (name, mode) in [("sticky", 0o1777), ("group", 0o770), ("all", 0o777)] {
            let folder = with_mode(parent.path(), name, mode);
            let reason = choose(std::slice::from_ref(&folder)).unwrap_err();
            assert!(reason.contains("others may write"), "{reason}");
            assert!(reason.contains(HINT), "{reason}");
        }
        let reason = choose(&[parent.path().join("missing")]).unwrap_err();
        assert!(reason.contains("missing"), "{reason}");
    }

    #[test]
    fn the_first_private_folder_is_taken() {
        let parent = tempfile::tempdir().unwrap();
        let open = with_mode(parent.path(), "open", 0o777);
        let private = with_mode(parent.path(), "private", 0o700);
        let other = with_mode(parent.path(), "other", 0o755);
        let real = fs::canonicalize(&private).unwrap();
        assert_eq!(choose(&[open, private.clone(), other]), Ok(real));
        // A link is as good as what it leads to.
        let link = parent.path().join("link");
        std::os::unix::fs::symlink(&private, &link).unwrap();
        assert!(choose(&[link]).is_ok());
    }

    #[test]
    fn a_folder_of_another_user_is_refused() {
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
