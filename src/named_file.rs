//! Reads files that a configuration, a variable or a command names.
//!
//! Every file has a maximum size, and what is not a file has no end: `/dev/zero`, or a pipe that nobody closes. So all of
//! these are read here.

use std::fs::{File, FileType, Metadata, OpenOptions, metadata};
use std::io::{Error, ErrorKind, Read, Result};
use std::os::unix::fs::{FileTypeExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;
use std::time::{Duration, Instant};

/// The maximum size of a certificate, a key, a token or another small text.
pub(crate) const SMALL: u64 = 4 << 20;
/// How long a pipe may take to deliver everything, such as a process substitution of the shell.
const PIPE_TIME: Duration = Duration::from_secs(30);
/// How often a pipe without data is read.
const PAUSE: Duration = Duration::from_millis(5);

/// The content of a file or pipe of at most `most` bytes.
///
/// # Errors
/// It cannot be read, is too large, is neither a file nor a pipe, or is a pipe that takes too long.
pub(crate) fn read(path: &Path, most: u64) -> Result<Vec<u8>> {
    read_within(path, most, Some(PIPE_TIME))
}

/// The text of a file or pipe of at most `most` bytes.
///
/// # Errors
/// As [`read`]; or it is not UTF-8.
pub(crate) fn read_text(path: &Path, most: u64) -> Result<String> {
    text(read(path, most)?)
}

/// The content of a file of at most `most` bytes. A pipe is an error: nobody should wait for one here.
///
/// # Errors
/// It cannot be read, is too large, or is not a file.
pub(crate) fn read_only_file(path: &Path, most: u64) -> Result<Vec<u8>> {
    read_within(path, most, None)
}

/// The same for a text, on a thread for blocking work.
///
/// # Errors
/// As [`read_only_file`]; or it is not UTF-8.
pub(crate) async fn read_text_aside(path: &Path, most: u64) -> Result<String> {
    let path = path.to_owned();
    let read = tokio::task::spawn_blocking(move || text(read_only_file(&path, most)?));
    read.await.unwrap_or_else(|error| Err(Error::other(error)))
}

/// Whether a file can be read. A pipe is not opened, because that would change it.
///
/// # Errors
/// It cannot be opened, or is neither a file nor a pipe.
pub(crate) fn try_open(path: &Path) -> Result<()> {
    let found = metadata(path)?;
    usable(&found)?;
    if found.is_file() {
        File::open(path)?;
    }
    Ok(())
}

/// The permissions of a file that others than its owner may change.
pub(crate) fn writable_by_others(path: &Path) -> Option<u32> {
    const WRITABLE_BY_OTHERS: u32 = 0o022;
    let found = metadata(path).ok().filter(Metadata::is_file)?;
    let mode = found.permissions().mode() & 0o777;
    (mode & WRITABLE_BY_OTHERS != 0).then_some(mode)
}

fn text(bytes: Vec<u8>) -> Result<String> {
    String::from_utf8(bytes)
        .map_err(|_| Error::new(ErrorKind::InvalidData, "stream did not contain valid UTF-8"))
}

fn usable(found: &Metadata) -> Result<FileType> {
    let kind = found.file_type();
    if kind.is_dir() {
        return Err(Error::from_raw_os_error(libc::EISDIR));
    }
    if kind.is_file() || kind.is_fifo() {
        return Ok(kind);
    }
    Err(Error::other("it is a device or a socket, not a file"))
}

/// `pipe_time` is how long a pipe may take. `None`: a pipe is an error.
fn read_within(path: &Path, most: u64, pipe_time: Option<Duration>) -> Result<Vec<u8>> {
    let began = Instant::now();
    // Before it is opened: opening a device or a pipe may have effects.
    let kind = usable(&metadata(path)?)?;
    if kind.is_fifo() && pipe_time.is_none() {
        return Err(is_pipe());
    }
    // Without this flag, opening a pipe waits for somebody who writes into it.
    let file = OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NONBLOCK)
        .open(path)?;
    // It may be another one by now.
    let kind = usable(&file.metadata()?)?;
    let mut limited = file.take(most.saturating_add(1));
    let mut bytes = Vec::new();
    if kind.is_fifo() {
        let time = pipe_time.ok_or_else(is_pipe)?;
        while !has_ended(limited.read_to_end(&mut bytes), !bytes.is_empty())? {
            if began.elapsed() >= time {
                let seconds = time.as_secs();
                return Err(Error::other(format!(
                    "the pipe was not closed within {seconds} s"
                )));
            }
            pause();
        }
    } else {
        limited.read_to_end(&mut bytes)?;
    }
    if bytes.len() as u64 > most {
        return Err(Error::other(format!("larger than {}", size(most))));
    }
    Ok(bytes)
}

