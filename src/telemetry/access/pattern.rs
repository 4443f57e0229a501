//! The shapes of KrakenD Enterprise's access log: `httpdCommon`, `httpdCombined`, `json`, `default`, `custom`.
//!
//! Values of clients are escaped, so that none of them can end a line or a quoted text.

use std::borrow::Cow;
use std::time::Duration;

use super::{AccessEvent, Query};
use crate::telemetry::mask::{masked_path, shown_header};
use crate::telemetry::sanitize::{
    MAX_VALUE, cut, is_printable, push_json, push_query, push_unprintable,
};
use crate::telemetry::timestamp::GoLayout;

/// A line as the file wants it.
#[derive(Debug, Clone, PartialEq)]
pub struct Pattern {
    pieces: Box<[Piece]>,
    /// Values are inside of JSON.
    json: bool,
    /// The text for a missing value.
    missing: Box<str>,
}

#[derive(Debug, Clone, PartialEq)]
enum Piece {
    Text(Box<str>),
    Variable(Variable),
}

#[derive(Debug, Clone, PartialEq)]
enum Variable {
    Prefix(Box<str>),
    Time(GoLayout),
    StatusCode,
    /// Nanoseconds in one unit, and its name.
    Latency(u32, &'static str),
    ClientIp,
    Method,
    Path,
    Uri,
    Host,
    Scheme,
    Proto,
    Query,
    Parameter(Box<str>),
    Header(Box<str>),
    Claim(Box<str>),
    RequestId,
    TraceId,
}

const DEFAULT: &str = "%{prefix} %{time} [AccessLog] |%{statusCode}| %{latencyMs} | %{clientIP} | %{method} %{path}\n";
const COMMON: &str = "%{clientIP} - - [%{time}] \"%{method} %{uri} %{proto}\" %{statusCode} -\n";
const COMBINED: &str = "%{clientIP} - - [%{time}] \"%{method} %{uri} %{proto}\" %{statusCode} - \"%{header.Referer}\" \"%{header.User-Agent}\"\n";
const JSON: &str = "{\"prefix\":\"%{prefix}\", \"time\":\"%{time}\", \"status_code\":%{statusCode}, \"latency\":\"%{latency}\", \"client_ip\":\"%{clientIP}\", \"method\":\"%{method}\", \"path\":\"%{path}\"}\n";
const LAYOUT: &str = "2006/01/02 - 15:04:05.000";

impl Pattern {
    /// The pattern of a named format, and what in it is not known; `None` for a name that is not known. `custom` is the
    /// pattern of that name. What is not known is written as it is.
    pub fn named(
        name: &str,
        custom: &str,
        prefix: &str,
        missing: &str,
    ) -> Option<(Pattern, Vec<String>)> {
        let text = match name {
            "default" => DEFAULT,
            "httpdCommon" => COMMON,
            "httpdCombined" | "httpdCombine" => COMBINED,
            "json" => JSON,
            "custom" => custom,
            _ => return None,
        };
        Some(Pattern::parse(text, prefix, missing))
    }

    fn parse(text: &str, prefix: &str, missing: &str) -> (Pattern, Vec<String>) {
        let (mut pieces, mut unknown) = (Vec::new(), Vec::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("%{") {
            let Some((name, behind)) = after.split_once('}') else {
                unknown.push(format!("%{{{after} is not closed"));
                break;
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.into()));
            }
            pieces.push(match variable(name, prefix) {
                Some(variable) => Piece::Variable(variable),
                None => {
                    unknown.push(format!("%{{{name}}} is not known"));
                    Piece::Text(format!("%{{{name}}}").into())
                }
            });
            rest = behind;
        }
        let end = if rest.ends_with('\n') { "" } else { "\n" };
        pieces.push(Piece::Text(format!("{rest}{end}").into()));
        let pattern = Pattern {
            json: text.trim_start().starts_with('{'),
            pieces: pieces.into(),
            missing: missing.into(),
        };
        (pattern, unknown)
    }

