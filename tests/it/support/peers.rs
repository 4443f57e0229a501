//! Implementations by other projects, run by Node as separate processes.
//!
//! `tests/oidc/install.sh` installs them below `target/` (`scripts/setup` runs it, otherwise the first test that needs
//! them does); it needs npm, and reports what is missing.

use std::io::{BufRead as _, BufReader, Write as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;

use serde_json::Value;

use super::http::{Client, Response, request};

/// The folder with the installed packages, and the Node to run them.
fn installed() -> &'static (PathBuf, String) {
    static INSTALLED: OnceLock<(PathBuf, String)> = OnceLock::new();
    INSTALLED.get_or_init(|| {
        let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
        let cache = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("oidc");
        let script = root.join("tests/oidc/install.sh");
        let output = Command::new("sh").arg(script).arg(&cache).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.success(),
            "nobody else's implementation to test against: {said}"
        );
        (
            cache,
            String::from_utf8_lossy(&output.stdout).trim().to_owned(),
        )
    })
}

fn node(script: &str) -> Command {
    let (folder, node) = installed();
    let mut command = Command::new(node);
    command.arg(script).current_dir(folder);
    command
}

/// The output of a script of `tests/oidc` for `input`.
pub fn ask(script: &str, task: &str, input: &Value) -> Value {
    let mut child = node(script)
        .arg(task)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input.to_string().as_bytes()).unwrap();
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{script} {task}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A running server; it is killed when this value is dropped.
pub struct Peer {
    port: u16,
    child: Child,
}

impl Peer {
    /// Starts a script of `tests/oidc` and waits until it listens.
    pub fn start(script: &str, port: u16, variables: &[(&str, &str)]) -> Self {
        let mut child = node(script)
            .env("PORT", port.to_string())
            .envs(variables.iter().copied())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let ready = lines.any(|line| line.is_ok_and(|line| line == "ready"));
        assert!(ready, "{script} ended at start");
        Self { port, child }
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    pub fn get(&self, path: &str) -> Response {
        self.send(request("GET", path, &[]))
    }

    pub fn send(&self, bytes: String) -> Response {
        let mut client = Client::connect(self.port).unwrap();
        client.send(bytes).unwrap();
        client.response("GET").unwrap()
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}
