//! A real Redis on its own port.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::{eventually, ports};

const START: Duration = Duration::from_secs(60);

/// A started server; it is killed when this value is dropped.
pub struct Redis {
    port: u16,
    process: Mutex<Option<Child>>,
    folder: tempfile::TempDir,
}

impl Redis {
    /// `None`, with a note, if Redis is not installed. On a build machine (`CI=true`) this is an error.
    pub fn start() -> Option<Redis> {
        let known = Command::new("redis-server").arg("--version").output();
        if let Err(error) = known {
            assert!(
                std::env::var("CI").as_deref() != Ok("true"),
                "redis-server: {error}"
            );
            eprintln!("skipped: redis-server: {error}");
            return None;
        }
        let redis = Redis {
            port: ports::free(),
            process: Mutex::new(None),
            folder: tempfile::tempdir().unwrap(),
        };
        redis.begin();
        Some(redis)
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Starts the process, for the first time or again, with no data.
    pub fn begin(&self) {
        let process = Command::new("redis-server")
            .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--dir"])
            .arg(self.folder.path())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        *self.process.lock().unwrap() = Some(process);
        eventually("redis-server listens", START, || {
            TcpStream::connect(("127.0.0.1", self.port)).is_ok()
        });
    }

    /// Ends the process; its port refuses connections afterwards.
    pub fn end(&self) {
        if let Some(mut process) = self.process.lock().unwrap().take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }

    /// Sends the process a signal by name: `STOP`, `CONT`.
    pub fn signal(&self, name: &str) {
        let pid = self.process.lock().unwrap().as_ref().unwrap().id();
        let sent = Command::new("kill")
            .args(["-s", name, &pid.to_string()])
            .status();
        assert!(sent.unwrap().success(), "kill -s {name} {pid}");
    }

    /// Runs one command and returns the raw response.
    pub fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(stream, "{command}\r\nQUIT\r\n").unwrap();
        let mut response = String::new();
        stream.read_to_string(&mut response).unwrap();
        response
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}
