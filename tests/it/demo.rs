//! `demo` does what it prints: each of its commands, pasted into a shell, gets the response printed above it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::gateway::command;
use crate::support::ports;

/// The limit for a demo that never becomes ready. It is long enough for a slow machine.
const START: Duration = Duration::from_secs(60);

/// A demo process that ends when this value is dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Starts the demo and returns the commands that it prints once it is ready, and the address of its page.
fn start(port: u16) -> (Demo, Vec<String>, String) {
    let mut child = command()
        .args(["demo", "-p", &port.to_string()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let demo = Demo(child);
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
        if line.trim_start().starts_with("curl ") {
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

#[test]
#[ignore = "needs curl: scripts/test runs it"]
fn its_commands_work_as_pasted() {
    let port = ports::free();
    let (_demo, commands, page) = start(port);
    assert_eq!(commands.len(), 4, "{commands:?}");
    for line in &commands {
        assert!(line.contains(&format!("127.0.0.1:{port}/")), "{line}");
    }
    let (head, body) = pasted(&commands[0]);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains(r#""status":"ok""#), "{body}");

    let (head, body) = pasted(&commands[1]);
    assert!(head.starts_with("http/1.1 401"), "{head}");
    assert!(
        head.lines().any(|line| line == "content-length: 0"),
        "{head}"
    );
    assert_eq!(body, "");

    let (head, body) = pasted(&commands[2]);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains(r#""status":"ok""#), "{body}");

    let (head, body) = pasted(&commands[3]);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert!(body.contains("item") && body.contains("price"), "{body}");

    let (_, body) = pasted(&format!("curl -i {page}"));
    assert!(body.contains("GET /sample/{id}"), "{body}");
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
