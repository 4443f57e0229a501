//! Counters and histograms with labels, under OpenTelemetry's names.
//!
//! The pages for Prometheus and the exports to collectors contain the same numbers.

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
