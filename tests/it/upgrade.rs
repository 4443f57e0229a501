//! A new process takes over from a running one, and no request is lost.

use std::fs;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::RUNTIME_FOLDER;
use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, pause};

mod failures;
mod fetched;
mod memory;
mod reloads;
mod revoked;

fn config(backend: &str, extra: &[&str]) -> Value {
    let paths = ["/a", "/slow"].iter().chain(extra);
    let endpoint = |path: &&str| json!({ "endpoint": path, "timeout": "20s", "backend": [{ "host": [backend], "url_pattern": path }] });
    json!({ "version": 3, "endpoints": paths.map(endpoint).collect::<Vec<_>>() })
}

/// Sends one request after another until told to stop, sometimes on a new connection. Returns the lost requests.
fn ask(port: u16, stop: &AtomicBool, done: &AtomicUsize) -> Vec<String> {
    let mut lost = Vec::new();
    let mut kept: Option<Client> = None;
    for turn in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        if turn % 5 == 0 {
            kept = None;
        }
        let reused = kept.is_some();
        let client = kept.take().map_or_else(|| Client::connect(port), Ok);
        let mut client = match client {
            Ok(client) => client,
            Err(error) => {
                lost.push(format!("no connection: {error}"));
                continue;
            }
        };
        let response = client
            .send(request("GET", "/a", &[]))
            .and_then(|()| client.response("GET"));
        match response {
            Ok(response) if response.status == 200 => {
                done.fetch_add(1, Ordering::SeqCst);
                kept = (response.header("connection") != Some("close")).then_some(client);
            }
            Ok(response) => lost.push(format!("status {}", response.status)),
            // An idle connection may be closed at any time; the request was not processed.
            Err(error)
                if reused
                    && matches!(
                        error.kind(),
                        ErrorKind::UnexpectedEof
                            | ErrorKind::ConnectionReset
                            | ErrorKind::BrokenPipe
                    ) => {}
            Err(error) => lost.push(format!("no answer: {error}")),
        }
    }
    lost
}

/// The messages to a service manager.
struct Manager(UnixDatagram);

impl Manager {
    /// Listens on a socket in `folder`.
    fn at(folder: &Path) -> (Self, PathBuf) {
        let path = folder.join("notify.sock");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket
            .set_read_timeout(Some(Duration::from_secs(60)))
            .unwrap();
        (Self(socket), path)
    }

    /// The lines of the next message.
    fn told(&self) -> std::io::Result<Vec<String>> {
        let mut buffer = [0; 1024];
        let length = loop {
            match self.0.recv(&mut buffer) {
                // A process that was stopped continues.
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                received => break received?,
            }
        };
        let text = String::from_utf8_lossy(&buffer[..length]);
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The lines of messages up to and including the one with `last`.
    fn told_until(&self, last: &str) -> Vec<String> {
        let mut lines = Vec::new();
        while !lines.iter().any(|line: &String| line.starts_with(last)) {
            lines.extend(self.told().expect(last));
        }
        lines
    }

    /// The lines of messages that have already arrived.
    fn told_so_far(&self) -> Vec<String> {
        self.0.set_nonblocking(true).unwrap();
        let lines = std::iter::from_fn(|| self.told().ok()).flatten().collect();
        self.0.set_nonblocking(false).unwrap();
        lines
    }
}

/// A process that is not our child; it ends with the test.
struct Stranger(i32);

impl Drop for Stranger {
    fn drop(&mut self) {
        let _ = std::process::Command::new("kill")
            .args(["-KILL", &self.0.to_string()])
            .status();
    }
}

#[test]
fn a_signal_starts_the_process_that_takes_over() {
    let stub =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let folder = tempfile::tempdir().unwrap();
    let (manager, socket) = Manager::at(folder.path());
    let variables = [
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        ("RUNTIME_DIRECTORY", folder.path().to_str().unwrap()),
        ("WATCHDOG_USEC", "2000000"),
    ];
    let old = Gateway::start_in(&variables, &config(&stub.url(), &[]).to_string());
    manager.told_until("READY=1");
    // A file that cannot be served changes nothing.
    fs::write(old.config_path(), "{").unwrap();
    old.signal("USR2");
    eventually("the upgrade fails", Duration::from_secs(30), || {
        old.output()
            .contains("Upgrade failed, this process continues to serve")
    });
    assert_eq!(old.get("/a").status, 200);

    fs::write(old.config_path(), config(&stub.url(), &["/b"]).to_string()).unwrap();
    old.signal("USR2");
    let mut told = manager.told_until("MAINPID=");
    let main = told.iter().find_map(|line| line.strip_prefix("MAINPID="));
    let new = Stranger(main.unwrap().parse().unwrap());
    let ended = old
        .wait(Duration::from_secs(40))
        .expect("the old process ends");
    assert!(ended.success(), "{ended}: {}", old.output());
    told.extend(manager.told_so_far());
    assert!(!told.contains(&"STOPPING=1".to_owned()), "{told:?}");
    // Now the new process reports it.
    manager.told_until("WATCHDOG=1");
    assert_eq!(old.get("/b").status, 200, "{}", old.output());
    drop(new);
}

/// The process that takes over; it runs in the folder of the old one.
struct Successor(Child);

impl Successor {
    fn start(old: &Gateway) -> Self {
        Self::start_in(old, &old.dir())
    }

