//! The gateway's own endpoints: health, debug, echo.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::runtime::agents::Agent;
use crate::runtime::forward::QueryRules;
use crate::runtime::heavy::aside_whole;
use crate::runtime::json::{self, Out, Style, Unmade, Value as JsonValue};
use crate::runtime::readiness::Readiness;
use crate::runtime::request::Head;
use crate::runtime::response::{Branding, Response};
use crate::telemetry::mask::{is_secret, masked_path, masked_query, shown_header};
use crate::telemetry::timestamp;
use crate::upstream::budget::Full;
use crate::upstream::title_case;

const JSON: HeaderValue = HeaderValue::from_static("application/json; charset=utf-8");

/// `GET /__health`: the response of KrakenD, with a plain time (KrakenD's monotonic suffix is an artefact).
///
/// The text is created once per second and thread, because probes are frequent and need no finer time. With agents it
/// is always new.
pub(super) fn health(agents: &[Agent]) -> Response {
    thread_local! {
        static MADE: RefCell<(u64, Bytes)> = const { RefCell::new((u64::MAX, Bytes::new())) };
    }
    let now = timestamp::now();
    if !agents.is_empty() {
        return json_response(StatusCode::OK, health_of(agents, now));
    }
    let body = MADE.with_borrow_mut(|(second, body)| {
        if *second != now.as_secs() {
            *second = now.as_secs();
            *body = healthy(now).into();
        }
        body.clone()
    });
    Response {
        body,
        ..json_response(StatusCode::OK, String::new())
    }
}

