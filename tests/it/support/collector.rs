//! A collector that accepts OTLP over HTTP and gRPC, and parses every message strictly.
//!
//! A field that is unknown to the protocol, or has another type, is noted; [`Collector::check`] then panics.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use serde_json::{Value, json};

use super::eventually;
use super::http::Client;

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
        eventually("spans", Duration::from_secs(20), || {
            self.spans().len() >= count
        });
        self.check();
        self.spans()
    }

    /// Waits until a metric with this name was received.
    pub fn wait_for_metric(&self, name: &str) -> Vec<Metric> {
        eventually(name, Duration::from_secs(20), || {
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

type Read<T> = Result<T, String>;

/// One field of a message.
#[derive(Debug)]
enum Field<'a> {
    Varint(u64),
    Fixed64(u64),
    Bytes(&'a [u8]),
}

impl<'a> Field<'a> {
    fn bytes(&self) -> Read<&'a [u8]> {
        match self {
            Field::Bytes(bytes) => Ok(bytes),
            other => Err(format!("{other:?} where bytes must be")),
        }
    }

    fn text(&self) -> Read<String> {
        let text = std::str::from_utf8(self.bytes()?);
        text.map(str::to_owned).map_err(|error| error.to_string())
    }

    fn hex(&self, length: usize) -> Read<String> {
        let bytes = self.bytes()?;
        if bytes.len() != length || bytes.iter().all(|byte| *byte == 0) {
            return Err(format!("no id of {length} bytes: {bytes:?}"));
        }
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    }

    fn number(&self) -> Read<u64> {
        match self {
            Field::Varint(value) => Ok(*value),
            other => Err(format!("{other:?} where a varint must be")),
        }
    }

    fn fixed(&self) -> Read<u64> {
        match self {
            Field::Fixed64(value) => Ok(*value),
            other => Err(format!("{other:?} where a fixed64 must be")),
        }
    }
}

fn varint(bytes: &mut &[u8]) -> Read<u64> {
    let mut value = 0;
    for shift in (0..70).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("a varint ends early")?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a varint is too long".to_owned())
}

fn take<'a>(bytes: &mut &'a [u8], count: usize) -> Read<&'a [u8]> {
    if bytes.len() < count {
        return Err("a field ends early".to_owned());
    }
    let (taken, rest) = bytes.split_at(count);
    *bytes = rest;
    Ok(taken)
}

fn fields(mut bytes: &[u8]) -> Read<Vec<(u64, Field<'_>)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Varint(varint(&mut bytes)?),
            1 => Field::Fixed64(u64::from_le_bytes(take(&mut bytes, 8)?.try_into().unwrap())),
            2 => {
                let length = varint(&mut bytes)? as usize;
                Field::Bytes(take(&mut bytes, length)?)
            }
            wire => return Err(format!("wire type {wire}")),
        };
        fields.push((tag >> 3, field));
    }
    Ok(fields)
}

fn unknown(message: &str, number: u64) -> String {
    format!("{message} has no field {number}")
}

/// `ExportTraceServiceRequest`.
fn spans(body: &[u8]) -> Read<Vec<Span>> {
    let mut all = Vec::new();
    for (resource, scope, number, field) in scoped(body)? {
        match number {
            2 => all.push(Span {
                resource,
                scope,
                ..span(field.bytes()?)?
            }),
            number => return Err(unknown("ScopeSpans", number)),
        }
    }
    Ok(all)
}

type Scoped<'a> = (BTreeMap<String, Value>, String, u64, Field<'a>);

/// The parts below resources and scopes, which are the same in traces and metrics.
fn scoped(body: &[u8]) -> Read<Vec<Scoped<'_>>> {
    let mut all = Vec::new();
    for (number, one) in fields(body)? {
        if number != 1 {
            return Err(unknown("the request", number));
        }
        let mut resource = BTreeMap::new();
        for (number, field) in fields(one.bytes()?)? {
            match number {
                1 => {
                    for (number, field) in fields(field.bytes()?)? {
                        match number {
                            1 => pair(field.bytes()?, &mut resource)?,
                            number => return Err(unknown("Resource", number)),
                        }
                    }
                }
                2 => {
                    let mut scope = String::new();
                    for (number, field) in fields(field.bytes()?)? {
                        match number {
                            1 => {
                                for (number, field) in fields(field.bytes()?)? {
                                    match number {
                                        1 => scope = field.text()?,
                                        number => return Err(unknown("Scope", number)),
                                    }
                                }
                            }
                            number => all.push((resource.clone(), scope.clone(), number, field)),
                        }
                    }
                }
                3 => {
                    field.text()?;
                }
                number => return Err(unknown("ResourceSpans", number)),
            }
        }
    }
    Ok(all)
}