    /// A process that waits for the sockets of the old one.
    fn waiting(old: &Gateway) -> Self {
        let new = Self::start(old);
        let socket = old
            .dir()
            .join(format!("portcullis-{}-upgrade.sock", old.port()));
        eventually("it waits for the sockets", Duration::from_secs(30), || {
            socket.exists()
        });
        new
    }

    fn signal(&self, name: &str) {
        crate::support::gateway::signal(self.0.id(), name);
    }

    /// What the last one has printed.
    fn log(old: &Gateway) -> String {
        fs::read_to_string(old.dir().join("successor.log")).unwrap_or_default()
    }

    /// With this folder for its sockets.
    fn start_in(old: &Gateway, folder: &Path) -> Self {
        let log = fs::File::create(old.dir().join("successor.log")).unwrap();
        let child = crate::support::gateway::command()
            .env(RUNTIME_FOLDER, folder)
            .args(["run", "--upgrade", "-c"])
            .arg(old.config_path())
            .args(["-p", &old.port().to_string()])
            .current_dir(old.dir())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .stdin(Stdio::null())
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_new_process_takes_over_without_losing_a_request() {
    let stub = Stub::with(
        r#"[{"path": "/slow", "delay_ms": 3000, "headers": {"Content-Type": "application/json"}, "body": {"ok": true}},
            {"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#,
    );
    let old = Gateway::start(&config(&stub.url(), &[]).to_string());
    let port = old.port();
    let (stop, done) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicUsize::new(0)),
    );
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let (stop, done) = (stop.clone(), done.clone());
            std::thread::spawn(move || ask(port, &stop, &done))
        })
        .collect();
    eventually("the load runs", Duration::from_secs(30), || {
        done.load(Ordering::SeqCst) > 50
    });
    // The new process has one additional endpoint, which distinguishes it from the old one.
    fs::write(old.config_path(), config(&stub.url(), &["/b"]).to_string()).unwrap();
    let new = Successor::waiting(&old);
    let log = || Successor::log(&old);
    let mut slow = old.client();
    slow.send(request("GET", "/slow", &[])).unwrap();
    old.signal("QUIT");
    assert_eq!(
        slow.response("GET").unwrap().status,
        200,
        "{}",
        old.output()
    );
    let ended = old
        .wait(Duration::from_secs(40))
        .expect("the old process ends");
    assert!(ended.success(), "{ended}: {}", old.output());
    let after = done.load(Ordering::SeqCst);
    eventually("the new process serves", Duration::from_secs(30), || {
        done.load(Ordering::SeqCst) > after + 50
    });
    assert_eq!(old.get("/b").status, 200, "{}", log());
    stop.store(true, Ordering::SeqCst);
    let lost: Vec<String> = clients
        .into_iter()
        .flat_map(|client| client.join().unwrap())
        .collect();
    assert_eq!(lost, Vec::<String>::new(), "{}\n{}", old.output(), log());
    // The new process accepts commands now.
    fs::write(old.config_path(), config(&stub.url(), &[]).to_string()).unwrap();
    let reload = crate::support::gateway::command()
        .env(RUNTIME_FOLDER, old.dir())
        .args(["reload", "-c"])
        .arg(old.config_path())
        .args(["-p", &port.to_string()])
        .output()
        .unwrap();
    assert_eq!(
        reload.status.code(),
        Some(0),
        "{}",
        String::from_utf8_lossy(&reload.stderr)
    );
    assert_eq!(old.get("/b").status, 404);
    drop(new);
    assert!(TcpListener::bind(("127.0.0.1", port)).is_ok());
}

