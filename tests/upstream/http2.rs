//! HTTP/2 towards upstreams, frame by frame (RFC 9113).

mod early;
mod pooled;
mod windows;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Method;
use portcullis::internals::upstream::{HostRules, HostSet, HttpVersion, RequestBody, Settings};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use crate::stub::{OPTIONS, call, client, get};

/// What to do with a request once it is complete.
#[derive(Clone, Copy)]
enum Does {
    Response,
    /// RST_STREAM with REFUSED_STREAM.
    Reject,
    /// GOAWAY that names the stream before this one as the last, and then nothing more.
    GoAway,
    /// Close the connection.
    Drop,
    /// GOAWAY that excludes this request, as soon as its head has come, and a reset of the connection.
    GoAwayAndReset,
    /// RST_STREAM with REFUSED_STREAM as soon as the head has come.
    RejectHead,
    /// Read and answer nothing any more, not even PING.
    Deaf,
    /// Respond with this status (by its index in HPACK's static table) as soon as the head has come. The window stays
    /// closed, and no RST_STREAM comes.
    EarlyResponse(u8),
    /// The head of the response with status 200 as soon as that of the request has come. The window opens much later,
    /// and the response ends after the request.
    EarlyHead,
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

/// A server that knows just enough of HTTP/2.
struct Server {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
    /// The number of connections that are open now.
    open: Arc<AtomicUsize>,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    pings: Arc<AtomicUsize>,
}

impl Server {
    /// `does` gets the number of the connection and of the request on it, from 1.
    async fn start(does: impl Fn(usize, usize) -> Does + Send + Sync + 'static) -> Server {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let server = Server {
            address: listener.local_addr().unwrap(),
            connections: Arc::default(),
            open: Arc::default(),
            bodies: Arc::default(),
            pings: Arc::default(),
        };
        let (connections, open) = (Arc::clone(&server.connections), Arc::clone(&server.open));
        let (bodies, pings) = (Arc::clone(&server.bodies), Arc::clone(&server.pings));
        let does = Arc::new(does);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let number = connections.fetch_add(1, Ordering::SeqCst) + 1;
                let (does, open) = (Arc::clone(&does), Arc::clone(&open));
                open.fetch_add(1, Ordering::SeqCst);
                let (bodies, pings) = (Arc::clone(&bodies), Arc::clone(&pings));
                tokio::spawn(async move {
                    let _ = serve(stream, |nth| does(number, nth), &bodies, &pings).await;
                    open.fetch_sub(1, Ordering::SeqCst);
                });
            }
        });
        server
    }

    fn hosts(&self) -> HostSet {
        let settings = Settings {
            http_version: HttpVersion::H2,
            dialer_keep_alive: Some(Duration::from_secs(1)),
            ..Settings::default()
        };
        let rules = HostRules {
            timeout: Some(Duration::from_millis(200)),
            ..HostRules::default()
        };
        HostSet::fixed(&client(settings), &[format!("http://{}", self.address)]).ruled(rules)
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    fn bodies(&self) -> Vec<Vec<u8>> {
        self.bodies.lock().unwrap().clone()
    }
}

async fn frame(stream: &mut TcpStream, kind: u8, flags: u8, id: u32, payload: &[u8]) {
    let mut bytes = u32::try_from(payload.len()).unwrap().to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(id.to_be_bytes());
    bytes.extend(payload);
    let _ = stream.write_all(&bytes).await;
}

