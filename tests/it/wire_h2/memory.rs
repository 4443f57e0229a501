//! What many clients can make the gateway hold.

use super::*;
use crate::support::http::request;
use crate::support::{eventually, ports};

const LIMIT: Duration = Duration::from_secs(30);

/// A gateway whose backend does not respond for a while, and the port of its metrics.
fn slow(buffered: &str) -> (Upstream, Gateway, u16) {
    let backend = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let metrics = ports::free();
    let endpoint = |path: &str, method: &str, encoding: &str| {
        json!({ "endpoint": path, "method": method, "output_encoding": encoding, "timeout": "120s",
            "input_headers": ["*"],
            "backend": [{ "host": [backend.url()], "url_pattern": "/", "encoding": encoding }] })
    };
    let file = json!({ "version": 3, "use_h2c": true,
        "extra_config": {
            "portcullis/limits": { "buffered": buffered },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") }
        },
        "endpoints": [endpoint("/get", "GET", "json"), endpoint("/post", "POST", "no-op")] });
    (backend, Gateway::start(&file.to_string()), metrics)
}

fn held(metrics: u16) -> u64 {
    let mut client = Client::connect(metrics).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let value = page
        .lines()
        .find_map(|line| line.strip_prefix("portcullis_buffered_bytes "));
    value.unwrap().parse().unwrap()
}

#[test]
fn unfinished_header_blocks_share_the_budget() {
    let (_backend, gateway, metrics) = slow("200KiB");
    let open = || {
        let mut connection = Connection::open(&gateway);
        let _ = connection.send(HEADERS, END_STREAM, 1, &block(&GET));
        connection
    };
    let first = open();
    eventually("the first is held", LIMIT, || held(metrics) > 64 * 1024);
    let mut second = open();
    assert!(floods::ends(&mut second), "the second is not closed");
    drop(first);
    eventually("it is given back", LIMIT, || held(metrics) == 0);
}

/// A header in the table of the connection, and a head of fifteen times that header: 60 KB of few bytes.
#[test]
fn heads_that_grow_when_they_are_decoded_share_the_budget() {
    let (_backend, gateway, metrics) = slow("400KiB");
    let mut connection = Connection::open(&gateway);
    let value = "v".repeat(3900);
    // RFC 7541 §5.1 and §6.2.1: a literal with incremental indexing, its length with a prefix of seven bits.
    let mut stored = vec![0x40, 1, b'x', 127];
    let mut length = value.len() - 127;
    while length >= 128 {
        stored.push((length % 128) as u8 | 128);
        length /= 128;
    }
    stored.push(length as u8);
    stored.extend(value.as_bytes());
    let many = [block(&GET), vec![0x80 | 62; 14]].concat();
    let flags = END_HEADERS | END_STREAM;
    let first = [block(&GET), stored, vec![0x80 | 62; 14]].concat();
    connection.send(HEADERS, flags, 1, &first).unwrap();
    eventually("the first is held", LIMIT, || held(metrics) > 100_000);
    connection.send(HEADERS, flags, 3, &many).unwrap();
    eventually("the second is held", LIMIT, || held(metrics) > 200_000);
    connection.send(HEADERS, flags, 5, &many).unwrap();
    assert_eq!(connection.outcome(5), Outcome::OtherStatus);
    drop(connection);
    eventually("they are given back", LIMIT, || held(metrics) == 0);
}

/// The backend does not read, so the bodies of both connections wait.
#[test]
fn unread_bodies_share_the_budget() {
    let (_backend, gateway, metrics) = slow("190KiB");
    let open = || {
        let mut connection = Connection::open(&gateway);
        let _ = connection.send(HEADERS, END_HEADERS, 1, &block(&POST));
        for _ in 0..4 {
            let _ = connection.send(DATA, 0, 1, &[0; 16_000]);
        }
        connection
    };
    let first = open();
    eventually("the first is held", LIMIT, || held(metrics) > 90_000);
    let mut second = open();
    assert!(floods::ends(&mut second), "the second is not closed");
    drop(first);
    eventually("it is given back", LIMIT, || held(metrics) == 0);
}
