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

/// A sampling state that was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) sampled: bool,
    /// The sender asks for a trace with all details. It includes sampling.
    pub(super) debug: bool,
}

/// `<trace>-<span>[-<sampled>[-<parent>]]`.
pub(super) fn single(line: &[u8]) -> Option<Parent> {
    let mut parts = line.trim_ascii().split(|byte| *byte == b'-');
    let id = trace(parts.next()?)?;
    let span = SpanId::parse(parts.next()?)?;
    Some(parent(id, span, parts.next().and_then(state)))
}

pub(super) fn several(headers: &HeaderMap) -> Option<Parent> {
    let lower = |name: &HeaderName| Some(headers.get(name)?.as_bytes().to_ascii_lowercase());
    let id = trace(&lower(&TRACE)?)?;
    let span = SpanId::parse(&lower(&SPAN)?)?;
    Some(parent(id, span, states(headers)))
}

fn parent(trace: TraceId, span: SpanId, state: Option<State>) -> Parent {
    Parent {
        trace,
        span,
        sampled: state.map(|state| state.sampled),
        debug: state.is_some_and(|state| state.debug),
        random: false,
        state: None,
    }
}

/// The sampling state of the headers `X-B3-…`.
pub(super) fn states(headers: &HeaderMap) -> Option<State> {
    let value = |name: &HeaderName| headers.get(name).map(HeaderValue::as_bytes);
    match value(&FLAGS) {
        Some(b"1") => state(b"d"),
        _ => state(value(&SAMPLED)?),
    }
}

/// A sampling state: accept, debug or deny. `None` for any other text. Old senders write `true` and `false`.
pub(super) fn state(text: &[u8]) -> Option<State> {
    let sampled = match text {
        b"1" | b"d" => true,
        b"0" => false,
        text if text.eq_ignore_ascii_case(b"true") => true,
        text if text.eq_ignore_ascii_case(b"false") => false,
        _ => return None,
    };
    let debug = text == b"d";
    Some(State { sampled, debug })
}

/// A short id is padded with zeros on the left.
fn trace(digits: &[u8]) -> Option<TraceId> {
    if digits.len() == 16 {
        let whole = [&[b'0'; 16][..], digits].concat();
        return TraceId::parse(&whole);
    }
    TraceId::parse(digits)
}
