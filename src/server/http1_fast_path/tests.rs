use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::server::conn::Body;
use crate::server::head::HeadReader;
use crate::server::socket;

fn facts(head: &str) -> HeadFacts {
    let mut reader = HeadReader::new(65_536, 1000);
    reader.advance(head.as_bytes()).unwrap().unwrap()
}

fn fast(text: &str) -> std::result::Result<RequestHeader, BytesMut> {
    head(BytesMut::from(text), &facts(text))
}

#[tokio::test]
async fn a_usual_head_is_read_as_by_pingora() {
    for text in [
        "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "DELETE /a%20b/{x}?y=1&z[]=?? HTTP/1.1\r\nhost:a:80\r\nX-Empty:\r\nx-b: \t b c \t\r\nX-B: d:e\r\n\r\n",
        "BREW * HTTP/1.1\r\nHost: [::1]:80\r\nContent-Length: 0\r\nx: \u{e4}\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: a\r\nCookie: a=1; b=2\r\nConnection: Keep-Alive\r\n\r\n",
    ] {
        let ours = fast(text).unwrap_or_else(|_| panic!("not usual: {text}"));
        let mut session = ServerSession::new_http1(Box::new(Cursor::new(text.as_bytes().to_vec())));
        assert!(session.read_request().await.unwrap());
        let theirs = session.req_header();
        assert_eq!(ours.method, theirs.method, "{text}");
        assert_eq!(ours.uri, theirs.uri, "{text}");
        assert_eq!(ours.version, theirs.version, "{text}");
        assert_eq!(ours.headers, theirs.headers, "{text}");
        assert_eq!(ours.raw_path(), theirs.raw_path(), "{text}");
    }
}

#[test]
fn everything_else_is_left_to_pingora() {
    for text in [
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET / HTTP/1.0\r\nHost: a\r\n\r\n",
        "GET http://a/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /#x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\u{e4} HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /?q=\"1\" HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\nConnection: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\n\r\n",
    ] {
        assert_eq!(fast(text).err().unwrap(), text);
    }
    let many = "x: y\r\n".repeat(MAX_FIELDS);
    let many = format!("GET / HTTP/1.1\r\nHost: a\r\n{many}\r\n");
    assert_eq!(fast(&many).err().unwrap(), many);
}

#[test]
fn a_body_is_framed_by_the_head() {
    for (method, status, name, value, rest) in [
        ("GET", 200, "content-length", "5", Rest::Length(5)),
        ("HEAD", 200, "content-length", "5", Rest::Length(0)),
        ("GET", 204, "x", "y", Rest::Length(0)),
        ("GET", 304, "content-length", "5", Rest::Length(0)),
        ("GET", 200, "transfer-encoding", "chunked", Rest::Chunks),
        ("GET", 200, "content-length", "-5", Rest::UntilClose),
        ("GET", 200, "x", "y", Rest::UntilClose),
    ] {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_static(value));
        let (method, status) = (method.parse().unwrap(), status.try_into().unwrap());
        assert_eq!(
            Rest::after(&method, status, &headers),
            rest,
            "{method} {status} {value}"
        );
    }
}

/// A request on a connection of its own, and the client's end.
async fn request(text: &str) -> (Box<Session>, Wire, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (client, accepted) = tokio::join!(TcpStream::connect(address), listener.accept());
    let stream = socket::stream(accepted.unwrap().0, address);
    let mut conn = Box::new(Conn::plain(stream));
    conn.ahead().extend_from_slice(text.as_bytes());
    let bytes = conn.begin_request(text.len(), Body::Length(0)).unwrap();
    let wire = Wire::new(&conn, None);
    let head = head(bytes, &facts(text)).unwrap_or_else(|_| panic!("not usual: {text}"));
    (begin(&wire, conn, head), wire, client.unwrap())
}

async fn respond(session: &mut Session, name: HeaderName, value: &'static str) {
    let mut head = ResponseHeader::build(200, None).unwrap();
    head.insert_header(name, value).unwrap();
    session
        .write_response_header(Box::new(head), false)
        .await
        .unwrap();
}

const GET: &str = "GET /a HTTP/1.1\r\nHost: a\r\n\r\n";

async fn read(client: &mut TcpStream, end: &str) -> String {
    let mut all = String::new();
    while !all.ends_with(end) {
        let mut space = [0; 4096];
        let count = client.read(&mut space).await.unwrap();
        assert!(count > 0, "closed after {all:?}");
        all.push_str(std::str::from_utf8(&space[..count]).unwrap());
    }
    all
}

#[tokio::test]
async fn a_response_with_a_length_keeps_the_connection() {
    let (mut session, wire, mut client) = request(GET).await;
    respond(&mut session, CONTENT_LENGTH, "5").await;
    assert!(wire.write(b"hel").await.unwrap());
    let body = Some(Bytes::from_static(b"lo and more"));
    session.write_response_body(body, true).await.unwrap();
    assert!(!wire.write(b"x").await.unwrap(), "beyond the length");
    assert_eq!(session.body_bytes_sent(), 5);
    assert!(end(session));
    assert!(wire.finish(true).await.is_some());
    let text = read(&mut client, "hello").await;
    assert!(
        text.starts_with("HTTP/1.1 200 OK\r\nContent-Length: 5\r\nDate: "),
        "{text}"
    );
    assert!(
        text.ends_with("Connection: keep-alive\r\n\r\nhello"),
        "{text}"
    );
}