async fn serve(
    mut stream: TcpStream,
    does: impl Fn(usize) -> Does,
    bodies: &Mutex<Vec<Vec<u8>>>,
    pings: &AtomicUsize,
) -> std::io::Result<()> {
    stream.read_exact(&mut [0; 24]).await?;
    frame(&mut stream, SETTINGS, 0, 0, &[]).await;
    let (mut nth, mut body) = (0, Vec::new());
    let mut rejected = std::collections::HashSet::new();
    loop {
        let mut head = [0; 9];
        stream.read_exact(&mut head).await?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let (kind, flags) = (head[3], head[4]);
        let id = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        stream.read_exact(&mut payload).await?;
        match kind {
            SETTINGS if flags & ACK == 0 => frame(&mut stream, SETTINGS, ACK, 0, &[]).await,
            PING if flags & ACK == 0 => {
                pings.fetch_add(1, Ordering::SeqCst);
                frame(&mut stream, PING, ACK, 0, &payload).await;
            }
            DATA => body.extend(&payload),
            _ => {}
        }
        if kind == HEADERS {
            match does(nth + 1) {
                Does::GoAwayAndReset => {
                    let mut last = id.saturating_sub(2).to_be_bytes().to_vec();
                    last.extend([0; 4]);
                    frame(&mut stream, GOAWAY, 0, 0, &last).await;
                    // What comes now is not read: the connection is reset.
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    return Ok(());
                }
                Does::RejectHead => {
                    nth += 1;
                    rejected.insert(id);
                    frame(&mut stream, RST_STREAM, 0, id, &[0, 0, 0, 7]).await;
                }
                Does::EarlyResponse(status) => {
                    nth += 1;
                    rejected.insert(id);
                    frame(&mut stream, HEADERS, END_HEADERS, id, &[0x80 | status]).await;
                    frame(&mut stream, DATA, END_STREAM, id, b"early").await;
                }
                Does::EarlyHead => {
                    frame(&mut stream, HEADERS, END_HEADERS, id, &[0x88]).await;
                }
                _ => {}
            }
        }
        if kind == DATA && rejected.contains(&id) {
            body.clear();
            continue;
        }
        if kind == DATA && matches!(does(nth + 1), Does::EarlyHead) {
            // What the first window holds.
            if body.len() == 65_535 {
                tokio::time::sleep(Duration::from_millis(50)).await;
                let count = (1_u32 << 20).to_be_bytes();
                frame(&mut stream, WINDOW_UPDATE, 0, 0, &count).await;
                frame(&mut stream, WINDOW_UPDATE, 0, id, &count).await;
            }
        } else if kind == DATA && length > 0 {
            let count = length.to_be_bytes();
            frame(&mut stream, WINDOW_UPDATE, 0, 0, &count).await;
            frame(&mut stream, WINDOW_UPDATE, 0, id, &count).await;
        }
        if !matches!(kind, DATA | HEADERS) || flags & END_STREAM == 0 || rejected.contains(&id) {
            continue;
        }
        nth += 1;
        let complete = std::mem::take(&mut body);
        match does(nth) {
            Does::Response => {
                bodies.lock().unwrap().push(complete);
                // `:status` 200, by its index in HPACK's static table.
                frame(&mut stream, HEADERS, END_HEADERS, id, &[0x88]).await;
                frame(&mut stream, DATA, END_STREAM, id, b"hello").await;
            }
            Does::Reject => frame(&mut stream, RST_STREAM, 0, id, &[0, 0, 0, 7]).await,
            Does::GoAway => {
                let mut last = (id - 2).to_be_bytes().to_vec();
                last.extend([0; 4]);
                frame(&mut stream, GOAWAY, 0, 0, &last).await;
            }
            Does::Drop | Does::GoAwayAndReset => return Ok(()),
            Does::EarlyHead => {
                bodies.lock().unwrap().push(complete);
                frame(&mut stream, DATA, END_STREAM, id, b"late").await;
            }
            Does::RejectHead | Does::EarlyResponse(_) => {}
            Does::Deaf => std::future::pending().await,
        }
    }
}

async fn says(hosts: &HostSet, method: Method, body: &str) -> Result<Bytes, String> {
    let out = call(method, "/", &[], body);
    let response = hosts.call(out, &OPTIONS).await;
    response
        .map(|incoming| incoming.body)
        .map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_authority_is_sent_once_and_the_scheme_is_that_of_the_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let serving = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        let mut seen = Vec::new();
        while let Some(Ok((request, mut respond))) = connection.accept().await {
            let host = request.headers().contains_key("host");
            seen.push((request.uri().to_string(), host));
            let response = http::Response::new(());
            respond.send_response(response, true).unwrap();
            if seen.len() == 2 {
                break;
            }
        }
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        seen
    });
    let settings = Settings {
        http_version: HttpVersion::H2,
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[format!("http://{address}")]);
    hosts.call(get("/x?a=1"), &OPTIONS).await.unwrap();
    let named = call(Method::GET, "/y", &[("host", "other.test:8")], "");
    hosts.call(named, &OPTIONS).await.unwrap();
    let seen = serving.await.unwrap();
    let first = (format!("http://{address}/x?a=1"), false);
    assert_eq!(seen, [first, ("http://other.test:8/y".to_owned(), false)]);
}

