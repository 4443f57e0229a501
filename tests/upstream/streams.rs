//! Streamed exchanges.

use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis::upstream::RequestBody;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use crate::stub::{Reply, Stub, answer, call, client, get, ok};
use portcullis::upstream::{HostSet, Settings};

#[tokio::test]
async fn a_body_is_streamed_out_and_an_answer_in() {
    let stub = Stub::saying("hello").await;
    let hosts = stub.hosts();
    let head = call(Method::POST, "/", &[], "");
    for _ in 0..2 {
        let mut exchange = hosts.open(&head, RequestBody::Chunked).await.unwrap();
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
async fn a_wait_that_was_cancelled_goes_on_where_it_was() {
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
    let mut exchange = hosts.open(&head, RequestBody::Empty).await.unwrap();
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
        let mut exchange = hosts.open(&head, RequestBody::Empty).await.unwrap();
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
        hosts.open(&head, RequestBody::Empty)
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
    let mut exchange = hosts.open(&head, RequestBody::Length(10)).await.unwrap();
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
            "/a" => answer(302, "Location: /b\r\n", ""),
            _ => ok("b"),
        })
    })
    .await;
    let hosts = stub.hosts();
    let head = get("/a");
    let mut exchange = hosts.open(&head, RequestBody::Empty).await.unwrap();
    exchange.read_header().await.unwrap();
    let next = exchange.redirect(1, false).unwrap().unwrap();
    exchange.release().await;
    assert_eq!(next.out.target, "/b");
    let mut exchange = next
        .hosts
        .open(&next.out, RequestBody::Empty)
        .await
        .unwrap();
    exchange.read_header().await.unwrap();
    assert!(exchange.redirect(2, false).unwrap().is_none());
    assert_eq!(exchange.read_body().await.unwrap().unwrap(), "b");
}
