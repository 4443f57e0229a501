//! HTTP/2 and gRPC through the gateway: bodies, trailers, rejections, the end of a connection.

mod empty_frames;
mod silence;

use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{RecvStream, server};
use http::{HeaderMap, Request, Response, StatusCode};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};

use crate::support::{Client, Gateway, Signer, Stub, eventually};

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        tokio::time::timeout(Duration::from_secs(60), future)
            .await
            .expect("within a minute")
    })
}

/// A backend with HTTP/2 without TLS. Its response depends on the path.
async fn backend() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((socket, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut connection = server::handshake(socket).await.unwrap();
                while let Some(Ok((request, respond))) = connection.accept().await {
                    tokio::spawn(response(request, respond));
                }
            });
        }
    });
    port
}

async fn response(request: Request<RecvStream>, mut respond: server::SendResponse<Bytes>) {
    let te = request.headers().get("te").cloned();
    let path = request.uri().path().to_owned();
    let mut body = request.into_body();
    let head = Response::builder();
    match &*path {
        // What gRPC sends without a message.
        "/only" => {
            let head = head
                .header("content-type", "application/grpc")
                .header("grpc-status", "5");
            respond.send_response(head.body(()).unwrap(), true).unwrap();
        }
        // One message at a time, each with a response before the next one; the status follows.
        "/chat" => {
            let mut head = head.header("content-type", "application/grpc");
            if let Some(te) = te {
                head = head.header("x-te", te);
            }
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            while let Some(Ok(piece)) = body.data().await {
                let _ = body.flow_control().release_capacity(piece.len());
                send.send_data(piece, false).unwrap();
            }
            let trailers = [("grpc-status", "0"), ("x-meta", "1")];
            let trailers =
                trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            send.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
        "/sum" => {
            let head = head.header("trailer", "x-sum");
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            send.send_data(Bytes::from_static(b"body"), false).unwrap();
            let trailers = [("x-sum", "1"), ("x-other", "2")];
            let trailers =
                trailers.map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()));
            send.send_trailers(HeaderMap::from_iter(trailers)).unwrap();
        }
        // Empty frames around the data, as from a server that flushes.
        "/flush" => {
            let mut send = respond
                .send_response(head.body(()).unwrap(), false)
                .unwrap();
            for piece in ["", "body", "", ""] {
                send.send_data(Bytes::from_static(piece.as_bytes()), false)
                    .unwrap();
            }
            send.send_data(Bytes::new(), true).unwrap();
        }
        _ => {
            respond.send_reset(h2::Reason::REFUSED_STREAM);
        }
    }
}

struct Told {
    status: StatusCode,
    headers: HeaderMap,
    /// Whether the stream had only headers.
    alone: bool,
    body: Vec<u8>,
    trailers: Option<HeaderMap>,
}

