//! B3, in one header or in several (<https://github.com/openzipkin/b3-propagation>).

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Parent;
use crate::telemetry::trace::ids::{SpanId, TraceId};

pub(super) const SINGLE: HeaderName = HeaderName::from_static("b3");
pub(super) const TRACE: HeaderName = HeaderName::from_static("x-b3-traceid");
pub(super) const SPAN: HeaderName = HeaderName::from_static("x-b3-spanid");
pub(super) const PARENT: HeaderName = HeaderName::from_static("x-b3-parentspanid");
pub(super) const SAMPLED: HeaderName = HeaderName::from_static("x-b3-sampled");
pub(super) const FLAGS: HeaderName = HeaderName::from_static("x-b3-flags");

/// `<trace>-<span>[-<sampled>[-<parent>]]`.
pub(super) fn single(line: &[u8]) -> Option<Parent> {
    let mut parts = line.trim_ascii().split(|byte| *byte == b'-');
    let id = trace(parts.next()?)?;
    let span = SpanId::parse(parts.next()?)?;
    Some(Parent {
        trace: id,
        span,
        sampled: parts.next().and_then(state),
        random: false,
        state: None,
    })
}

pub(super) fn several(headers: &HeaderMap) -> Option<Parent> {
    let lower = |name: &HeaderName| Some(headers.get(name)?.as_bytes().to_ascii_lowercase());
    Some(Parent {
        trace: trace(&lower(&TRACE)?)?,
        span: SpanId::parse(&lower(&SPAN)?)?,
        sampled: states(headers),
        random: false,
        state: None,
    })
}

/// The sampling state of the headers `X-B3-…`. A debug request is recorded.
pub(super) fn states(headers: &HeaderMap) -> Option<bool> {
    let value = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    match value(&FLAGS) {
        Some(b"1") => Some(true),
        _ => state(value(&SAMPLED)?),
    }
}

/// A sampling state: accept, debug or deny. `None` for any other text. Old senders write `true` and `false`.
pub(super) fn state(text: &[u8]) -> Option<bool> {
    match text {
        b"1" | b"d" => Some(true),
        b"0" => Some(false),
        text if text.eq_ignore_ascii_case(b"true") => Some(true),
        text if text.eq_ignore_ascii_case(b"false") => Some(false),
        _ => None,
    }
}

/// A short id is padded with zeros on the left.
fn trace(digits: &[u8]) -> Option<TraceId> {
    if digits.len() == 16 {
        let whole = [&[b'0'; 16][..], digits].concat();
        return TraceId::parse(&whole);
    }
    TraceId::parse(digits)
}
