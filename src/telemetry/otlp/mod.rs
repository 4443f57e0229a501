//! Exports to OpenTelemetry collectors: the messages, and the worker that sends them.

pub(crate) mod encode;
mod exporter;
mod family;
mod own;
mod proto;

pub(crate) use encode::retry_delay;
pub(crate) use exporter::{Exporter, Lost, Sent, Settings, Signal, Transport};
pub(crate) use own::{Gathered, Own};