#[tokio::test]
async fn calls_share_a_connection() {
    let server = Server::start(|_, _| Does::Response).await;
    let hosts = server.hosts();
    for _ in 0..5 {
        assert_eq!(says(&hosts, Method::GET, "").await.unwrap(), "hello");
    }
    assert_eq!(server.connections(), 1);
}

#[tokio::test]
async fn a_get_survives_a_connection_that_is_lost_during_the_request() {
    let server = Server::start(|_, nth| match nth {
        1 => Does::Response,
        _ => Does::Drop,
    })
    .await;
    let hosts = server.hosts();
    for _ in 0..8 {
        assert_eq!(says(&hosts, Method::GET, "").await.unwrap(), "hello");
    }
    // It may have been processed.
    let mut failed = 0;
    for _ in 0..4 {
        failed += usize::from(says(&hosts, Method::POST, "x").await.is_err());
    }
    assert!(failed >= 2, "{failed}");
}

#[tokio::test]
async fn requests_that_goaway_excludes_are_sent_again_whatever_the_method() {
    let server = Server::start(|_, nth| match nth {
        1 | 2 => Does::Response,
        _ => Does::GoAway,
    })
    .await;
    let hosts = server.hosts();
    for _ in 0..4 {
        for (method, body) in [
            (Method::GET, ""),
            (Method::POST, ""),
            (Method::PATCH, "body"),
        ] {
            assert_eq!(says(&hosts, method, body).await.unwrap(), "hello");
        }
    }
    let bodies = server.bodies();
    assert_eq!(bodies.len(), 12, "each was processed once");
    assert_eq!(bodies.iter().filter(|body| *body == b"body").count(), 4);
}

#[tokio::test]
async fn a_rejected_stream_is_sent_again_with_its_body() {
    let server = Server::start(|_, nth| match nth % 3 {
        0 => Does::Reject,
        _ => Does::Response,
    })
    .await;
    let hosts = server.hosts();
    for _ in 0..10 {
        assert_eq!(says(&hosts, Method::POST, "body").await.unwrap(), "hello");
    }
    assert_eq!(server.bodies(), vec![b"body".to_vec(); 10]);
}

#[tokio::test]
async fn a_streamed_body_is_sent_again_too() {
    let server = Server::start(|number, _| match number {
        1 => Does::Reject,
        _ => Does::Response,
    })
    .await;
    let hosts = server.hosts();
    let head = call(Method::PUT, "/", &[], "");
    let mut exchange = hosts
        .open(head.clone(), RequestBody::Chunked)
        .await
        .unwrap();
    for piece in ["one ", "two ", "three"] {
        exchange
            .write_body(Bytes::from(piece), false)
            .await
            .unwrap();
    }
    exchange.finish_body().await.unwrap();
    assert_eq!(exchange.read_header().await.unwrap().0, 200);
    assert_eq!(server.bodies(), [b"one two three".to_vec()]);
}

#[tokio::test]
async fn a_body_that_fills_the_window_of_a_peer_that_rejects_it_is_sent_again() {
    let server = Server::start(|number, nth| match (number, nth) {
        (1, 1) => Does::RejectHead,
        _ => Does::Response,
    })
    .await;
    let hosts = server.hosts();
    let head = call(Method::POST, "/", &[], "");
    let mut exchange = hosts
        .open(head.clone(), RequestBody::Chunked)
        .await
        .unwrap();
    for _ in 0..2 {
        let piece = Bytes::from(vec![b'x'; 50 << 10]);
        exchange.write_body(piece, false).await.unwrap();
    }
    exchange.finish_body().await.unwrap();
    assert_eq!(exchange.read_header().await.unwrap().0, 200);
    assert_eq!(server.bodies(), [vec![b'x'; 100 << 10]]);
}

