//! Files that the configuration names.

use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Node, Typing};
use crate::ext::Compile;
use crate::named_file;

/// The maximum size of a text.
const MAX_TEXT: u64 = 16 << 20;

/// The path in `node`, if the file can be opened. Otherwise an error is reported.
pub(super) fn readable(node: &Node<'_>, cx: &Compile<'_>) -> Option<PathBuf> {
    let path = cx.path(node.text(Typing::Weak)?);
    match named_file::try_open(&path) {
        Ok(()) => Some(path),
        Err(error) => {
            reject(node, &path, words(&error));
            None
        }
    }
}

/// The text of the file in `node`.
pub(super) fn text(node: &Node<'_>, cx: &Compile<'_>) -> Option<String> {
    let path = cx.path(node.text(Typing::Weak)?);
    match named_file::read_text(&path, MAX_TEXT) {
        Ok(text) => Some(text),
        Err(error) => {
            reject(node, &path, words(&error));
            None
        }
    }
}

fn reject(node: &Node<'_>, path: &Path, reason: String) {
    node.config_error(ConfigError::File {
        path: format!("open {}", path.display()),
        reason,
    });
}

fn words(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::NotFound => "no such file or directory".to_owned(),
        std::io::ErrorKind::IsADirectory => "is a folder".to_owned(),
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
