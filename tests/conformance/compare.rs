//! What counts as the same answer. Never compared at all: see README.md.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::signed;
use super::support::stub::{Fill, Seen};
use super::support::{Json, Response};

/// Stands for the user agent of the gateway: any value will do.
const GATEWAY_UA: &str = "{{GATEWAY_UA}}";

/// Compares an answer with what is expected of it; the first difference.
pub fn response(expect: &Json, response: &Response, fill: &Fill, keys: &[Json]) -> Option<String> {
    status(expect, response)
        .or_else(|| headers(expect, response, fill))
        .or_else(|| {
            let shown = response.text();
            if expect.field("body_json").is_some() || expect.field("body_json_text").is_some() {
                return body_json(expect, &shown, fill, keys);
            }
            let want = |key: &str| expect.field(key).and_then(Json::text);
            if let Some(want) = want("body_sha256") {
                return (hex_sha256(&response.body) != want)
                    .then(|| format!("body of {} bytes has another SHA-256", response.body.len()));
            }
            if let Some(want) = want("body_text") {
                let want = fill(want);
                return (shown != want)
                    .then(|| format!("body {}, want {}", short(&shown), short(&want)));
            }
            let want = want("body_base64")?;
            let same = STANDARD
                .decode(want)
                .is_ok_and(|want| want == response.body);
            (!same).then(|| {
                format!(
                    "body {}, want {want}",
                    short(&STANDARD.encode(&response.body))
                )
            })
        })
}

fn status(expect: &Json, response: &Response) -> Option<String> {
    let got = u64::from(response.status);
    if let Some(any) = expect.field("status_in") {
        let fits = any.items().iter().any(|s| s.number() == Some(got));
        return (!fits).then(|| format!("status {got}, want one of {}", any.to_text()));
    }
    let want = expect.field("status").and_then(Json::number)?;
    (got != want).then(|| {
        format!(
            "status {got}, want {want} (body {})",
            short(&response.text())
        )
    })
}

fn headers(expect: &Json, response: &Response, fill: &Fill) -> Option<String> {
    let lines = |name: &str| -> Vec<&str> {
        response
            .headers
            .iter()
            .filter(|(k, _)| k == name)
            .map(|(_, v)| v.as_str())
            .collect()
    };
    for (name, want) in expect.field("headers").map_or(&[][..], Json::members) {
        let (want, got) = (texts(want, fill), lines(name));
        if got.is_empty() {
            return Some(format!("header {name} missing, want {want:?}"));
        }
        if got != want {
            return Some(format!("header {name}: got {got:?}, want {want:?}"));
        }
    }
    let absent = expect.field("absent_headers").map_or(&[][..], Json::items);
    let present = absent
        .iter()
        .filter_map(Json::text)
        .find(|name| !lines(name).is_empty())?;
    Some(format!(
        "header {present} present ({:?}), want none",
        lines(present)
    ))
}

/// One line or several.
fn texts(value: &Json, fill: &Fill) -> Vec<String> {
    match value {
        Json::Array(items) => items
            .iter()
            .filter_map(Json::text)
            .map(|s| fill(s))
            .collect(),
        one => vec![fill(one.text().unwrap_or(""))],
    }
}

fn body_json(expect: &Json, shown: &str, fill: &Fill, keys: &[Json]) -> Option<String> {
    let Ok(mut got) = Json::parse(shown) else {
        return Some(format!("body is not JSON: {}", short(shown)));
    };
    let exact = expect.field("body_json_text").and_then(Json::text);
    let mut want = match exact {
        Some(text) => match Json::parse(&fill(text)) {
            Ok(want) => want,
            Err(e) => return Some(format!("body_json_text: {e}")),
        },
        None => expect.field("body_json")?.map_strings(&|s| fill(s)),
    };
    if !keys.is_empty() {
        (want, got) = (signed::open(&want, keys), signed::open(&got, keys));
    }
    for key in expect
        .field("ignore_keys")
        .map_or(&[][..], Json::items)
        .iter()
        .filter_map(Json::text)
    {
        for side in [&mut want, &mut got] {
            if side.field(key).is_some_and(|v| *v != Json::Null) {
                side.set(key, Json::from("(any)"));
            }
        }
    }
    first_difference(&want, &got, "$", exact.is_some()).map(|d| format!("body {d}"))
}

