//! `FC_OUT`: the file that the rendered text is written to, for inspection.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The text may contain secrets.
const MODE: u32 = 0o600;

/// Replaces the file atomically: a temporary file is written beside it and renamed, so that readers never see half of
/// it.
///
/// # Errors
/// The folder is missing or not writable, or the path is a folder.
pub(super) fn write(path: &Path, text: &[u8]) -> io::Result<()> {
    // /dev/stderr may be the log file, which must not be replaced.
    if path.starts_with("/dev") || path.starts_with("/proc") {
        return append(path, text);
    }
    // Resolves a symbolic link, so that the link itself is kept.
    let target = fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    match fs::metadata(&target) {
        Ok(meta) if meta.is_dir() => return Err(io::ErrorKind::IsADirectory.into()),
        Ok(meta) if !meta.is_file() => return append(&target, text),
        _ => {}
    }
    let beside = beside(&target);
    // A file of that name was left by an earlier process with the same process id.
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
