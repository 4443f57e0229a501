//! Revoked tokens stay revoked through upgrades, whatever changes in the file and whenever they are revoked.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

use super::Successor;
use super::fetched::upgrade;
use crate::support::http::{Response, request};
use crate::support::{Client, Gateway, Signer, Stub, eventually, pause, ports, tokens};

const LIMIT: Duration = Duration::from_secs(30);

/// A service with a list of revoked tokens.
fn service(backend: &str, port: u16, elements: u64, ttl: u64) -> String {
    let file = json!({
        "version": 3, "host": [backend],
        "extra_config": { "auth/revoker": {
            "N": elements, "P": 0.000_001, "hash_name": "optimal", "TTL": ttl, "token_keys": ["jti"],
            "http_listen": format!("127.0.0.1:{port}"), "secret": "a secret of many letters",
        } },
        "endpoints": [{ "endpoint": "/x", "backend": [{ "url_pattern": "/b" }],
            "extra_config": { "auth/validator": { "alg": "ES256", "jwk_local_path": "keys.json" } } }],
    });
    file.to_string()
}

/// Sends a request to the interface of the list.
fn post(port: u16, path: &str, body: &Value) -> io::Result<Response> {
    let body = body.to_string();
    let length = body.len().to_string();
    let headers = [
        ("Authorization", "Bearer a secret of many letters"),
        ("Content-Length", length.as_str()),
    ];
    let mut client = Client::connect(port)?;
    client.send(request("POST", path, &headers) + &body)?;
    client.response("POST")
}

#[test]
fn revoked_tokens_stay_revoked_when_the_list_changes() {
    let signer = Signer::es256("k");
    let backend =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let (url, port) = (backend.url(), ports::free());
    let files = [("keys.json", signer.jwks())];
    let files = files.each_ref().map(|(name, text)| (*name, text.as_str()));
    let old = Gateway::start_with(&service(&url, port, 1000, 600), &files);
    let statuses = || {
        ["J1", "J2", "J3"].map(|id| {
            let mut claims = tokens::claims("api");
            claims["jti"] = json!(id);
            let token = format!("Bearer {}", signer.token(&claims));
            old.get_with("/x", &[("Authorization", &token)]).status
        })
    };
    let kept = "stays revoked until its";
    crate::cluster::revoke(port, "J1");
    fs::write(old.config_path(), service(&url, port, 5000, 600)).unwrap();
    old.signal("HUP");
    old.tells(kept);
    old.tells("Configuration reloaded");
    assert_eq!(statuses(), [401, 200, 200]);
    crate::cluster::revoke(port, "J2");
    fs::write(old.config_path(), service(&url, port, 5000, 300)).unwrap();
    let new = upgrade(&old);
    assert_eq!(statuses(), [401, 401, 200]);
    let log = Successor::log(&old);
    assert!(log.contains(kept) && !log.contains("valid again"), "{log}");
    drop(new);
}

#[test]
fn revocations_that_are_answered_during_an_upgrade_are_kept() {
    let signer = Signer::es256("k");
    let port = ports::free();
    // So many that the copy of the list takes a while.
    let file = service("http://127.0.0.1:1", port, 100_000, 600);
    let old = Gateway::start_with(&file, &[("keys.json", &signer.jwks())]);
    let (stop, count) = (AtomicBool::new(false), AtomicUsize::new(0));
    let answered_more = |what: &str| {
        let before = count.load(Ordering::SeqCst);
        eventually(what, LIMIT, || count.load(Ordering::SeqCst) > before + 100);
    };
    let revoke = &|worker: usize| {
        let mut answered = Vec::new();
        for number in 0_usize.. {
            if stop.load(Ordering::SeqCst) {
                break;
            }
            let element = format!("jti-{worker}-{number}");
            // Between both processes nobody listens. What is not answered may be lost.
            match post(port, "/revoke", &json!({ "elems": [&element] })) {
                Ok(response) if response.status == 200 => {
                    count.fetch_add(1, Ordering::SeqCst);
                    answered.push(element);
                }
                _ => pause(Duration::from_millis(1)),
            }
        }
        answered
    };
    let (answered, new) = thread::scope(|scope| {
        let workers = [0, 1, 2, 3].map(|worker| scope.spawn(move || revoke(worker)));
        answered_more("the old process revokes");
        let new = upgrade(&old);
        answered_more("the new process revokes");
        stop.store(true, Ordering::SeqCst);
        (workers.map(|worker| worker.join().unwrap()).concat(), new)
    });
    for elements in answered.chunks(500) {
        let response = post(port, "/check", &json!({ "elems": elements })).unwrap();
        let checks = response.json()["checks"].as_array().unwrap().clone();
        let checks = elements.iter().zip(&checks);
        let lost: Vec<_> = checks.filter(|(_, check)| **check != json!(true)).collect();
        let log = Successor::log(&old);
        assert!(
            lost.is_empty(),
            "of {}: {lost:?}: {}: {log}",
            answered.len(),
            old.output()
        );
    }
    drop(new);
}

