//! Streamed exchanges.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis::internals::upstream::RequestBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::stub::{Reply, Stub, call, client, get, ok, response};
use portcullis::internals::upstream::{HostSet, Settings};

#[tokio::test]
async fn a_request_body_and_a_response_are_streamed() {
    let stub = Stub::saying("hello").await;
    let hosts = stub.hosts();
    let head = call(Method::POST, "/", &[], "");
    for _ in 0..2 {
        let mut exchange = hosts
            .open(head.clone(), RequestBody::Chunked)
            .await
            .unwrap();
        exchange
            .write_body(Bytes::from_static(b"ab"), false)
            .await
            .unwrap();
        exchange
            .write_body(Bytes::from_static(b"cd"), true)
            .await
            .unwrap();
        let (status, headers) = exchange.read_header().await.unwrap();
        assert_eq!(
            (status.as_u16(), &headers["content-length"]),
            (200, &"5".parse().unwrap())
        );
        assert_eq!(exchange.read_body().await.unwrap().unwrap(), "hello");
        assert!(exchange.read_body().await.unwrap().is_none() && exchange.is_done());
        exchange.release().await;
    }
    assert_eq!(stub.connections(), 1);
    assert_eq!(stub.seen()[1].body, b"abcd");
}

#[tokio::test]
async fn a_body_ends_once_whatever_its_last_piece_is() {
    let stub = Stub::saying("hello").await;
    let hosts = stub.hosts();
    let head = call(Method::POST, "/", &[], "");
    let empty = Bytes::new;
    for framing in [RequestBody::Chunked, RequestBody::Length(4)] {
        let mut exchange = hosts.open(head.clone(), framing).await.unwrap();
        for piece in [empty(), Bytes::from_static(b"ab"), empty()] {
            exchange.write_body(piece, false).await.unwrap();
        }
        exchange
            .write_body(Bytes::from_static(b"cd"), false)
            .await
            .unwrap();
        exchange.write_body(empty(), true).await.unwrap();
        exchange.finish_body().await.unwrap();
        exchange.read_header().await.unwrap();
        while exchange.read_body().await.unwrap().is_some() {}
        exchange.release().await;
    }
    assert_eq!(stub.connections(), 1);
    assert!(stub.seen().iter().all(|seen| seen.body == b"abcd"));
    assert_eq!(stub.seen().len(), 2);
}

#[tokio::test]
async fn a_cancelled_wait_continues_where_it_stopped() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (go, mut wait) = tokio::sync::mpsc::channel::<()>(1);
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 512];
        let _ = stream.read(&mut head).await.unwrap();
        for piece in [
            "HTTP/1.1 200 OK\r\nTransfer-Enc",
            "oding: chunked\r\n\r\n3",
            "\r\nabc\r\n0\r\n\r\n",
        ] {
            wait.recv().await.unwrap();
            stream.write_all(piece.as_bytes()).await.unwrap();
        }
        wait.recv().await;
    });
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    let head = get("/");
    let mut exchange = hosts.open(head.clone(), RequestBody::Empty).await.unwrap();
    let moment = Duration::from_millis(30);
    for _ in 0..2 {
        assert!(
            tokio::time::timeout(moment, exchange.read_header())
                .await
                .is_err()
        );
        go.send(()).await.unwrap();
    }
    exchange.read_header().await.unwrap();
    assert!(
        tokio::time::timeout(moment, exchange.read_body())
            .await
            .is_err()
    );
    go.send(()).await.unwrap();
    assert_eq!(exchange.read_body().await.unwrap().unwrap(), "abc");
    assert!(exchange.read_body().await.unwrap().is_none());
}

#[tokio::test]
async fn a_stream_without_a_body_survives_a_dead_pooled_connection() {
    let stub = Stub::start(|seen| match (seen.connection, seen.path()) {
        (1, "/first") => Reply::Keep(ok("first")),
        (1, _) => Reply::Close(Vec::new()),
        _ => Reply::Keep(ok("again")),
    })
    .await;
    let hosts = stub.hosts();
    for (path, body) in [("/first", "first"), ("/second", "again")] {
        let head = get(path);
        let mut exchange = hosts.open(head.clone(), RequestBody::Empty).await.unwrap();
        exchange.read_header().await.unwrap();
        assert_eq!(exchange.read_body().await.unwrap().unwrap(), body);
        assert!(exchange.read_body().await.unwrap().is_none());
        exchange.release().await;
    }
}

#[tokio::test]
async fn an_exchange_that_is_dropped_closes_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let hosts = HostSet::fixed(&client(Settings::default()), &[url]);
    let head = get("/");
    let (mut stream, exchange) = tokio::join!(
        async { listener.accept().await.unwrap().0 },
        hosts.open(head.clone(), RequestBody::Empty)
    );
    drop(exchange);
    let mut all = Vec::new();
    stream.read_to_end(&mut all).await.unwrap();
    assert!(all.starts_with(b"GET / "));
}