fn is_pipe() -> Error {
    Error::other("it is a pipe")
}

/// Only the start, a reload and commands read pipes, on threads of their own.
#[expect(clippy::disallowed_methods)]
fn pause() {
    std::thread::sleep(PAUSE);
}

/// Whether a pipe has delivered everything. Before its first byte, a pipe without a writer is not at its end: the writer
/// has not opened it yet.
fn has_ended(read: Result<usize>, has_begun: bool) -> Result<bool> {
    match read {
        Ok(_) => Ok(has_begun),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}

/// A limit, for messages.
fn size(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    if bytes.is_multiple_of(MIB) {
        format!("{} MiB", bytes / MIB)
    } else {
        format!("{bytes} bytes")
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;

    fn pipe(folder: &Path) -> std::path::PathBuf {
        let path = folder.join("pipe");
        let made = std::process::Command::new("mkfifo").arg(&path).status();
        assert!(made.unwrap().success());
        path
    }

    fn why<T: std::fmt::Debug>(result: Result<T>) -> String {
        result.unwrap_err().to_string()
    }

    #[test]
    fn a_file_is_read_up_to_its_maximum_size() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "12345").unwrap();
        assert_eq!(read_text(&path, 5).unwrap(), "12345");
        assert_eq!(why(read(&path, 4)), "larger than 4 bytes");
        assert_eq!(read_only_file(&path, 5).unwrap(), b"12345");
        try_open(&path).unwrap();
        std::fs::write(&path, [0xff]).unwrap();
        assert!(why(read_text(&path, 5)).contains("UTF-8"));
        let absent = read(&folder.path().join("absent"), 5).unwrap_err();
        assert_eq!(absent.kind(), ErrorKind::NotFound);
        let folder = read(folder.path(), 5).unwrap_err();
        assert_eq!(folder.kind(), ErrorKind::IsADirectory);
        assert_eq!(size(4 << 20), "4 MiB");
    }

    #[test]
    fn a_file_that_others_may_change_is_found() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let found = |mode: u32| {
            let permissions = std::fs::Permissions::from_mode(mode);
            std::fs::set_permissions(file.path(), permissions).unwrap();
            writable_by_others(file.path())
        };
        assert_eq!([0o600, 0o440, 0o644].map(found), [None; 3]);
        assert_eq!([0o660, 0o666].map(found), [Some(0o660), Some(0o666)]);
        assert_eq!(writable_by_others(Path::new("/dev/null")), None);
    }

    #[test]
    fn a_device_is_not_read() {
        for device in ["/dev/zero", "/dev/null"] {
            let words = "it is a device or a socket, not a file";
            assert_eq!(why(read(Path::new(device), SMALL)), words);
            assert_eq!(why(try_open(Path::new(device))), words);
        }
    }

    #[test]
    fn a_pipe_is_read_to_its_end_if_that_comes_in_time() {
        let folder = tempfile::tempdir().unwrap();
        let path = pipe(folder.path());
        let open = || OpenOptions::new().write(true).open(&path).unwrap();
        std::thread::scope(|scope| {
            // It waits until somebody reads.
            scope.spawn(|| open().write_all(&[7; 200_000]).unwrap());
            assert_eq!(read(&path, SMALL).unwrap(), [7; 200_000]);
        });
        assert_eq!(why(read_only_file(&path, SMALL)), "it is a pipe");
        try_open(&path).unwrap();
        // Nobody writes.
        let late = "the pipe was not closed within 0 s";
        assert_eq!(why(read_within(&path, SMALL, Some(Duration::ZERO))), late);
        // Nobody closes it.
        let both = || OpenOptions::new().read(true).write(true).open(&path);
        let mut held = both().unwrap();
        held.write_all(b"12345").unwrap();
        assert_eq!(why(read_within(&path, SMALL, Some(Duration::ZERO))), late);
        held.write_all(b"12345").unwrap();
        assert_eq!(why(read(&path, 4)), "larger than 4 bytes");
    }
}