    /// Appends the line of one request.
    pub fn push(&self, event: &AccessEvent<'_>, query: Query, out: &mut Vec<u8>) {
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Variable(variable) => {
                    let value = variable.value(event, query);
                    let value = value.as_deref().unwrap_or(&self.missing);
                    self.push_value(value, out);
                }
            }
        }
    }

    fn push_value(&self, value: &str, out: &mut Vec<u8>) {
        if self.json {
            let mut quoted = Vec::with_capacity(value.len() + 2);
            push_json(value, &mut quoted);
            // The pattern has the quotes.
            let inner = quoted.len().saturating_sub(1);
            out.extend_from_slice(quoted.get(1..inner).unwrap_or_default());
            return;
        }
        for c in value.chars() {
            match c {
                '"' => out.extend_from_slice(b"\\x22"),
                '\\' => out.extend_from_slice(b"\\\\"),
                c if u32::from(c) < 0x100 && c.is_control() => {
                    out.extend_from_slice(format!("\\x{:02x}", u32::from(c)).as_bytes());
                }
                // Also what changes the direction of the text.
                c if !is_printable(c) => push_unprintable(c, out),
                c => out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
    }
}

fn variable(name: &str, prefix: &str) -> Option<Variable> {
    let (name, argument) = match name.split_once(':') {
        Some((name, argument)) => (name, Some(argument)),
        None => (name, None),
    };
    Some(match name {
        "prefix" => Variable::Prefix(prefix.into()),
        "time" => Variable::Time(GoLayout::parse(match argument {
            None => LAYOUT,
            Some("rfc3339") => "2006-01-02T15:04:05Z07:00",
            Some("kitchen") => "3:04PM",
            Some(layout) => layout,
        })),
        "statusCode" => Variable::StatusCode,
        "latency" => Variable::Latency(1_000_000_000, "s"),
        "latencyMs" => Variable::Latency(1_000_000, "ms"),
        "latencyUs" => Variable::Latency(1000, "us"),
        "latencyNs" => Variable::Latency(1, "ns"),
        "clientIP" => Variable::ClientIp,
        "method" => Variable::Method,
        "path" => Variable::Path,
        "uri" => Variable::Uri,
        "host" => Variable::Host,
        "scheme" => Variable::Scheme,
        "proto" => Variable::Proto,
        "query" => Variable::Query,
        "requestID" => Variable::RequestId,
        "traceID" => Variable::TraceId,
        _ => match name.split_once('.') {
            Some(("header", field)) => Variable::Header(field.to_ascii_lowercase().into()),
            Some(("query", parameter)) => Variable::Parameter(parameter.into()),
            Some(("jwt", claim)) => Variable::Claim(claim.into()),
            _ => return None,
        },
    })
}

impl Variable {
    fn value<'v>(&'v self, event: &'v AccessEvent<'_>, query: Query) -> Option<Cow<'v, str>> {
        let query_text = || {
            let raw = event.query.filter(|_| query == Query::Keep)?;
            let mut masked = Vec::new();
            push_query(raw, &mut masked);
            Some(String::from_utf8_lossy(&masked).into_owned())
        };
        Some(match self {
            Variable::Prefix(prefix) => Cow::Borrowed(&**prefix),
            Variable::Time(layout) => layout.print(event.since_1970).into(),
            Variable::StatusCode => event.status.to_string().into(),
            Variable::Latency(unit, name) => latency(event.latency, *unit, name).into(),
            Variable::ClientIp => event.client.to_string().into(),
            Variable::Method => event.method.into(),
            Variable::Path => masked_path(event.path),
            Variable::Uri => match query_text() {
                Some(query) => format!("{}?{query}", masked_path(event.path)).into(),
                None => masked_path(event.path),
            },
            Variable::Host => event.host?.into(),
            Variable::Scheme => event.scheme?.into(),
            Variable::Proto => match event.protocol? {
                "HTTP/2" => "HTTP/2.0".into(),
                other => other.into(),
            },
            Variable::Query => query_text()?.into(),
            Variable::Parameter(name) => {
                let all = query_text()?;
                let mut pairs = all.split('&').filter_map(|pair| pair.split_once('='));
                let found = pairs.find(|(known, _)| *known == &**name)?;
                found.1.to_owned().into()
            }
            Variable::Header(name) => {
                let value = String::from_utf8_lossy(event.headers?.get(&**name)?.as_bytes());
                shown_header(name, &cut(&value, MAX_VALUE))
                    .into_owned()
                    .into()
            }
            Variable::Claim(name) => event.claim(name)?.into(),
            Variable::RequestId => event.request_id?.into(),
            Variable::TraceId => event.trace?.0.to_string().into(),
        })
    }
}