fn span(bytes: &[u8]) -> Read<Span> {
    let mut span = Span::default();
    for (number, field) in fields(bytes)? {
        match number {
            1 => span.trace = field.hex(16)?,
            2 => span.id = field.hex(8)?,
            3 => span.state = field.text()?,
            4 => span.parent = field.hex(8)?,
            5 => span.name = field.text()?,
            6 => span.kind = field.number()?,
            7 => span.start = field.fixed()?,
            8 => span.end = field.fixed()?,
            9 => pair(field.bytes()?, &mut span.attributes)?,
            11 => {
                for (number, field) in fields(field.bytes()?)? {
                    match number {
                        1 => assert!(field.fixed()? > 0),
                        2 => span.events.push(field.text()?),
                        3 => pair(field.bytes()?, &mut BTreeMap::new())?,
                        number => return Err(unknown("Event", number)),
                    }
                }
            }
            13 => {
                for (number, field) in fields(field.bytes()?)? {
                    match number {
                        1 => span.links.push(field.hex(16)?),
                        2 => drop(field.hex(8)?),
                        number => return Err(unknown("Link", number)),
                    }
                }
            }
            15 => {
                for (number, field) in fields(field.bytes()?)? {
                    match number {
                        2 => span.message = field.text()?,
                        3 => span.status = field.number()?,
                        number => return Err(unknown("Status", number)),
                    }
                }
            }
            number => return Err(unknown("Span", number)),
        }
    }
    if span.end < span.start || span.name.is_empty() || span.trace.is_empty() {
        return Err(format!("an odd span: {span:?}"));
    }
    Ok(span)
}

/// `KeyValue`.
fn pair(bytes: &[u8], into: &mut BTreeMap<String, Value>) -> Read<()> {
    let (mut name, mut value) = (String::new(), Value::Null);
    for (number, field) in fields(bytes)? {
        match number {
            1 => name = field.text()?,
            2 => value = any(field.bytes()?)?,
            number => return Err(unknown("KeyValue", number)),
        }
    }
    match into.insert(name.clone(), value) {
        None => Ok(()),
        Some(_) => Err(format!("{name} is there twice")),
    }
}

fn any(bytes: &[u8]) -> Read<Value> {
    let all = fields(bytes)?;
    let [(number, field)] = &all[..] else {
        return Err(format!("AnyValue with {} values", all.len()));
    };
    Ok(match number {
        1 => json!(field.text()?),
        2 => json!(field.number()? == 1),
        3 => json!(field.number()?.cast_signed()),
        4 => json!(f64::from_bits(field.fixed()?)),
        5 => {
            let mut list = Vec::new();
            for (_, item) in fields(field.bytes()?)? {
                list.push(any(item.bytes()?)?);
            }
            Value::Array(list)
        }
        number => return Err(unknown("AnyValue", *number)),
    })
}

/// `ExportMetricsServiceRequest`.
fn metrics(body: &[u8]) -> Read<Vec<Metric>> {
    let mut all = Vec::new();
    for (resource, _, number, field) in scoped(body)? {
        if number != 2 {
            return Err(unknown("ScopeMetrics", number));
        }
        let mut base = Metric {
            resource,
            ..Metric::default()
        };
        for (number, field) in fields(field.bytes()?)? {
            match number {
                1 => base.name = field.text()?,
                2 => drop(field.text()?),
                3 => base.unit = field.text()?,
                7 | 9 => {
                    for (inner, field) in fields(field.bytes()?)? {
                        match (number, inner) {
                            (_, 1) => all.push(point(field.bytes()?, base.clone(), number == 9)?),
                            (_, 2) => assert_eq!(field.number()?, 2, "cumulative"),
                            (7, 3) => assert_eq!(field.number()?, 1, "monotonic"),
                            (_, inner) => return Err(unknown("the data", inner)),
                        }
                    }
                }
                number => return Err(unknown("Metric", number)),
            }
        }
    }
    Ok(all)
}

fn point(bytes: &[u8], mut metric: Metric, histogram: bool) -> Read<Metric> {
    let mut bounds = 0;
    for (number, field) in fields(bytes)? {
        match (histogram, number) {
            (_, 2 | 3) => assert!(field.fixed()? > 0),
            (false, 4) => metric.value = f64::from_bits(field.fixed()?),
            (false, 6) => metric.value = field.fixed()? as f64,
            (false, 7) | (true, 9) => pair(field.bytes()?, &mut metric.labels)?,
            (true, 4) => metric.count = field.fixed()?,
            (true, 5) => metric.sum = f64::from_bits(field.fixed()?),
            (true, 6) => metric.buckets = field.bytes()?.len() / 8,
            (true, 7) => bounds = field.bytes()?.len() / 8,
            (true, 8) => metric.examples += 1,
            (true, 11 | 12) => drop(field.fixed()?),
            (_, number) => return Err(unknown("the point", number)),
        }
    }
    if histogram && metric.buckets != bounds + 1 {
        return Err(format!("{} buckets for {bounds} bounds", metric.buckets));
    }
    Ok(metric)
}
