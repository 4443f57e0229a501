//! Traces: spans, their ids, and how their context is sent.

pub mod attribute;
pub mod context;
pub mod ids;
pub mod span;

pub use attribute::{Attribute, Value};
pub use ids::{SpanId, TraceId};
pub use span::{Clock, Span, SpanEvent, SpanKind, SpanStatus};