impl Told {
    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

async fn connect(port: u16) -> SendRequest<Bytes> {
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (client, connection) = h2::client::handshake(socket).await.unwrap();
    tokio::spawn(connection);
    client.ready().await.unwrap()
}

fn ask(port: u16, method: &str, path: &str, fields: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method(method)
        .uri(format!("http://127.0.0.1:{port}{path}"));
    for (name, value) in fields {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

async fn send(port: u16, request: Request<()>, body: &[u8]) -> Told {
    let mut client = connect(port).await;
    let (response, mut stream) = client.send_request(request, body.is_empty()).unwrap();
    if !body.is_empty() {
        // A rejection may end the stream before its body is sent; only the response matters.
        let _ = stream.send_data(Bytes::copy_from_slice(body), true);
    }
    read(response.await.unwrap()).await
}

async fn read(response: Response<RecvStream>) -> Told {
    let (head, mut stream) = response.into_parts();
    let alone = stream.is_end_stream();
    let mut body = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece.unwrap();
        let _ = stream.flow_control().release_capacity(piece.len());
        body.extend(piece);
    }
    Told {
        status: head.status,
        headers: head.headers,
        alone,
        body,
        trailers: stream.trailers().await.unwrap(),
    }
}

fn h2_endpoint(path: &str, port: u16) -> Value {
    json!({
        "endpoint": path, "method": "POST", "output_encoding": "no-op", "timeout": "10s",
        "input_headers": ["Content-Type"],
        "backend": [{ "host": [format!("http://127.0.0.1:{port}")], "url_pattern": path, "method": "POST",
            "extra_config": { "portcullis/upstream": { "http_version": "h2" } } }]
    })
}

fn grpc_gateway(port: u16, more: &[Value]) -> Gateway {
    let paths = ["/only", "/chat", "/sum", "/reset"];
    let endpoints = paths.iter().map(|path| h2_endpoint(path, port));
    let endpoints: Vec<Value> = endpoints.chain(more.iter().cloned()).collect();
    let file = json!({ "version": 3, "use_h2c": true, "endpoints": endpoints });
    Gateway::start(&file.to_string())
}

const GRPC: (&str, &str) = ("content-type", "application/grpc+proto");

#[test]
fn messages_pass_both_ways_one_by_one_and_the_status_follows_in_trailers() {
    block_on(async {
        let gateway = grpc_gateway(backend().await, &[]);
        let mut client = connect(gateway.port()).await;
        let request = ask(gateway.port(), "POST", "/chat", &[GRPC, ("te", "trailers")]);
        let (response, mut stream) = client.send_request(request, false).unwrap();
        stream.send_data(Bytes::from_static(b"one"), false).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["x-te"], "trailers");
        let mut body = response.into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "one");
        stream.send_data(Bytes::from_static(b"two"), true).unwrap();
        assert_eq!(body.data().await.unwrap().unwrap(), "two");
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().expect("trailers");
        assert_eq!(trailers["grpc-status"], "0");
        assert_eq!(trailers["x-meta"], "1");
    });
}

#[test]
fn a_status_without_a_message_ends_the_stream_with_its_header() {
    block_on(async {
        let gateway = grpc_gateway(backend().await, &[]);
        let told = send(
            gateway.port(),
            ask(gateway.port(), "POST", "/only", &[GRPC]),
            b"m",
        )
        .await;
        assert_eq!(
            (told.status.as_u16(), told.header("grpc-status")),
            (200, Some("5"))
        );
        assert!(told.alone, "a client would wait for trailers");
    });
}

#[test]
fn other_trailers_pass_when_they_were_announced() {
    block_on(async {
        let gateway = grpc_gateway(backend().await, &[]);
        let told = send(
            gateway.port(),
            ask(gateway.port(), "POST", "/sum", &[]),
            b"m",
        )
        .await;
        assert_eq!(told.body, b"body");
        assert_eq!(told.header("trailer"), Some("x-sum"));
        let trailers = told.trailers.expect("trailers");
        assert_eq!(trailers.get("x-sum").unwrap(), "1");
        assert!(!trailers.contains_key("x-other"));
        // HTTP/1 clients get only the body.
        let text = "POST /sum HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\nm";
        let response = tokio::task::spawn_blocking(move || gateway.send("POST", text));
        let response = response.await.unwrap();
        assert_eq!((response.status, &*response.body), (200, &b"body"[..]));
        assert_eq!(response.header("trailer"), None);
    });
}

