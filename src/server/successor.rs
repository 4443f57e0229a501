//! The process that a running one starts to take its place: the same program, as the file system has it by now.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// How long a new process may take to read its file and to ask for the sockets.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often to look whether it does.
const POLL: Duration = Duration::from_millis(20);

/// How to start it.
#[derive(Debug, Clone)]
pub struct Successor {
    pub program: PathBuf,
    pub arguments: Vec<OsString>,
}

impl Successor {
    /// This process once more, with `--upgrade`.
    ///
    /// To be called at start: when the program's file is replaced, the system forgets where it was. A path that the
    /// process was started by counts as it was written, so that it may be a link that leads to a new version by then.
    pub fn of_this_process() -> Option<Successor> {
        let mut arguments = std::env::args_os();
        let program = arguments.next().map(PathBuf::from);
        let program = program.filter(|path| path.components().count() > 1);
        let mut arguments: Vec<OsString> = arguments.collect();
        let flag = OsString::from("--upgrade");
        if !arguments.contains(&flag) {
            arguments.push(flag);
        }
        Some(Successor {
            program: program.or_else(|| std::env::current_exe().ok())?,
            arguments,
        })
    }

    /// Starts it and waits until it listens for the listening sockets at `socket`.
    ///
    /// A caller that drops this before it ends, ends the new process.
    ///
    /// # Errors
    /// It cannot be started, gives up (its own words are in the log), or takes too long.
    pub async fn ready(&self, socket: &Path) -> Result<(), String> {
        // What an earlier attempt has left behind must not pass for a sign of life.
        let _ = std::fs::remove_file(socket);
        let child = Command::new(&self.program)
            .args(&self.arguments)
            // The watchdog is for whoever is the main process, not only for the first.
            .env_remove("WATCHDOG_PID")
            .stdin(Stdio::null())
            .spawn()
            .map_err(|error| format!("{}: {error}", self.program.display()))?;
        let mut child = Started(Some(child));
        let waiting = tokio::time::timeout(PATIENCE, child.listens(socket));
        waiting.await.map_err(|_| "it took too long".to_owned())??;
        child.0 = None;
        Ok(())
    }
}

/// A process that is not wanted unless somebody takes it out.
struct Started(Option<Child>);

impl Started {
    async fn listens(&mut self, socket: &Path) -> Result<(), String> {
        while let Some(child) = &mut self.0 {
            if let Ok(Some(status)) = child.try_wait() {
                return Err(format!("the new process ended: {status}"));
            }
            if socket.exists() {
                break;
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        if let Some(mut child) = self.0.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Successor {
        Successor {
            program: "/bin/sh".into(),
            arguments: vec!["-c".into(), script.into()],
        }
    }

    #[tokio::test]
    async fn it_is_ready_when_its_socket_is_there() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        let script = format!("touch {}; sleep 5", socket.display());
        assert_eq!(shell(&script).ready(&socket).await, Ok(()));
    }

    #[tokio::test]
    async fn one_that_ends_is_no_successor_whatever_was_left_behind() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("s");
        std::fs::write(&socket, "").unwrap();
        let error = shell("sleep 0.2; exit 1").ready(&socket).await.unwrap_err();
        assert!(error.contains("exit status: 1"), "{error}");
        let missing = Successor {
            program: "/nonexistent/portcullis".into(),
            arguments: Vec::new(),
        };
        let error = missing.ready(&socket).await.unwrap_err();
        assert!(error.contains("/nonexistent/portcullis"), "{error}");
    }

    #[tokio::test]
    async fn who_does_not_wait_for_it_ends_it() {
        let folder = tempfile::tempdir().unwrap();
        let (socket, sign) = (folder.path().join("s"), folder.path().join("sign"));
        let script = format!("echo $$ > {}; exec sleep 60", sign.display());
        let successor = shell(&script);
        let started = async {
            while !std::fs::read_to_string(&sign).is_ok_and(|text| text.ends_with('\n')) {
                tokio::time::sleep(POLL).await;
            }
        };
        tokio::select! {
            _ = successor.ready(&socket) => panic!("it never listens"),
            () = started => {}
        }
        let process = std::fs::read_to_string(&sign).unwrap();
        assert!(!Path::new("/proc").join(process.trim()).exists());
    }
}