const OK: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;

fn open_to_all(parent: &Path) -> PathBuf {
    use std::os::unix::fs::PermissionsExt;
    let folder = parent.join("open");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o1777)).unwrap();
    folder
}

#[test]
fn sockets_never_lie_in_a_folder_that_others_may_write_to() {
    let stub = Stub::with(OK);
    let parent = tempfile::tempdir().unwrap();
    let folder = open_to_all(parent.path());
    // What another user would create there to get the listening sockets.
    let variables = [(RUNTIME_FOLDER, folder.to_str().unwrap())];
    let old = Gateway::start_in(&variables, &config(&stub.url(), &[]).to_string());
    let trap = format!("portcullis-{}-upgrade.sock", old.port());
    let trap = std::os::unix::net::UnixListener::bind(folder.join(trap)).unwrap();
    trap.set_nonblocking(true).unwrap();
    old.signal("USR2");
    eventually("the upgrade is refused", Duration::from_secs(30), || {
        let output = old.output();
        output.contains("Upgrade failed") && output.contains("set RUNTIME_DIRECTORY")
    });
    assert_eq!(old.get("/a").status, 200);
    assert!(trap.accept().is_err(), "the gateway called the trap");
    // A new process does not wait there either, and there is no control socket.
    let mut new = Successor::start_in(&old, &folder);
    assert!(!new.0.wait().unwrap().success());
    let log = Successor::log(&old);
    assert!(log.contains("other users may write to it"), "{log}");
    old.tells("no control socket");
    let left: Vec<_> = fs::read_dir(&folder).unwrap().collect();
    assert_eq!(left.len(), 1, "{left:?}");
    old.signal("QUIT");
    assert!(
        old.wait(Duration::from_secs(30))
            .is_some_and(|end| end.success())
    );
    assert!(trap.accept().is_err(), "the gateway called the trap");
}

/// Waits until the process that takes over serves this path, which may fail before.
fn serves(old: &Gateway, path: &str) {
    eventually("the new process serves", Duration::from_secs(30), || {
        let asked = Client::connect(old.port()).and_then(|mut client| {
            client.send(request("GET", path, &[]))?;
            client.response("GET")
        });
        asked.is_ok_and(|response| response.status == 200)
    });
}

#[test]
fn a_new_process_binds_itself_if_the_old_one_is_killed() {
    let stub = Stub::with(OK);
    let old = Gateway::start(&config(&stub.url(), &[]).to_string());
    fs::write(old.config_path(), config(&stub.url(), &["/b"]).to_string()).unwrap();
    let new = Successor::waiting(&old);
    old.signal("KILL");
    serves(&old, "/b");
    drop(new);
}

