//! Counters and histograms with labels, under OpenTelemetry's names.
//!
//! The pages for Prometheus and the exports to collectors contain the same numbers.

mod append_list;
mod histogram;
pub(crate) mod page;
mod store;

pub(crate) use append_list::AppendList;
pub(crate) use histogram::{Counter, Example, Examples, Histogram, Measure};
pub(crate) use store::{
    Families, Instrument, Kind, MAX_LINES, MAX_SERIES, Numbers, SIZE_BOUNDS, STABLE_TIME_BOUNDS,
    Series, Store, TIME_BOUNDS, label_name,
};
