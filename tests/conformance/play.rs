//! One case: a stub, a gateway, the exchanges in order.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::compare;
use super::support::ports::Closed;
use super::support::stub::Fill;
use super::support::{Client, Gateway, Json, Response, Stub, pause, ports};

const START: Duration = Duration::from_secs(60);
const CLIENT: Duration = Duration::from_secs(30);
const STOP: Duration = Duration::from_secs(2);

/// Plays `case`; the first difference, if there is one.
pub fn play(case: &Json, stub: &Stub) -> Option<String> {
    let (port, closed) = (ports::free(), Closed::new());
    let fill = filler(stub.port(), port, closed.port());
    stub.load(
        case.field("backend").map_or(&[][..], Json::items).to_vec(),
        fill.clone(),
    );
    let config = configuration(case, port, &fill);
    let files: Vec<(String, String)> = case
        .field("files")
        .map_or(&[][..], Json::members)
        .iter()
        .map(|(name, content)| (name.clone(), fill(content.text().unwrap_or(""))))
        .collect();
    let files: Vec<(&str, &str)> = files
        .iter()
        .map(|(n, c)| (n.as_str(), c.as_str()))
        .collect();
    let gateway = Gateway::spawn(port, &config, &files, &[]);
    let ready = gateway.listens(START);
    let difference = match case.field("start").and_then(Json::text) {
        Some("fails") => rejection(case, &gateway, ready),
        _ if !ready => Some(silence(&gateway)),
        _ => exchanges(case, stub, &gateway, &fill),
    };
    gateway.stop(STOP);
    difference
}

fn filler(stub: u16, port: u16, closed: u16) -> Fill {
    let table = [
        ("{{BACKEND}}", format!("http://127.0.0.1:{stub}")),
        ("{{BACKEND_HOSTPORT}}", format!("127.0.0.1:{stub}")),
        ("{{BACKEND_PORT}}", stub.to_string()),
        ("{{PORT}}", port.to_string()),
        ("{{CLOSED}}", format!("http://127.0.0.1:{closed}")),
        ("{{CLOSED_HOSTPORT}}", format!("127.0.0.1:{closed}")),
    ];
    Arc::new(move |s| {
        table
            .iter()
            .fold(s.to_owned(), |s, (from, to)| s.replace(from, to))
    })
}

fn configuration(case: &Json, port: u16, fill: &Fill) -> String {
    if let Some(text) = case.field("config_text").and_then(Json::text) {
        return fill(text);
    }
    let mut config = case.field("config").cloned().unwrap_or(Json::Null);
    config.set("port", Json::from(port));
    fill(&config.to_text())
}

/// The gateway must have ended by itself, without listening, and have said why.
fn rejection(case: &Json, gateway: &Gateway, ready: bool) -> Option<String> {
    if ready {
        return Some("the gateway started, it must refuse this configuration".to_owned());
    }
    let Some(status) = gateway.ended() else {
        return Some("the gateway neither listened nor ended".to_owned());
    };
    if status.success() && !case.field("exit_any").is_some_and(Json::is_true) {
        return Some("the gateway ended with status 0, it must end with an error".to_owned());
    }
    let output = gateway.output().to_lowercase();
    let words = case.field("error_contains").map_or(&[][..], Json::items);
    let missing = words
        .iter()
        .filter_map(Json::text)
        .find(|w| !output.contains(&w.to_lowercase()));
    missing.map(|w| {
        format!(
            "output does not mention {w:?}: {}",
            compare::short(&gateway.output())
        )
    })
}

fn silence(gateway: &Gateway) -> String {
    let state = if gateway.ended().is_some() {
        "ended"
    } else {
        "did not answer"
    };
    let output = gateway.output();
    let from = output.char_indices().rev().nth(300).map_or(0, |(i, _)| i);
    format!("the gateway {state} at start: {}", output[from..].trim())
}

