//! Which headers and query strings pass from the client to a backend.

mod headers;
mod query;

pub use headers::{HeaderRules, alike, complete, keeps_gzip, outgoing, set_alone};
pub use query::{Pair, Pairs, QueryRules};
