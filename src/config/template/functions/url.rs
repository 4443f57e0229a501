//! URLs in parts, as Go's `net/url` parses and writes them.

use super::Kind::{Map, Text};
use super::{Call, Function, Outcome, fixed, map_of, string};
use crate::config::template::format::plain;
use crate::config::template::value::{Entries, Value};

pub(super) static TABLE: &[Function] = &[
    fixed("urlParse", &[Text], parse),
    fixed("urlJoin", &[Map], join),
];

#[derive(Default)]
struct Url {
    scheme: String,
    opaque: String,
    userinfo: Option<String>,
    host: String,
    path: String,
    query: String,
    fragment: String,
}

fn parse(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let text = string(&arguments, 0);
    let url =
        read(&text).map_err(|error| format!("unable to parse url: parse {text:?}: {error}"))?;
    let parts = [
        ("scheme", url.scheme.clone()),
        ("host", url.host.clone()),
        ("hostname", hostname(&url.host).to_owned()),
        ("path", url.path.clone()),
        ("query", url.query.clone()),
        ("opaque", url.opaque.clone()),
        ("fragment", url.fragment.clone()),
        ("userinfo", url.userinfo.clone().unwrap_or_default()),
    ];
    let entries: Entries = parts
        .into_iter()
        .map(|(key, value)| (key.as_bytes().into(), Value::text(value)))
        .collect();
    Ok(Value::map(entries))
}

fn hostname(host: &str) -> &str {
    if let Some(inner) = host.strip_prefix('[') {
        return inner.split(']').next().unwrap_or(inner);
    }
    match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    }
}

fn read(text: &str) -> Result<Url, &'static str> {
    if text.bytes().any(|byte| byte < b' ' || byte == 0x7f) {
        return Err("net/url: invalid control character in URL");
    }
    let mut url = Url::default();
    let (rest, fragment) = text.split_once('#').unwrap_or((text, ""));
    url.fragment = unescaped(fragment)?;
    let rest = match scheme_end(rest)? {
        Some(end) => {
            url.scheme = rest[..end].to_ascii_lowercase();
            &rest[end + 1..]
        }
        None => rest,
    };
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    url.query = query.to_owned();
    if !rest.starts_with('/') && !url.scheme.is_empty() {
        url.opaque = rest.to_owned();
        return Ok(url);
    }
    let path = match rest.strip_prefix("//") {
        Some(behind) if !rest.starts_with("///") || !url.scheme.is_empty() => {
            let end = behind.find('/').unwrap_or(behind.len());
            authority(&mut url, &behind[..end])?;
            &behind[end..]
        }
        _ => rest,
    };
    if url.scheme.is_empty()
        && url.host.is_empty()
        && path
            .split('/')
            .next()
            .is_some_and(|first| first.contains(':'))
    {
        return Err("first path segment in URL cannot contain colon");
    }
    url.path = unescaped(path)?;
    Ok(url)
}

fn scheme_end(text: &str) -> Result<Option<usize>, &'static str> {
    for (at, c) in text.char_indices() {
        match c {
            'a'..='z' | 'A'..='Z' => {}
            '0'..='9' | '+' | '-' | '.' if at > 0 => {}
            ':' if at == 0 => return Err("missing protocol scheme"),
            ':' => return Ok(Some(at)),
            _ => return Ok(None),
        }
    }
    Ok(None)
}

fn authority(url: &mut Url, text: &str) -> Result<(), &'static str> {
    let host = match text.rsplit_once('@') {
        Some((user, host)) => {
            url.userinfo = Some(user.to_owned());
            host
        }
        None => text,
    };
    if let Some((_, port)) = host.rsplit_once(':').filter(|_| !host.ends_with(']'))
        && !port.bytes().all(|byte| byte.is_ascii_digit())
    {
        return Err("invalid port after host");
    }
    if host.contains([' ', '<', '>', '"', '\\', '^', '`', '{', '}', '|']) {
        return Err("invalid character in host name");
    }
    url.host = unescaped(host)?;
    Ok(())
}

fn unescaped(text: &str) -> Result<String, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let (Some(high), Some(low)) = (digit(bytes.next()), digit(bytes.next())) else {
            return Err("invalid URL escape");
        };
        out.push((high * 16 + low) as u8);
    }
    Ok(String::from_utf8_lossy(&out).into_owned())
}

fn join(_: &mut Call<'_>, arguments: Vec<Value>) -> Outcome {
    let map = map_of(&arguments, 0);
    let part = |name: &str| {
        let value = map.get(name.as_bytes());
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(&plain(&value)).into_owned()
        })
    };
    let url = Url {
        scheme: part("scheme"),
        opaque: part("opaque"),
        userinfo: Some(part("userinfo")).filter(|info| !info.is_empty()),
        host: part("host"),
        path: part("path"),
        query: part("query"),
        fragment: part("fragment"),
    };
    Ok(Value::text(written(&url)))
}

fn written(url: &Url) -> String {
    let mut out = String::new();
    if !url.scheme.is_empty() {
        out.push_str(&url.scheme);
        out.push(':');
    }
    if !url.opaque.is_empty() {
        out.push_str(&url.opaque);
    } else {
        if !url.scheme.is_empty() || !url.host.is_empty() || url.userinfo.is_some() {
            if !url.host.is_empty() || !url.path.is_empty() || url.userinfo.is_some() {
                out.push_str("//");
            }
            if let Some(user) = &url.userinfo {
                out.push_str(user);
                out.push('@');
            }
            out.push_str(&url.host);
        }
        if !url.path.is_empty() && !url.path.starts_with('/') && !url.host.is_empty() {
            out.push('/');
        }
        out.push_str(&escape(&url.path, "$&+,/:;=@!'()*", false));
    }
    if !url.query.is_empty() {
        out.push('?');
        out.push_str(&url.query);
    }
    if !url.fragment.is_empty() {
        out.push('#');
        out.push_str(&escape(&url.fragment, "$&+,/:;=?@!()*", false));
    }
    out
}

fn escape(text: &str, kept: &str, plus: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        let c = char::from(byte);
        if byte.is_ascii_alphanumeric()
            || b"-_.~".contains(&byte)
            || (byte.is_ascii() && kept.contains(c))
        {
            out.push(c);
        } else if byte == b' ' && plus {
            out.push('+');
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Escapes text for a query. Spaces become `+`.
pub(super) fn query_escape(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(byte) {
            out.push(char::from(*byte));
        } else if *byte == b' ' {
            out.push('+');
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}
