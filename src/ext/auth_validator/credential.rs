//! Where a request may have a token.

use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderName, HeaderValue};
use percent_encoding::{percent_decode, percent_decode_str};
use smallvec::SmallVec;

use super::binding::Scheme;
use crate::jose::{Reason, Rejection, bearer_bytes, dpop_token};
use crate::runtime::request::{Head, Notes};

/// The locations, in order: the header, then the cookie.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) header: HeaderName,
    pub(super) cookie: Box<str>,
    /// Whether nothing else reads an `Authorization: Bearer` of the endpoint.
    pub(super) alone: bool,
    /// Whether the scheme `DPoP` is accepted, too.
    pub(super) dpop: bool,
}

impl Places {
    /// The token, if the request has one. It may be no text.
    ///
    /// As in KrakenD, a header that is present and not empty is final, whatever its value is. Unlike in KrakenD, two
    /// headers are rejected, and so are two different cookies of the name: it is unknown which one a backend would use.
    pub(super) fn token<'h>(
        &self,
        head: &Head<'h>,
    ) -> Result<Option<(Scheme, &'h [u8])>, Rejection> {
        let mut lines = head.headers.get_all(&self.header).iter();
        if let Some(line) = lines.next() {
            if lines.next().is_some() {
                return Err(Rejection::ambiguous());
            }
            // The usual form, which needs no further look.
            if let Some(token @ [first, ..]) = line.as_bytes().strip_prefix(b"Bearer ")
                && *first != b' '
            {
                return Ok(Some((Scheme::Bearer, token)));
            }
            if self.dpop
                && let Some(token) = dpop_token(line.as_bytes())
            {
                return Ok(Some((Scheme::Dpop, token.as_bytes())));
            }
            if has_other_scheme(line.as_bytes()) {
                return Err(Rejection::other_scheme());
            }
            if let Some(token) = bearer_bytes(line.as_bytes()) {
                return Ok(Some((Scheme::Bearer, token)));
            }
        }
        let token = self.cookie(head)?;
        Ok(token.map(|token| (Scheme::Bearer, token.as_bytes())))
    }

    /// Removes all tokens except the verified one, because backends might trust them: a cookie of the name, or
    /// `access_token`, in any spelling; a bearer token in `Authorization` if another header has the verified token, and an `access_token` in the
    /// query (RFC 6750 §2.3).
    pub(super) fn keep_only(&self, token: &[u8], head: &Head<'_>, notes: &mut Notes) {
        let other_bearer =
            |line: &HeaderValue| bearer_token(line.as_bytes()).is_some_and(|other| other != token);
        if self.alone
            && self.header != AUTHORIZATION
            && head.headers.get_all(AUTHORIZATION).iter().any(other_bearer)
        {
            notes.set_header(&AUTHORIZATION, SmallVec::new());
        }
        let lines = head.headers.get_all(COOKIE);
        if lines
            .iter()
            .any(|line| pairs(line).any(|pair| self.is_other(pair, token)))
        {
            let kept = lines.iter().filter_map(|line| self.kept(line, token));
            notes.set_header(&COOKIE, kept.collect());
        }
        let query = notes.query(head).unwrap_or_default();
        if !query.is_empty() && query.split('&').any(|pair| is_other_parameter(pair, token)) {
            let kept = query
                .split('&')
                .filter(|pair| !is_other_parameter(pair, token));
            let kept = kept.collect::<Vec<_>>().join("&");
            let rewritten = notes.rewritten.get_or_insert_default();
            rewritten.query = Some((!kept.is_empty()).then(|| kept.into()));
        }
    }

    /// Whether this is a cookie with a different token: the configured one, or `access_token`, which backends read by
    /// default. Some of them also separate cookies by commas, as RFC 2109 did.
    fn is_other(&self, pair: &[u8], token: &[u8]) -> bool {
        pair.split(|byte| *byte == b',').any(|part| {
            let end = memchr::memchr(b'=', part).unwrap_or(part.len());
            let (name, value) = part.split_at(end);
            let value = unquoted(value.get(1..).unwrap_or_default().trim_ascii());
            let is_token = || same_name(name, self.cookie.as_bytes()) || same_name(name, TOKEN);
            value != token && is_token()
        })
    }

    /// A `Cookie` header without such cookies; `None` if nothing is left.
    fn kept(&self, line: &HeaderValue, token: &[u8]) -> Option<HeaderValue> {
        let kept: Vec<&[u8]> = pairs(line)
            .filter(|pair| !self.is_other(pair, token))
            .map(<[u8]>::trim_ascii)
            .collect();
        HeaderValue::from_bytes(&kept.join(&b"; "[..]))
            .ok()
            .filter(|line| !line.is_empty())
    }

    fn cookie<'h>(&self, head: &Head<'h>) -> Result<Option<&'h str>, Rejection> {
        let mut found: Option<&[u8]> = None;
        for line in head.headers.get_all(COOKIE) {
            for pair in pairs(line) {
                let Some(value) = value_of(pair, self.cookie.as_bytes()) else {
                    continue;
                };
                if found.is_some_and(|first| first != value) {
                    return Err(Rejection::ambiguous());
                }
                found = Some(value);
            }
        }
        match found {
            None | Some(b"") => Ok(None),
            Some(value) => std::str::from_utf8(value)
                .map(Some)
                .map_err(|_| Rejection::new(Reason::Malformed, "illegal base64 data")),
        }
    }
}

