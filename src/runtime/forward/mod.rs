//! Which headers and query strings pass from the client to a backend.

mod headers;
mod query;

pub use headers::{HeaderRules, complete, keeps_gzip, outgoing};
pub use query::{Pair, Pairs, QueryRules};
