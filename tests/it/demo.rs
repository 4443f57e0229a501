//! `demo` does what it prints: each of its commands, pasted into a shell, gets the response printed above it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError, mpsc};
use std::time::Duration;

use crate::support::gateway::command;
use crate::support::{http, ports};

/// The limit for a demo that never becomes ready. It is long enough for a slow machine.
const START: Duration = Duration::from_secs(60);

/// One demo at a time: each first takes its free default ports, and two of them could take the same.
static TURN: Mutex<()> = Mutex::new(());

/// A demo process that ends when this value is dropped.
struct Demo {
    process: Child,
    _turn: MutexGuard<'static, ()>,
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Starts the demo and returns the commands that it prints once it is ready, and the address of its page.
fn start(port: u16) -> (Demo, Vec<String>, String) {
    start_with(&["-p", &port.to_string()])
}

fn start_with(arguments: &[&str]) -> (Demo, Vec<String>, String) {
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let mut child = command()
        .arg("demo")
        .args(arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let demo = Demo {
        process: child,
        _turn: turn,
    };
    let (sender, printed) = mpsc::channel();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    let mut commands = Vec::new();
    let page = loop {
        let line = printed
            .recv_timeout(START)
            .expect("the demo prints commands and an address");
        if line.starts_with("    ") {
            commands.push(line.trim().to_owned());
        } else if let Some((_, page)) = line.split_once("what the gateway does now: ") {
            break page.to_owned();
        }
    };
    (demo, commands, page)
}

/// What a shell prints for this line: the head of the response, and its body.
fn pasted(line: &str) -> (String, String) {
    let output = Command::new("sh")
        .args(["-c", line])
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{line}: {said}");
    let text = String::from_utf8(output.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").expect("curl -i shows a head");
    (head.to_lowercase(), body.to_owned())
}

/// The output and the exit status of a line in a shell.
fn shell(line: &str) -> (Option<i32>, String) {
    let output = Command::new("sh")
        .args(["-c", line])
        .env("NO_PROXY", "*")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.code(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
#[ignore = "needs curl: scripts/test runs it"]
fn its_commands_work_as_pasted() {
    let port = ports::free();
    let (_demo, commands, page) = start(port);
    let [health, without, with, other, merged, client, explain] = &commands[..] else {
        panic!("{commands:?}");
    };
    for line in [health, without, with, other, merged] {
        assert!(line.contains(&format!("127.0.0.1:{port}/")), "{line}");
    }
    let (head, body) = pasted(health);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains(r#""status":"ok""#), "{body}");

    let (head, body) = pasted(without);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert!(
        head.lines().any(|line| line == "content-length: 0"),
        "{head}"
    );
    assert_eq!(body, "");

    let (head, body) = pasted(with);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains(r#""status":"ok""#), "{body}");

    let (head, _) = pasted(other);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    let reason = head
        .lines()
        .find(|line| line.starts_with("www-authenticate:"));
    assert!(reason.is_some_and(|r| r.contains("audience")), "{head}");

    let (head, body) = pasted(merged);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("item") && body.contains("price"), "{body}");

    let (_, response) = shell(client);
    assert!(
        response.contains(r#""access_token":"ey"#) && response.contains(r#""token_type":"Bearer""#),
        "{response}"
    );

    let (code, told) = shell(explain);
    assert_eq!(code, Some(1), "{told}");
    assert!(
        told.contains("FAIL aud") && told.contains("http://other.example.com"),
        "{told}"
    );

    let (_, body) = pasted(&format!("curl -i {page}"));
    assert!(body.contains("GET /sample/{id}"), "{body}");
}

/// The file that the commands name.
fn file_of(commands: &[String]) -> &str {
    let explain = commands.last().unwrap();
    let (_, rest) = explain.split_once(" -c ").unwrap();
    rest.split(' ').next().unwrap()
}

/// For a container, or another machine: all that is printed has the name, and each part of it can be reached by it.
#[test]
fn it_can_be_called_by_another_name() {
    let [port, issuer, upstream] = [(); 3].map(|()| ports::free());
    let arguments = [
        "-p",
        &port.to_string(),
        "--issuer-port",
        &issuer.to_string(),
    ]
    .map(str::to_owned);
    let mut arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let upstream = upstream.to_string();
    arguments.extend(["--upstream-port", &upstream, "--host", "localhost"]);
    let (_demo, commands, page) = start_with(&arguments);
    let explain = commands.last().unwrap();
    assert!(
        !format!("{commands:?}{page}").contains("127.0.0.1"),
        "{commands:?}"
    );
    let ask = |port: u16, path: &str, token: &str| {
        let mut client = http::Client::connect(port).unwrap();
        let fields = [("Authorization", token), ("Connection", "close")];
        client.send(http::request("GET", path, &fields)).unwrap();
        client.response("GET").unwrap()
    };
    let token = format!("Bearer {}", ask(issuer, "/token", "").text());
    assert_eq!(ask(port, "/auth0-protected", &token).status, 200);
    let text = std::fs::read_to_string(file_of(&commands)).unwrap();
    let file: serde_json::Value = serde_json::from_str(&text).unwrap();
    let validator = &file["endpoints"][0]["extra_config"]["auth/validator"];
    assert_eq!(validator["issuer"], format!("http://localhost:{issuer}/"));
    assert_eq!(file["listen_ip"], "0.0.0.0");
    assert!(explain.contains("http://localhost:"), "{explain}");

    // It becomes part of commands for a shell.
    for name in ["a b", "$(id)", "", "a/b", "a:1", "[::1", "::1"] {
        let output = command()
            .args(["demo", "--print-config", "--host", name])
            .output()
            .unwrap();
        assert!(!output.status.success(), "{name}");
    }
    for name in ["gateway.test", "192.0.2.1", "[2001:db8::1]"] {
        let output = command()
            .args(["demo", "--print-config", "--host", name])
            .output()
            .unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        assert!(printed.contains(&format!("http://{name}:")), "{printed}");
        let every = if name.starts_with('[') {
            "::"
        } else {
            "0.0.0.0"
        };
        assert!(
            printed.contains(&format!(r#""listen_ip": "{every}""#)),
            "{printed}"
        );
    }
}

/// The file that the demo names is the one that it serves, and that `--print-config` prints for its ports.
#[test]
fn its_file_can_be_kept_and_its_ports_can_be_chosen() {
    let [port, issuer, upstream] = [(); 3].map(|()| ports::free().to_string());
    let arguments = [
        "-p",
        &port,
        "--issuer-port",
        &issuer,
        "--upstream-port",
        &upstream,
    ];
    let (mut demo, commands, _) = start_with(&arguments);
    let file = file_of(&commands);
    let kept = std::fs::read_to_string(file).unwrap();
    let printed = command()
        .args(["demo", "--print-config"])
        .args(arguments)
        .output()
        .unwrap();
    // The page may have another port in the running demo, because no argument names it.
    let without_page = |text: &str| {
        let mut value: serde_json::Value = serde_json::from_str(text).unwrap();
        value["extra_config"]["portcullis/metrics"].take();
        value
    };
    let printed = String::from_utf8(printed.stdout).unwrap();
    assert_eq!(without_page(&kept), without_page(&printed));
    assert!(
        kept.contains(&format!("http://127.0.0.1:{issuer}/")),
        "{kept}"
    );
    let checked = command().args(["check", file]).status().unwrap();
    assert!(checked.success());
    let output = command().arg("demo").args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains(&format!("port {issuer}: ")), "{said}");

    // Nothing is left at its end.
    assert!(std::path::Path::new(file).exists());
    let id = demo.process.id().to_string();
    let told = Command::new("kill").args(["-TERM", &id]).status().unwrap();
    assert!(told.success() && demo.process.wait().unwrap().success());
    let folder = std::path::Path::new(file).parent().unwrap();
    let unfinished = folder.join(format!(".portcullis-demo-{id}"));
    assert!(!std::path::Path::new(file).exists() && !unfinished.exists());
}

#[test]
#[ignore = "needs curl: scripts/test runs it"]
fn a_port_in_use_does_not_stop_the_demo() {
    let other = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let taken = other.local_addr().unwrap().port();
    let (_demo, commands, _) = start(taken);
    assert!(!commands[0].contains(&format!(":{taken}/")), "{commands:?}");
    let (head, _) = pasted(&commands[0]);
    assert!(head.starts_with("http/1.1 200"), "{head}");
}
