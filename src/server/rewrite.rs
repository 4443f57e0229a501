//! Rewrites a head to the canonical form, which Pingora's session interprets as we do.
//!
//! Clients send targets that are not valid URIs (`?q={"a":1}`), and KrakenD accepts them. A target may be in absolute
//! form. And a session sees only the first of two `Connection` lines. Few heads need rewriting; all others are passed
//! on unchanged.

use http::header::COOKIE;
use memchr::memchr;
use pingora_core::Error;
use pingora_http::RequestHeader;

use crate::server::head::{HeadFacts, is_raw};

/// The head in canonical form, or `None` if it already is. `head` must have been accepted by [`HeadReader`].
///
/// [`HeadReader`]: crate::server::head::HeadReader
pub fn usual_form(head: &[u8], facts: &HeadFacts) -> Option<Vec<u8>> {
    if !facts.absolute && !facts.raw_target && !facts.many_connections {
        return None;
    }
    let line_end = memchr(b'\n', head)?;
    let (line, fields) = head.split_at_checked(line_end + 1)?;
    let mut parts = line.split(|byte| *byte == b' ');
    let (method, target, version) = (parts.next()?, parts.next()?, parts.next()?);
    let (authority, target) = if facts.absolute {
        absolute(target)?
    } else {
        (None, target)
    };
    let mut out = Vec::with_capacity(head.len() + 64);
    out.extend_from_slice(method);
    out.push(b' ');
    // `http://host?a=1` has no path, but a request needs one (RFC 9112 §3.2.1).
    if authority.is_some() && !target.starts_with(b"/") {
        out.push(b'/');
    }
    escaped(&mut out, target);
    out.push(b' ');
    out.extend_from_slice(version);
    // The authority of the target replaces `Host` (RFC 9112 §3.2.2).
    if let Some(authority) = authority {
        one_field(&mut out, b"Host", authority);
    }
    let mut connection = Vec::new();
    for line in fields.split_inclusive(|byte| *byte == b'\n') {
        if line == b"\r\n" && !connection.is_empty() {
            one_field(&mut out, b"Connection", &connection);
        }
        match value_of(line, b"connection") {
            Some(value) if facts.many_connections => {
                if !connection.is_empty() {
                    connection.extend_from_slice(b", ");
                }
                connection.extend_from_slice(value);
            }
            _ if authority.is_some() && value_of(line, b"host").is_some() => {}
            _ => out.extend_from_slice(line),
        }
    }
    Some(out)
}

/// Joins the `Cookie` headers that HTTP/2 may send separately, because everything else expects one header as in
/// HTTP/1.1 (RFC 9113 §8.2.3).
pub(crate) fn join_cookies(header: &mut RequestHeader) -> Result<(), Box<Error>> {
    let mut crumbs = header.headers.get_all(COOKIE).iter();
    let (Some(first), Some(second)) = (crumbs.next(), crumbs.next()) else {
        return Ok(());
    };
    let mut joined = first.as_bytes().to_vec();
    for crumb in [second].into_iter().chain(crumbs) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(crumb.as_bytes());
    }
    header.insert_header(COOKIE, joined)
}

/// The authority and the rest of a target in absolute form.
fn absolute(target: &[u8]) -> Option<(Option<&[u8]>, &[u8])> {
    let rest = target.get(memchr(b':', target)? + 3..)?;
    let path_start = rest
        .iter()
        .position(|byte| matches!(byte, b'/' | b'?'))
        .unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(path_start)?;
    Some((Some(authority), path))
}

/// Escapes bytes that are invalid in a URI. UTF-8 is kept, because all other code accepts it.
fn escaped(out: &mut Vec<u8>, target: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789ABCDEF";
    let text = std::str::from_utf8(target).is_ok();
    for byte in target {
        if is_raw(*byte) || (!text && !byte.is_ascii()) {
            let digits = [byte >> 4, byte & 15].map(|digit| HEX.get(usize::from(digit)));
            out.push(b'%');
            out.extend(digits.into_iter().flatten());
        } else {
            out.push(*byte);
        }
    }
}

