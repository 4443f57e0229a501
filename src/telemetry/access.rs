//! The access log: one line for each request, and its errors.

mod pattern;

use std::borrow::Cow;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;

use crate::telemetry::gelf::{self, Gelf};
use crate::telemetry::moment::{cut_latency, push_gin_date, push_go_duration, rfc3339};
use crate::telemetry::sink::{Output, Sink};
use crate::telemetry::syslog::{self, Facility, Severity, Syslog};
use crate::telemetry::text::{masked_text, push_escaped, push_json, push_query, push_quoted};
use crate::telemetry::trace::{SpanId, TraceId};

pub use pattern::Pattern;

/// The members of a JSON line, in their order.
pub const FIELDS: [&str; 24] = [
    "time",
    "client",
    "method",
    "scheme",
    "host",
    "path",
    "query",
    "protocol",
    "status",
    "duration_ms",
    "bytes_in",
    "bytes_out",
    "endpoint",
    "refused",
    "request_id",
    "user_agent",
    "upstream",
    "upstream_status",
    "upstream_ms",
    "trace_id",
    "span_id",
    "trace_flags",
    "claim",
    "errors",
];

/// The settings of `portcullis/access-log`.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    pub format: AccessFormat,
    pub destination: Destination,
    pub query: Query,
    /// The fraction of requests that is logged, 0 to 1. Responses with status 500 and above are always logged.
    pub sample: f64,
    /// The members of a JSON line; empty: all of [`FIELDS`].
    pub fields: Box<[&'static str]>,
    /// The claim of the token that is shown under its own name.
    pub claim: Option<Box<str>>,
}

impl Settings {
    /// Checks that a log with these settings can be opened, without leaving anything behind.
    ///
    /// # Errors
    /// Why it cannot be opened.
    pub fn try_open(&self) -> io::Result<()> {
        match &self.destination {
            Destination::Stdout | Destination::Gelf(_) => Ok(()),
            Destination::Syslog { .. } => Syslog::connect().map(drop),
            Destination::File(path) => {
                let mut options = std::fs::OpenOptions::new();
                options.append(true);
                if path.exists() {
                    return options.open(path).map(drop);
                }
                options.create_new(true).open(path)?;
                std::fs::remove_file(path)
            }
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            format: AccessFormat::Gin,
            destination: Destination::Stdout,
            query: Query::Keep,
            sample: 1.0,
            fields: Box::default(),
            claim: None,
        }
    }
}

/// The format of a line.
#[derive(Debug, Clone, PartialEq)]
pub enum AccessFormat {
    /// `[GIN] 2026/11/23 - 22:22:08 | 429 | 33.099µs | …`, as in KrakenD.
    Gin,
    /// One JSON object.
    Json,
    /// A pattern of `telemetry/logging`.
    Pattern(Box<Pattern>),
}

/// The destination of lines.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    Stdout,
    File(PathBuf),
    Syslog { facility: Facility, tag: String },
    Gelf(gelf::Settings),
}

/// How query strings are logged. The values of token parameters are masked in any case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Query {
    Keep,
    Drop,
}

/// A finished request.
#[derive(Debug, Clone)]
pub struct AccessEvent<'a> {
    /// The time since the Unix epoch at the end of the request.
    pub since_1970: Duration,
    pub latency: Duration,
    pub status: u16,
    pub client: IpAddr,
    pub method: &'a str,
    /// Percent-encoded, as on the wire.
    pub path: &'a str,
    pub query: Option<&'a str>,
    /// The pattern of the endpoint. `None` for 404 and similar responses.
    pub endpoint: Option<&'a str>,
    /// Why a step rejected the request: `expired`, `rate_limited`.
    pub rejected: Option<&'a str>,
    pub request_id: Option<&'a str>,
    /// The address that a streamed request was sent to.
    pub upstream: Option<&'a str>,
    pub upstream_time: Option<Duration>,
    /// The size of the request body and of the response body in bytes.
    pub bytes_in: u64,
    pub bytes_out: u64,
    /// `http` or `https`.
    pub scheme: Option<&'a str>,
    pub host: Option<&'a str>,
    /// `HTTP/1.1` or `HTTP/2`.
    pub protocol: Option<&'a str>,
    pub user_agent: Option<&'a str>,
    pub upstream_status: Option<u16>,
    /// Trace, span, and whether they are recorded.
    pub trace: Option<(TraceId, SpanId, bool)>,
    /// The request's header fields.
    pub headers: Option<&'a HeaderMap>,
    /// The claims of the verified token.
    pub claims: Option<&'a serde_json::Map<String, serde_json::Value>>,
    /// Additional lines: `Error #01: …`.
    pub errors: &'a [Cow<'static, str>],
}

