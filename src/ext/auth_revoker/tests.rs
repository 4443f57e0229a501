use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::gob::{Decoder, Value, write_run};
use super::revocation_list::{RevocationAccess, RevocationList, TokenRevocation};
use super::rpc_server::serve;
use super::session::Session;
use super::{Api, SERVICE};
use crate::ext::identity::{Revocation, Revoker};
use crate::ext::testing::File;
use crate::jose::Claims;
use crate::jose::bloom::{BloomHash, BloomShape};
use crate::runtime::clock::Clock;
use crate::runtime::own_listener::OwnListener;

mod changes;
mod no_list;

const SECRET: &str = "a secret of some length";

/// Captured messages of a Go client and of KrakenD: add `jti-J1`, check it, check `jti-J2`, add `num-5`.
const ADD: &str = "2e7f030101075265717565737401ff80000102010d536572766963654d6574686f64010c000103536571010600000017ff800112426c6f6f6d66696c7465725250432e4164640021ff8103010108416464496e70757401ff820001010105456c656d7301ff8400000017ff83020101095b5d5b5d75696e743801ff8400010a00000cff820101066a74692d4a3100";
const ADDED: &str = "397f03010108526573706f6e736501ff80000103010d536572766963654d6574686f64010c00010353657101060001054572726f72010c00000017ff800112426c6f6f6d66696c7465725250432e4164640021ff81030101094164644f757470757401ff820001010105436f756e74010400000005ff82010200";
const CHECK: &str = "1bff800114426c6f6f6d66696c7465725250432e436865636b01010023ff850301010a436865636b496e70757401ff860001010105456c656d7301ff840000000cff860101066a74692d4a3100";
const CHECKED: &str = "1bff800114426c6f6f6d66696c7465725250432e436865636b01010025ff830301010b436865636b4f757470757401ff840001010106436865636b7301ff8600000014ff85020101065b5d626f6f6c01ff86000102000006ff8401010100";
const CHECK_OTHER: &str =
    "1bff800114426c6f6f6d66696c7465725250432e436865636b0102000cff860101066a74692d4a3200";
const CHECKED_OTHER: &str =
    "1bff800114426c6f6f6d66696c7465725250432e436865636b01020006ff8401010000";
const ADD_MORE: &str =
    "19ff800112426c6f6f6d66696c7465725250432e4164640103000bff820101056e756d2d3500";
const ADDED_MORE: &str = "19ff800112426c6f6f6d66696c7465725250432e41646401030005ff82010200";

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2)
        .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap())
        .collect()
}

/// Splits a stream into its messages, which are all shorter than 128 bytes here.
fn messages(mut stream: &[u8]) -> Vec<&[u8]> {
    let mut messages = Vec::new();
    while let Some((length, rest)) = stream.split_first() {
        let (message, rest) = rest.split_at(usize::from(*length));
        messages.push(message);
        stream = rest;
    }
    messages
}

fn values(decoder: &mut Decoder, stream: &[u8]) -> Vec<Value> {
    messages(stream)
        .into_iter()
        .filter_map(|message| decoder.message(message).unwrap())
        .collect()
}

fn list(elements: u64, access: &Arc<RevocationAccess>) -> Arc<RevocationList> {
    let shape = BloomShape::new(elements, 1e-4, BloomHash::Optimal).unwrap();
    let period = Duration::from_secs(60);
    let list = RevocationList::new(&format!("{elements}"), (shape, elements), period, access);
    Arc::new(list.unwrap())
}

fn revocations() -> (Arc<RevocationAccess>, Arc<RevocationList>) {
    let access = RevocationAccess::new(Clock::manual(), Box::new(|_| Ok(())));
    let revocations = Arc::new(access);
    let list = list(1000, &revocations);
    revocations.open(&list, SECRET, None).unwrap();
    (revocations, list)
}

