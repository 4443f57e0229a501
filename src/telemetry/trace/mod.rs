//! Traces: spans, their ids, and how their context is sent.

pub(crate) mod attribute;
pub(crate) mod context;
pub(crate) mod ids;
pub(crate) mod span;

pub(crate) use attribute::{Attribute, Value};
pub(crate) use ids::{SpanId, TraceId};
pub(crate) use span::{Clock, Mark, Span, SpanEvent, SpanKind, SpanStatus};
