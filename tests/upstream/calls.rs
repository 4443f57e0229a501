//! Whole-body calls.

mod redirects;
mod retries;

use std::io::Write;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use http::Method;
use portcullis::internals::upstream::{CallErrorKind, CallOptions, HostSet, RequestBody, Settings};

use crate::stub::{OPTIONS, Reply, Stub, call, client, get, ok, response};

#[tokio::test]
async fn calls_share_a_connection_and_look_like_krakends() {
    let stub = Stub::saying("hello").await;
    let hosts = stub.hosts();
    for _ in 0..3 {
        let out = call(
            Method::GET,
            "/x?a=1",
            &[("x-foo", "1"), ("accept-encoding", "gzip")],
            "",
        );
        let incoming = hosts.call(out, &OPTIONS).await.unwrap();
        assert_eq!(
            (incoming.status.as_u16(), &*incoming.body),
            (200, &b"hello"[..])
        );
    }
    assert_eq!(stub.connections(), 1);
    let host = format!("Host: {}", stub.address);
    let lines: Vec<String> = stub.seen()[0].head.lines().map(str::to_owned).collect();
    assert_eq!(lines[..2], ["GET /x?a=1 HTTP/1.1".to_owned(), host]);
    assert!(stub.seen()[0].has("Accept-Encoding: gzip"), "{lines:?}");
}

#[tokio::test]
async fn hosts_are_called_in_turn_each_below_its_base() {
    let (a, b) = (Stub::saying("a").await, Stub::saying("b").await);
    let client = client(Settings::default());
    let hosts = HostSet::fixed(&client, &[a.url(), format!("{}/base", b.url())]);
    let mut bodies = Vec::new();
    for _ in 0..3 {
        bodies.push(hosts.call(get("/x"), &OPTIONS).await.unwrap().body);
    }
    assert_eq!(bodies, ["a", "b", "a"]);
    assert_eq!(a.seen()[0].path(), "/x");
    assert_eq!(b.seen()[0].path(), "/base/x");
}

#[tokio::test]
async fn without_keep_alive_each_call_has_its_connection() {
    let stub = Stub::saying("x").await;
    let settings = Settings {
        disable_keep_alives: true,
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[stub.url()]);
    for _ in 0..2 {
        hosts.call(get("/"), &OPTIONS).await.unwrap();
    }
    assert_eq!(stub.connections(), 2);
    assert!(stub.seen()[0].has("Connection: close"));
}

#[tokio::test]
async fn a_complete_body_is_sent_with_its_length_unless_the_file_asks_for_chunks() {
    let stub = Stub::saying("x").await;
    let hosts = stub.hosts();
    for out in [
        call(Method::POST, "/", &[], "abc"),
        call(Method::POST, "/", &[("content-length", "3")], "abc"),
        call(Method::POST, "/", &[], ""),
        call(
            Method::GET,
            "/",
            &[("content-length", "9"), ("transfer-encoding", "gzip")],
            "",
        ),
        call(
            Method::POST,
            "/",
            &[("transfer-encoding", "chunked")],
            "abc",
        ),
    ] {
        hosts.call(out, &OPTIONS).await.unwrap();
    }
    let seen = stub.seen();
    assert!(seen[0].has("Content-Length: 3") && seen[0].body == b"abc");
    assert!(seen[1].has("Content-Length: 3") && seen[1].body == b"abc");
    assert!(seen[2].has("Content-Length: 0"));
    assert!(!seen[3].head.contains("Content-Length") && !seen[3].head.contains("Transfer-"));
    assert!(seen[4].has("Transfer-Encoding: chunked") && seen[4].body == b"abc");
    assert_eq!(stub.connections(), 1);
}

async fn raw(bytes: &'static str) -> Result<Vec<u8>, (CallErrorKind, String)> {
    let stub = Stub::start(move |_| Reply::Close(bytes.into())).await;
    match stub.hosts().call(get("/"), &OPTIONS).await {
        Ok(incoming) => Ok(incoming.body.to_vec()),
        Err(error) => Err((error.kind, error.to_string())),
    }
}

#[tokio::test]
async fn a_transfer_cut_short_is_an_error() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ] {
        let error = raw(bytes).await.unwrap_err();
        assert_eq!(
            error,
            (CallErrorKind::Broken, "unexpected EOF".to_owned()),
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn ambiguous_framing_and_unasked_upgrades_are_errors() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: identity\r\n\r\nhello",
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello",
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        "HTTP/1.1 200 OK\r\nX: a\0b\r\n\r\n",
        "hello",
    ] {
        let error = raw(bytes).await.unwrap_err();
        assert_eq!(error.0, CallErrorKind::Broken, "{bytes:?}: {}", error.1);
    }
}

#[tokio::test]
async fn interim_responses_are_skipped_and_close_delimited_bodies_read() {
    let bytes = "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\n\r\nto the end";
    assert_eq!(raw(bytes).await.unwrap(), b"to the end");
}

#[tokio::test]
async fn bytes_after_the_end_close_the_connection_but_keep_the_response() {
    for bytes in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokHTTP/1.1 200 OK\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\nmore",
    ] {
        let stub = Stub::start(move |_| Reply::Keep(bytes.into())).await;
        let hosts = stub.hosts();
        for connection in 1..3 {
            let incoming = hosts.call(get("/"), &OPTIONS).await.unwrap();
            assert_eq!(&*incoming.body, b"ok");
            assert_eq!(stub.connections(), connection);
        }
    }
}

