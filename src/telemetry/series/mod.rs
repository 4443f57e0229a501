//! Numbers of requests under labels: counters and histograms, by the names of OpenTelemetry.
//!
//! The pages of Prometheus exporters and what is sent to collectors show the same numbers.

mod grown;
mod histogram;
pub mod page;
mod store;

pub use grown::Grown;
pub use histogram::{Counter, Example, Histogram, Measure, Reading};
pub use store::{
    Instrument, Kind, MOST_SERIES, Numbers, SIZE_BOUNDS, STABLE_TIME_BOUNDS, Series, Store,
    TIME_BOUNDS,
};
