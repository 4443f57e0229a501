//! The gateway as a separate process.

use std::borrow::Cow;
use std::fs::{self, File};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use super::http::{Client, Response, request};
use super::{pause, ports};

/// The time in which a gateway must listen. It is generous, so that only a broken build exceeds it.
const START: Duration = Duration::from_secs(60);
const STOP: Duration = Duration::from_secs(30);

/// The file with a timeout for all endpoints of 20 s if it has none of its own. The default of two seconds is too short
/// for a machine that stalls, and it is not what the tests are about. The lines keep their numbers.
fn patient(config: &str) -> Cow<'_, str> {
    let file: Result<serde_json::Map<String, serde_json::Value>, _> = serde_json::from_str(config);
    match (file, config.trim_start().strip_prefix('{')) {
        (Ok(file), Some(rest))
            if file.contains_key("endpoints") && !file.contains_key("timeout") =>
        {
            Cow::Owned(format!("{{\"timeout\":\"20s\",{rest}"))
        }
        _ => Cow::Borrowed(config),
    }
}

/// Names the folder for a gateway's sockets.
pub const RUNTIME_FOLDER: &str = "RUNTIME_DIRECTORY";

/// The program under test.
pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portcullis"));
    clean(&mut command);
    command
}

/// Removes the environment variables of the user that could change a test.
fn clean(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        let proxy = ["http_proxy", "https_proxy", "all_proxy"].contains(&&*name.to_lowercase());
        let ours = ["KRAKEND_", "FC_", "VAULT_"];
        if proxy || ours.iter().any(|prefix| name.starts_with(prefix)) {
            command.env_remove(&*name);
        }
    }
    command
        .env("NO_PROXY", "*")
        .env("USAGE_DISABLE", "1")
        .stdin(Stdio::null());
}

/// A place in the two outputs of a gateway, in bytes.
#[derive(Clone, Copy, Default)]
pub struct Mark {
    out: usize,
    err: usize,
}

/// A started gateway; it is stopped when this value is dropped.
pub struct Gateway {
    port: u16,
    dir: tempfile::TempDir,
    child: Mutex<Child>,
}

impl Gateway {
    /// Starts with this configuration on a free port and waits until it listens. Without a `timeout` it gets a long one.
    pub fn start(config: &str) -> Self {
        Self::start_with(config, &[])
    }

    /// Starts with additional files (name, content) beside the configuration.
    pub fn start_with(config: &str, files: &[(&str, &str)]) -> Self {
        let port = ports::free();
        let gateway = Self::spawn(port, config, files, &["-p", &port.to_string()]);
        assert!(
            gateway.listens(START),
            "the gateway does not listen:\n{}",
            gateway.output()
        );
        gateway
    }

    /// Starts with these environment variables.
    pub fn start_in(variables: &[(&str, &str)], config: &str) -> Self {
        let mut program = command();
        program.envs(variables.iter().copied());
        Self::spawn_with(program, None, ports::free(), config)
    }

    /// Starts a file of the repository unchanged, except for the port.
    pub fn start_file(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        Self::start(&text)
    }

    /// Starts it through a shell that runs `script` with the gateway's command line as its arguments
    /// (`ulimit -n 64; exec "$@"`), and waits until it listens.
    pub fn start_under(script: &str, config: &str) -> Self {
        let port = ports::free();
        let mut shell = Command::new("sh");
        clean(&mut shell);
        shell.args(["-c", script, "sh", env!("CARGO_BIN_EXE_portcullis")]);
        Self::spawn_with(shell, None, port, config)
    }

    /// Starts it with this standard output and waits until it listens.
    pub fn start_writing_to(stdout: Stdio, config: &str) -> Self {
        Self::spawn_with(command(), Some(stdout), ports::free(), config)
    }

    fn spawn_with(program: Command, stdout: Option<Stdio>, port: u16, config: &str) -> Self {
        let more = ["-p", &port.to_string()];
        let gateway = Self::spawn_as(program, stdout, port, config, &[], &more);
        assert!(
            gateway.listens(START),
            "the gateway does not listen:\n{}",
            gateway.output()
        );
        gateway
    }

    /// Starts the process and does not wait.
    pub fn spawn(port: u16, config: &str, files: &[(&str, &str)], more: &[&str]) -> Self {
        Self::spawn_as(command(), None, port, config, files, more)
    }

    /// The same for a command with its own environment.
    pub fn spawn_command(
        program: Command,
        port: u16,
        config: &str,
        files: &[(&str, &str)],
        more: &[&str],
    ) -> Self {
        Self::spawn_as(program, None, port, config, files, more)
    }

