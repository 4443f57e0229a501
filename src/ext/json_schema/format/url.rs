//! URLs, as Go's parser accepts them, which KrakenD uses.

use super::super::quote;
use super::{Reason, address, err, within};

pub(super) fn absolute(text: &str) -> Result<(), Reason> {
    if parse(text)?.scheme {
        Ok(())
    } else {
        err("relative url")
    }
}

pub(super) fn reference(text: &str) -> Result<(), Reason> {
    if text.contains('\\') {
        err("contains \\")
    } else {
        parse(text).map(|_| ())
    }
}

/// Braces are checked only in the path, separately in each segment.
pub(super) fn template(text: &str) -> Result<(), Reason> {
    let path = parse(text)?.path;
    for part in path.split('/') {
        let mut open = false;
        for brace in part.chars().filter(|letter| matches!(letter, '{' | '}')) {
            if open == (brace == '{') {
                return err("nested curly braces");
            }
            open = !open;
        }
        if open {
            return err("no matching closing brace");
        }
    }
    Ok(())
}

struct Url<'t> {
    scheme: bool,
    path: &'t str,
}

fn parse(text: &str) -> Result<Url<'_>, Reason> {
    let (before, fragment) = text.split_once('#').unwrap_or((text, ""));
    let wrong =
        |text: &str, what: String| Reason::from(format!("parse {}: {what}", quote::double(text)));
    let (url, host) = parts(before).map_err(|what| wrong(before, what))?;
    escapes(fragment).map_err(|what| wrong(text, what))?;
    if let Some(name) = host.and_then(|host| host.strip_prefix('[')) {
        let name = name.split(']').next().unwrap_or_default();
        if name.contains(':') {
            within(
                "invalid ipv6 address",
                address::ipv6(&name.replace("%25", "%")),
            )?;
        }
    }
    Ok(url)
}

/// The URL and its host.
fn parts(text: &str) -> Result<(Url<'_>, Option<&str>), String> {
    if text.bytes().any(|byte| byte.is_ascii_control()) {
        return Err("net/url: invalid control character in URL".to_owned());
    }
    let (scheme, rest) = scheme(text)?;
    let rest = rest.split('?').next().unwrap_or_default();
    if scheme && !rest.starts_with('/') {
        // The rest is not checked: `mailto:`.
        return Ok((Url { scheme, path: "" }, None));
    }
    let first = rest.split('/').next().unwrap_or_default();
    if first.contains(':') {
        return Err("first path segment in URL cannot contain colon".to_owned());
    }
    let authority = match rest.strip_prefix("//") {
        Some(authority) if scheme || !authority.starts_with('/') => Some(authority),
        _ => None,
    };
    let (host, path) = match authority {
        None => (None, rest),
        Some(authority) => {
            let end = authority.find('/').unwrap_or(authority.len());
            let (authority, path) = authority.split_at(end);
            (Some(host(authority)?), path)
        }
    };
    escapes(path)?;
    Ok((Url { scheme, path }, host))
}

/// Whether there is a scheme, and the rest after it.
fn scheme(text: &str) -> Result<(bool, &str), String> {
    let Some((scheme, rest)) = text.split_once(':') else {
        return Ok((false, text));
    };
    if scheme.is_empty() {
        return Err("missing protocol scheme".to_owned());
    }
    let within = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
    let first = scheme.bytes().next();
    if first.is_some_and(|first| first.is_ascii_alphabetic()) && scheme.bytes().all(within) {
        Ok((true, rest))
    } else {
        Ok((false, text))
    }
}

fn host(authority: &str) -> Result<&str, String> {
    let (user, host) = match authority.rsplit_once('@') {
        Some((user, host)) => (user, host),
        None => ("", authority),
    };
    bounds(host)?;
    if !user
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._:~!$&'()*+,;=%@".contains(&byte))
    {
        return Err("net/url: invalid userinfo".to_owned());
    }
    escapes(user)?;
    Ok(host)
}

/// Checks the brackets, the port and the characters of a host.
fn bounds(host: &str) -> Result<(), String> {
    if host.find('[').is_some_and(|at| at > 0) {
        return Err("invalid IP-literal".to_owned());
    }
    let port = match (host.starts_with('['), host.rfind(']'), host.find(':')) {
        (true, None, _) => return Err("missing ']' in host".to_owned()),
        (true, Some(end), _) => host.get(end + 1..),
        (false, _, Some(colon)) => host.get(colon..),
        (false, _, None) => None,
    };
    let port = port.unwrap_or_default();
    let number = port.strip_prefix(':');
    if !port.is_empty() && number.is_none_or(|n| !n.bytes().all(|byte| byte.is_ascii_digit())) {
        return Err(format!("invalid port {} after host", quote::double(port)));
    }
    // After the start of a zone, anything may be escaped.
    let zone = if host.starts_with('[') {
        host.find("%25").unwrap_or(host.len())
    } else {
        host.len()
    };
    letters(host.get(..zone).unwrap_or_default())?;
    escapes(host.get(zone..).unwrap_or_default())
}

/// A host may escape only characters outside ASCII and the percent sign.
fn letters(host: &str) -> Result<(), String> {
    let bytes = host.as_bytes();
    for (index, byte) in bytes.iter().enumerate() {
        match byte {
            b'%' => {
                let escape = escape(host, index)?;
                let mark = escape == "%25";
                let ascii = !matches!(
                    bytes.get(index + 1),
                    Some(b'8'..=b'9' | b'a'..=b'f' | b'A'..=b'F')
                );
                if ascii && !mark {
                    return Err(bad_escape(escape));
                }
            }
            b' ' | b'^' | b'`' | b'{' | b'|' | b'}' | b'\\' | b'/' | b'@' => {
                let letter = quote::double(host.get(index..=index).unwrap_or_default());
                return Err(format!("invalid character {letter} in host name"));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Checks that every `%` is followed by two hexadecimal digits.
fn escapes(text: &str) -> Result<(), String> {
    text.match_indices('%')
        .try_for_each(|(at, _)| escape(text, at).map(|_| ()))
}

fn escape(text: &str, at: usize) -> Result<&str, String> {
    let end = text.floor_char_boundary(at.saturating_add(3));
    let escape = text.get(at..end).unwrap_or_default();
    if escape.len() == 3 && escape.bytes().skip(1).all(|byte| byte.is_ascii_hexdigit()) {
        Ok(escape)
    } else {
        Err(bad_escape(escape))
    }
}

fn bad_escape(escape: &str) -> String {
    format!("invalid URL escape {}", quote::double(escape))
}
