//! Upgrades that cannot succeed: how soon and how the log says why.

use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{OK, config};
use crate::support::{Gateway, Stub, ports};

/// Less than the time that the old process waits for one that does not say anything.
const SOON: Duration = Duration::from_secs(20);

/// The log lines of an upgrade to this file, which fails.
fn failed(gateway: &Gateway, file: &str) -> Vec<String> {
    std::fs::write(gateway.config_path(), file).unwrap();
    let (mark, began) = (gateway.mark(), Instant::now());
    gateway.signal("USR2");
    let failed = || gateway.output_since(mark).contains("Upgrade failed");
    crate::support::eventually("the upgrade fails", Duration::from_secs(60), failed);
    assert!(began.elapsed() < SOON, "{}", gateway.output());
    assert_eq!(gateway.get("/a").status, 200);
    let lines = gateway.output_since(mark);
    let lines = lines.lines().filter(|line| !line.starts_with("[GIN]"));
    lines.map(str::to_owned).collect()
}

#[test]
fn an_upgrade_to_another_address_fails_at_once_and_names_both() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url(), &[]);
    let (port, other) = (ports::free(), ports::free());
    file["port"] = json!(port);
    let old = Gateway::spawn(port, &file.to_string(), &[], &[]);
    assert!(old.listens(SOON), "{}", old.output());
    old.tells("Listening on port");
    let listens = format!("the running process listens at [::]:{port}, and the file asks for");
    file["port"] = json!(other);
    let lines = failed(&old, &file.to_string());
    let words = format!("{listens} [::]:{other}: an upgrade cannot change `port`");
    let told = lines.iter().filter(|line| line.contains(&words)).count();
    assert_eq!(told, 1, "{lines:#?}");
    assert!(lines.iter().all(|line| !line.contains("Listening")));
    assert!(TcpStream::connect(("127.0.0.1", other)).is_err());
    file["port"] = json!(port);
    file["listen_ip"] = json!("127.0.0.1");
    let lines = failed(&old, &file.to_string());
    let words = format!("{listens} 127.0.0.1:{port}: ");
    assert!(lines.iter().any(|line| line.contains(&words)), "{lines:#?}");
}

#[test]
fn a_failed_upgrade_is_logged_in_the_format_of_the_old_process() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url(), &[]);
    file["extra_config"] = json!({
        "telemetry/logging": { "level": "INFO", "stdout": true, "format": "logstash" }
    });
    let old = Gateway::start(&file.to_string());
    old.tells("Listening on port");
    let mut invalid = file.clone();
    invalid["endpoints"][0]["timeout"] = json!("soon");
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    file["extra_config"]["portcullis/metrics"] =
        json!({ "listen": taken.local_addr().unwrap().to_string() });
    let cases = [
        ("{ \"version\": 3,,".to_owned(), "krakend.json:1:"),
        (invalid.to_string(), "timeout"),
        (
            file.to_string(),
            "(the address of \\\"portcullis/metrics\\\")",
        ),
    ];
    for (file, words) in cases {
        let lines = failed(&old, &file);
        let plain = |line: &&String| serde_json::from_str::<Value>(line).is_err();
        assert_eq!(lines.iter().find(plain), None, "{lines:#?}");
        let told = |line: &&String| line.contains("\"ERROR\"");
        let told: Vec<_> = lines.iter().filter(told).collect();
        assert_eq!(told.len(), 1, "{lines:#?}");
        assert!(told[0].contains(words), "{told:?}");
    }
}
