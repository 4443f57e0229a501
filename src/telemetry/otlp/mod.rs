//! Exports to OpenTelemetry collectors: the messages, and the worker that sends them.

pub mod encode;
mod exporter;
mod family;
mod own;
mod proto;

pub use encode::retry_delay;
pub use exporter::{Counts, Exporter, Lost, Sent, Settings, Signal, Transport};
pub use own::{Gathered, Own};