    fn spawn_as(
        mut program: Command,
        stdout: Option<Stdio>,
        port: u16,
        config: &str,
        files: &[(&str, &str)],
        more: &[&str],
    ) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for (name, content) in files {
            let path = dir.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, content).unwrap();
        }
        let path = dir.path().join("krakend.json");
        fs::write(&path, &*patient(config)).unwrap();
        let stdout =
            stdout.unwrap_or_else(|| File::create(dir.path().join("stdout.log")).unwrap().into());
        let stderr = File::create(dir.path().join("stderr.log")).unwrap();
        // Its control socket must not be that of another gateway.
        let has_folder = program.get_envs().any(|(name, _)| name == RUNTIME_FOLDER);
        if !has_folder {
            program.env(RUNTIME_FOLDER, dir.path());
        }
        let child = program
            .args(["run", "-c"])
            .arg(&path)
            .args(more)
            .current_dir(dir.path())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", env!("CARGO_BIN_EXE_portcullis")));
        Self {
            port,
            dir,
            child: Mutex::new(child),
        }
    }

    /// Whether the port responds within `limit`; false immediately if the process has ended.
    pub fn listens(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if self.ended().is_some() {
                return false;
            }
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return true;
            }
            pause(Duration::from_millis(5));
        }
        false
    }

    /// Waits until its key sets have come. A request waits for them half a second only, which a machine that stalls needs
    /// for nothing.
    pub fn ready(self) -> Self {
        let ready = || self.get("/__ready").status == 200;
        super::eventually("the key sets have come", START, ready);
        self
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn pid(&self) -> u32 {
        self.child.lock().unwrap().id()
    }

    /// The resident memory, from /proc.
    pub fn resident_kib(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find(|l| l.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    /// Processor time used so far, from /proc, in ticks of ten milliseconds.
    pub fn processor_ticks(&self) -> u64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid())).unwrap();
        // The name in parentheses may contain blanks; user and system time are the 12th and 13th field after it.
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap()
            .split_whitespace()
            .collect();
        fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
    }

    /// The folder in which the gateway runs.
    pub fn dir(&self) -> PathBuf {
        self.dir.path().to_owned()
    }

    pub fn config_path(&self) -> PathBuf {
        self.dir.path().join("krakend.json")
    }

    /// Everything written to standard output and standard error so far.
    pub fn output(&self) -> String {
        self.output_since(Mark::default())
    }

    /// Waits until this is written. A log line is written by a thread of its own, maybe after the response that it is about.
    pub fn tells(&self, words: &str) {
        let end = Instant::now() + START;
        while !self.output().contains(words) {
            let late = Instant::now() >= end;
            assert!(!late, "{words:?} is not in the log:\n{}", self.output());
            pause(Duration::from_millis(5));
        }
    }

    /// The place in both outputs that has been reached so far.
    pub fn mark(&self) -> Mark {
        let [out, err] = self.outputs().map(|bytes| bytes.len());
        Mark { out, err }
    }

    /// Everything written since `mark`, first on standard output, then on standard error.
    pub fn output_since(&self, mark: Mark) -> String {
        let [out, err] = self.outputs();
        let new = [&out[mark.out..], &err[mark.err..]].concat();
        String::from_utf8_lossy(&new).into_owned()
    }

    fn outputs(&self) -> [Vec<u8>; 2] {
        ["stdout.log", "stderr.log"]
            .map(|name| fs::read(self.dir.path().join(name)).unwrap_or_default())
    }

    /// The exit status, once the process has ended.
    pub fn ended(&self) -> Option<ExitStatus> {
        self.child.lock().unwrap().try_wait().unwrap()
    }

    /// Waits for the end of the process.
    pub fn wait(&self, limit: Duration) -> Option<ExitStatus> {
        let end = Instant::now() + limit;
        while Instant::now() < end {
            if let Some(status) = self.ended() {
                return Some(status);
            }
            pause(Duration::from_millis(5));
        }
        None
    }

    /// Sends a signal by its name for `kill -s` (`TERM`, `HUP`, …).
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops it: TERM, and KILL if it still runs after `timeout`.
    pub fn stop(&self, timeout: Duration) -> Option<ExitStatus> {
        if self.ended().is_none() {
            self.signal("TERM");
        }
        let status = self.wait(timeout);
        if status.is_none() {
            let mut child = self.child.lock().unwrap();
            let _ = child.kill();
            let _ = child.wait();
        }
        status
    }

    pub fn client(&self) -> Client {
        Client::connect(self.port).unwrap_or_else(|e| panic!("{e}; the log:\n{}", self.output()))
    }

    pub fn get(&self, path: &str) -> Response {
        self.get_with(path, &[])
    }

    pub fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Response {
        self.send("GET", request("GET", path, headers))
    }

    /// Sends these bytes on a new connection and reads one complete response.
    pub fn send(&self, method: &str, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.client();
        client.send(bytes).unwrap();
        client
            .response(method)
            .unwrap_or_else(|e| panic!("no answer: {e}; the log:\n{}", self.output()))
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        self.stop(STOP);
    }
}

/// Sends a signal to a process.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status()
        .unwrap();
    assert!(status.success(), "kill -s {name} {pid}");
}
