//! Where in a request a token may stand.

use http::HeaderName;
use http::header::COOKIE;

use crate::jose::{Reason, Refusal, bearer};
use crate::runtime::request::Head;

/// The places, in order: the header, then the cookie.
#[derive(Debug)]
pub(super) struct Places {
    pub(super) header: HeaderName,
    pub(super) cookie: Box<str>,
}

impl Places {
    /// The token, if the request has one.
    ///
    /// As KrakenD does: a header that is there and not empty is final, whatever it holds. Unlike there, two headers
    /// are refused, and so are two different cookies of the name: nobody knows which one an upstream would believe.
    pub(super) fn token<'h>(&self, head: &Head<'h>) -> Result<Option<&'h str>, Refusal> {
        let mut lines = head.headers.get_all(&self.header).iter();
        if let Some(line) = lines.next() {
            if lines.next().is_some() {
                return Err(Refusal::ambiguous());
            }
            if let Some(token) = bearer(line.as_bytes())? {
                return Ok(Some(token));
            }
        }
        self.cookie(head)
    }

    fn cookie<'h>(&self, head: &Head<'h>) -> Result<Option<&'h str>, Refusal> {
        let mut found: Option<&[u8]> = None;
        for line in head.headers.get_all(COOKIE) {
            for pair in line.as_bytes().split(|byte| *byte == b';') {
                let Some(value) = value_of(pair, self.cookie.as_bytes()) else {
                    continue;
                };
                if found.is_some_and(|first| first != value) {
                    return Err(Refusal::ambiguous());
                }
                found = Some(value);
            }
        }
        match found {
            None | Some(b"") => Ok(None),
            Some(value) => std::str::from_utf8(value)
                .map(Some)
                .map_err(|_| Refusal::new(Reason::Malformed, "illegal base64 data")),
        }
    }
}

/// The value of ` name=value`, without the quotes that some clients put around it (RFC 6265 §4.1.1).
fn value_of<'p>(pair: &'p [u8], name: &[u8]) -> Option<&'p [u8]> {
    let rest = pair.trim_ascii_start().strip_prefix(name)?;
    let value = rest.strip_prefix(b"=")?.trim_ascii_end();
    let unquoted = value
        .strip_prefix(b"\"")
        .and_then(|value| value.strip_suffix(b"\""));
    Some(unquoted.unwrap_or(value))
}