impl AccessEvent<'_> {
    /// A claim of the token, as text.
    fn claim(&self, name: &str) -> Option<String> {
        let value = self.claims?.get(name)?;
        Some(
            value
                .as_str()
                .map_or_else(|| value.to_string(), str::to_owned),
        )
    }

    /// An event of which only the time is known.
    pub fn at(since_1970: Duration) -> AccessEvent<'static> {
        AccessEvent {
            since_1970,
            latency: Duration::ZERO,
            status: 0,
            client: IpAddr::from([0, 0, 0, 0]),
            method: "",
            path: "",
            query: None,
            endpoint: None,
            rejected: None,
            request_id: None,
            upstream: None,
            upstream_time: None,
            bytes_in: 0,
            bytes_out: 0,
            scheme: None,
            host: None,
            protocol: None,
            user_agent: None,
            upstream_status: None,
            trace: None,
            headers: None,
            claims: None,
            errors: &[],
        }
    }
}

/// The access log of this process.
#[derive(Debug)]
pub struct AccessLog {
    settings: Settings,
    sink: Sink,
    seen: AtomicU64,
}

impl AccessLog {
    /// Opens the log.
    ///
    /// # Errors
    /// Its file cannot be opened, or no syslog daemon listens.
    pub fn open(settings: Settings) -> io::Result<AccessLog> {
        let output = match &settings.destination {
            Destination::Stdout => Output::Stdout,
            Destination::File(path) => Output::File(path.clone()),
            Destination::Syslog { .. } => Output::Syslog(Syslog::connect()?),
            Destination::Gelf(gelf) => Output::Gelf(Gelf::new(gelf.clone())),
        };
        AccessLog::over(settings, output)
    }

    /// A log that writes to `output`, regardless of the destination in the settings.
    ///
    /// # Errors
    /// `output` cannot be opened.
    pub fn over(settings: Settings, output: Output) -> io::Result<AccessLog> {
        Ok(AccessLog {
            sink: Sink::open(output)?,
            settings,
            seen: AtomicU64::new(0),
        })
    }

    /// The settings it was opened with.
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Logs one request. Never blocks.
    pub fn record(&self, event: &AccessEvent<'_>) {
        if !self.is_sampled(event) {
            return;
        }
        let mut line = Vec::with_capacity(160);
        if let Destination::Syslog { facility, tag } = &self.settings.destination {
            syslog::push_header(*facility, Severity::Info, tag, event.since_1970, &mut line);
        }
        match &self.settings.format {
            AccessFormat::Gin => push_gin(event, self.settings.query, &mut line),
            AccessFormat::Json => push_object(event, &self.settings, &mut line),
            AccessFormat::Pattern(pattern) => pattern.push(event, self.settings.query, &mut line),
        }
        if let Destination::Gelf(_) = &self.settings.destination {
            line = in_gelf(event, &line);
        }
        self.sink.push(line);
    }

    /// Reopens the file, after a log rotation.
    pub fn reopen(&self) {
        self.sink.reopen();
    }

    /// Waits until everything is written, at most `limit`. For the end of the process.
    pub fn flush(&self, limit: Duration) {
        self.sink.flush(limit);
    }

    /// The number of lines that were dropped because the writer was too slow.
    pub fn dropped(&self) -> u64 {
        self.sink.dropped()
    }