#[test]
fn grpc_clients_get_rejections_in_grpc() {
    let signer = Signer::rs256("k");
    let jwks = signer.jwks();
    block_on(async move {
        let port = backend().await;
        let mut guarded = h2_endpoint("/guarded", port);
        guarded["extra_config"] = json!({ "auth/validator":
            { "alg": "RS256", "jwk_local_path": "jwks.json", "disable_jwk_security": true } });
        let mut scarce = h2_endpoint("/scarce", port);
        scarce["extra_config"] = json!({ "qos/ratelimit/router": { "client_max_rate": 0.001, "client_capacity": 1, "strategy": "ip" } });
        let down = h2_endpoint("/down", 1);
        let paths = ["/only"].iter().map(|path| h2_endpoint(path, port));
        let endpoints: Vec<Value> = paths
            .chain([guarded, scarce, down, h2_endpoint("/reset", port)])
            .collect();
        let file = json!({ "version": 3, "use_h2c": true, "endpoints": endpoints });
        let gateway = Gateway::start_with(&file.to_string(), &[("jwks.json", &jwks)]);
        let code = async |path: &str| {
            let told = send(
                gateway.port(),
                ask(gateway.port(), "POST", path, &[GRPC]),
                b"m",
            )
            .await;
            assert_eq!(told.status, 200, "{path}");
            assert_eq!(
                told.header("content-type"),
                Some("application/grpc"),
                "{path}"
            );
            assert!(told.alone, "{path}");
            told.header("grpc-status").unwrap_or("none").to_owned()
        };
        assert_eq!(code("/guarded").await, "16");
        assert_eq!(code("/nowhere").await, "12");
        let _ = code("/scarce").await;
        assert_eq!(code("/scarce").await, "8");
        assert_eq!(code("/down").await, "14");
        assert_eq!(code("/reset").await, "13");
        // The log has the gateway's own message, and clients without gRPC get it too.
        eventually("the log says 401", Duration::from_secs(30), || {
            gateway.output().contains("| 401 |")
        });
        let told = send(
            gateway.port(),
            ask(gateway.port(), "POST", "/guarded", &[]),
            b"m",
        )
        .await;
        assert_eq!(
            (told.status.as_u16(), told.header("grpc-status")),
            (401, None)
        );
    });
}

fn plain_gateway(stub: &Stub, more: &[(&str, Value)]) -> Gateway {
    let endpoint = |path: &str, encoding: &str| {
        json!({ "endpoint": path, "method": "POST", "output_encoding": encoding, "timeout": "10s",
            "input_headers": ["*"],
            "backend": [{ "host": [stub.url()], "url_pattern": "/echo", "method": "POST", "encoding": encoding }] })
    };
    let mut file = json!({ "version": 3, "use_h2c": true,
        "endpoints": [endpoint("/json", "json"), endpoint("/raw", "no-op")] });
    for (key, value) in more {
        file[*key] = value.clone();
    }
    Gateway::start(&file.to_string())
}

const ECHO: &str = r#"[
    {"path": "/echo", "headers": {"Content-Type": "application/json"}, "body": {"ok": true}}
]"#;

#[test]
fn bodies_reach_http_1_backends_from_http_2_clients() {
    let stub = Stub::with(ECHO);
    let gateway = plain_gateway(&stub, &[]);
    block_on(async {
        let body = vec![b'x'; 300_000];
        for path in ["/json", "/raw"] {
            let told = send(
                gateway.port(),
                ask(gateway.port(), "POST", path, &[]),
                &body,
            )
            .await;
            assert_eq!(told.status, 200, "{path}: {}", gateway.output());
            assert!(told.body.starts_with(b"{\"ok\":"), "{path}");
            let seen = stub.take_seen();
            assert_eq!(
                seen.last().map(|seen| seen.body.len()),
                Some(body.len()),
                "{path}"
            );
        }
        let missing = send(
            gateway.port(),
            ask(gateway.port(), "GET", "/none", &[]),
            b"",
        )
        .await;
        assert_eq!(missing.status, 404);
        let wrong = send(
            gateway.port(),
            ask(gateway.port(), "GET", "/json", &[]),
            b"",
        )
        .await;
        assert_eq!(wrong.status, 405);
        let head = send(
            gateway.port(),
            ask(gateway.port(), "HEAD", "/__health", &[]),
            b"",
        )
        .await;
        assert_eq!((head.status.as_u16(), head.body.len()), (405, 0));
    });
}

#[test]
fn a_stop_says_goaway_and_lets_streams_finish() {
    let stub = Stub::with(
        r#"[{"path": "/echo", "delay_ms": 1000, "headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#,
    );
    let gateway = plain_gateway(&stub, &[]);
    block_on(async {
        let socket = TcpStream::connect(("127.0.0.1", gateway.port()))
            .await
            .unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = ask(gateway.port(), "POST", "/raw", &[]);
        let (response, _) = client.send_request(request, true).unwrap();
        eventually("the backend has it", Duration::from_secs(30), || {
            !stub.take_seen().is_empty()
        });
        gateway.signal("TERM");
        let told = read(response.await.unwrap()).await;
        assert_eq!(told.status, 200);
        // The connection ends with GOAWAY without an error, not by closing it early.
        connection.await.unwrap().unwrap();
        drop(client);
    });
    let ended = gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(ended.success());
}

