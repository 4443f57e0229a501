//! Starts the process that replaces this one: the same program, in its current version on disk.

use std::ffi::OsString;
use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::server::listeners::Listeners;
use crate::server::signals;
use crate::server::socket_transfer::{self, TransferError};
use crate::server::upgrade_report::{self, LISTENS_AT};

/// How long a new process may take to load its configuration and to request the sockets.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a new process that did not take over may take to log why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often to check whether it does.
const POLL: Duration = Duration::from_millis(20);

/// The program of this process. The path with which the process was started is used as written, so it may be a link to a new
/// version.
pub(super) fn this_program() -> Option<PathBuf> {
    let program = std::env::args_os().next().map(PathBuf::from);
    let program = program.filter(|path| path.components().count() > 1);
    program.or_else(|| std::env::current_exe().ok())
}

/// How to start it.
#[derive(Debug, Clone)]
pub(crate) struct NewProcess {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
    /// The address of this process, which the new one takes over.
    pub address: Option<SocketAddr>,
}

impl NewProcess {
    /// This process again, with `--upgrade`.
    ///
    /// Must be called at start: when the file of the program is replaced, the system no longer knows its path.
    pub(crate) fn of_this_process() -> Option<NewProcess> {
        let program = this_program()?;
        let mut arguments: Vec<OsString> = std::env::args_os().skip(1).collect();
        let flag = OsString::from("--upgrade");
        if !arguments.contains(&flag) {
            arguments.push(flag);
        }
        Some(NewProcess {
            program,
            arguments,
            address: None,
        })
    }

    /// With the address at which this process listens.
    pub(super) fn listening_at(self, address: SocketAddr) -> NewProcess {
        let address = Some(address);
        NewProcess { address, ..self }
    }

    /// Starts it, passes it the sockets when it waits for them at `path`, and returns when it accepts connections.
    ///
    /// If the caller drops the future early, the new process is ended.
    ///
    /// # Errors
    /// It cannot be started, ends early, or takes too long. The text has a line for each reason. This process keeps the
    /// sockets.
    pub(crate) async fn take_over(
        &self,
        path: &Path,
        listeners: &Listeners,
    ) -> Result<Successor, String> {
        // Files of an earlier attempt must not be taken for those of this one.
        let _ = std::fs::remove_file(path);
        let _ = upgrade_report::read(path);
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
            .envs(self.address.map(|at| (LISTENS_AT, at.to_string())))
            // The watchdog applies to the current main process, not only to the first one.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null());
        let child = signals::held(|| command.spawn())
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let mut child = Started {
            child: Some(child),
            path,
        };
        let waiting = tokio::time::timeout(TIMEOUT, child.waits());
        let taker = waiting.await.map_err(|_| {
            let limit = TIMEOUT.as_secs();
            format!("the new process did not request the sockets within {limit} s")
        })??;
        match socket_transfer::give(taker, listeners).await {
            Err(error) => Err(child.ended().await.unwrap_or(error.to_string())),
            Ok(successor) => {
                child.child = None;
                Ok(successor)
            }
        }
    }
}

/// The process that has taken over.
#[derive(Debug)]
pub(crate) struct Successor {
    pub(super) id: i32,
    /// Never that of a later process with the same id. `None` if the system has no such handles.
    handle: Option<OwnedFd>,
}

impl Successor {
    /// The process at the other end of a connection to its socket.
    ///
    /// # Errors
    /// The system does not tell which one it is.
    pub(super) fn at(taker: &UnixStream) -> io::Result<Successor> {
        let id = taker.peer_cred()?.pid().unwrap_or_default();
        let pid = Pid::from_raw(id);
        Ok(Successor {
            id,
            handle: pid.and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()),
        })
    }

    /// Returns whether the process has got it.
    pub(super) fn signal(&self, signal: Signal) -> bool {
        let handle = self.handle.as_ref();
        handle.is_some_and(|handle| pidfd_send_signal(handle, signal).is_ok())
    }
}

