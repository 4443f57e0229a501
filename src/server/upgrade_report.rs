//! What a process that starts another one for an upgrade tells it, and why the new one does not take over.
//!
//! The new one writes its reasons to a file beside the socket at which it waits for the sockets. The old one removes the file
//! and logs the reasons, as its own configuration asks: the new process may not have read one.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::SocketAddr;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use crate::server::control_folder;
use crate::server::socket_transfer;

/// The environment variable with the address at which the old process listens.
pub(super) const LISTENS_AT: &str = "PORTCULLIS_UPGRADE_OF";

/// How long the old process may take to read the reasons. It looks for them much more often.
const READ: Duration = Duration::from_secs(1);
/// How often to check whether it has.
const POLL: Duration = Duration::from_millis(5);
/// The maximum length of the reasons.
const MAX_BYTES: u64 = 256 * 1024;

/// The process that has started this one for an upgrade.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Starter {
    pub(super) address: SocketAddr,
}

impl Starter {
    /// `None` if there is none, or it is of a version that does not say so.
    pub(crate) fn of_this_process() -> Option<Starter> {
        let address = std::env::var(LISTENS_AT).ok()?.parse().ok()?;
        Some(Starter { address })
    }

    /// Tells it why this process does not take over, one reason per line. Returns whether it has read them and logs them.
    pub(crate) fn tell(self, reasons: &[String]) -> bool {
        let folder = control_folder::private();
        let told = folder.is_ok_and(|folder| {
            let path = socket_transfer::path(&folder, self.address);
            write(&path, &reasons.join("\n")).is_ok() && is_read(&path)
        });
        if !told {
            log::debug!("[SERVICE: Gateway] the old process does not read why the upgrade failed");
        }
        told
    }
}

/// The file for the reasons of a process that waits at this socket.
fn file(socket: &Path) -> PathBuf {
    socket.with_extension("failed")
}

fn write(socket: &Path, reasons: &str) -> io::Result<()> {
    let (path, part) = (file(socket), socket.with_extension("part"));
    let _ = fs::remove_file(&part);
    let mut written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&part)?;
    written.write_all(reasons.as_bytes())?;
    // The reader never sees a part of it.
    fs::rename(&part, &path)
}

/// Whether the other process has removed the file, which else is removed.
#[expect(
    clippy::disallowed_methods,
    reason = "at the end of a process that has never served"
)]
fn is_read(socket: &Path) -> bool {
    let path = file(socket);
    let end = Instant::now() + READ;
    while path.exists() {
        if Instant::now() >= end {
            // An error means that it was read just now.
            return fs::remove_file(&path).is_err();
        }
        thread::sleep(POLL);
    }
    true
}

/// The reasons of the process that waits, or was to wait, at this socket, and removes them.
pub(super) fn read(socket: &Path) -> Option<String> {
    let path = file(socket);
    let mut text = Vec::new();
    let read = fs::File::open(&path)
        .ok()?
        .take(MAX_BYTES)
        .read_to_end(&mut text);
    fs::remove_file(&path).ok()?;
    read.ok()?;
    let text = String::from_utf8_lossy(&text).into_owned();
    Some(text).filter(|text| !text.trim().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_are_read_once_and_the_writer_learns_whether() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("portcullis-8080-upgrade.sock");
        assert_eq!(read(&socket), None);
        write(&socket, "one\ntwo").unwrap();
        assert!(!is_read(&socket));
        assert_eq!(read(&socket), None);
        write(&socket, "three\nfour").unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| is_read(&socket));
            assert_eq!(read(&socket).as_deref(), Some("three\nfour"));
            assert!(waiting.join().unwrap());
        });
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
    }
}