fn exchanges(case: &Json, stub: &Stub, gateway: &Gateway, fill: &Fill) -> Option<String> {
    let keys = case.field("verify_keys").map_or(&[][..], Json::items);
    for (i, exchange) in case
        .field("exchanges")
        .map_or(&[][..], Json::items)
        .iter()
        .enumerate()
    {
        let number = |key: &str| exchange.field(key).and_then(Json::number);
        pause(Duration::from_millis(
            number("pause_ms_before").unwrap_or(0),
        ));
        for _ in 0..number("repeat").unwrap_or(1) {
            if let Some(why) = one(exchange, stub, gateway.port(), fill, keys) {
                let request = exchange.field("request");
                let part = |key: &str, other| {
                    request
                        .and_then(|r| r.field(key))
                        .and_then(Json::text)
                        .unwrap_or(other)
                };
                let (method, path) = (part("method", "GET"), part("path", "(raw)"));
                return Some(format!("exchange {} ({method} {path}): {why}", i + 1));
            }
        }
    }
    None
}

fn one(exchange: &Json, stub: &Stub, port: u16, fill: &Fill, keys: &[Json]) -> Option<String> {
    stub.take_seen();
    let start = Instant::now();
    let response = match send(port, exchange.field("request")?, fill) {
        Ok(response) => response,
        Err(e) => return Some(format!("no answer ({e})")),
    };
    let took = start.elapsed().as_millis();
    let settle = exchange
        .field("settle_ms")
        .and_then(Json::number)
        .unwrap_or(0);
    pause(Duration::from_millis(settle));
    let seen = stub.take_seen();
    let expect = exchange.field("expect")?;
    if let Some(why) = compare::response(expect, &response, fill, keys) {
        return Some(why);
    }
    let bound = |key: &str| expect.field(key).and_then(Json::number).map(u128::from);
    if let Some(most) = bound("max_ms").filter(|most| took > *most) {
        return Some(format!("took {took} ms, want at most {most}"));
    }
    if let Some(least) = bound("min_ms").filter(|least| took < *least) {
        return Some(format!("took {took} ms, want at least {least}"));
    }
    exchange
        .field("upstream_saw")
        .and_then(|want| compare::upstream(want.items(), &seen, fill))
}

/// One request on a connection of its own.
fn send(port: u16, request: &Json, fill: &Fill) -> io::Result<Response> {
    let method = request
        .field("method")
        .and_then(Json::text)
        .unwrap_or("GET");
    let mut client = Client::connect(port)?.timeout(CLIENT);
    // A gateway may answer and close before it has read a large body: the answer counts.
    let sent = client.send(bytes_of(port, method, request, fill));
    client.response(method).or_else(|e| sent.and(Err(e)))
}

fn bytes_of(port: u16, method: &str, request: &Json, fill: &Fill) -> Vec<u8> {
    let text = |key: &str| request.field(key).and_then(Json::text);
    if let Some(raw) = text("raw") {
        return fill(raw).into_bytes();
    }
    let times = request
        .field("body_repeat")
        .and_then(Json::number)
        .unwrap_or(1);
    let body = match (text("body_base64"), text("body")) {
        (Some(encoded), _) => Some(STANDARD.decode(encoded).unwrap()),
        (None, Some(body)) => Some(
            fill(body)
                .repeat(usize::try_from(times).unwrap())
                .into_bytes(),
        ),
        (None, None) => None,
    };
    let headers = request.field("headers").map_or(&[][..], Json::items).iter();
    let headers: Vec<(String, String)> = headers
        .filter_map(|pair| match pair.items() {
            [name, value] => Some((name.text()?.to_owned(), fill(value.text()?))),
            _ => None,
        })
        .collect();
    let has = |name: &str| headers.iter().any(|(k, _)| k.eq_ignore_ascii_case(name));
    let mut out = format!(
        "{method} {} HTTP/1.1\r\n",
        fill(text("path").unwrap_or("/"))
    );
    if !has("host") {
        out += &format!("Host: 127.0.0.1:{port}\r\n");
    }
    for (name, value) in &headers {
        out += &format!("{name}: {value}\r\n");
    }
    let chunked = request.field("chunked").is_some_and(Json::is_true);
    let Some(body) = body else {
        return (out + "\r\n").into_bytes();
    };
    if chunked {
        out += &format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n", body.len());
        return [out.as_bytes(), &body, b"\r\n0\r\n\r\n"].concat();
    }
    if !has("content-length") {
        out += &format!("Content-Length: {}\r\n", body.len());
    }
    [out.as_bytes(), b"\r\n", &body].concat()
}
