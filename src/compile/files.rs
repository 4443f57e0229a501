//! Files that the configuration names.

use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Node, Typing};
use crate::ext::Compile;

/// The path in `node`, if the file can be opened. Otherwise an error is reported.
pub(super) fn readable(node: &Node<'_>, cx: &Compile<'_>) -> Option<PathBuf> {
    let path = cx.path(node.text(Typing::Weak)?);
    match std::fs::File::open(&path).and_then(|file| file.metadata()) {
        Ok(about) if about.is_dir() => {
            reject(node, &path, "is a folder".to_owned());
            None
        }
        Ok(_) => Some(path),
        Err(error) => {
            reject(node, &path, words(&error));
            None
        }
    }
}

/// The text of the file in `node`.
pub(super) fn text(node: &Node<'_>, cx: &Compile<'_>) -> Option<String> {
    let path = cx.path(node.text(Typing::Weak)?);
    match std::fs::read_to_string(&path) {
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
        std::io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        _ => error.to_string(),
    }
}