fn one_field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

fn value_of<'l>(line: &'l [u8], name: &[u8]) -> Option<&'l [u8]> {
    let (given, rest) = line.split_at_checked(name.len())?;
    let value = rest.strip_prefix(b":")?;
    given
        .eq_ignore_ascii_case(name)
        .then_some(value.trim_ascii())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::server::head::HeadReader;

    fn rewritten(head: &[u8]) -> Option<String> {
        let facts = HeadReader::new(16 * 1024, 256).advance(head);
        let out = usual_form(head, &facts.unwrap().unwrap())?;
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn a_canonical_head_is_unchanged() {
        let head = b"GET /a?b=%22 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        assert_eq!(rewritten(head), None);
    }

    #[test]
    fn an_absolute_target_becomes_a_path_and_a_host() {
        for (target, want) in [
            ("http://other:81/obj?a=1", "/obj?a=1"),
            ("http://other:81", "/"),
            ("http://other:81?a=\"", "/?a=%22"),
        ] {
            let head = format!("GET {target} HTTP/1.1\r\nHost: x\r\nA: b\r\n\r\n");
            let out = rewritten(head.as_bytes()).unwrap();
            assert_eq!(
                out,
                format!("GET {want} HTTP/1.1\r\nHost: other:81\r\nA: b\r\n\r\n")
            );
        }
    }

    #[test]
    fn bytes_that_are_invalid_in_a_uri_are_escaped() {
        for (target, want) in [
            (&b"/o?q={\"a\":1}"[..], "/o?q={%22a%22:1}"),
            (b"/<a>`\xc3\xa9", "/%3Ca%3E%60\u{e9}"),
            (b"/a\xff\xc3\xa9?\xfe", "/a%FF%C3%A9?%FE"),
        ] {
            let head = [b"GET ", target, b" HTTP/1.1\r\nHost: x\r\n\r\n"].concat();
            let out = rewritten(&head).unwrap();
            assert_eq!(out, format!("GET {want} HTTP/1.1\r\nHost: x\r\n\r\n"));
        }
    }

    #[test]
    fn several_connection_lines_become_one() {
        let head = b"GET / HTTP/1.1\r\nconnection: foo\r\nHost: x\r\nConnection:close\r\n\r\n";
        assert_eq!(
            rewritten(head).unwrap(),
            "GET / HTTP/1.1\r\nHost: x\r\nConnection: foo, close\r\n\r\n"
        );
    }

    proptest! {
        #[test]
        fn rewritten_heads_are_canonical_and_unambiguous(
            target in proptest::collection::vec(33_u8..=255, 1..40), twice in any::<bool>(),
        ) {
            let more: &[u8] = if twice { b"Connection: a\r\nConnection: b\r\n" } else { b"" };
            let head = [b"GET /", &target[..], b" HTTP/1.1\r\nHost: x\r\n", more, b"\r\n"].concat();
            let Ok(Some(facts)) = HeadReader::new(4096, 256).advance(&head) else {
                return Ok(());
            };
            if let Some(out) = usual_form(&head, &facts) {
                let again = HeadReader::new(4096, 256).advance(&out).unwrap().unwrap();
                prop_assert_eq!(again.length, out.len());
                prop_assert!(usual_form(&out, &again).is_none());
                prop_assert!(std::str::from_utf8(&out).is_ok());
            }
        }
    }

    #[test]
    fn several_cookie_headers_become_one() {
        let mut header = RequestHeader::build("GET", b"/", None).unwrap();
        for crumb in ["sid=42", "csrf=abc", "t=\"a, b\""] {
            header.append_header("cookie", crumb).unwrap();
        }
        join_cookies(&mut header).unwrap();
        let cookies: Vec<_> = header.headers.get_all(COOKIE).iter().collect();
        assert_eq!(cookies, ["sid=42; csrf=abc; t=\"a, b\""]);
    }
}
