//! `FC_OUT`: the rendered text, kept for whoever wants to look at it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// It may hold secrets.
const MODE: u32 = 0o600;

/// Replaces the file as a whole: it is written beside its place and renamed, so that nobody reads half of it.
///
/// # Errors
/// The folder is missing, or must not be written to; the place is a folder.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // /dev/stderr may lead to the file that holds the log: it must not be replaced.
    if path.starts_with("/dev") || path.starts_with("/proc") {
        return append(path, text);
    }
    // Through a link, so that the link stays.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&target) {
        Ok(meta) if meta.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(meta) if !meta.is_file() => return append(&target, text),
        _ => {}
    }
    let beside = beside(&target);
    // A file of that name is left over from a process of this number that has ended.
    let _ = fs::remove_file(&beside);
    let written = fill(&beside, text).and_then(|()| fs::rename(&beside, &target));
    if written.is_err() {
        let _ = fs::remove_file(&beside);
    }
    written
}

/// For devices and pipes.
fn append(path: &Path, text: &[u8]) -> io::Result<()> {
    OpenOptions::new().append(true).open(path)?.write_all(text)
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    path.with_file_name(format!(".{name}.{}", std::process::id()))
}

fn fill(path: &Path, text: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(MODE)
        .open(path)?;
    file.write_all(text)
}
