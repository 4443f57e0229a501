//! What a client is told before the gateway ends its connection (RFC 9113 §6.8).

use std::io::{Read as _, Write as _};

use super::*;
use crate::support::http::request;

const WINDOW_UPDATE: u8 = 8;

/// The last stream of a first GOAWAY, which excludes none.
const ANY: u32 = 0x7fff_ffff;

/// The next frame that is neither SETTINGS nor WINDOW_UPDATE, or `None` at the end of the connection.
fn told(connection: &mut Connection) -> Option<(u8, Vec<u8>)> {
    loop {
        match connection.next() {
            Ok((SETTINGS | WINDOW_UPDATE, ..)) => {}
            Ok((kind, _, _, payload)) => return Some((kind, payload)),
            Err(error) => {
                let ended = error.kind() != io::ErrorKind::WouldBlock;
                assert!(ended, "the connection stays open");
                return None;
            }
        }
    }
}

fn goaway(last: u32, code: u32) -> Option<(u8, Vec<u8>)> {
    let payload = [last.to_be_bytes(), code.to_be_bytes()].concat();
    Some((GOAWAY, payload))
}

fn start_with_short_idle_timeout() -> (Stub, Gateway) {
    let stub = stub();
    let mut file = file(&stub);
    file["use_h2c"] = json!(true);
    file["idle_timeout"] = json!("1s");
    let gateway = Gateway::start(&file.to_string());
    (stub, gateway)
}

#[test]
fn an_idle_client_is_told_that_its_connection_ends() {
    let (_stub, gateway) = start_with_short_idle_timeout();
    // It responds to nothing.
    let mut silent = Connection::open(&gateway);
    assert_eq!(told(&mut silent), goaway(ANY, 0));
    assert_eq!(told(&mut silent).map(|(kind, _)| kind), Some(PING));
    assert_eq!(told(&mut silent), goaway(0, 0));
    assert_eq!(told(&mut silent), None);
}

#[test]
fn a_request_that_crosses_the_end_of_an_idle_connection_is_served() {
    let (_stub, gateway) = start_with_short_idle_timeout();
    let mut client = Connection::open(&gateway);
    assert_eq!(told(&mut client), goaway(ANY, 0));
    let Some((PING, ping)) = told(&mut client) else {
        panic!("no PING");
    };
    let head = END_STREAM | END_HEADERS;
    client.send(HEADERS, head, 1, &block(&GET)).unwrap();
    client.send(PING, ACK, 0, &ping).unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = told(&mut client) {
        frames.push(frame);
    }
    let status = frames.iter().find(|(kind, _)| *kind == HEADERS);
    assert!(
        status.is_some_and(|(_, head)| head.contains(&0x88)),
        "{frames:?}"
    );
    assert!(frames.contains(&goaway(1, 0).unwrap()), "{frames:?}");
}

#[test]
fn a_client_whose_place_is_needed_is_told_so() {
    let stub = stub();
    let mut file = file(&stub);
    file["use_h2c"] = json!(true);
    let gateway = Gateway::start_under("ulimit -n 256; exec \"$@\"", &file.to_string());
    let clients: Vec<_> = (0..300)
        .map(|_| {
            let mut client = std::net::TcpStream::connect(("127.0.0.1", gateway.port())).unwrap();
            let hello = [PREFACE, &frame(SETTINGS, 0, 0, &[])].concat();
            client.write_all(&hello).unwrap();
            client
        })
        .collect();
    for _ in 0..5 {
        let mut client = gateway.client().timeout(Duration::from_secs(20));
        client.send(request("GET", "/get", &[])).unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    let goodbye = frame(GOAWAY, 0, 0, &[0; 8]);
    let is_told = |mut client: &std::net::TcpStream| {
        let mut all = Vec::new();
        let short = Duration::from_millis(10);
        client.set_read_timeout(Some(short)).unwrap();
        let has_ended = client.read_to_end(&mut all).is_ok();
        has_ended && all.ends_with(&goodbye)
    };
    assert!(clients.iter().any(is_told));
}