fn latency(time: Duration, unit: u32, name: &str) -> String {
    format!("{:.3}{name}", time.as_nanos() as f64 / f64::from(unit))
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn line(name: &str, custom: &str) -> String {
        let mut headers = HeaderMap::new();
        headers.insert("referer", HeaderValue::from_static("\"a\\b"));
        headers.insert("user-agent", HeaderValue::from_static("u"));
        headers.insert("cookie", HeaderValue::from_static("secret"));
        let claims = serde_json::Map::from_iter([("sub".to_owned(), "me".into())]);
        let event = AccessEvent {
            method: "GET",
            path: "/a",
            query: Some("token=secret&x=1"),
            status: 200,
            latency: Duration::from_micros(1500),
            client: IpAddr::from([127, 0, 0, 1]),
            protocol: Some("HTTP/1.1"),
            headers: Some(&headers),
            claims: Some(&claims),
            request_id: Some("7-id"),
            ..AccessEvent::at(Duration::from_millis(1_795_472_528_000))
        };
        let (pattern, _) = Pattern::named(name, custom, "[P]", "-").unwrap();
        let mut out = Vec::new();
        pattern.push(&event, Query::Keep, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn the_named_shapes_are_those_of_the_documentation() {
        let combined = line("httpdCombined", "");
        assert!(combined.starts_with("127.0.0.1 - - [2026/"), "{combined}");
        let end = "] \"GET /a?token=***&x=1 HTTP/1.1\" 200 - \"\\x22a\\\\b\" \"u\"\n";
        assert!(combined.ends_with(end), "{combined}");
        assert!(line("default", "").ends_with("[AccessLog] |200| 1.500ms | 127.0.0.1 | GET /a\n"));
        let json: serde_json::Value = serde_json::from_str(&line("json", "")).unwrap();
        assert_eq!(
            (&json["status_code"], &json["latency"]),
            (&200.into(), &"0.002s".into())
        );
    }

    #[test]
    fn a_custom_pattern_shows_no_secret_and_ends_its_line() {
        let own = "%{jwt.sub} %{jwt.none} %{header.Cookie} %{query.x} %{query.token} %{latencyUs}";
        assert_eq!(line("custom", own), "me - *** 1 *** 1500.000us\n");
        assert_eq!(line("custom", "%{requestID} %{traceID}"), "7-id -\n");
        let json = "{\"r\": \"%{header.Referer}\"}";
        let json: serde_json::Value = serde_json::from_str(&line("custom", json)).unwrap();
        assert_eq!(json["r"], "\"a\\b");
        for (bad, reason) in [
            ("%{method} %{nothing} %{x.y}", "%{nothing} is not known"),
            ("%{method} %{path", "%{path is not closed"),
        ] {
            let (_, unknown) = Pattern::named("custom", bad, "", "-").unwrap();
            assert_eq!(unknown[0], reason);
            let written = line("custom", bad);
            assert_eq!(written, format!("{}\n", bad.replace("%{method}", "GET")));
        }
        assert!(Pattern::named("apache", "", "", "-").is_none());
    }
}