fn claims(text: &str) -> Claims {
    Claims::parse(text.as_bytes()).unwrap()
}

#[test]
fn the_captured_session_has_the_same_result() {
    let (revocations, _list) = revocations();
    let mut session = Session::default();
    let (mut ours, mut theirs) = (Decoder::default(), Decoder::default());
    for (sent, expected) in [
        (ADD, ADDED),
        (CHECK, CHECKED),
        (CHECK_OTHER, CHECKED_OTHER),
        (ADD_MORE, ADDED_MORE),
    ] {
        let mut response = Vec::new();
        for message in messages(&bytes(sent)) {
            session
                .message(message, &revocations, &mut response)
                .unwrap();
        }
        assert_eq!(
            values(&mut ours, &response),
            values(&mut theirs, &bytes(expected))
        );
    }
    assert!(revocations.contains(b"num-5"));
}

#[test]
fn an_unsupported_call_is_an_error_and_the_session_continues() {
    let (revocations, _list) = revocations();
    let mut session = Session::default();
    let mut decoder = Decoder::default();
    // The name of another method with the same length.
    let mut union = bytes(ADD);
    let at = union
        .windows(3)
        .position(|window| window == b"Add")
        .unwrap();
    union[at..at + 3].copy_from_slice(b"Sub");
    let mut response = Vec::new();
    for message in messages(&union) {
        session
            .message(message, &revocations, &mut response)
            .unwrap();
    }
    let values = values(&mut decoder, &response);
    assert_eq!(
        values[0].field("Error"),
        Some(&Value::Bytes(b"rpc: can't find method".to_vec()))
    );
    assert_eq!(values.len(), 2, "a client reads a body, too");
    assert!(!revocations.contains(b"jti-J1"));
    for message in messages(&bytes(CHECK)) {
        session
            .message(message, &revocations, &mut response)
            .unwrap();
    }
}

