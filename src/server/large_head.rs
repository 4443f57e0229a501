//! Heads that are larger than Pingora's session reads.
//!
//! The session takes at most a megabyte with the head of a request, including the beginning of its body. The limit of the
//! gateway is higher, and configurable. So of a large head the session only reads what determines the end of the
//! message and of the connection. The other headers are set aside, and added to the request that it has read.

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue};
use memchr::memchr;
use memchr::memmem;

/// `MAX_HEADER_SIZE` of Pingora.
const MOST: usize = 1_048_575;
/// The headers that the session uses itself.
const USED: [&[u8]; 6] = [
    b"host",
    b"content-length",
    b"transfer-encoding",
    b"connection",
    b"upgrade",
    b"expect",
];

/// Returns what the session may read of `request`, which the front loop has accepted, and the headers that were set aside.
/// `None` if what the session must read is too large, too.
pub(super) fn set_aside(request: BytesMut) -> Option<(BytesMut, Option<Box<HeaderMap>>)> {
    if request.len() <= MOST {
        return Some((request, None));
    }
    let (kept, aside) = split(request.freeze())?;
    (kept.len() <= MOST).then(|| (kept, Some(Box::new(aside))))
}

/// What the session reads, and the other headers.
fn split(request: Bytes) -> Option<(BytesMut, HeaderMap)> {
    let end = memmem::find(&request, b"\r\n\r\n")? + 2;
    let (head, rest) = request.split_at_checked(end)?;
    let line_end = memchr(b'\n', head)? + 1;
    let (first, fields) = head.split_at_checked(line_end)?;
    let mut kept = BytesMut::from(first);
    let mut aside = HeaderMap::new();
    for line in fields.split_inclusive(|byte| *byte == b'\n') {
        let (name, value) = line.split_at_checked(memchr(b':', line)?)?;
        if USED.iter().any(|used| used.eq_ignore_ascii_case(name)) {
            kept.extend_from_slice(line);
        } else {
            let name = HeaderName::from_bytes(name).ok()?;
            let value = value.get(1..)?.trim_ascii();
            aside.append(name, held(&request, value)?);
        }
    }
    kept.extend_from_slice(rest);
    Some((kept, aside))
}

/// The value without a copy.
fn held(request: &Bytes, value: &[u8]) -> Option<HeaderValue> {
    HeaderValue::from_maybe_shared(request.slice_ref(value)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_small_request_is_read_whole() {
        let request = BytesMut::from(&b"GET / HTTP/1.1\r\nHost: a\r\nX: b\r\n\r\n"[..]);
        let (kept, aside) = set_aside(request.clone()).unwrap();
        assert_eq!((kept, aside), (request, None));
    }

    #[test]
    fn of_a_large_head_only_the_headers_that_the_session_uses_are_read() {
        let long = "v".repeat(MOST);
        let request = format!(
            "POST /p HTTP/1.1\r\nX-Long: {long}\r\nHOST: a\r\nx-a: 1\r\nContent-Length: 3\r\nX-A:\t2 \r\n\
             Connection: close\r\nEmpty:\r\n\r\nabc"
        );
        let (kept, aside) = set_aside(BytesMut::from(&*request)).unwrap();
        assert_eq!(
            kept,
            &b"POST /p HTTP/1.1\r\nHOST: a\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"[..]
        );
        let aside = aside.unwrap();
        assert_eq!(aside.get("x-long").unwrap().len(), MOST);
        assert_eq!(aside.get_all("x-a").iter().collect::<Vec<_>>(), ["1", "2"]);
        assert_eq!(aside.get("empty").unwrap(), "");
    }

    #[test]
    fn a_large_header_that_the_session_uses_is_too_much() {
        let long = "v".repeat(MOST);
        let request = format!("GET / HTTP/1.1\r\nHost: a\r\nConnection: {long}\r\n\r\n");
        assert!(set_aside(BytesMut::from(&*request)).is_none());
    }
}
