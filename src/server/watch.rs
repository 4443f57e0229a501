//! Detects changed files: the configuration, the files of its templates, certificates.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::{Notify, mpsc};
use tokio::task::AbortHandle;

use crate::server::control::ReloadRequest;

/// Editors and config-map updates write in several steps, so files are read after they were unchanged for this time.
const QUIET: Duration = Duration::from_millis(300);

/// A file or folder whose changes matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Watched {
    /// A file, which may not exist yet.
    File(PathBuf),
    /// The files of a folder whose names have this ending.
    Folder(PathBuf, &'static str),
}

/// The watched files. Each load of the configuration may change them.
#[derive(Debug, Default)]
pub(crate) struct WatchList {
    wanted: Mutex<Wanted>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Wanted {
    certificates: Vec<PathBuf>,
    read: Vec<Watched>,
    /// A file that the gateway itself writes.
    written: Option<PathBuf>,
}

impl WatchList {
    /// Replaces the watched files by those of a configuration. `written` is never watched, even if it is one of them.
    pub(crate) fn set(&self, read: Vec<Watched>, written: Option<PathBuf>) {
        let mut wanted = self.wanted();
        wanted.read = read;
        wanted.written = written;
        drop(wanted);
        self.changed.notify_one();
    }

    fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Each part is replaced as a whole, so a poisoned lock is safe to use.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn concerns(&self, changed: &Path) -> bool {
        let Some(name) = changed.file_name() else {
            return false;
        };
        let wanted = self.wanted();
        let written = wanted.written.as_deref();
        if written.is_some_and(|it| it.file_name() == Some(name) && share_folder(it, changed)) {
            return false;
        }
        let name = name.to_string_lossy();
        let is_certificate = wanted.certificates.iter().any(|file| has_name(file, &name));
        name.starts_with("..data")
            || is_certificate
            || wanted.read.iter().any(|it| match it {
                Watched::File(file) => has_name(file, &name),
                Watched::Folder(folder, end) => {
                    name.ends_with(end) && is_same(folder, folder_of(changed))
                }
            })
    }

    /// Files are replaced by renaming, and in Kubernetes by a link in the same folder, so the folder is watched.
    fn folders(&self) -> Vec<PathBuf> {
        let wanted = self.wanted();
        let read = wanted.read.iter().map(|it| match it {
            Watched::File(file) => folder_of(file),
            Watched::Folder(folder, _) => folder,
        });
        let certificates = wanted.certificates.iter().map(|file| folder_of(file));
        let mut folders: Vec<PathBuf> = read.chain(certificates).map(Path::to_owned).collect();
        folders.sort();
        folders.dedup();
        folders
    }
}

fn has_name(file: &Path, name: &str) -> bool {
    file.file_name()
        .is_some_and(|it| it.to_string_lossy() == name)
}

fn folder_of(file: &Path) -> &Path {
    match file.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

fn share_folder(one: &Path, other: &Path) -> bool {
    is_same(folder_of(one), folder_of(other))
}

fn is_same(one: &Path, other: &Path) -> bool {
    match (std::fs::canonicalize(one), std::fs::canonicalize(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Dropping this ends the watch.
pub(super) struct Watching(AbortHandle);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Watches the files in the list and the certificates, and requests a reload after a change.
pub(super) fn files(
    list: Arc<WatchList>,
    certificates: Vec<PathBuf>,
    asks: mpsc::Sender<ReloadRequest>,
) -> Option<Watching> {
    list.wanted().certificates = certificates;
    let (changed_sender, changed) = mpsc::channel(1);
    let known = Arc::clone(&list);
    let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let Ok(event) = event else { return };
        if event.kind.is_access() || !event.paths.iter().any(|path| known.concerns(path)) {
            return;
        }
        // If the channel is full, a change is already pending.
        let _ = changed_sender.try_send(());
    });
    match watcher {
        Ok(watcher) => {
            let mut folders = Folders {
                watcher,
                watched: Vec::new(),
            };
            folders.extend(list.folders());
            let task = tokio::spawn(settle(folders, list, changed, asks));
            Some(Watching(task.abort_handle()))
        }
        Err(error) => {
            log::error!("[SERVICE: Gateway] files cannot be watched: {error}");
            None
        }
    }
}

/// The folders that are already watched.
struct Folders {
    watcher: RecommendedWatcher,
    watched: Vec<PathBuf>,
}

impl Folders {
    /// Adds folders. Those that are no longer needed stay watched, because changes in them are ignored.
    fn extend(&mut self, wanted: Vec<PathBuf>) {
        for folder in wanted {
            // A missing folder is that of a missing partial.
            if self.watched.contains(&folder) || !folder.exists() {
                continue;
            }
            if let Err(error) = self.watcher.watch(&folder, RecursiveMode::NonRecursive) {
                log::error!(
                    "[SERVICE: Gateway] {} cannot be watched: {error}",
                    folder.display()
                );
            }
            self.watched.push(folder);
        }
    }
}

async fn settle(
    mut folders: Folders,
    list: Arc<WatchList>,
    mut changed: mpsc::Receiver<()>,
    asks: mpsc::Sender<ReloadRequest>,
) {
    loop {
        tokio::select! {
            some = changed.recv() => {
                if some.is_none() {
                    return;
                }
                while let Ok(Some(())) = tokio::time::timeout(QUIET, changed.recv()).await {}
                if asks.send(ReloadRequest::default()).await.is_err() {
                    return;
                }
            }
            () = list.changed.notified() => folders.extend(list.folders()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_matches_files_with_its_ending_except_the_written_file() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let list = WatchList::default();
        list.set(
            vec![
                Watched::File(at("base.tmpl")),
                Watched::Folder(folder.path().to_owned(), ".json"),
            ],
            Some(at("out.json")),
        );
        for (name, want) in [
            ("base.tmpl", true),
            ("new.json", true),
            ("..data", true),
            ("out.json", false),
            (".out.json.17", false),
            ("new.yaml", false),
        ] {
            assert_eq!(list.concerns(&at(name)), want, "{name}");
        }
        assert_eq!(list.folders(), [folder.path()]);
    }

    #[test]
    fn the_base_is_not_watched_if_it_is_the_written_file() {
        let folder = tempfile::tempdir().unwrap();
        let base = folder.path().join("krakend.json");
        let list = WatchList::default();
        list.set(vec![Watched::File(base.clone())], Some(base.clone()));
        assert!(!list.concerns(&base));
    }
}
