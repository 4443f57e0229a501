//! A wire to RabbitMQ that sends garbage between good frames.

use std::collections::BTreeSet;
use std::io::{self, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

use serde_json::json;

use super::agents::{agent, file};
use super::rabbit::{LIMIT, post, producer};
use crate::support::rabbit::Rabbit;
use crate::support::{Gateway, Stub, eventually};

/// What ends a connection: another protocol, a frame that is too large, one without its end, an unexpected method, a body
/// without a message, and nothing.
const GARBAGE: [&[u8]; 6] = [
    b"HTTP/1.1 400 Bad Request\r\n\r\n",
    b"\x01\x00\x01\xff\xff\xff\xff",
    b"\x01\x00\x01\x00\x00\x00\x01xx",
    b"\x01\x00\x01\x00\x00\x00\x04\x00\x63\x00\x63\xce",
    b"\x03\x00\x01\x00\x00\x00\x01x\xce",
    b"",
];
/// The number of connections that end in this way. Those after them are good.
const BAD: usize = 12;

/// The port of a wire to the broker, and the number of its connections so far.
fn wire(broker: u16) -> (u16, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let count = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&count);
    thread::spawn(move || {
        for near in listener.incoming() {
            let far = TcpStream::connect(("127.0.0.1", broker));
            let (Ok(near), Ok(far)) = (near, far) else {
                return;
            };
            let number = counted.fetch_add(1, Ordering::SeqCst);
            let (mut from, mut to) = (near.try_clone().unwrap(), far.try_clone().unwrap());
            thread::spawn(move || {
                let _ = io::copy(&mut from, &mut to);
                let _ = to.shutdown(Shutdown::Both);
            });
            thread::spawn(move || downwards(far, near, (number < BAD).then_some(number)));
        }
    });
    (port, count)
}

/// Passes on what the broker says, for a bad connection only the first bytes of it.
fn downwards(mut from: TcpStream, mut to: TcpStream, bad: Option<usize>) {
    let mut buffer = [0; 4096];
    // More than the greeting, and so in the middle of deliveries and confirmations.
    let mut left = bad.map_or(usize::MAX, |number| 1500 + 300 * number);
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        if count > left || to.write_all(&buffer[..count]).is_err() {
            break;
        }
        left -= count;
    }
    if let Some(number) = bad {
        let _ = to.write_all(GARBAGE[number % GARBAGE.len()]);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

#[test]
#[ignore = "needs rabbitmq-server"]
fn garbage_between_good_frames_loses_no_confirmed_message() {
    let Some(rabbit) = Rabbit::start() else {
        return;
    };
    let (port, connections) = wire(rabbit.port());
    let url = format!("amqp://guest:guest@127.0.0.1:{port}?heartbeat=60");
    let stub = Stub::with(&json!([{ "body": {} }]).to_string());
    let mut agent = agent("wire", &url, &stub, json!({}));
    agent["consumer"]["workers"] = json!(4);
    let block = json!({ "exchange": "ex", "routing_key": "wire.x", "static_routing_key": true, "mandatory": true });
    let other =
        json!({ "endpoint": "/other", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] });
    let endpoints = [producer("/send", &url, block), other];
    let gateway = Gateway::start_in(&[], &file(&[agent], &endpoints, json!({})).to_string());
    let (mut confirmed, mut called) = (BTreeSet::new(), BTreeSet::new());
    let collect = |called: &mut BTreeSet<Vec<u8>>| {
        let seen = stub.take_seen().into_iter();
        called.extend(
            seen.filter(|call| call.path == "/wire")
                .map(|call| call.body),
        );
    };
    let end = Instant::now() + LIMIT;
    let mut id = 0;
    while connections.load(Ordering::SeqCst) < BAD + 2 || confirmed.len() < 200 {
        assert!(Instant::now() < end, "{}", gateway.output());
        id += 1;
        let body = format!("{{\"id\":{id}}}");
        if post(&gateway, "/send", &[], &body).status == 200 {
            confirmed.insert(body.into_bytes());
        }
        collect(&mut called);
        assert_eq!(gateway.get("/other").status, 200);
    }
    eventually("all are processed", LIMIT, || {
        collect(&mut called);
        confirmed.is_subset(&called)
    });
    let client = rabbit.client();
    eventually("all are confirmed", LIMIT, || client.ready("wire") == 0);
    let log = gateway.output();
    assert!(!log.contains("guest") && !log.contains("panicked"), "{log}");
}