#[tokio::test]
async fn a_response_in_chunks_ends_with_an_empty_one() {
    let (mut session, wire, mut client) = request(GET).await;
    respond(&mut session, TRANSFER_ENCODING, "chunked").await;
    wire.put(b"0123456789abcdef", false).await.unwrap();
    wire.put(b"", false).await.unwrap();
    // The end may follow at once, and is then part of the same write.
    let wait = Duration::from_millis(20);
    let waits = tokio::time::timeout(wait, client.readable()).await;
    assert!(waits.is_err(), "it is sent before the gateway waits");
    assert!(tokio::time::timeout(wait, wire.closed()).await.is_err());
    let text = read(&mut client, "\r\n\r\n10\r\n0123456789abcdef\r\n").await;
    assert!(text.contains("Transfer-Encoding: chunked\r\n"), "{text}");
    assert!(end(session));
    assert!(wire.finish(true).await.is_some());
    assert_eq!(read(&mut client, "0\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn a_response_that_is_too_short_or_the_last_one_closes_the_connection() {
    let (mut session, wire, mut client) = request(GET).await;
    respond(&mut session, CONTENT_LENGTH, "5").await;
    wire.put(b"hel", false).await.unwrap();
    assert!(wire.finish(end(session)).await.is_none());
    let mut rest = Vec::new();
    let _ = client.read_to_end(&mut rest).await;

    let (mut session, wire, mut client) = request(GET).await;
    end_connection(&mut session);
    respond(&mut session, CONTENT_LENGTH, "0").await;
    assert!(wire.finish(end(session)).await.is_none());
    let mut rest = String::new();
    client.read_to_string(&mut rest).await.unwrap();
    assert!(rest.ends_with("Connection: close\r\n\r\n"), "{rest}");
}

#[tokio::test]
async fn a_client_that_leaves_is_noticed() {
    let (mut session, _wire, client) = request(GET).await;
    let downstream = session.as_downstream_mut();
    let idle = downstream.read_body_or_idle(true);
    let waits = tokio::time::timeout(Duration::from_millis(20), idle).await;
    assert!(waits.is_err());
    drop(client);
    let error = downstream.read_body_or_idle(true).await.unwrap_err();
    assert_eq!(*error.etype(), ErrorType::ConnectionClosed);
}

#[tokio::test]
async fn early_bytes_of_the_next_request_are_kept() {
    let (mut session, wire, mut client) = request(GET).await;
    client.write_all(b"GET /next").await.unwrap();
    let waits = tokio::time::timeout(Duration::from_millis(20), wire.closed()).await;
    assert!(waits.is_err());
    respond(&mut session, CONTENT_LENGTH, "0").await;
    let mut conn = wire.finish(end(session)).await.unwrap();
    assert_eq!(&conn.ahead()[..], b"GET /next");
}

/// The chunks of a response after its head, joined.
fn joined(text: &str) -> String {
    let (_, mut rest) = text.split_once("\r\n\r\n").unwrap();
    let mut all = String::new();
    while let Some((size, more)) = rest.split_once("\r\n") {
        let (chunk, more) = more.split_at(usize::from_str_radix(size, 16).unwrap());
        all.push_str(chunk);
        rest = more.strip_prefix("\r\n").unwrap();
    }
    all
}

#[tokio::test]
async fn pieces_are_sent_together_as_far_as_they_come_together() {
    let (mut session, wire, mut client) = request(GET).await;
    respond(&mut session, TRANSFER_ENCODING, "chunked").await;
    for _ in 0..5 {
        wire.put(&[b'x'; 3000], false).await.unwrap();
    }
    let wait = Duration::from_millis(20);
    let waits = tokio::time::timeout(wait, client.readable()).await;
    assert!(waits.is_err(), "nothing has waited yet");
    // More than is held. The client reads slowly.
    let (_, text) = tokio::join!(
        async {
            for size in [0, 1, 16 << 10, 100, 1 << 20, 16_000, 300, 100] {
                wire.put(&vec![b'y'; size], false).await.unwrap();
            }
            wire.end().await.unwrap();
        },
        read(&mut client, "\r\n0\r\n\r\n")
    );
    let body = joined(&text);
    let (x, y) = body.split_at(15_000);
    assert!(x.bytes().all(|byte| byte == b'x') && y.bytes().all(|byte| byte == b'y'));
    assert_eq!(
        y.len(),
        1 + (16 << 10) + 100 + (1 << 20) + 16_000 + 300 + 100
    );
    assert!(end(session));
    assert!(wire.finish(true).await.is_some());
}

#[tokio::test]
async fn a_response_that_breaks_off_still_has_what_came() {
    for is_closed in [true, false] {
        let (mut session, wire, mut client) = request(GET).await;
        respond(&mut session, TRANSFER_ENCODING, "chunked").await;
        wire.put(&[b'x'; 3000], false).await.unwrap();
        if is_closed {
            wire.shutdown().await;
        }
        drop((session, wire));
        let mut text = String::new();
        client.read_to_string(&mut text).await.unwrap();
        assert_eq!(joined(&text), "x".repeat(3000), "and no end");
    }
}