#[tokio::test]
async fn an_unfinished_request_never_goes_back_to_the_pool() {
    let stub = Stub::start(|seen| Reply::Keep(ok(seen.path()))).await;
    let hosts = stub.hosts();
    hosts.call(get("/a"), &crate::stub::OPTIONS).await.unwrap();
    let head = call(Method::POST, "/b", &[], "");
    let mut exchange = hosts
        .open(head.clone(), RequestBody::Length(10))
        .await
        .unwrap();
    exchange
        .write_body(Bytes::from_static(b"abc"), false)
        .await
        .unwrap();
    exchange.release().await;
    let incoming = hosts.call(get("/c"), &crate::stub::OPTIONS).await.unwrap();
    assert_eq!(&*incoming.body, b"/c");
    assert_eq!(stub.connections(), 2);
}

#[tokio::test]
async fn a_redirect_names_the_next_call() {
    let stub = Stub::start(|seen| {
        Reply::Keep(match seen.path() {
            "/a" => response(302, "Location: /b\r\n", ""),
            _ => ok("b"),
        })
    })
    .await;
    let hosts = stub.hosts();
    let head = get("/a");
    let mut exchange = hosts.open(head.clone(), RequestBody::Empty).await.unwrap();
    exchange.read_header().await.unwrap();
    let next = exchange.redirect(1, false).unwrap().unwrap();
    exchange.release().await;
    assert_eq!(next.out.target, "/b");
    let mut exchange = next.hosts.open(next.out, RequestBody::Empty).await.unwrap();
    exchange.read_header().await.unwrap();
    assert!(exchange.redirect(2, false).unwrap().is_none());
    assert_eq!(exchange.read_body().await.unwrap().unwrap(), "b");
}

#[tokio::test]
async fn calls_beyond_the_bound_of_a_host_wait_for_their_turn() {
    let stub = Stub::saying("x").await;
    let settings = Settings {
        max_in_flight_per_host: Some(1),
        ..Settings::default()
    };
    let client = client(settings);
    let (one, two) = (
        HostSet::fixed(&client, &[stub.url()]),
        HostSet::fixed(&client, &[stub.url()]),
    );
    let head = get("/");
    let first = one.open(head.clone(), RequestBody::Empty).await.unwrap();
    let mut second = Box::pin(two.open(head.clone(), RequestBody::Empty));
    let moment = Duration::from_millis(50);
    assert!(tokio::time::timeout(moment, &mut second).await.is_err());
    drop(first);
    assert!(second.await.is_ok());
}

/// One HTTP/2 frame (RFC 9113 §4.1).
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()].concat();
    [head.as_slice(), payload].concat()
}

#[tokio::test]
async fn http2_in_plain_text_carries_trailers() {
    const HEADERS: u8 = 1;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut preface = [0; 24];
        stream.read_exact(&mut preface).await.unwrap();
        assert!(preface.starts_with(b"PRI * HTTP/2.0"));
        stream.write_all(&frame(4, 0, 0, &[])).await.unwrap();
        loop {
            let mut head = [0; 9];
            if stream.read_exact(&mut head).await.is_err() {
                return;
            }
            let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let mut payload = vec![0; length as usize];
            stream.read_exact(&mut payload).await.unwrap();
            if head[3] == HEADERS {
                // 0x88 is `:status: 200`; then a literal field without indexing.
                let trailers = [&[0x00, 11][..], b"grpc-status", &[1], b"0"].concat();
                let response = [
                    frame(HEADERS, 4, 1, &[0x88]),
                    frame(0, 0, 1, b"hello"),
                    frame(HEADERS, 5, 1, &trailers),
                ];
                stream.write_all(&response.concat()).await.unwrap();
            }
        }
    });
    let settings = Settings {
        http_version: portcullis::internals::upstream::HttpVersion::H2,
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[url]);
    let head = call(Method::POST, "/", &[("te", "trailers")], "");
    let mut exchange = hosts
        .open(head.clone(), RequestBody::Chunked)
        .await
        .unwrap();
    exchange
        .write_body(Bytes::from_static(b"ab"), true)
        .await
        .unwrap();
    let (status, _) = exchange.read_header().await.unwrap();
    assert_eq!(status.as_u16(), 200);
    assert_eq!(exchange.read_body().await.unwrap().unwrap(), "hello");
    assert!(exchange.read_body().await.unwrap().is_none());
    assert_eq!(
        exchange.trailers().await.unwrap().unwrap()["grpc-status"],
        "0"
    );
    exchange.release().await;
}
