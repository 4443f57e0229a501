//! Notices changed files: the configuration, certificates.

use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;

use crate::server::control::Ask;

/// Editors and config-map updates write in several steps: the file is read once they have been quiet this long.
const QUIET: Duration = Duration::from_millis(300);

/// Watches `files` and asks for a reload after they changed; watching ends when the result is dropped.
pub fn files(files: &[PathBuf], asks: mpsc::Sender<Ask>) -> Option<RecommendedWatcher> {
    if files.is_empty() {
        return None;
    }
    let (changed_sender, changed) = mpsc::channel(1);
    let wanted: Vec<PathBuf> = files.to_vec();
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if event.kind.is_access() || !event.paths.iter().any(|path| concerns(path, &wanted)) {
            return;
        }
        // One change is as good as many: a full channel already says so.
        let _ = changed_sender.try_send(());
    });
    let mut watcher = match watcher {
        Ok(watcher) => watcher,
        Err(error) => {
            log::error!("[SERVICE: Gateway] files cannot be watched: {error}");
            return None;
        }
    };
    for folder in folders(files) {
        if let Err(error) = watcher.watch(&folder, RecursiveMode::NonRecursive) {
            log::error!(
                "[SERVICE: Gateway] {} cannot be watched: {error}",
                folder.display()
            );
        }
    }
    tokio::spawn(settle(changed, asks));
    Some(watcher)
}

/// A file is replaced by renaming, in Kubernetes by a link in the same folder: the folder is what is watched.
fn folders(files: &[PathBuf]) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = files
        .iter()
        .filter_map(|file| file.parent())
        .map(folder_or_here)
        .collect();
    folders.sort();
    folders.dedup();
    folders
}

fn folder_or_here(folder: &Path) -> PathBuf {
    if folder.as_os_str().is_empty() {
        PathBuf::from(".")
    } else {
        folder.to_path_buf()
    }
}

fn concerns(changed: &Path, wanted: &[PathBuf]) -> bool {
    let name = changed.file_name();
    let link = name.is_some_and(|name| name.to_string_lossy().starts_with("..data"));
    link || wanted.iter().any(|file| file.file_name() == name)
}

async fn settle(mut changed: mpsc::Receiver<()>, asks: mpsc::Sender<Ask>) {
    while changed.recv().await.is_some() {
        while let Ok(Some(())) = tokio::time::timeout(QUIET, changed.recv()).await {}
        if asks.send(Ask::default()).await.is_err() {
            return;
        }
    }
}
