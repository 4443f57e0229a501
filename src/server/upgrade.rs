//! The end of a process that another one replaces: passes the sockets on, and signals that come too late for this process.

use std::path::PathBuf;
use std::time::Duration;

use tokio::net::UnixStream;

use crate::server::hand_over;
use crate::server::new_process::Successor;
use crate::server::own_listeners;
use crate::server::process::Process;
use crate::server::signals::{SignalAction, Signals};
use crate::server::socket_transfer::{self, TransferError};

/// How long a `SIGQUIT` waits for the process that will take over.
const LOOK: Duration = Duration::from_secs(5);

/// The result of an upgrade.
pub(super) enum UpgradeEnd {
    /// This process accepts connections now.
    Over(Successor),
    /// A signal came first, or there is no process to hand over to.
    Stopped(&'static str),
}

impl Process {
    /// Ends this process, or continues to serve if no other process took over.
    pub(super) async fn go(
        &mut self,
        ended: Result<UpgradeEnd, String>,
        what: &str,
        signals: &mut Signals,
    ) {
        match ended {
            Ok(UpgradeEnd::Over(successor)) => {
                self.successor = Some(successor);
                self.drain("another process serves now", false, signals)
                    .await
            }
            Ok(UpgradeEnd::Stopped(why)) => self.drain(why, true, signals).await,
            Err(reasons) => {
                for reason in reasons.lines() {
                    log::error!(
                        "[SERVICE: Gateway] {what} failed, this process continues to serve: {reason}"
                    );
                }
            }
        }
    }

    /// Passes the sockets to a process that waits for them.
    pub(super) async fn hand_over(&self, signals: &mut Signals) -> Result<UpgradeEnd, String> {
        let give = async {
            let Ok(path) = self.handover_path() else {
                log::warn!("[SERVICE: Gateway] no process can wait for the sockets");
                return Ok(UpgradeEnd::Stopped("quit"));
            };
            let found = socket_transfer::find(&path, LOOK).await;
            match self.give(found).await {
                Err(TransferError::NoProcess(path)) => {
                    log::warn!(
                        "[SERVICE: Gateway] no process waits for the sockets at {}",
                        path.display()
                    );
                    Ok(UpgradeEnd::Stopped("quit"))
                }
                Err(error) => Err(error.to_string()),
                Ok(successor) => Ok(UpgradeEnd::Over(successor)),
            }
        };
        tokio::select! {
            ended = give => ended,
            why = signals.end() => Ok(UpgradeEnd::Stopped(why)),
        }
    }

    async fn give(
        &self,
        found: Result<UnixStream, TransferError>,
    ) -> Result<Successor, TransferError> {
        socket_transfer::give(found?, &own_listeners::all(&self.listeners, &self.shared)?).await
    }

    /// Starts another process and passes it the sockets.
    pub(super) async fn upgrade(&self, signals: &mut Signals) -> Result<UpgradeEnd, String> {
        let new_process = self
            .new_process
            .as_ref()
            .ok_or("there is no program to start")?;
        let path = self.handover_path()?;
        log::info!(
            "[SERVICE: Gateway] Starting {}",
            new_process.program.display()
        );
        tokio::select! {
            done = hand_over::start(new_process, &path, &self.listeners, &self.shared) => done.map(UpgradeEnd::Over),
            why = signals.end() => Ok(UpgradeEnd::Stopped(why)),
        }
    }

    fn handover_path(&self) -> Result<PathBuf, String> {
        let folder = self.folder.as_ref().map_err(Clone::clone)?;
        Ok(socket_transfer::path(folder, self.listen.address))
    }

    /// A signal that came during an upgrade, or later, is meant for the process that serves now.
    pub(super) fn pass_on(&self, signal: SignalAction) {
        let Some(successor) = &self.successor else {
            return;
        };
        let name = match signal {
            SignalAction::Reload => "SIGHUP",
            SignalAction::ReopenLogs => "SIGUSR1",
            SignalAction::Upgrade => "SIGUSR2",
            SignalAction::HandOver => "SIGQUIT",
            SignalAction::Stop(_) => return,
        };
        if signal == SignalAction::ReopenLogs {
            self.loader.reopen_logs();
        }
        let id = successor.id;
        // Another upgrade may be a repeated signal for the first one.
        let passed = match signal {
            SignalAction::Reload => successor.signal(rustix::process::Signal::HUP),
            SignalAction::ReopenLogs => successor.signal(rustix::process::Signal::USR1),
            _ => false,
        };
        if passed {
            log::info!(
                "[SERVICE: Gateway] {name} was passed on to the process {id}, which serves now"
            );
        } else {
            log::warn!(
                "[SERVICE: Gateway] {name} has no effect, because the process {id} serves now: send it to that process if it is still needed"
            );
        }
    }
}