    /// Selects every n-th request, evenly: random selection would distort small samples.
    fn is_sampled(&self, event: &AccessEvent<'_>) -> bool {
        if self.settings.sample >= 1.0 || event.status >= 500 {
            return true;
        }
        let n = self.seen.fetch_add(1, Ordering::Relaxed) as f64;
        (n * self.settings.sample).floor() < ((n + 1.0) * self.settings.sample).floor()
    }
}

/// Exactly as `[GIN] %v |%s %3d %s|%s %8v %s| %15s |%s %-7s %s %#v\n` prints it without colours.
fn push_gin(event: &AccessEvent<'_>, query: Query, out: &mut Vec<u8>) {
    out.extend_from_slice(b"[GIN] ");
    push_gin_date(event.since_1970, out);
    out.extend_from_slice(b" | ");
    let mut status = itoa::Buffer::new();
    push_right(status.format(event.status).as_bytes(), 3, out);
    out.extend_from_slice(b" | ");
    push_latency(event.latency, out);
    out.extend_from_slice(b" | ");
    push_address(event.client, out);
    out.extend_from_slice(b" | ");
    let start = out.len();
    push_escaped(event.method, out);
    let blanks = 7usize.saturating_sub(out.len() - start);
    out.extend(std::iter::repeat_n(b' ', blanks));
    out.extend_from_slice(b"  ");
    push_target(event, query, out);
    out.push(b'\n');
    for (index, error) in event.errors.iter().enumerate() {
        out.extend_from_slice(format!("Error #{:02}: ", index + 1).as_bytes());
        push_escaped(&masked_text(error), out);
        out.push(b'\n');
    }
}

fn push_latency(latency: Duration, out: &mut Vec<u8>) {
    let mut text = Vec::with_capacity(16);
    push_go_duration(cut_latency(latency), &mut text);
    // `µ` is two bytes but one column.
    let columns = String::from_utf8_lossy(&text).chars().count();
    out.extend(std::iter::repeat_n(b' ', 8usize.saturating_sub(columns)));
    out.extend_from_slice(&text);
}

fn push_address(address: IpAddr, out: &mut Vec<u8>) {
    use std::io::Write;
    // Writing to a Vec cannot fail.
    let _ = write!(out, "{address:>15}");
}

fn push_right(text: &[u8], width: usize, out: &mut Vec<u8>) {
    out.extend(std::iter::repeat_n(b' ', width.saturating_sub(text.len())));
    out.extend_from_slice(text);
}

/// The decoded path and the raw query, quoted as in Go.
fn push_target(event: &AccessEvent<'_>, query: Query, out: &mut Vec<u8>) {
    let mut target: Cow<'_, [u8]> = percent_encoding::percent_decode_str(event.path).into();
    if let (Some(raw), Query::Keep) = (event.query, query) {
        target.to_mut().push(b'?');
        push_query(raw, target.to_mut());
    }
    push_quoted(&target, out);
}

fn push_object(event: &AccessEvent<'_>, settings: &Settings, out: &mut Vec<u8>) {
    let mut object = Object::open(out);
    if settings.fields.is_empty() {
        FIELDS
            .iter()
            .for_each(|name| object.member(name, event, settings));
    } else {
        let fields = settings.fields.iter();
        fields.for_each(|name| object.member(name, event, settings));
    }
    out.extend_from_slice(b"}\n");
}

/// The line as one message, which also holds the errors.
fn in_gelf(event: &AccessEvent<'_>, line: &[u8]) -> Vec<u8> {
    let severity = if event.status >= 500 { 3 } else { 6 };
    let facts = gelf::Facts {
        status: Some(event.status),
        route: event.endpoint,
        trace: event.trace.map(|(trace, ..)| trace.to_string()),
    };
    gelf::message(
        event.since_1970,
        severity,
        &String::from_utf8_lossy(line),
        &facts,
    )
}

/// A JSON object that is being written. Absent values are omitted.
struct Object<'a> {
    out: &'a mut Vec<u8>,
    first: bool,
}