/// Whether a value is for another authentication scheme, such as `Basic x`: then the request has no token, and RFC 6750
/// §3.1 asks for a challenge without an error code. A value with two dots may be a token without a scheme, with blanks
/// inside.
fn has_other_scheme(value: &[u8]) -> bool {
    let Some(end) = value.iter().position(u8::is_ascii_whitespace) else {
        return false;
    };
    let (scheme, rest) = value.split_at(end);
    // The usual scheme is compared first: the rest reads the whole token.
    if scheme.eq_ignore_ascii_case(b"bearer") {
        return false;
    }
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    let dots = value.iter().filter(|byte| **byte == b'.').count();
    scheme.iter().all(is_name) && !rest.trim_ascii().is_empty() && dots != 2
}

/// The usual name of a parameter or cookie with a token (RFC 6750 §2.3).
const TOKEN: &[u8] = b"access_token";

/// Whether this is an `access_token` other than `token`.
fn is_other_parameter(pair: &str, token: &[u8]) -> bool {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    same_name(name.as_bytes(), TOKEN) && !percent_decode_str(value).eq(token.iter().copied())
}

/// Whether a backend may read `name` as `wanted`, without regard to case.
///
/// PHP decodes escapes, reads `.`, blanks and a `[` without its `]` within a name as `_`, `name[0]` as `name`, ignores
/// blanks before a name and whatever follows a NUL. Python removes all white space around a name, that of Latin-1
/// included, and others remove that of Unicode, or quotes.
fn same_name(name: &[u8], wanted: &[u8]) -> bool {
    let name = name.trim_ascii();
    if name.iter().all(is_plain) && wanted.iter().all(is_plain) {
        return name.eq_ignore_ascii_case(wanted);
    }
    let (name, wanted) = (folded(name), folded(wanted));
    let base = |name: &str| name.split('[').next().map(str::to_owned);
    name.replace('[', "_") == wanted.replace('[', "_") || base(&name) == base(&wanted)
}

/// Whether all backends read this byte of a name in the same way.
fn is_plain(byte: &u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}

/// The normal form of the spellings of a name.
fn folded(name: &[u8]) -> String {
    let decoded: Vec<u8> = percent_decode(name).collect();
    let text = match String::from_utf8(decoded) {
        Ok(text) => text,
        Err(latin1) => latin1.into_bytes().into_iter().map(char::from).collect(),
    };
    let text = text.split('\0').next().unwrap_or_default();
    let text = text.replace('"', "");
    let is_blank = |c: char| c.is_whitespace() || c.is_control() || matches!(c, '+' | '\u{feff}');
    let folded = text.trim_matches(is_blank).chars().map(|c| match c {
        '.' | '+' => '_',
        c if c.is_whitespace() => '_',
        c => c.to_ascii_lowercase(),
    });
    folded.collect()
}