/// The first place where two values differ. `exact`: numbers by their text, otherwise by their value.
pub fn first_difference(want: &Json, got: &Json, at: &str, exact: bool) -> Option<String> {
    match (want, got) {
        (Json::Object(w), Json::Object(g)) => {
            let mut names: Vec<&String> = w.iter().chain(g).map(|(k, _)| k).collect();
            names.sort();
            names.dedup();
            names
                .into_iter()
                .find_map(|k| match (want.field(k), got.field(k)) {
                    (Some(w), None) => {
                        Some(format!("{at}.{k} missing (want {})", short(&w.to_text())))
                    }
                    (None, Some(g)) => {
                        Some(format!("{at}.{k} unexpected ({})", short(&g.to_text())))
                    }
                    (Some(w), Some(g)) => first_difference(w, g, &format!("{at}.{k}"), exact),
                    (None, None) => None,
                })
        }
        (Json::Array(w), Json::Array(g)) => {
            let pairs = w.iter().zip(g).enumerate();
            let inside = pairs
                .into_iter()
                .find_map(|(i, (w, g))| first_difference(w, g, &format!("{at}[{i}]"), exact));
            inside.or_else(|| {
                (w.len() != g.len())
                    .then(|| format!("{at}: {} elements, want {}", g.len(), w.len()))
            })
        }
        (Json::Number(w), Json::Number(g)) if !exact && same_number(w, g) => None,
        (w, g) if w == g => None,
        (w, g) => Some(format!(
            "{at}: got {}, want {}",
            short(&g.to_text()),
            short(&w.to_text())
        )),
    }
}

/// Whether two literals are one number: integers of any size exactly, 1 and 1.0 alike.
fn same_number(a: &str, b: &str) -> bool {
    let whole = |s: &str| -> Option<String> {
        let integer = if s.contains(['.', 'e', 'E']) {
            let value: f64 = s.parse().ok()?;
            (value.fract() == 0.0).then(|| format!("{value:.0}"))?
        } else {
            s.to_owned()
        };
        Some(if integer == "-0" {
            "0".to_owned()
        } else {
            integer
        })
    };
    match (whole(a), whole(b)) {
        (Some(a), Some(b)) => a == b,
        (None, None) => a.parse::<f64>().ok() == b.parse::<f64>().ok(),
        _ => false,
    }
}

/// Compares all requests that the backend got, in any order.
pub fn upstream(want: &[Json], seen: &[Seen], fill: &Fill) -> Option<String> {
    let mut left: Vec<&Seen> = seen.iter().collect();
    for w in want {
        let text = |key: &str| w.field(key).and_then(Json::text).unwrap_or("");
        match left.iter().position(|s| request(w, s, fill).is_none()) {
            Some(at) => drop(left.remove(at)),
            None => {
                let call = format!("{} {}", text("method"), text("path"));
                return Some(match left.first().and_then(|s| request(w, s, fill)) {
                    Some(why) => format!("upstream {call}: {why}"),
                    None => format!(
                        "upstream did not see {call} (saw {} requests, want {})",
                        seen.len(),
                        want.len()
                    ),
                });
            }
        }
    }
    let more = left.first()?;
    Some(format!(
        "upstream saw an unexpected {} {}?{}",
        more.method, more.path, more.query
    ))
}

fn request(want: &Json, seen: &Seen, fill: &Fill) -> Option<String> {
    for (key, got) in [
        ("method", &seen.method),
        ("path", &seen.path),
        ("query", &seen.query),
    ] {
        let want = fill(want.field(key).and_then(Json::text).unwrap_or(""));
        if want != *got {
            return Some(format!("{key} {}, want {}", short(got), short(&want)));
        }
    }
    for (name, value) in want.field("headers").map_or(&[][..], Json::members) {
        let got = seen.headers.get(name).map_or(&[][..], Vec::as_slice);
        if value.text() == Some(GATEWAY_UA) {
            if got.first().is_none_or(String::is_empty) {
                return Some(format!("request header {name} missing"));
            }
            continue;
        }
        let want = texts(value, fill);
        if got != want {
            return Some(format!("request header {name}: {got:?}, want {want:?}"));
        }
    }
    let absent = want.field("absent_headers").map_or(&[][..], Json::items);
    if let Some(name) = absent
        .iter()
        .filter_map(Json::text)
        .find(|name| seen.headers.contains_key(*name))
    {
        return Some(format!(
            "request header {name} present ({:?}), want none",
            seen.headers[name]
        ));
    }
    request_body(want, seen, fill).map(|why| format!("request body {why}"))
}

fn request_body(want: &Json, seen: &Seen, fill: &Fill) -> Option<String> {
    let shown = String::from_utf8_lossy(&seen.body);
    if let Some(want) = want.field("body_json") {
        return match Json::parse(&shown) {
            Ok(got) => first_difference(&want.map_strings(&|s| fill(s)), &got, "$", false),
            Err(_) => Some(format!("is not JSON: {}", short(&shown))),
        };
    }
    if let Some(want) = want.field("body_sha256").and_then(Json::text) {
        return (hex_sha256(shown.as_bytes()) != want)
            .then(|| format!("of {} bytes has another SHA-256", seen.body.len()));
    }
    let want = fill(want.field("body").and_then(Json::text)?);
    (shown != want).then(|| format!("{}, want {}", short(&shown), short(&want)))
}

fn hex_sha256(bytes: &[u8]) -> String {
    digest(&SHA256, bytes)
        .as_ref()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect()
}

/// A text cut to what fits on a line.
pub fn short(text: &str) -> String {
    match text.char_indices().nth(160) {
        Some((cut, _)) => format!("{:?}…", &text[..cut]),
        None => format!("{text:?}"),
    }
}