#[test]
fn only_listed_claims_that_are_strings_are_looked_up() {
    let (revocations, list) = revocations();
    let revocation = TokenRevocation::new(list, &["jti".to_owned(), "num".to_owned()], false, None);
    revocations.add(b"jti-J1").unwrap();
    revocations.add(b"num-5").unwrap();
    revocations.add(b"sub-me").unwrap();
    assert!(revocation.is_revoked(&claims(r#"{"jti": "J1"}"#)));
    for good in [
        r#"{"jti": "J2"}"#,
        r#"{"num": 5}"#,
        r#"{"sub": "me"}"#,
        "{}",
    ] {
        assert!(!revocation.is_revoked(&claims(good)), "{good}");
    }
}

/// A served port, and the state that it needs.
fn served(
    guarded: bool,
) -> (
    OwnListener,
    Arc<RevocationAccess>,
    Arc<RevocationList>,
    std::net::SocketAddr,
) {
    let (revocations, list) = revocations();
    let socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    socket.set_nonblocking(true).unwrap();
    let address = socket.local_addr().unwrap();
    let port = OwnListener::new("auth/revoker", address);
    tokio::spawn(serve(port.turn(), Arc::clone(&revocations), guarded));
    port.open(socket);
    (port, revocations, list, address)
}

#[tokio::test]
async fn a_client_revokes_over_a_socket() {
    let (_port, revocations, _list, address) = served(false);
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&bytes(ADD)).await.unwrap();
    let mut response = vec![0; bytes(ADDED).len()];
    client.read_exact(&mut response).await.unwrap();
    assert!(revocations.contains(b"jti-J1"));
}

#[tokio::test]
async fn clients_without_the_secret_are_rejected() {
    let (_port, revocations, _list, address) = served(true);
    for line in [
        "",
        "AUTH \n",
        "AUTH wrong\n",
        "auth a secret of some length\n",
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(line.as_bytes()).await.unwrap();
        // The connection may be closed already.
        let _ = client.write_all(&bytes(ADD)).await;
        let _ = client.write_all(b"\n").await;
        let mut response = Vec::new();
        let _ = client.read_to_end(&mut response).await;
        assert!(
            response.is_empty() && !revocations.contains(b"jti-J1"),
            "{line:?}"
        );
    }
    let mut client = TcpStream::connect(address).await.unwrap();
    let line = format!("AUTH {SECRET}\n");
    client.write_all(line.as_bytes()).await.unwrap();
    client.write_all(&bytes(ADD)).await.unwrap();
    client.read_u8().await.unwrap();
    assert!(revocations.contains(b"jti-J1"));
}

#[tokio::test(start_paused = true)]
async fn a_client_that_sends_nothing_is_closed() {
    let (_port, _desk, _list, address) = served(false);
    let began = tokio::time::Instant::now();
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut response = Vec::new();
    let _ = silent.read_to_end(&mut response).await;
    assert!(began.elapsed() <= std::time::Duration::from_secs(31));
}

#[tokio::test]
async fn silent_clients_do_not_lock_out_others() {
    for guarded in [true, false] {
        let (_port, revocations, _list, address) = served(guarded);
        let line = if guarded {
            format!("AUTH {SECRET}\n")
        } else {
            String::new()
        };
        let mut settled = TcpStream::connect(address).await.unwrap();
        settled.write_all(line.as_bytes()).await.unwrap();
        settled.write_all(&bytes(ADD)).await.unwrap();
        settled.read_u8().await.unwrap();
        let mut silent = Vec::new();
        for _ in 0..100 {
            let mut client = TcpStream::connect(address).await.unwrap();
            if guarded {
                client.write_all(b"AUTH ").await.unwrap();
            }
            silent.push(client);
        }
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(line.as_bytes()).await.unwrap();
        client.write_all(&bytes(ADD)).await.unwrap();
        client.read_u8().await.unwrap();
        assert!(revocations.contains(b"jti-J1"), "{guarded}");
        settled.write_all(&bytes(CHECK)).await.unwrap();
        settled.read_u8().await.unwrap();
    }
}

#[tokio::test]
async fn invalid_data_only_closes_the_connection() {
    let (_port, _desk, _list, address) = served(false);
    for nonsense in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"\x80",
        b"\xf8\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\x01\x05",
    ] {
        let mut client = TcpStream::connect(address).await.unwrap();
        client.write_all(nonsense).await.unwrap();
        client.shutdown().await.unwrap();
        let mut response = Vec::new();
        let _ = client.read_to_end(&mut response).await;
        assert!(response.is_empty(), "{nonsense:?}");
    }
    let mut client = TcpStream::connect(address).await.unwrap();
    client.write_all(&bytes(ADD)).await.unwrap();
    client.read_u8().await.unwrap();
}

#[test]
fn the_http_calls_need_the_secret_and_a_body() {
    let (revocations, _list) = revocations();
    let api = Api {
        address: "127.0.0.1:1".parse().unwrap(),
        revocations: Arc::clone(&revocations),
        logout: None,
    };
    let good = HeaderValue::try_from(format!("Bearer {SECRET}")).unwrap();
    let wrong = HeaderValue::from_static("Bearer a secret of some lengtH");
    let call = |path, body: &str| {
        let (status, body) = api.response(&Method::POST, path, Some(&good), body.as_bytes());
        (status.as_u16(), String::from_utf8(body).unwrap())
    };
    let elems = r#"{"elems": ["jti-A", "jti-B"]}"#;
    assert_eq!(
        call("/check", elems),
        (200, r#"{"checks":[false,false]}"#.to_owned())
    );
    assert_eq!(call("/revoke", r#"{"key": "jti", "value": "B"}"#).0, 200);
    assert_eq!(
        call("/check", elems),
        (200, r#"{"checks":[false,true]}"#.to_owned())
    );
    assert_eq!(call("/revoke", elems), (200, r#"{"count":2}"#.to_owned()));
    for bad in [
        "",
        "{}",
        "[]",
        r#"{"key": "jti"}"#,
        r#"{"elems": [5]}"#,
        r#"{"elems": ["a"], "x": 1}"#,
    ] {
        assert_eq!(call("/revoke", bad).0, 400, "{bad}");
    }
    assert_eq!(call("/", elems).0, 404);
    assert_eq!(
        api.response(&Method::GET, "/check", Some(&good), b"").0,
        405
    );
    for stranger in [None, Some(&wrong)] {
        let response = api.response(&Method::POST, "/revoke", stranger, elems.as_bytes());
        assert_eq!(response.0, 401);
    }
}

const BLOCK: &str =
    r#"{"n": 1000, "P": 0.0001, "HASH_NAME": "optimal", "TTL": 60, "token_keys": ["jti"]}"#;

/// Opens the port as the gateway does.
fn opened(file: File) -> &'static crate::ext::ReloadState {
    let (carry, tasks) = file.work();
    for mut task in tasks {
        if let Some(open) = task.open.take() {
            open().unwrap();
        }
    }
    Box::leak(Box::new(carry))
}

#[test]
fn revoked_tokens_stay_revoked_after_a_reload() {
    let mut file = File::new(BLOCK);
    file.service(&SERVICE);
    assert_eq!(file.config_errors(), 0, "{}", file.findings());
    let before = file.fact::<Revoker>().unwrap();
    let carry = opened(file);
    let mut file = File::after(&BLOCK.replace("\"jti\"", "\"sub\", \"jti\""), carry);
    file.service(&SERVICE);
    let after = file.fact::<Revoker>().unwrap();
    let revocations = super::compile::revocations(file.compile());
    opened(file);
    revocations.add(b"jti-J1").unwrap();
    for revoker in [before, after] {
        assert!(revoker.0.is_revoked(&claims(r#"{"jti": "J1"}"#)));
    }
}

#[test]
fn ineffective_and_insecure_blocks_stop_the_start() {
    for (from, to) in [
        ("\"n\": 1000, ", ""),
        ("1000", "0"),
        ("1000", "\"many\""),
        ("0.0001", "1.5"),
        ("optimal", "best"),
        ("60", "0"),
        ("60", "-1"),
        ("{", "{\"port\": 70000, "),
        ("{", "{\"port\": 1234, \"listen\": \"here\", "),
        ("{", "{\"port\": 1234, \"listen\": \"0.0.0.0\", "),
        ("{", "{\"http_listen\": \"127.0.0.1:1\", "),
        (
            "{",
            "{\"http_listen\": \"8081\", \"secret\": \"0123456789abcdef\", ",
        ),
        ("{", "{\"secret\": \"short\", "),
    ] {
        let text = BLOCK.replacen(from, to, 1);
        let mut file = File::new(&text);
        file.service(&SERVICE);
        assert!(file.config_errors() > 0, "{text}");
        assert!(file.fact::<Revoker>().is_none());
    }
}

#[test]
fn lengths_of_long_messages_are_decoded() {
    // 200 elements, whose length needs more than one byte.
    let (revocations, _list) = revocations();
    let mut session = Session::default();
    let mut out = Vec::new();
    let add = bytes(ADD);
    let mut given = messages(&add);
    given.pop();
    for message in given {
        session.message(message, &revocations, &mut out).unwrap();
    }
    let mut body = vec![0xff, 0x82, 1, 0xff, 200];
    for number in 0..200 {
        write_run(&mut body, format!("jti-{number}").as_bytes());
    }
    body.push(0);
    session.message(&body, &revocations, &mut out).unwrap();
    assert!(revocations.contains(b"jti-0") && revocations.contains(b"jti-199"));
    let response = values(&mut Decoder::default(), &out);
    assert_eq!(response[1].field("Count"), Some(&Value::Int(200)));
}
