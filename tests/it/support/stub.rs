//! A backend whose responses are data: routes in the format of the conformance cases.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use socket2::SockRef;

use super::Json;

/// Headers of a request that an `echo` response leaves out: they belong to the connection, not to the call.
const NOT_ECHOED: [&str; 9] = [
    "host",
    "accept-encoding",
    "user-agent",
    "connection",
    "content-length",
    "transfer-encoding",
    "x-forwarded-via",
    "x-forwarded-host",
    "x-forwarded-for",
];

/// One request as the backend received it.
#[derive(Debug, Clone)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case; repeated headers stay separate.
    pub headers: BTreeMap<String, Vec<String>>,
    pub body: Vec<u8>,
}

impl Seen {
    /// The first header with `name` (in lower case).
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .get(name)
            .and_then(|v| v.first())
            .map(String::as_str)
    }
}

/// Fills in the placeholders of a case.
pub type Fill = Arc<dyn Fn(&str) -> String + Send + Sync>;

struct Script {
    routes: Vec<Json>,
    hits: HashMap<usize, usize>,
    seen: Vec<Seen>,
    fill: Fill,
}

/// The running backend; its socket closes when it is dropped.
pub struct Stub {
    port: u16,
    script: Arc<Mutex<Script>>,
    stopped: Arc<AtomicBool>,
}

impl Stub {
    /// A backend without routes: every request gets 404.
    pub fn start() -> Self {
        Self::start_at(0)
    }

    /// The same on this port, for a backend that starts later than the gateway.
    pub fn start_at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let fill: Fill = Arc::new(str::to_owned);
        let script = Script {
            routes: Vec::new(),
            hits: HashMap::new(),
            seen: Vec::new(),
            fill,
        };
        let (script, stopped) = (
            Arc::new(Mutex::new(script)),
            Arc::new(AtomicBool::new(false)),
        );
        let (shared, stop) = (script.clone(), stopped.clone());
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if stop.load(Ordering::Relaxed) {
                    return;
                }
                let script = shared.clone();
                std::thread::spawn(move || serve(stream, &script));
            }
        });
        Self {
            port,
            script,
            stopped,
        }
    }

    /// A backend with these routes, as a JSON list.
    pub fn with(routes: &str) -> Self {
        let stub = Self::start();
        let routes = Json::parse(routes).unwrap_or_else(|e| panic!("routes: {e}"));
        stub.load(routes.items().to_vec(), Arc::new(str::to_owned));
        stub
    }

    /// Replaces the routes and forgets the received requests.
    pub fn load(&self, routes: Vec<Json>, fill: Fill) {
        *self.script.lock().unwrap() = Script {
            routes,
            hits: HashMap::new(),
            seen: Vec::new(),
            fill,
        };
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The requests since the last call.
    pub fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.script.lock().unwrap().seen)
    }
}

impl Drop for Stub {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port)); // wakes the accept loop
    }
}

fn serve(stream: TcpStream, script: &Mutex<Script>) {
    let _ = stream.set_read_timeout(Some(Duration::from_secs(20)));
    let _ = stream.set_nodelay(true);
    let mut reader = BufReader::new(stream);
    while let Ok(true) = one_exchange(&mut reader, script) {}
}

/// The text of a line: UTF-8, or Latin-1 if it is not UTF-8.
fn text(bytes: &[u8]) -> String {
    match std::str::from_utf8(bytes) {
        Ok(s) => s.to_owned(),
        Err(_) => bytes.iter().copied().map(char::from).collect(),
    }
}

fn line(reader: &mut BufReader<TcpStream>) -> io::Result<String> {
    let mut line = Vec::new();
    reader.read_until(b'\n', &mut line)?;
    Ok(text(&line).trim_end_matches(['\r', '\n']).to_owned())
}

fn odd(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what.to_owned())
}

/// Responds to one request. `Ok(true)` if the connection can have another one.
fn one_exchange(reader: &mut BufReader<TcpStream>, script: &Mutex<Script>) -> io::Result<bool> {
    let first = line(reader)?;
    if first.trim().is_empty() {
        return Ok(false);
    }
    let (method, rest) = first
        .split_once(' ')
        .ok_or_else(|| odd("no request line"))?;
    let target = rest.rsplit_once(' ').map_or(rest, |(target, _)| target);
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    loop {
        let line = line(reader)?;
        if line.is_empty() {
            break;
        }
        let (name, value) = line.split_once(':').unwrap_or((&line, ""));
        headers
            .entry(name.trim().to_lowercase())
            .or_default()
            .push(value.trim().to_owned());
    }
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let body = read_body(reader, &headers)?;
    let seen = Seen {
        method: method.to_owned(),
        path: path.to_owned(),
        query: query.to_owned(),
        headers,
        body,
    };
    let (route, fill) = choose(&seen, script);
    if let Some(other) = route.field("waits_for").and_then(Json::text) {
        wait_for(other, script);
    }
    response(reader.get_mut(), &route, &fill, &seen)
}