#[test]
fn a_stopped_process_is_replaced_after_a_while_and_one_that_responds_is_not() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url(), &[]);
    file["extra_config"] = json!({ "portcullis/server": { "upgrade_wait": "4s" } });
    let old = Gateway::start(&file.to_string());
    let mut later = config(&stub.url(), &["/b"]);
    later["extra_config"] = file["extra_config"].clone();
    fs::write(old.config_path(), later.to_string()).unwrap();
    let new = Successor::start(&old);
    // Longer than that.
    pause(Duration::from_secs(6));
    assert_eq!(old.get("/a").status, 200, "{}", old.output());
    assert!(old.ended().is_none(), "nobody told it to hand over");
    old.signal("STOP");
    serves(&old, "/b");
    assert!(old.wait(Duration::from_secs(30)).is_some());
    let log = Successor::log(&old);
    assert!(log.contains("did not respond and was killed"), "{log}");
    drop(new);
}

/// As if the old process of an earlier upgrade were stopped before it closed its socket, and the one that serves died.
#[test]
fn a_stopped_process_without_a_control_socket_does_not_keep_the_address() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url(), &[]);
    file["extra_config"] = json!({ "portcullis/server": { "upgrade_wait": "1s" } });
    let old = Gateway::start(&file.to_string());
    let control = format!("portcullis-{}.sock", old.port());
    // It is made just after the gateway listens.
    eventually("its socket is there", Duration::from_secs(30), || {
        fs::remove_file(old.dir().join(&control)).is_ok()
    });
    let new = Successor::start(&old);
    // Longer than that.
    pause(Duration::from_secs(4));
    assert_eq!(old.get("/a").status, 200, "{}", old.output());
    old.signal("STOP");
    assert!(old.wait(Duration::from_secs(30)).is_some());
    serves(&old, "/a");
    let log = Successor::log(&old);
    assert!(log.contains("was stopped, had not closed"), "{log}");
    drop(new);
}

#[test]
fn several_signals_at_once_are_one_upgrade_after_the_other() {
    let stub = Stub::with(OK);
    let folder = tempfile::tempdir().unwrap();
    let (manager, socket) = Manager::at(folder.path());
    let variables = [
        ("NOTIFY_SOCKET", socket.to_str().unwrap()),
        (RUNTIME_FOLDER, folder.path().to_str().unwrap()),
    ];
    let old = Gateway::start_in(&variables, &config(&stub.url(), &[]).to_string());
    manager.told_until("READY=1");
    let (stop, done) = (AtomicBool::new(false), AtomicUsize::new(0));
    let lost = std::thread::scope(|scope| {
        let asking = scope.spawn(|| ask(old.port(), &stop, &done));
        for _ in 0..5 {
            old.signal("USR2");
        }
        let told = manager.told_until("MAINPID=");
        let main = told.iter().find_map(|line| line.strip_prefix("MAINPID="));
        let new = Stranger(main.unwrap().parse().unwrap());
        let ended = old.wait(Duration::from_secs(40));
        assert!(ended.is_some_and(|end| end.success()), "{}", old.output());
        let after = done.load(Ordering::SeqCst);
        eventually("the new process serves", Duration::from_secs(30), || {
            done.load(Ordering::SeqCst) > after + 20
        });
        stop.store(true, Ordering::SeqCst);
        let lost = asking.join().unwrap();
        drop(new);
        lost
    });
    assert_eq!(lost, Vec::<String>::new(), "{}", old.output());
}

#[test]
fn a_handover_without_a_new_process_is_a_stop() {
    let stub = Stub::with(OK);
    let gateway = Gateway::start(&config(&stub.url(), &[]).to_string());
    let control = gateway
        .dir()
        .join(format!("portcullis-{}.sock", gateway.port()));
    eventually("it takes orders", Duration::from_secs(30), || {
        control.exists()
    });
    gateway.signal("QUIT");
    assert!(
        gateway
            .wait(Duration::from_secs(30))
            .is_some_and(|end| end.success())
    );
    assert!(!control.exists(), "the control socket was left behind");
}
