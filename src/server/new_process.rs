//! Starts the process that replaces this one: the same program, in its current version on disk.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::Instant;

use crate::server::listeners::Listeners;
use crate::server::signals;
use crate::server::socket_transfer::{self, TransferError};

/// How long a new process may take to load its configuration and to request the sockets.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How long a new process that did not take over may take to log why.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// How often to check whether it does.
const POLL: Duration = Duration::from_millis(20);

/// How to start it.
#[derive(Debug, Clone)]
pub(crate) struct NewProcess {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl NewProcess {
    /// This process again, with `--upgrade`.
    ///
    /// Must be called at start: when the file of the program is replaced, the system no longer knows its path. The
    /// path with which the process was started is used as written, so it may be a link to a new version.
    pub(crate) fn of_this_process() -> Option<NewProcess> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().map(PathBuf::from);
        let program = program.filter(|path| path.components().count() > 1);
        let mut arguments: Vec<OsString> = arguments.collect();
        let flag = OsString::from("--upgrade");
        if !arguments.contains(&flag) {
            arguments.push(flag);
        }
        Some(NewProcess {
            program: program.or_else(|| std::env::current_exe().ok())?,
            arguments,
        })
    }

    /// Starts it, passes it the sockets when it waits for them at `path`, and returns when it accepts connections.
    ///
    /// If the caller drops the future early, the new process is ended.
    ///
    /// # Errors
    /// It cannot be started, ends early (its own messages are in the log), or takes too long. This process keeps the
    /// sockets.
    pub(crate) async fn take_over(&self, path: &Path, listeners: &Listeners) -> Result<(), String> {
        // The socket file of an earlier attempt must not be taken for a running process.
        let _ = std::fs::remove_file(path);
        let mut command = Command::new(&self.program);
        command
            .args(&self.arguments)
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
        let taker = waiting.await.map_err(|_| "it took too long".to_owned())??;
        if let Err(error) = socket_transfer::give(taker, listeners).await {
            return Err(child.ended().await.unwrap_or(error.to_string()));
        }
        child.child = None;
        Ok(())
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
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Err(format!("the new process ended: {status}"));
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
    /// How it ended, if it ends soon. It closes its socket before it logs the reason.
    async fn ended(&mut self) -> Option<String> {
        let end = Instant::now() + LAST_WORDS;
        while Instant::now() < end {
            if let Some(Ok(Some(status))) = self.child.as_mut().map(Child::try_wait) {
                return Some(format!("the new process ended: {status}"));
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
            // A process that is killed cannot remove the file of its socket.
            let _ = std::fs::remove_file(self.path);
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
