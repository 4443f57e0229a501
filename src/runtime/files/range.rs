//! `Range`, as far as it is supported: one range of bytes (RFC 9110 §14).
//!
//! Several ranges in one request are ignored, as the RFC allows, and the whole body is sent. They have caused attacks
//! on other servers and are rarely useful.

use std::ops::Range;

use http::header::{CONTENT_RANGE, IF_RANGE, RANGE};
use http::{HeaderMap, HeaderValue, Method, StatusCode};

/// The part of a body that a client receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Part {
    Whole,
    Some(Range<u64>),
    /// Nothing: the range starts after the end.
    Beyond,
}

/// The requested part of a body of `length` bytes. An invalid or unsupported range counts as no range.
pub fn asked(method: &Method, headers: &HeaderMap, length: u64) -> Part {
    let mut lines = headers.get_all(RANGE).iter();
    match (lines.next(), lines.next()) {
        // A condition cannot be evaluated, because there is no validator to compare with.
        (Some(value), None) if *method == Method::GET && !headers.contains_key(IF_RANGE) => {
            parse(value.as_bytes(), length)
        }
        _ => Part::Whole,
    }
}

/// `bytes=0-99`, `bytes=100-`, `bytes=-100`.
pub fn parse(value: &[u8], length: u64) -> Part {
    one(value, length).unwrap_or(Part::Whole)
}

/// `None` if there is no range or several.
fn one(value: &[u8], length: u64) -> Option<Part> {
    let text = std::str::from_utf8(value).ok()?;
    let (unit, range) = text.split_once('=')?;
    if !unit.eq_ignore_ascii_case("bytes") {
        return None;
    }
    let (first, last) = range.trim_matches([' ', '\t']).split_once('-')?;
    let part = match (first.is_empty(), last.is_empty()) {
        (true, true) => return None,
        (true, false) => match number(last)? {
            0 => Part::Beyond,
            _ if length == 0 => return None,
            count => Part::Some(length.saturating_sub(count)..length),
        },
        (false, _) => {
            let first = number(first)?;
            let last = if last.is_empty() {
                u64::MAX
            } else {
                number(last)?
            };
            match (first <= last, first < length) {
                (false, _) => return None,
                (true, false) => Part::Beyond,
                (true, true) => Part::Some(first..last.saturating_add(1).min(length)),
            }
        }
    };
    Some(part)
}

/// Only digits. A number that is too large is beyond every end.
fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

/// The status and the `Content-Range` of a response with this part.
pub fn head(part: &Part, length: u64) -> (StatusCode, Option<(http::HeaderName, HeaderValue)>) {
    let (status, text) = match part {
        Part::Whole => return (StatusCode::OK, None),
        Part::Some(range) => {
            let last = range.end.saturating_sub(1);
            let text = format!("bytes {}-{last}/{length}", range.start);
            (StatusCode::PARTIAL_CONTENT, text)
        }
        Part::Beyond => (
            StatusCode::RANGE_NOT_SATISFIABLE,
            format!("bytes */{length}"),
        ),
    };
    let value = HeaderValue::try_from(text).ok();
    (status, value.map(|value| (CONTENT_RANGE, value)))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_single_range_is_supported() {
        for (value, part) in [
            ("bytes=0-0", Part::Some(0..1)),
            ("bytes=2-4", Part::Some(2..5)),
            ("BYTES=2-", Part::Some(2..10)),
            ("bytes=-3", Part::Some(7..10)),
            ("bytes=-30", Part::Some(0..10)),
            ("bytes= 8-99999999999999999999999 ", Part::Some(8..10)),
            ("bytes=10-", Part::Beyond),
            ("bytes=99999999999999999999999-", Part::Beyond),
            ("bytes=-0", Part::Beyond),
        ] {
            assert_eq!(parse(value.as_bytes(), 10), part, "{value}");
        }
    }

    #[test]
    fn anything_else_counts_as_no_range() {
        for value in [
            "",
            "bytes",
            "bytes=",
            "bytes=-",
            "bytes=a-b",
            "bytes=4-2",
            "bytes=0-1,3-4",
            "bytes=+1-2",
            "items=0-1",
            "bytes=0-1-2",
            "bytes=1",
            "bytes=0x1-2",
            "bytes = 0-1",
        ] {
            assert_eq!(parse(value.as_bytes(), 10), Part::Whole, "{value}");
        }
        assert_eq!(parse(b"bytes=-5", 0), Part::Whole);
        assert_eq!(parse(b"bytes=0-", 0), Part::Beyond);
    }

    #[test]
    fn a_condition_or_another_method_gets_the_whole_body() {
        let mut headers = HeaderMap::new();
        headers.insert(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(asked(&Method::GET, &headers, 5), Part::Some(0..2));
        assert_eq!(asked(&Method::POST, &headers, 5), Part::Whole);
        headers.insert(IF_RANGE, HeaderValue::from_static("\"a\""));
        assert_eq!(asked(&Method::GET, &headers, 5), Part::Whole);
        headers.remove(IF_RANGE);
        headers.append(RANGE, HeaderValue::from_static("bytes=0-1"));
        assert_eq!(asked(&Method::GET, &headers, 5), Part::Whole);
    }

    proptest! {
        #[test]
        fn a_part_is_within_the_body(value in "(bytes=)?[0-9a-z=, -]{0,30}", length: u64) {
            if let Part::Some(range) = parse(value.as_bytes(), length) {
                prop_assert!(range.start < range.end && range.end <= length);
            }
        }
    }
}