/// Waits until a request for `path` has come, so that two calls surely overlap.
fn wait_for(path: &str, script: &Mutex<Script>) {
    let end = Instant::now() + Duration::from_secs(20);
    let has_come = || {
        script
            .lock()
            .unwrap()
            .seen
            .iter()
            .any(|seen| seen.path == path)
    };
    while !has_come() && Instant::now() < end {
        super::pause(Duration::from_millis(2));
    }
}

fn read_body(
    reader: &mut BufReader<TcpStream>,
    headers: &BTreeMap<String, Vec<String>>,
) -> io::Result<Vec<u8>> {
    let last = |name: &str| {
        headers
            .get(name)
            .and_then(|v| v.last())
            .map_or("", String::as_str)
    };
    if last("expect").eq_ignore_ascii_case("100-continue") {
        reader
            .get_mut()
            .write_all(b"HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    let mut body = Vec::new();
    if last("transfer-encoding").contains("chunked") {
        loop {
            let size = line(reader)?;
            let size = size.split(';').next().unwrap_or("").trim();
            let size = usize::from_str_radix(size, 16).map_err(|_| odd("no chunk size"))?;
            if size == 0 {
                while !line(reader)?.is_empty() {}
                return Ok(body);
            }
            let start = body.len();
            body.resize(start + size, 0);
            reader.read_exact(&mut body[start..])?;
            line(reader)?;
        }
    }
    body.resize(last("content-length").parse().unwrap_or(0), 0);
    reader.read_exact(&mut body)?;
    Ok(body)
}

/// The first route that matches; notes the request unless the route is part of the infrastructure.
fn choose(seen: &Seen, script: &Mutex<Script>) -> (Json, Fill) {
    let mut script = script.lock().unwrap();
    let script = &mut *script;
    let found = script
        .routes
        .iter()
        .enumerate()
        .find(|(_, route)| fits(route, seen));
    let route = match found {
        None => Json::parse(
            r#"{"status": 404, "headers": {"Content-Type": "text/plain"}, "body": "no such route"}"#,
        )
        .unwrap(),
        Some((index, route)) => {
            let hit = script.hits.entry(index).or_insert(0);
            *hit += 1;
            let mut route = route.clone();
            let replies = route.field("replies").map(|r| r.items().to_vec()).unwrap_or_default();
            if let Some(reply) = replies.get((*hit).min(replies.len()).wrapping_sub(1)) {
                for (key, value) in reply.members() {
                    route.set(key, value.clone());
                }
            }
            route
        }
    };
    if !route.field("infra").is_some_and(Json::is_true) {
        script.seen.push(seen.clone());
    }
    (route, script.fill.clone())
}

fn fits(route: &Json, seen: &Seen) -> bool {
    let is = |key: &str, value: &str| route.field(key).is_none_or(|v| v.text() == Some(value));
    let method = route.field("method").and_then(Json::text).unwrap_or("*");
    let headers = route.field("when_header").map_or(&[][..], Json::members);
    (method == "*" || method == seen.method)
        && is("path", &seen.path)
        && is("query", &seen.query)
        && headers
            .iter()
            .all(|(k, v)| seen.header(&k.to_lowercase()) == v.text())
}

/// Headers of a route: a map, or a list of pairs; a list of values becomes several headers.
fn header_lines(route: &Json, fill: &Fill) -> Vec<(String, String)> {
    let mut lines = Vec::new();
    let mut add = |name: &str, value: &Json| match value {
        Json::Array(values) => lines.extend(
            values
                .iter()
                .filter_map(Json::text)
                .map(|v| (name.to_owned(), fill(v))),
        ),
        other => lines.push((name.to_owned(), fill(other.text().unwrap_or("")))),
    };
    match route.field("headers") {
        Some(Json::Object(members)) => members.iter().for_each(|(k, v)| add(k, v)),
        Some(Json::Array(pairs)) => {
            for pair in pairs {
                if let [name, value] = pair.items() {
                    add(name.text().unwrap_or(""), value);
                }
            }
        }
        _ => {}
    }
    lines
}

fn body_of(route: &Json, fill: &Fill, seen: &Seen) -> Vec<u8> {
    if route.field("echo").is_some_and(Json::is_true) {
        return echo(seen).into_bytes();
    }
    if let Some(encoded) = route.field("body_base64").and_then(Json::text) {
        return STANDARD.decode(encoded).unwrap_or_default();
    }
    let body = match route.field("body") {
        None => String::new(),
        Some(Json::String(s)) => fill(s),
        Some(value) => fill(&value.to_ascii()),
    };
    let times = route
        .field("body_repeat")
        .and_then(Json::number)
        .unwrap_or(1);
    body.repeat(usize::try_from(times).unwrap_or(1))
        .into_bytes()
}

fn echo(seen: &Seen) -> String {
    let headers = seen
        .headers
        .iter()
        .filter(|(k, _)| !NOT_ECHOED.contains(&k.as_str()));
    let headers = headers.map(|(k, values)| {
        let value = match values.as_slice() {
            [one] => Json::from(one.as_str()),
            many => Json::Array(many.iter().map(|v| Json::from(v.as_str())).collect()),
        };
        (k.clone(), value)
    });
    Json::Object(vec![
        (
            "body".into(),
            Json::from(&*String::from_utf8_lossy(&seen.body)),
        ),
        ("headers".into(), Json::Object(headers.collect())),
        ("method".into(), Json::from(seen.method.as_str())),
        ("path".into(), Json::from(seen.path.as_str())),
        ("query".into(), Json::from(seen.query.as_str())),
    ])
    .to_ascii()
}

fn response(stream: &mut TcpStream, route: &Json, fill: &Fill, seen: &Seen) -> io::Result<bool> {
    let flag = |key: &str| route.field(key).is_some_and(Json::is_true);
    if let Some(wait) = route.field("delay_ms").and_then(Json::number) {
        super::pause(Duration::from_millis(wait));
    }
    if flag("close") {
        SockRef::from(&*stream).set_linger(Some(Duration::ZERO))?;
        return Ok(false);
    }
    let status = route.field("status").and_then(Json::number).unwrap_or(200);
    let mut headers = header_lines(route, fill);
    let body = body_of(route, fill, seen);
    if flag("echo") && headers.is_empty() {
        headers.push(("Content-Type".into(), "application/json".into()));
    }
    let has = |name: &str| headers.iter().any(|(k, _)| k.eq_ignore_ascii_case(name));
    let bodiless = status < 200 || matches!(status, 204 | 304);
    let mut head = format!("HTTP/1.1 {status} Stub\r\n");
    if !has("date") {
        head += &format!("Date: {}\r\n", http_date(super::tokens::now()));
    }
    for (name, value) in &headers {
        head += &format!("{name}: {value}\r\n");
    }
    if flag("chunked") && !bodiless {
        head += "Transfer-Encoding: chunked\r\n";
    } else if !has("content-length") && !bodiless {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    head += "\r\n";
    let payload = if bodiless || seen.method == "HEAD" {
        Vec::new()
    } else if flag("chunked") {
        chunked(&body)
    } else {
        body
    };
    let mut out = head.into_bytes();
    if flag("truncate") {
        // The whole length is announced, half is sent, and then nothing more.
        out.extend_from_slice(&payload[..payload.len() / 2]);
        stream.write_all(&out)?;
        return Ok(false);
    }
    out.extend_from_slice(&payload);
    stream.write_all(&out)?;
    Ok(!seen
        .header("connection")
        .unwrap_or("")
        .to_lowercase()
        .contains("close"))
}

fn chunked(body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in body.chunks((body.len() / 3).max(1)) {
        out.extend_from_slice(format!("{:x}\r\n", part.len()).as_bytes());
        out.extend_from_slice(part);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"0\r\n\r\n");
    out
}

/// An IMF-fixdate (RFC 9110 §5.6.7) for these seconds since 1970.
pub fn http_date(seconds: u64) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let leap = |y: u64| y.is_multiple_of(4) && (!y.is_multiple_of(100) || y.is_multiple_of(400));
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (mut year, mut month, mut day) = (1970, 0, days);
    while day >= 365 + u64::from(leap(year)) {
        day -= 365 + u64::from(leap(year));
        year += 1;
    }
    let lengths = [
        31,
        28 + u64::from(leap(year)),
        31,
        30,
        31,
        30,
        31,
        31,
        30,
        31,
        30,
        31,
    ];
    while day >= lengths[month] {
        day -= lengths[month];
        month += 1;
    }
    let (name, month) = (DAYS[(days % 7) as usize], MONTHS[month]);
    let (hour, minute, second) = (rest / 3600, rest / 60 % 60, rest % 60);
    format!(
        "{name}, {:02} {month} {year} {hour:02}:{minute:02}:{second:02} GMT",
        day + 1
    )
}
