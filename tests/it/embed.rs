//! `examples/embed.rs`: the gateway as a library of another program.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::support::http::request;
use crate::support::{Client, eventually, ports};

/// The limit for a program that never becomes ready. It is long enough for a slow machine.
const START: Duration = Duration::from_secs(60);

/// A process that ends when this value is dropped.
struct Example(Child);

impl Drop for Example {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(port: u16) -> Example {
    let built = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--example", "embed"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .unwrap();
    assert!(built.success(), "the example does not compile");
    let folder = Path::new(env!("CARGO_BIN_EXE_portcullis"))
        .parent()
        .unwrap();
    let child = Command::new(folder.join("examples/embed"))
        .arg(port.to_string())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    Example(child)
}

#[test]
fn the_example_serves_its_application_through_the_gateway() {
    let port = ports::free();
    let _example = start(port);
    eventually("the gateway listens", START, || {
        Client::connect(port).is_ok()
    });
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", "/greeting", &[])).unwrap();
    let response = client.response("GET").unwrap();
    assert_eq!(response.status, 200);
    assert_eq!(response.text(), r#"{"greeting":"hello"}"#);
}