/// A captured message of a client of KrakenD that revokes `jti-J1`.
const ADD: &[u8] = b"\x2e\x7f\x03\x01\x01\x07Request\x01\xff\x80\0\x01\x02\x01\x0dServiceMethod\x01\x0c\0\x01\x03Seq\x01\x06\0\0\0\x17\xff\x80\x01\x12BloomfilterRPC.Add\0\x21\xff\x81\x03\x01\x01\x08AddInput\x01\xff\x82\0\x01\x01\x01\x05Elems\x01\xff\x84\0\0\0\x17\xff\x83\x02\x01\x01\x09[][]uint8\x01\xff\x84\0\x01\x0a\0\0\x0c\xff\x82\x01\x01\x06jti-J1\0";
/// The end of the response, with the count 1.
const ADDED: &[u8] = b"\xff\x82\x01\x02\0";

/// Revokes `jti-J1` over the RPC port.
fn add(port: u16) -> io::Result<()> {
    let mut client = TcpStream::connect(("127.0.0.1", port))?;
    client.set_read_timeout(Some(LIMIT))?;
    client.write_all(ADD)?;
    let (mut response, mut more) = (Vec::new(), [0; 256]);
    while !response.ends_with(ADDED) {
        match client.read(&mut more)? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            length => response.extend_from_slice(&more[..length]),
        }
    }
    Ok(())
}

#[test]
fn an_upgrade_passes_the_rpc_port_on() {
    let signer = Signer::es256("k");
    let backend =
        Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#);
    let (http, rpc) = (ports::free(), ports::free());
    let mut file: Value = service(&backend.url(), http, 1000, 600).parse().unwrap();
    file["extra_config"]["auth/revoker"]["port"] = json!(rpc);
    let keys = signer.jwks();
    let old = Gateway::start_with(&file.to_string(), &[("keys.json", &keys)]);
    let statuses = || {
        ["J0", "J1", "J2"].map(|id| {
            let mut claims = tokens::claims("api");
            claims["jti"] = json!(id);
            let token = format!("Bearer {}", signer.token(&claims));
            old.get_with("/x", &[("Authorization", &token)]).status
        })
    };
    crate::cluster::revoke(http, "J0");
    let stop = AtomicBool::new(false);
    let (refused, new) = thread::scope(|scope| {
        let connecting = scope.spawn(|| {
            let mut refused = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                refused.extend(TcpStream::connect(("127.0.0.1", rpc)).err());
                pause(Duration::from_millis(1));
            }
            refused
        });
        let new = upgrade(&old);
        stop.store(true, Ordering::SeqCst);
        (connecting.join().unwrap(), new)
    });
    assert!(refused.is_empty(), "{refused:?}");
    assert_eq!(statuses(), [401, 200, 200]);
    add(rpc).unwrap();
    assert_eq!(statuses(), [401, 401, 200]);
    crate::cluster::revoke(http, "J2");
    assert_eq!(statuses(), [401, 401, 401]);
    let log = Successor::log(&old);
    assert!(!log.contains("in use"), "{log}");
    drop(new);
}

#[test]
fn a_reload_or_an_upgrade_with_an_rpc_port_in_use_changes_nothing() {
    let signer = Signer::es256("k");
    let (http, rpc) = (ports::free(), ports::free());
    let mut file: Value = service("http://127.0.0.1:1", http, 1000, 600)
        .parse()
        .unwrap();
    file["extra_config"]["auth/revoker"]["port"] = json!(rpc);
    let old = Gateway::start_with(&file.to_string(), &[("keys.json", &signer.jwks())]);
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let other = taken.local_addr().unwrap().port();
    file["extra_config"]["auth/revoker"]["port"] = json!(other);
    file["extra_config"]["auth/revoker"]["secret"] = json!("another secret of many letters");
    fs::write(old.config_path(), file.to_string()).unwrap();
    old.signal("HUP");
    old.tells(&format!("auth/revoker: 127.0.0.1:{other}: "));
    // The old secret is still the right one.
    crate::cluster::revoke(http, "J0");
    old.signal("USR2");
    old.tells("Upgrade failed");
    // The new process was not killed before it could say why.
    let why = format!("listen tcp 127.0.0.1:{other}");
    assert!(old.output().contains(&why), "{}", old.output());
    crate::cluster::revoke(http, "J1");
    add(rpc).unwrap();
    drop(taken);
    old.signal("HUP");
    old.tells("Configuration reloaded");
    eventually("the old port is closed", LIMIT, || {
        TcpStream::connect(("127.0.0.1", rpc)).is_err()
    });
    add(other).unwrap();
}
