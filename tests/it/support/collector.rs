//! A collector that accepts OTLP over HTTP and gRPC, and parses every message strictly.
//!
//! A field that is unknown to the protocol, or has another type, is noted; [`Collector::check`] then panics.

mod read;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::eventually;
use super::http::Client;
use read::{metrics, spans};

/// The received data, decoded.
#[derive(Debug, Default)]
struct Got {
    spans: Vec<Span>,
    metrics: Vec<Metric>,
    /// Headers of each request, with `:path`.
    heads: Vec<BTreeMap<String, String>>,
    faults: Vec<String>,
    /// Statuses for the next requests, before everything is accepted.
    responses: Vec<u16>,
}

/// One span.
#[derive(Debug, Clone, Default)]
pub struct Span {
    pub trace: String,
    pub id: String,
    pub parent: String,
    pub state: String,
    pub name: String,
    pub kind: u64,
    pub start: u64,
    pub end: u64,
    pub attributes: BTreeMap<String, Value>,
    pub events: Vec<String>,
    pub status: u64,
    pub message: String,
    pub resource: BTreeMap<String, Value>,
    pub scope: String,
    pub links: Vec<String>,
}

/// One point of one metric.
#[derive(Debug, Clone, Default)]
pub struct Metric {
    pub name: String,
    pub unit: String,
    pub labels: BTreeMap<String, Value>,
    /// For a counter.
    pub value: f64,
    /// For a histogram.
    pub count: u64,
    pub sum: f64,
    pub buckets: usize,
    pub examples: usize,
    pub resource: BTreeMap<String, Value>,
}

pub struct Collector {
    http: u16,
    grpc: u16,
    got: Arc<Mutex<Got>>,
    // Ends the servers when it is dropped.
    _runtime: tokio::runtime::Runtime,
}

impl Collector {
    pub fn start() -> Collector {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let got = Arc::new(Mutex::new(Got::default()));
        let bind = || tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)));
        let (over_http, over_grpc) =
            runtime.block_on(async { (bind().await.unwrap(), bind().await.unwrap()) });
        let collector = Collector {
            http: over_http.local_addr().unwrap().port(),
            grpc: over_grpc.local_addr().unwrap().port(),
            got: Arc::clone(&got),
            _runtime: runtime,
        };
        collector
            ._runtime
            .spawn(serve_http(over_http, Arc::clone(&got)));
        collector._runtime.spawn(serve_grpc(over_grpc, got));
        collector
    }

    pub fn http(&self) -> u16 {
        self.http
    }

    pub fn grpc(&self) -> u16 {
        self.grpc
    }

    /// A port where `to` is reached over TLS, with these protocols to choose from.
    pub fn over_tls(&self, to: u16, pair: &(String, String), alpn: &[&str]) -> u16 {
        let certificates = CertificateDer::pem_slice_iter(pair.0.as_bytes());
        let certificates = certificates.map(Result::unwrap).collect();
        let key = PrivateKeyDer::from_pem_slice(pair.1.as_bytes()).unwrap();
        let builder = ServerConfig::builder_with_provider(aws_lc_rs::default_provider().into());
        let builder = builder.with_safe_default_protocol_versions().unwrap();
        let mut config = builder
            .with_no_client_auth()
            .with_single_cert(certificates, key)
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        listener.set_nonblocking(true).unwrap();
        self._runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            while let Ok((stream, _)) = listener.accept().await {
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut outer) = acceptor.accept(stream).await else {
                        return;
                    };
                    let inner = tokio::net::TcpStream::connect(("127.0.0.1", to));
                    let mut inner = inner.await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut outer, &mut inner).await;
                });
            }
        });
        port
    }

    /// Responds to the next requests over HTTP with these statuses.
    pub fn response_with(&self, statuses: &[u16]) {
        self.got.lock().unwrap().responses = statuses.to_vec();
    }

    pub fn spans(&self) -> Vec<Span> {
        self.got.lock().unwrap().spans.clone()
    }

    pub fn metrics(&self) -> Vec<Metric> {
        self.got.lock().unwrap().metrics.clone()
    }

    pub fn heads(&self) -> Vec<BTreeMap<String, String>> {
        self.got.lock().unwrap().heads.clone()
    }

    /// Waits for this number of spans and returns them.
    pub fn wait_for_spans(&self, count: usize) -> Vec<Span> {
        eventually("spans", Duration::from_secs(30), || {
            self.spans().len() >= count
        });
        self.check();
        self.spans()
    }

    /// Waits until a metric with this name was received.
    pub fn wait_for_metric(&self, name: &str) -> Vec<Metric> {
        eventually(name, Duration::from_secs(30), || {
            self.metrics().iter().any(|metric| metric.name == name)
        });
        self.check();
        self.metrics()
    }

    pub fn forget(&self) {
        let mut got = self.got.lock().unwrap();
        got.spans.clear();
        got.metrics.clear();
        got.heads.clear();
    }

    /// Panics if something that was received is not OTLP.
    pub fn check(&self) {
        let got = self.got.lock().unwrap();
        assert!(got.faults.is_empty(), "{:?}", got.faults);
    }
}

