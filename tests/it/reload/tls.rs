//! What a stop does with clients that use TLS.

use std::io::Write as _;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{RESPONSES, config, stop_and_wait};
use crate::support::tls::{Authority, Speaker};
use crate::support::{Gateway, Stub, pause};

/// A gateway that accepts only TLS.
fn with_tls(stub: &Stub) -> (Gateway, Authority) {
    let authority = Authority::new();
    let (certificate, key) = authority.pair("a.test");
    let mut file = config(&stub.url(), &[]);
    file["tls"] = json!({ "keys": [{ "public_key": "a.crt", "private_key": "a.key" }] });
    let files = [("a.crt", certificate.as_str()), ("a.key", key.as_str())];
    (Gateway::start_with(&file.to_string(), &files), authority)
}

#[test]
fn a_stop_waits_two_seconds_for_a_silent_client_with_tls() {
    let stub = Stub::with(RESPONSES);
    let (gateway, authority) = with_tls(&stub);
    let _silent = gateway.client();
    // Connections are accepted in the order in which they come.
    let mut other = Speaker::default()
        .connect(gateway.port(), "a.test", &authority)
        .unwrap();
    assert!(other.get("/a").unwrap().starts_with("HTTP/1.1 200 "));
    let began = Instant::now();
    gateway.signal("TERM");
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success(), "{ended}");
    // Not as long as a handshake may take.
    assert!(began.elapsed() < Duration::from_secs(8));
}

#[test]
fn a_stop_waits_for_the_first_request_of_a_slow_client_with_tls() {
    let stub = Stub::with(RESPONSES);
    let (gateway, authority) = with_tls(&stub);
    let speaker = Speaker::default();
    let mut client = speaker.begin(gateway.port(), "a.test", &authority).unwrap();
    let mut hello = Vec::new();
    client.0.conn.write_tls(&mut hello).unwrap();
    let (half, rest) = hello.split_at(20);
    client.0.sock.write_all(half).unwrap();
    let mut other = speaker
        .connect(gateway.port(), "a.test", &authority)
        .unwrap();
    assert!(other.get("/a").unwrap().starts_with("HTTP/1.1 200 "));
    stop_and_wait(&gateway);
    client.0.sock.write_all(rest).unwrap();
    client.shake_hands().unwrap();
    let began = Instant::now();
    // Longer than it waits for idle clients.
    pause(Duration::from_millis(600));
    let response = client.get("/a");
    if began.elapsed() > Duration::from_millis(1500) {
        eprintln!("not tested: this machine is too slow to be in time");
        return;
    }
    let response = response.unwrap();
    assert!(response.starts_with("HTTP/1.1 200 "), "{response}");
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success(), "{ended}");
}
