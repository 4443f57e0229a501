//! W3C Trace Context (level 2) and W3C Baggage.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::Parent;
use crate::telemetry::trace::ids::{SpanId, TraceId};

pub(super) const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
pub(super) const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
pub(super) const BAGGAGE: HeaderName = HeaderName::from_static("baggage");

/// The maximum number of members of `tracestate` (W3C Trace Context §3.3.1.1), and their size. The standard requires
/// at least 512 bytes.
pub(super) const MAX_MEMBERS: usize = 32;
pub(super) const MAX_STATE_BYTES: usize = 4096;
/// The same for `baggage` (W3C Baggage §3.3.2).
const MAX_BAGGAGE_MEMBERS: usize = 64;
const MAX_BAGGAGE_BYTES: usize = 8192;

/// The client's `traceparent` with its `tracestate`.
pub(super) fn trace_parent(headers: &HeaderMap) -> Option<Parent> {
    let mut lines = headers.get_all(TRACEPARENT).iter();
    let line = lines.next()?.as_bytes();
    if lines.next().is_some() {
        return None;
    }
    let (trace, span, flags) = fields(line.trim_ascii())?;
    Some(Parent {
        trace,
        span,
        sampled: Some(flags & 1 == 1),
        debug: false,
        random: flags & 2 == 2,
        state: trace_state(headers),
    })
}

/// `00-<trace>-<span>-<flags>`. A higher version may have more fields after that.
fn fields(line: &[u8]) -> Option<(TraceId, SpanId, u8)> {
    let (fixed, rest) = line.split_at_checked(55)?;
    let dashes = [2, 35, 52].iter().all(|at| fixed.get(*at) == Some(&b'-'));
    let version = byte(fixed.get(..2)?)?;
    let fits = match version {
        0xff => false,
        0 => rest.is_empty(),
        _ => rest.is_empty() || rest.starts_with(b"-"),
    };
    if !dashes || !fits {
        return None;
    }
    let trace = TraceId::parse(fixed.get(3..35)?)?;
    let span = SpanId::parse(fixed.get(36..52)?)?;
    Some((trace, span, byte(fixed.get(53..55)?)?))
}

fn byte(digits: &[u8]) -> Option<u8> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    };
    match digits {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    }
}

/// The members of all lines, in order. An excess is removed from the right.
fn trace_state(headers: &HeaderMap) -> Option<HeaderValue> {
    joined(headers, &TRACESTATE, MAX_MEMBERS, MAX_STATE_BYTES)
}

/// The client's `baggage`, joined and limited.
pub(crate) fn baggage(headers: &HeaderMap) -> Option<HeaderValue> {
    joined(headers, &BAGGAGE, MAX_BAGGAGE_MEMBERS, MAX_BAGGAGE_BYTES)
}

fn joined(
    headers: &HeaderMap,
    name: &HeaderName,
    most_members: usize,
    most_bytes: usize,
) -> Option<HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    let first = lines.next()?;
    let members = |value: &HeaderValue| value.as_bytes().split(|byte| *byte == b',').count();
    let short = first.len() <= most_bytes && members(first) <= most_members;
    if short && lines.next().is_none() && !first.is_empty() {
        return Some(first.clone());
    }
    let mut out = Vec::new();
    let lines = headers.get_all(name).iter();
    let all = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b','));
    let all = all
        .map(<[u8]>::trim_ascii)
        .filter(|member| !member.is_empty());
    for member in all.take(most_members) {
        if out.len() + member.len() + 1 > most_bytes {
            break;
        }
        if !out.is_empty() {
            out.push(b',');
        }
        out.extend_from_slice(member);
    }
    (!out.is_empty())
        .then(|| HeaderValue::from_bytes(&out).ok())
        .flatten()
}
