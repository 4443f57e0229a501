//! The background service that refreshes key sets, addresses and tokens.

use std::fmt;

use async_trait::async_trait;
use futures::future::BoxFuture;
use pingora_core::server::ShutdownWatch;
use pingora_core::services::background::BackgroundService;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinSet;

use crate::runtime::agents::Running;

type Tasks = Vec<BoxFuture<'static, ()>>;

/// Runs the background tasks of each configuration in use. A task ends by itself when its state is no longer used, so
/// tasks of state that a reload carries over continue.
pub(super) struct BackgroundTasks {
    next: Mutex<mpsc::UnboundedReceiver<Tasks>>,
}

impl fmt::Debug for BackgroundTasks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTasks").finish_non_exhaustive()
    }
}

impl BackgroundTasks {
    /// Receives sets of tasks from `next`.
    pub(super) fn new(next: mpsc::UnboundedReceiver<Tasks>) -> BackgroundTasks {
        BackgroundTasks {
            next: Mutex::new(next),
        }
    }
}

/// Resolves when the process stops, and agents have finished the messages that they have in work.
async fn stopped(shutdown: &mut ShutdownWatch) {
    // An error means that the process is ending.
    let _ = shutdown.wait_for(|stop| *stop).await;
    Running::process().ended().await;
}

#[async_trait]
impl BackgroundService for BackgroundTasks {
    async fn start(&self, mut shutdown: ShutdownWatch) {
        let mut next = self.next.lock().await;
        let mut running: JoinSet<()> = JoinSet::new();
        loop {
            tokio::select! {
                tasks = next.recv() => {
                    let Some(tasks) = tasks else { return };
                    for task in tasks {
                        running.spawn(task);
                    }
                }
                Some(ended) = running.join_next(), if !running.is_empty() => {
                    if let Err(error) = ended && error.is_panic() {
                        log::error!("[SERVICE: Gateway] a background task has panicked: {error}");
                    }
                }
                () = stopped(&mut shutdown) => return,
            }
        }
    }
}
