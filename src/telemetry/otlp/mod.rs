//! Exports to OpenTelemetry collectors: the messages, and the worker that sends them.

pub mod encode;
mod exporter;
mod proto;

pub use exporter::{Counts, Exporter, Lost, Sent, Settings, Signal, Transport};
