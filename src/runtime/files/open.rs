//! Opens files below a folder.
//!
//! On Linux the kernel resolves the path and does not leave the folder (`openat2`, `RESOLVE_BENEATH`): links within
//! the folder work, as Kubernetes volumes need them, and no change of a link in between has an effect. A link does not
//! lead to a hidden name. Elsewhere, and on kernels without `openat2`, no link is followed at all.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::fs::{Mode, OFlags, openat};

#[cfg(target_os = "linux")]
use super::name::is_visible;

/// Non-blocking, because a pipe may have no other end.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// The folder itself, which may be a link that a deployment redirects.
pub(super) fn root(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    Ok(openat(rustix::fs::CWD, path, flags, Mode::empty())?)
}

/// The file or folder `relative` below `root`. Empty for the folder itself.
pub(super) fn below(root: &OwnedFd, relative: &[u8]) -> io::Result<File> {
    let relative = match relative {
        b"" => b".",
        relative => relative,
    };
    let file = resolve(root, relative)?;
    Ok(File::from(file))
}

#[cfg(target_os = "linux")]
fn resolve(root: &OwnedFd, relative: &[u8]) -> io::Result<OwnedFd> {
    use rustix::fs::{ResolveFlags, openat2};
    use rustix::io::Errno;

    let path = OsStr::from_bytes(relative);
    let open = |how| openat2(root, path, FLAGS, Mode::empty(), how);
    let how = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
    // Most paths have no link.
    match open(how | ResolveFlags::NO_SYMLINKS) {
        // There is a link, or a cycle of links.
        Err(Errno::LOOP) => {}
        // It leads out of the folder.
        Err(Errno::XDEV) => return Err(ErrorKind::NotFound.into()),
        // An old kernel, or a sandbox that does not know the call.
        Err(Errno::NOSYS | Errno::PERM) => return step_by_step(root, relative),
        other => return Ok(other?),
    }
    match open(how) {
        Ok(file) if is_hidden(root, &file)? => Err(ErrorKind::NotFound.into()),
        Err(Errno::XDEV) => Err(ErrorKind::NotFound.into()),
        other => Ok(other?),
    }
}

/// Whether a file that was found through a link is below a hidden name. The folders of Kubernetes (`..data`) are not
/// hidden: its links lead through them.
#[cfg(target_os = "linux")]
fn is_hidden(root: &OwnedFd, file: &OwnedFd) -> io::Result<bool> {
    use std::os::fd::AsRawFd;

    let place = |file: &OwnedFd| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd()));
    let (root, file) = (place(root)?, place(file)?);
    let Ok(below) = file.strip_prefix(&root) else {
        return Ok(true);
    };
    Ok(below.iter().any(|name| {
        let name = name.as_bytes();
        !is_visible(name) && !name.starts_with(b"..")
    }))
}

#[cfg(not(target_os = "linux"))]
fn resolve(root: &OwnedFd, relative: &[u8]) -> io::Result<OwnedFd> {
    step_by_step(root, relative)
}

/// Opens one name after the other, and follows no link.
pub(super) fn step_by_step(root: &OwnedFd, relative: &[u8]) -> io::Result<OwnedFd> {
    let mut names = relative.split(|byte| *byte == b'/').peekable();
    let mut folder: Option<OwnedFd> = None;
    while let Some(name) = names.next() {
        let at = folder.as_ref().unwrap_or(root).as_fd();
        let mut flags = FLAGS | OFlags::NOFOLLOW;
        if names.peek().is_some() {
            flags |= OFlags::DIRECTORY;
        }
        folder = Some(openat(at, OsStr::from_bytes(name), flags, Mode::empty())?);
    }
    folder.ok_or_else(|| ErrorKind::NotFound.into())
}