#[test]
fn a_connection_that_opens_during_the_shutdown_delay_is_closed_in_time() {
    let stub = Stub::with(ECHO);
    let extra = json!({ "portcullis/server": { "shutdown_delay": "6s" } });
    let gateway = plain_gateway(&stub, &[("extra_config", extra)]);
    gateway.signal("TERM");
    eventually("it is not ready", Duration::from_secs(30), || {
        gateway.get("/__ready").status == 503
    });
    block_on(async {
        let socket = TcpStream::connect(("127.0.0.1", gateway.port()))
            .await
            .unwrap();
        let (client, connection) = h2::client::handshake(socket).await.unwrap();
        let connection = tokio::spawn(connection);
        let mut client = client.ready().await.unwrap();
        let request = ask(gateway.port(), "POST", "/raw", &[]);
        let (response, _) = client.send_request(request, true).unwrap();
        assert_eq!(read(response.await.unwrap()).await.status, 200);
        // The client keeps the connection. It ends with GOAWAY without an error.
        let ended = tokio::time::timeout(Duration::from_secs(30), connection).await;
        ended.expect("the gateway ends it").unwrap().unwrap();
        drop(client);
    });
    assert!(
        gateway
            .wait(Duration::from_secs(30))
            .is_some_and(|end| end.success())
    );
}

#[test]
fn an_idle_connection_is_closed() {
    let stub = Stub::with(ECHO);
    let gateway = plain_gateway(&stub, &[("idle_timeout", json!("1s"))]);
    let start = Instant::now();
    block_on(async {
        let socket = TcpStream::connect(("127.0.0.1", gateway.port()))
            .await
            .unwrap();
        let (_client, connection) = h2::client::handshake(socket).await.unwrap();
        let _ = connection.await;
    });
    assert!(
        start.elapsed() >= Duration::from_millis(900),
        "{:?}",
        start.elapsed()
    );
}

#[test]
fn without_the_switch_http_2_is_not_accepted_in_plain_text() {
    let stub = Stub::with(ECHO);
    let gateway = plain_gateway(&stub, &[("use_h2c", json!(false))]);
    let mut client = Client::connect(gateway.port()).unwrap();
    client.send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    let rest = client.rest().unwrap();
    assert!(
        rest.starts_with(b"HTTP/1.1 505"),
        "{}",
        String::from_utf8_lossy(&rest)
    );
    // The protocol is not switched to it: such a request is like any other.
    let text = "GET /__health HTTP/1.1\r\nHost: a\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n\r\n";
    assert_eq!(gateway.send("GET", text).status, 200);
}

#[test]
fn the_access_log_has_the_status_of_grpc() {
    block_on(async {
        let port = backend().await;
        let paths = ["/only", "/chat"]
            .iter()
            .map(|path| h2_endpoint(path, port));
        let endpoints: Vec<Value> = paths.collect();
        let file = json!({ "version": 3, "use_h2c": true, "endpoints": endpoints,
            "extra_config": { "portcullis/access-log": { "format": "json",
                "fields": ["path", "status", "grpc_status"] } } });
        let gateway = Gateway::start(&file.to_string());
        for path in ["/only", "/chat", "/nowhere"] {
            let request = ask(gateway.port(), "POST", path, &[GRPC]);
            send(gateway.port(), request, b"m").await;
        }
        let plain = ask(gateway.port(), "POST", "/plain", &[]);
        send(gateway.port(), plain, b"m").await;
        // In the head alone, in trailers, from the gateway itself, and no gRPC.
        for line in [
            r#"{"path":"/only","status":200,"grpc_status":5}"#,
            r#"{"path":"/chat","status":200,"grpc_status":0}"#,
            r#"{"path":"/nowhere","status":404,"grpc_status":12}"#,
            r#"{"path":"/plain","status":404}"#,
        ] {
            eventually(line, Duration::from_secs(30), || {
                gateway.output().lines().any(|found| found == line)
            });
        }
    });
}