/// A child process that is killed on drop unless it was taken out.
struct Started<'p> {
    child: Option<Child>,
    /// The path of the socket at which it waits.
    path: &'p Path,
}

impl Started<'_> {
    /// Connects to it when it waits for the sockets.
    async fn waits(&mut self) -> Result<UnixStream, String> {
        loop {
            if let Some(reason) = self.failed() {
                return Err(reason);
            }
            match socket_transfer::find(self.path, Duration::ZERO).await {
                Ok(taker) => return Ok(taker),
                Err(TransferError::NoProcess(_)) => tokio::time::sleep(POLL).await,
                Err(error) => return Err(error.to_string()),
            }
        }
    }
}

impl Started<'_> {
    /// Why it does not take over, if it has ended or said so.
    fn failed(&mut self) -> Option<String> {
        let status = self.child.as_mut().map(Child::try_wait);
        // It is written before the end.
        let report = upgrade_report::read(self.path);
        let status = match status {
            Some(Ok(Some(status))) => Some(format!("the new process ended: {status}")),
            _ => None,
        };
        report.or(status)
    }

    /// Why it does not take over, if this is known soon. It closes its socket before it logs the reason.
    async fn ended(&mut self) -> Option<String> {
        let end = Instant::now() + LAST_WORDS;
        while Instant::now() < end {
            if let Some(reason) = self.failed() {
                return Some(reason);
            }
            tokio::time::sleep(POLL).await;
        }
        None
    }
}

impl Drop for Started<'_> {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
            // A process that is killed cannot remove its files.
            let _ = std::fs::remove_file(self.path);
            let _ = upgrade_report::read(self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> NewProcess {
        NewProcess {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
            address: None,
        }
    }

    #[tokio::test]
    async fn a_process_that_has_ended_does_not_take_over_even_with_an_old_socket() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        std::fs::write(&socket, "").unwrap();
        let none = Listeners::default();
        let ending = shell("sleep 0.2; exit 1");
        let error = ending.take_over(&socket, &none).await.unwrap_err();
        assert!(error.contains("exit status: 1"), "{error}");
        let leaving = shell(&format!("echo > {}; exit 2", socket.display()));
        let error = leaving.take_over(&socket, &none).await.unwrap_err();
        assert!(error.contains("exit status: 2"), "{error}");
        assert!(!socket.exists(), "the file of its socket remains");
        let missing = NewProcess {
            program: "/nonexistent/portcullis".into(),
            arguments: Vec::new(),
            address: None,
        };
        let error = missing.take_over(&socket, &none).await.unwrap_err();
        assert!(error.contains("/nonexistent/portcullis"), "{error}");
    }

    /// A new process has no handlers yet, and every signal would end it.
    #[tokio::test]
    async fn signals_wait_until_the_new_process_handles_them() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let script = "for s in HUP USR1 USR2 QUIT INT TERM; do kill -$s $$; done; exit 7";
        let none = Listeners::default();
        let error = shell(script).take_over(&socket, &none).await.unwrap_err();
        assert!(error.contains("exit status: 7"), "{error}");
    }

    #[tokio::test]
    async fn dropping_the_wait_ends_the_new_process() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, sign) = (folder.path().join("s"), folder.path().join("sign"));
        let script = format!("echo $$ > {}; exec sleep 60", sign.display());
        let new_process = shell(&script);
        let started = async {
            while !std::fs::read_to_string(&sign).is_ok_and(|text| text.ends_with('\n')) {
                tokio::time::sleep(POLL).await;
            }
        };
        let none = Listeners::default();
        tokio::select! {
            _ = new_process.take_over(&socket, &none) => panic!("it never listens"),
            () = started => {}
        }
        let process = std::fs::read_to_string(&sign).unwrap();
        assert!(!Path::new("/proc").join(process.trim()).exists());
    }
}
