//! Files that no folder may publish.

use std::path::{Path, PathBuf};

use crate::config::{ConfigError, Node, Rule};
use crate::ext::context::Compile;

/// The files that the configuration consists of, and the files with secrets that it names. Set by `compile`.
#[derive(Debug, Default)]
pub(crate) struct SecretFiles(pub Vec<PathBuf>);

/// Whether the folder at `node` contains a file that must stay secret, which is reported. `folder` is canonical.
pub(crate) fn publishes(
    node: &Node<'_>,
    folder: &Path,
    hint: &'static str,
    cx: &Compile<'_>,
) -> bool {
    let Some(secret) = secret_below(folder, cx) else {
        return false;
    };
    node.clone().ruled(Rule::Guard).config_error_hint(
        ConfigError::invalid(format!(
            "the folder contains {}, which every client could read",
            secret.display()
        )),
        hint,
    );
    true
}

fn secret_below(folder: &Path, cx: &Compile<'_>) -> Option<PathBuf> {
    let base = if cx.base.as_os_str().is_empty() {
        Path::new(".")
    } else {
        &cx.base
    };
    if is_below(base, folder) {
        return base.canonicalize().ok();
    }
    let secrets = cx.fact::<SecretFiles>()?;
    let found = secrets.0.iter().find(|path| is_below(path, folder));
    found.cloned()
}

/// Whether a client could read the file. Links are resolved first, because only their targets can be opened below the
/// folder.
fn is_below(path: &Path, folder: &Path) -> bool {
    path.canonicalize()
        .is_ok_and(|real| real.starts_with(folder))
}
