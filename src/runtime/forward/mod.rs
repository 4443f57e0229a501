//! Which headers and query strings pass from the client to a backend.

mod headers;
mod query;
mod withhold;

pub(crate) use headers::alike;
pub use headers::{HeaderRules, complete, outgoing};
pub(crate) use headers::{keeps_gzip, remove_alike, set_alone};
pub(crate) use query::Pair;
pub use query::QueryRules;
pub(crate) use withhold::withhold;