/// The body of [`health`] without agents.
pub(super) fn healthy(now: Duration) -> String {
    format!(r#"{{"agents":{{}},"now":"{}","status":"ok"}}"#, utc(now))
}

/// The time at which each agent was last connected. An agent that never was is absent, as in KrakenD; `stopped`, which
/// is ours, names those that are not connected now.
fn health_of(agents: &[Agent], now: Duration) -> String {
    let all = agents.iter().map(|agent| &agent.health);
    let times = all.clone().filter_map(|health| {
        let last = health.last()?;
        Some((health.name(), Value::from(utc(last))))
    });
    let times: BTreeMap<&str, Value> = times.collect();
    let mut stopped: Vec<&str> = all
        .filter(|health| health.is_stopped())
        .map(|health| health.name())
        .collect();
    stopped.sort_unstable();
    let mut text = format!(
        r#"{{"agents":{},"now":"{}","status":"ok""#,
        json!(times),
        utc(now)
    );
    if !stopped.is_empty() {
        let _ = write!(text, r#","stopped":{}"#, json!(stopped));
    }
    text.push('}');
    text
}

/// `GET /__ready`: 200 while requests are accepted, 503 before the first key sets have arrived and while the process
/// is draining.
pub(super) fn ready(draining: bool, readiness: Option<&Readiness>) -> Response {
    let (status, word) = if draining {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else if readiness.is_some_and(|readiness| !readiness.is_ready()) {
        (StatusCode::SERVICE_UNAVAILABLE, "waiting for key sets")
    } else {
        (StatusCode::OK, "ready")
    };
    json_response(status, format!(r#"{{"status":"{word}"}}"#))
}

/// `/__debug/*`: logs the request at DEBUG and responds with `pong`.
pub(super) fn debug(head: &Head<'_>, body: &Bytes) -> Result<Response, Full> {
    log::debug!("Method: {}", head.method);
    log::debug!("URL: {}", masked_path(head.path));
    log::debug!("Query: {}", masked_query(head.query.unwrap_or_default()));
    for (name, value) in head.headers {
        log::debug!(
            "Header: {name}: {}",
            match lossy(value.as_bytes()) {
                _ if secret(name) => "[redacted]".into(),
                text => shown_header(name.as_str(), &text).into_owned(),
            }
        );
    }
    log::debug!("Body: {}", shown_body(head, body));
    Ok(json_response(
        StatusCode::OK,
        r#"{"message":"pong"}"#.to_owned(),
    ))
}

/// `/__echo/*`: the request as JSON, with members in KrakenD's order.
///
/// # Errors
/// The process holds too much already: the text of a body can be six times as long as the body.
pub(super) fn echo(head: &Head<'_>, body: &Bytes) -> Result<Response, Full> {
    let query = head.query.unwrap_or_default();
    let fields = head.headers.values().map(|value| FIELD + value.len());
    let head_size = fields.sum::<usize>() + pairs_size(query) + 4 * (head.path.len() + query.len());
    let _held = json::charge_bytes(head_size)?;
    let uri = match head.query {
        Some(query) => format!("{}?{query}", head.path),
        None => head.path.to_owned(),
    };
    let mut headers: BTreeMap<String, Vec<JsonValue>> = BTreeMap::new();
    for (name, value) in head.headers {
        if name != header::HOST {
            headers
                .entry(title_case(name.as_str()))
                .or_default()
                .push(JsonValue::string(lossy(value.as_bytes())));
        }
    }
    let headers = headers.into_iter();
    let path = percent_encoding::percent_decode_str(head.path).decode_utf8_lossy();
    let details = [
        ("fragment", ""),
        ("host", head.host()),
        ("path", &path),
        ("query", query),
        ("user", ""),
    ];
    let details = details.map(|(name, text)| (name.into(), JsonValue::string(text)));
    let echo = Echo {
        before: [
            ("req_uri", JsonValue::string(uri)),
            ("req_uri_details", JsonValue::Object(details.into())),
            ("req_method", JsonValue::string(head.method.as_str())),
            ("req_querystring", query_map(query)),
        ],
        body,
        headers: JsonValue::Object(
            headers
                .map(|(name, values)| (name.into(), JsonValue::Array(values)))
                .collect(),
        ),
    };
    let size = 256 + head_size + body.len();
    let body = aside_whole(size, || json::made(&echo, size))?;
    Ok(Response {
        body,
        ..json_response(StatusCode::OK, String::new())
    })
}

/// What [`echo`] shows of a request. The body is not copied before it is written.
struct Echo<'e> {
    before: [(&'static str, JsonValue); 4],
    body: &'e [u8],
    headers: JsonValue,
}

impl Unmade for Echo<'_> {
    fn write(&self, out: &mut impl Out) {
        out.put(b"{");
        for (name, value) in &self.before {
            json::write_string(out, name);
            out.put(b":");
            json::write(out, value, Style::Canonical);
            out.put(b",");
        }
        out.put(b"\"req_body\":");
        json::write_lossy(out, self.body);
        out.put(b",\"req_headers\":");
        json::write(out, &self.headers, Style::Canonical);
        out.put(b"}");
    }
}

/// A header, or a pair of a query, with its place in a map.
const FIELD: usize = 256;

/// What the pairs of a query take.
fn pairs_size(query: &str) -> usize {
    let count = memchr::memchr_iter(b'&', query.as_bytes()).count();
    FIELD * count + 2 * query.len()
}

fn json_response(status: StatusCode, body: String) -> Response {
    let mut response = Response::empty(status).with(header::CONTENT_TYPE, JSON);
    response.body = Bytes::from(body);
    response.branding = Branding::None;
    response
}

/// Parses a query as KrakenD does: pairs with a `;` or an invalid escape are dropped.
fn query_map(query: &str) -> JsonValue {
    let mut map: BTreeMap<String, Vec<JsonValue>> = BTreeMap::new();
    for pair in &QueryRules::All.pairs(Some(query), None) {
        let values = map.entry(lossy(&pair.name)).or_default();
        values.push(JsonValue::string(lossy(&pair.value)));
    }
    let map = map.into_iter();
    JsonValue::Object(
        map.map(|(name, values)| (name.into(), JsonValue::Array(values)))
            .collect(),
    )
}

fn secret(name: &http::HeaderName) -> bool {
    *name == header::AUTHORIZATION
        || *name == header::COOKIE
        || *name == header::PROXY_AUTHORIZATION
        || is_secret(name.as_str())
}

/// A form is written like a query, and may be a login.
fn shown_body(head: &Head<'_>, body: &Bytes) -> String {
    const FORM: &str = "application/x-www-form-urlencoded";
    let kind = head.header(&header::CONTENT_TYPE).unwrap_or_default();
    let is_form = kind
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case(FORM));
    if is_form {
        masked_query(&lossy(body))
    } else {
        lossy(body)
    }
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// `2026-11-23 22:25:03.669036613 +0000 UTC` for a time since the epoch.
fn utc(since_epoch: Duration) -> String {
    let (days, seconds) = (
        since_epoch.as_secs() / 86_400,
        since_epoch.as_secs() % 86_400,
    );
    let (year, month, day) = civil(days);
    format!(
        "{year:04}-{month:02}-{day:02} {:02}:{:02}:{:02}.{:09} +0000 UTC",
        seconds / 3600,
        seconds / 60 % 60,
        seconds % 60,
        since_epoch.subsec_nanos()
    )
}

/// Year, month and day of a number of days since 1970-01-01 (proleptic Gregorian, eras of 400 years).
fn civil(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let (era, day_of_era) = (days / 146_097, days % 146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted = (5 * day_of_year + 2) / 153;
    let month = if shifted < 10 {
        shifted + 3
    } else {
        shifted - 9
    };
    let day = day_of_year - (153 * shifted + 2) / 5 + 1;
    (era * 400 + year_of_era + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use http::{HeaderMap, Method};

    use super::*;
    use crate::runtime::request::Host;

    #[test]
    fn the_time_is_that_of_krakend_without_its_suffix() {
        assert_eq!(
            utc(Duration::new(1_763_936_703, 669_036_613)),
            "2025-11-23 22:25:03.669036613 +0000 UTC"
        );
        assert_eq!(civil(59), (1970, 3, 1));
        assert_eq!(civil(19_782), (2024, 2, 29));
    }

    #[test]
    fn the_echo_contains_the_request_in_order() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("1"));
        headers.insert("host", HeaderValue::from_static("gw"));
        let address = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let head = Head {
            method: &Method::POST,
            path: "/__echo/a%20b",
            query: Some("q=1&q=2"),
            headers: &headers,
            host: Host::Given("gw"),
            peer: address,
            client: address,
            secure: false,
            certificate: None,
        };
        let body = echo(&head, &Bytes::from_static(b"hi\xff\x01<"))
            .unwrap()
            .body;
        let text = String::from_utf8(body.to_vec()).unwrap();
        assert!(
            text.starts_with(r#"{"req_uri":"/__echo/a%20b?q=1\u0026q=2","req_uri_details":{"#),
            "{text}"
        );
        let value: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["req_body"], "hi\u{fffd}\u{1}<");
        assert_eq!(value["req_querystring"]["q"], json!(["1", "2"]));
        assert_eq!(value["req_headers"], json!({"X-A": ["1"]}));
        assert_eq!(value["req_uri_details"]["path"], "/__echo/a b");
    }
}
