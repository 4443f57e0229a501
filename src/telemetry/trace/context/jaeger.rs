//! Jaeger's header `uber-trace-id`
//! (<https://www.jaegertracing.io/docs/1.21/client-libraries/#propagation-format>).

use http::{HeaderMap, HeaderName};

use super::Parent;
use crate::telemetry::trace::ids::{SpanId, TraceId};

pub(super) const HEADER: HeaderName = HeaderName::from_static("uber-trace-id");

/// `<trace>:<span>:<parent>:<flags>`, in hexadecimal digits without the leading zeros. The colons may be percent-encoded.
pub(super) fn parent(headers: &HeaderMap) -> Option<Parent> {
    let text = headers.get(HEADER)?.to_str().ok()?;
    let text = text.trim().to_ascii_lowercase().replace("%3a", ":");
    let mut parts = text.split(':');
    let trace = format!("{:0>32}", parts.next()?);
    let span = format!("{:0>16}", parts.next()?);
    let _parent = parts.next()?;
    let flags = u8::from_str_radix(parts.next()?, 16).ok()?;
    if parts.next().is_some() {
        return None;
    }
    Some(Parent {
        trace: TraceId::parse(trace.as_bytes())?,
        span: SpanId::parse(span.as_bytes())?,
        // 2 asks for debugging, which includes sampling.
        sampled: Some(flags & 3 != 0),
        debug: flags & 2 != 0,
        random: false,
        state: None,
    })
}