impl<'a> Object<'a> {
    fn open(out: &'a mut Vec<u8>) -> Object<'a> {
        out.push(b'{');
        Object { out, first: true }
    }

    fn key(&mut self, name: &str) {
        if !self.first {
            self.out.push(b',');
        }
        self.first = false;
        push_json(name, self.out);
        self.out.push(b':');
    }

    fn member(&mut self, name: &str, event: &AccessEvent<'_>, settings: &Settings) {
        match name {
            "time" => self.text(name, Some(&rfc3339(event.since_1970))),
            "client" => self.text(name, Some(&event.client.to_string())),
            "method" => self.text(name, Some(event.method)),
            "scheme" => self.text(name, event.scheme),
            "host" => self.text(name, event.host),
            "path" => self.text(name, Some(event.path)),
            "query" => self.query(event, settings.query),
            "protocol" => self.text(name, event.protocol),
            "status" => self.number(name, event.status),
            "duration_ms" => self.milliseconds(name, Some(event.latency)),
            "bytes_in" => self.number(name, event.bytes_in),
            "bytes_out" => self.number(name, event.bytes_out),
            "endpoint" => self.text(name, event.endpoint),
            "refused" => self.text(name, event.rejected),
            "request_id" => self.text(name, event.request_id),
            "user_agent" => self.text(name, event.user_agent),
            "upstream" => self.text(name, event.upstream),
            "upstream_status" => {
                if let Some(status) = event.upstream_status {
                    self.number(name, status);
                }
            }
            "upstream_ms" => self.milliseconds(name, event.upstream_time),
            "trace_id" => self.text(name, event.trace.map(|(id, ..)| id.to_string()).as_deref()),
            "span_id" => self.text(
                name,
                event.trace.map(|(_, id, _)| id.to_string()).as_deref(),
            ),
            "trace_flags" => {
                let flags = event
                    .trace
                    .map(|(.., sampled)| if sampled { "01" } else { "00" });
                self.text(name, flags);
            }
            "claim" => {
                if let Some(claim) = &settings.claim {
                    self.text(claim, event.claim(claim).as_deref());
                }
            }
            "errors" => self.texts(name, event.errors),
            _ => {}
        }
    }

    fn query(&mut self, event: &AccessEvent<'_>, query: Query) {
        if let (Some(raw), Query::Keep) = (event.query, query) {
            let mut masked = Vec::new();
            push_query(raw, &mut masked);
            self.text("query", Some(&String::from_utf8_lossy(&masked)));
        }
    }

    fn text(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.key(name);
            push_json(value, self.out);
        }
    }

    fn number(&mut self, name: &str, value: impl itoa::Integer) {
        self.key(name);
        let mut buffer = itoa::Buffer::new();
        self.out.extend_from_slice(buffer.format(value).as_bytes());
    }

    fn milliseconds(&mut self, name: &str, value: Option<Duration>) {
        if let Some(value) = value {
            self.key(name);
            let text = format!("{:.3}", value.as_secs_f64() * 1000.0);
            self.out.extend_from_slice(text.as_bytes());
        }
    }