#[tokio::test]
async fn requests_that_goaway_excludes_are_sent_again_although_the_connection_is_reset() {
    let server = Server::start(|number, _| match number % 2 {
        1 => Does::GoAwayAndReset,
        _ => Does::Response,
    })
    .await;
    let body = "x".repeat(300 << 10);
    for _ in 0..30 {
        // A set of its own: the connection with the odd number is the first.
        let hosts = server.hosts();
        assert_eq!(says(&hosts, Method::POST, &body).await.unwrap(), "hello");
    }
    assert_eq!(server.connections(), 60);
}

#[tokio::test]
async fn a_body_beyond_the_kept_limit_is_not_sent_again_in_part() {
    let server = Server::start(|_, _| Does::Reject).await;
    let hosts = server.hosts();
    let head = call(Method::PUT, "/", &[], "");
    let mut exchange = hosts
        .open(head.clone(), RequestBody::Chunked)
        .await
        .unwrap();
    // Within the window of HTTP/2, which the server does not enlarge.
    for _ in 0..8 {
        let piece = Bytes::from(vec![b'x'; 12 << 10]);
        let limit = Duration::from_millis(500);
        let _ = tokio::time::timeout(limit, exchange.write_body(piece, false)).await;
    }
    drop(exchange);
    assert!(server.bodies().is_empty());
}

#[tokio::test]
async fn endless_rejections_are_an_error() {
    let server = Server::start(|_, _| Does::Reject).await;
    assert!(says(&server.hosts(), Method::GET, "").await.is_err());
}

#[tokio::test]
async fn a_connection_that_no_longer_responds_gets_no_further_requests() {
    let server = Server::start(|number, nth| match (number, nth) {
        (1, 2) => Does::Deaf,
        _ => Does::Response,
    })
    .await;
    let hosts = server.hosts();
    says(&hosts, Method::GET, "").await.unwrap();
    // Long enough for the request to go out on a busy machine.
    let limit = Duration::from_secs(3);
    // This request times out. On a slow machine the PING may fail first and the GET is sent again.
    let _ = tokio::time::timeout(limit, says(&hosts, Method::GET, "")).await;
    for _ in 0..3 {
        assert_eq!(says(&hosts, Method::POST, "").await.unwrap(), "hello");
    }
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_ping_without_a_reply_closes_the_connection_and_a_get_goes_elsewhere() {
    let server = Server::start(|number, nth| match (number, nth) {
        (1, 2) => Does::Deaf,
        _ => Does::Response,
    })
    .await;
    let hosts = server.hosts();
    says(&hosts, Method::GET, "").await.unwrap();
    let limit = Duration::from_secs(60);
    let found = tokio::time::timeout(limit, says(&hosts, Method::GET, "")).await;
    assert_eq!(found.unwrap().unwrap(), "hello");
    assert_eq!(server.connections(), 2);
}

#[tokio::test]
async fn a_slow_server_that_replies_to_ping_keeps_its_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let accepted = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&accepted);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            counted.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(async move {
                let mut connection = h2::server::handshake(stream).await.unwrap();
                let mut held = Vec::new();
                while let Some(Ok((request, mut respond))) = connection.accept().await {
                    match request.uri().path() {
                        "/slow" => held.push(respond),
                        _ => drop(respond.send_response(http::Response::new(()), true)),
                    }
                }
            });
        }
    });
    let settings = Settings {
        http_version: HttpVersion::H2,
        ..Settings::default()
    };
    let hosts = HostSet::fixed(&client(settings), &[format!("http://{address}")]);
    for _ in 0..3 {
        let limit = Duration::from_millis(100);
        let cut = tokio::time::timeout(limit, hosts.call(get("/slow"), &OPTIONS)).await;
        assert!(cut.is_err());
        // The PING that the cut caused is answered at once.
        tokio::time::sleep(Duration::from_millis(200)).await;
        hosts.call(get("/fast"), &OPTIONS).await.unwrap();
    }
    assert_eq!(accepted.load(Ordering::SeqCst), 1);
}