#[tokio::test]
async fn head_and_not_modified_have_no_body() {
    let stub = Stub::start(|seen| match seen.path() {
        "/304" => Reply::Keep(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 99\r\n\r\n".into()),
        _ => Reply::Keep(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n".into()),
    })
    .await;
    let hosts = stub.hosts();
    let head = hosts
        .call(call(Method::HEAD, "/", &[], ""), &OPTIONS)
        .await
        .unwrap();
    assert_eq!(head.headers["content-length"], "99999999");
    let fresh = hosts.call(get("/304"), &OPTIONS).await.unwrap();
    assert!(fresh.body.is_empty() && head.body.is_empty());
    assert_eq!(stub.connections(), 1);
}

#[tokio::test]
async fn an_early_response_is_used_although_the_body_was_not_read() {
    let stub = Stub::start(|_| Reply::Hang).await;
    drop(stub);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut some = [0; 1024];
        stream.read_exact(&mut some).await.unwrap();
        stream.write_all(&response(413, "", "no")).await.unwrap();
        // Half-closing keeps the answer readable while the rest of the body is refused.
        stream.shutdown().await.unwrap();
        tokio::io::copy(&mut stream, &mut tokio::io::sink())
            .await
            .unwrap_or_default();
    });
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    let out = call(Method::POST, "/", &[], &"x".repeat(1 << 20));
    let incoming = hosts.call(out, &OPTIONS).await.unwrap();
    assert_eq!(incoming.status.as_u16(), 413);
}

/// Answers with `answer` once it has a head, reads nothing more and keeps the connection open.
async fn deaf_to_bodies(response: Vec<u8>) -> String {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut some = [0; 64];
            stream.read_exact(&mut some).await.unwrap();
            tokio::time::sleep(Duration::from_millis(100)).await;
            stream.write_all(&response).await.unwrap();
            open.push(stream);
        }
    });
    url
}

#[tokio::test]
async fn an_early_rejection_arrives_although_the_body_is_not_read() {
    let url = deaf_to_bodies(response(413, "", "no")).await;
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    let limit = Duration::from_secs(20);
    let body = "x".repeat(32 << 20);
    for _ in 0..2 {
        let out = call(Method::POST, "/", &[], &body);
        let incoming = tokio::time::timeout(limit, hosts.call(out, &OPTIONS)).await;
        let incoming = incoming.expect("the answer is waited for in vain").unwrap();
        assert_eq!(incoming.status.as_u16(), 413);
    }
    let length = RequestBody::Length(32 << 20);
    for framing in [length, RequestBody::Chunked] {
        let head = call(Method::POST, "/", &[], "");
        let mut exchange = hosts.open(head.clone(), framing).await.unwrap();
        let upload = async {
            for _ in 0..512 {
                let piece = bytes::Bytes::from(vec![b'x'; 64 << 10]);
                if exchange.write_body(piece, false).await.is_err() {
                    break;
                }
            }
            exchange.read_header().await.unwrap().0
        };
        let status = tokio::time::timeout(limit, upload).await;
        assert_eq!(status.expect("the upload does not end"), 413, "{framing:?}");
    }
}

#[tokio::test]
async fn responses_are_bounded_whether_they_announce_their_length_or_not() {
    let stub = Stub::start(|seen| match seen.path() {
        "/announced" => Reply::Keep(ok(&"x".repeat(101))),
        "/fits" => Reply::Keep(ok(&"x".repeat(100))),
        _ => Reply::Close([b"HTTP/1.1 200 OK\r\n\r\n".as_slice(), &[b'x'; 300_000]].concat()),
    })
    .await;
    let hosts = stub.hosts();
    let options = CallOptions {
        max_body_bytes: 100,
        ..OPTIONS
    };
    for path in ["/announced", "/endless"] {
        let error = hosts.call(get(path), &options).await.unwrap_err();
        assert_eq!(error.kind, CallErrorKind::TooLarge, "{path}");
    }
    assert!(hosts.call(get("/fits"), &options).await.is_ok());
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[tokio::test]
async fn gzip_is_decoded_and_a_bomb_is_not() {
    let stub = Stub::start(|seen| {
        let packed = match seen.path() {
            "/bomb" => gzip(&vec![0; 8 << 20]),
            "/broken" => gzip(b"hello")[..12].to_vec(),
            _ => gzip(b"hello"),
        };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
            packed.len()
        );
        Reply::Keep([head.into_bytes(), packed].concat())
    })
    .await;
    let hosts = stub.hosts();
    let plain = hosts.call(get("/"), &OPTIONS).await.unwrap();
    assert_eq!(&*plain.body, b"hello");
    assert!(!plain.headers.contains_key("content-encoding"));
    let bomb = hosts.call(get("/bomb"), &OPTIONS).await.unwrap_err();
    assert_eq!(bomb.kind, CallErrorKind::TooLarge);
    assert!(hosts.call(get("/broken"), &OPTIONS).await.is_err());
    let options = CallOptions {
        gunzip: false,
        ..OPTIONS
    };
    let packed = hosts.call(get("/"), &options).await.unwrap();
    assert_eq!(&*packed.body, &gzip(b"hello")[..]);
}