/// A value without the quotes that some clients add (RFC 6265 §4.1.1).
fn unquoted(value: &[u8]) -> &[u8] {
    let inner = value.strip_prefix(b"\"");
    let inner = inner.and_then(|value| value.strip_suffix(b"\""));
    inner.unwrap_or(value)
}

/// The pairs of a `Cookie` header (RFC 6265 §4.2.1).
fn pairs(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    line.as_bytes().split(|byte| *byte == b';')
}

/// The part after the scheme of `Bearer x`, or a compact JWS, alone or after another scheme (`JWT x`, `Token token=x`).
///
/// Backends split at any blank, so a tab also ends the scheme.
fn bearer_token(value: &[u8]) -> Option<&[u8]> {
    let end = value.iter().position(u8::is_ascii_whitespace);
    let (scheme, token) = value.split_at(end.unwrap_or(0));
    let token = token.trim_ascii();
    // The base64 of Basic contains no dot.
    let is_jws = || token.contains(&b'.') && memchr::memmem::find(token, b"eyJ").is_some();
    (scheme.eq_ignore_ascii_case(b"bearer") || is_jws()).then_some(token)
}

/// The value of ` name=value`, without the quotes that some clients add (RFC 6265 §4.1.1). Blanks before the
/// `=` are not part of the name (RFC 6265 §5.2).
fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let rest = pair.trim_ascii_start().strip_prefix(name)?;
    let value = rest.trim_ascii_start().strip_prefix(b"=")?;
    Some(unquoted(value.trim_ascii_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_scheme_is_not_a_token() {
        for value in [
            &b"Basic dXNlcjpwYXNz"[..],
            b"Digest username=\"a\", realm=\"b\"",
            b"NEGOTIATE YII=",
        ] {
            assert!(has_other_scheme(value), "{value:?}");
        }
        for value in [
            &b"Bearer abc"[..],
            b"bearer abc",
            b"Bearer",
            b"Bearer ",
            b"abc",
            b"JWT a.b.c",
            b"a .b.c",
            b"e y.J.x",
            b"",
        ] {
            assert!(!has_other_scheme(value), "{value:?}");
        }
    }

    #[test]
    fn bytes_of_latin_1_around_a_name_are_ignored() {
        for name in [
            &b"\x85access_token"[..],
            b"\xa0access_token",
            b"access_token\xa0",
            b"\xa0ACCESS[token\x85",
        ] {
            assert!(same_name(name, TOKEN), "{name:?}");
        }
        assert!(!same_name(b"\xe9access_token", TOKEN));
    }

    #[test]
    fn other_spellings_of_the_parameter_are_found() {
        for pair in [
            "access_token=x",
            "ACCESS.token=x",
            "access+token=x",
            "%61ccess%5Ftoken=x",
            "access_token[]=x",
            "access_token%5B0%5D=x",
            "access_token",
            "access[token=x",
            "access%5btoken=x",
            "%20access_token=x",
            "+access_token=x",
            "access_token%00=x",
            "access_token%00x=x",
            "%85access_token=x",
            "access_token%A0=x",
            "%C2%A0access_token=x",
            "access_token%E3%80%80=x",
            "\u{a0}access_token\u{85}=x",
            "%EF%BB%BFaccess_token=x",
        ] {
            assert!(is_other_parameter(pair, b"t"), "{pair}");
        }
        for pair in [
            "access_token=t",
            "access_tokens=x",
            "x[access_token]=y",
            "%00access_token=x",
            "access-token=x",
            "a=b",
            "",
        ] {
            assert!(!is_other_parameter(pair, b"t"), "{pair}");
        }
    }
}