    fn texts(&mut self, name: &str, values: &[Cow<'static, str>]) {
        if values.is_empty() {
            return;
        }
        self.key(name);
        for (index, value) in values.iter().enumerate() {
            self.out.push(if index == 0 { b'[' } else { b',' });
            push_json(&masked_text(value), self.out);
        }
        self.out.push(b']');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::moment;

    const WHEN: Duration = Duration::from_millis(1_795_472_528_000);

    fn event<'a>(path: &'a str, query: Option<&'a str>) -> AccessEvent<'a> {
        AccessEvent {
            since_1970: WHEN,
            latency: Duration::from_nanos(33_099),
            status: 429,
            client: IpAddr::from([127, 0, 0, 1]),
            method: "GET",
            path,
            query,
            endpoint: Some("/rl/{id}"),
            rejected: Some("rate_limited"),
            request_id: None,
            upstream: None,
            upstream_time: Some(Duration::from_micros(1500)),
            bytes_in: 0,
            bytes_out: 12,
            scheme: Some("http"),
            host: Some("h"),
            protocol: Some("HTTP/1.1"),
            user_agent: None,
            upstream_status: Some(200),
            trace: None,
            headers: None,
            claims: None,
            errors: &[],
        }
    }

    fn gin(event: &AccessEvent<'_>) -> String {
        let mut out = Vec::new();
        push_gin(event, Query::Keep, &mut out);
        String::from_utf8(out).unwrap()
    }

    fn date() -> String {
        moment::local(WHEN)
            .format("%Y/%m/%d - %H:%M:%S")
            .to_string()
    }

    #[test]
    fn the_line_has_exactly_the_bytes_of_krakend() {
        assert_eq!(
            gin(&event("/rl/cl", None)),
            format!(
                "[GIN] {} | 429 | 33.099µs |       127.0.0.1 | GET      \"/rl/cl\"\n",
                date()
            )
        );
    }

    #[test]
    fn columns_grow_if_necessary() {
        let line = gin(&AccessEvent {
            latency: Duration::from_nanos(1_378_999),
            client: "2001:db8::1:2:3:4".parse().unwrap(),
            method: "PROPFIND",
            ..event("/a", None)
        });
        let expected = " | 429 |   1.37ms | 2001:db8::1:2:3:4 | PROPFIND  \"/a\"\n";
        assert!(line.ends_with(expected), "{line}");
    }

    #[test]
    fn the_path_is_decoded_and_tokens_are_not_shown() {
        let line = gin(&event("/a%20%22b%0A", Some("x=%20&access_token=secret")));
        let expected = r#"GET      "/a \"b\n?x=%20&access_token=***""#;
        assert!(line.trim_end().ends_with(expected), "{line}");
        assert_eq!(line.lines().count(), 1);
    }

    #[test]
    fn errors_follow_on_separate_lines() {
        let errors = [
            "Token not found".into(),
            "second\nline".into(),
            "script: /a?key=SECRET".into(),
        ];
        let line = gin(&AccessEvent {
            errors: &errors,
            ..event("/a", None)
        });
        let lines: Vec<&str> = line.lines().skip(1).collect();
        assert_eq!(
            lines,
            [
                "Error #01: Token not found",
                "Error #02: second\\nline",
                "Error #03: script: /a?key=***"
            ]
        );
    }

    #[test]
    fn a_json_line_is_valid_json_for_any_client_input() {
        let errors = ["\"quoted\"".into()];
        let event = AccessEvent {
            method: "G\"ET",
            errors: &errors,
            ..event("/a%20b", Some("token=x&b=\"\u{1b}"))
        };
        let mut out = Vec::new();
        push_object(&event, &Settings::default(), &mut out);
        let json: serde_json::Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(json["method"], "G\"ET");
        assert_eq!(json["query"], "token=***&b=\"\u{1b}");
        assert_eq!(json["status"], 429);
        assert_eq!(json["upstream_ms"], 1.5);
        assert_eq!(json["errors"][0], "\"quoted\"");
        assert!(json.get("request_id").is_none());
        let mut out = Vec::new();
        let settings = Settings {
            query: Query::Drop,
            fields: ["status", "query", "claim"].into(),
            claim: Some("sub".into()),
            ..Settings::default()
        };
        push_object(&event, &settings, &mut out);
        assert_eq!(out, b"{\"status\":429}\n");
        assert!(!String::from_utf8(out).unwrap().contains("query"));
    }

    #[test]
    fn a_sample_is_even_and_contains_all_failures() {
        let settings = Settings {
            sample: 0.25,
            ..Settings::default()
        };
        let log = AccessLog::over(settings, Output::Writer(Box::new(io::sink()))).unwrap();
        let ok = event("/a", None);
        assert_eq!((0..100).filter(|_| log.is_sampled(&ok)).count(), 25);
        let failed = AccessEvent { status: 502, ..ok };
        assert!((0..10).all(|_| log.is_sampled(&failed)));
    }
}