async fn serve_http(listener: tokio::net::TcpListener, got: Arc<Mutex<Got>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let got = Arc::clone(&got);
        let stream = stream.into_std().unwrap();
        stream.set_nonblocking(false).unwrap();
        std::thread::spawn(move || {
            let mut client = Client::over(stream);
            while let Ok((line, headers, body)) = client.request() {
                let path = line.split(' ').nth(1).unwrap_or("").to_owned();
                let status = note(&got, &path, headers, &body);
                let response = format!(
                    "HTTP/1.1 {status} X\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"
                );
                if client.send(response).is_err() {
                    return;
                }
            }
        });
    }
}

fn note(got: &Mutex<Got>, path: &str, mut headers: BTreeMap<String, String>, body: &[u8]) -> u16 {
    let mut got = got.lock().unwrap();
    headers.insert(":path".to_owned(), path.to_owned());
    let body = match headers.get("content-encoding").map(String::as_str) {
        Some("gzip") => gunzip(body),
        _ => body.to_vec(),
    };
    if headers.get("content-type").map(String::as_str) != Some("application/x-protobuf") {
        got.faults.push(format!("content type of {headers:?}"));
    }
    got.heads.push(headers);
    if !got.responses.is_empty() {
        return got.responses.remove(0);
    }
    match path {
        path if path.ends_with("/v1/traces") => take_spans(&mut got, &body),
        path if path.ends_with("/v1/metrics") => take_metrics(&mut got, &body),
        path => got.faults.push(format!("path {path}")),
    }
    200
}

async fn serve_grpc(listener: tokio::net::TcpListener, got: Arc<Mutex<Got>>) {
    while let Ok((stream, _)) = listener.accept().await {
        let got = Arc::clone(&got);
        tokio::spawn(async move {
            let Ok(mut connection) = h2::server::handshake(stream).await else {
                return;
            };
            while let Some(Ok((request, mut respond))) = connection.accept().await {
                let got = Arc::clone(&got);
                tokio::spawn(async move {
                    let (head, mut body) = request.into_parts();
                    let mut bytes = BytesMut::new();
                    while let Some(Ok(piece)) = body.data().await {
                        let _ = body.flow_control().release_capacity(piece.len());
                        bytes.extend_from_slice(&piece);
                    }
                    take_grpc(&got, &head, &bytes);
                    let response = http::Response::builder()
                        .header("content-type", "application/grpc")
                        .body(())
                        .unwrap();
                    let Ok(mut stream) = respond.send_response(response, false) else {
                        return;
                    };
                    let _ = stream.send_data(Bytes::from_static(&[0; 5]), false);
                    let mut trailers = http::HeaderMap::new();
                    trailers.insert("grpc-status", http::HeaderValue::from_static("0"));
                    let _ = stream.send_trailers(trailers);
                });
            }
        });
    }
}

fn take_grpc(got: &Mutex<Got>, head: &http::request::Parts, bytes: &[u8]) {
    let mut got = got.lock().unwrap();
    let mut headers: BTreeMap<String, String> = head
        .headers
        .iter()
        .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or("").to_owned()))
        .collect();
    headers.insert(":path".to_owned(), head.uri.path().to_owned());
    let framed = bytes.len() >= 5
        && u32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]) as usize == bytes.len() - 5;
    if !framed || headers.get("te").map(String::as_str) != Some("trailers") {
        got.faults.push(format!("gRPC framing: {headers:?}"));
        return;
    }
    let message = match bytes[0] {
        1 => gunzip(&bytes[5..]),
        _ => bytes[5..].to_vec(),
    };
    got.heads.push(headers);
    match head.uri.path() {
        "/opentelemetry.proto.collector.trace.v1.TraceService/Export" => {
            take_spans(&mut got, &message);
        }
        "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export" => {
            take_metrics(&mut got, &message);
        }
        path => got.faults.push(format!("method {path}")),
    }
}

fn gunzip(body: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    let _ = flate2::read::GzDecoder::new(body).read_to_end(&mut plain);
    plain
}

fn take_spans(got: &mut Got, body: &[u8]) {
    match spans(body) {
        Ok(mut spans) => got.spans.append(&mut spans),
        Err(fault) => got.faults.push(fault),
    }
}

fn take_metrics(got: &mut Got, body: &[u8]) {
    match metrics(body) {
        Ok(mut metrics) => got.metrics.append(&mut metrics),
        Err(fault) => got.faults.push(fault),
    }
}
