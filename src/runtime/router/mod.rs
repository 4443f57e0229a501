//! Path and method in, endpoint and parameters out.
//!
//! Built once from all routes, then only read. A path is split at its raw slashes and each segment is decoded once for
//! comparison, so that an encoded slash, backslash or dot segment never changes which endpoint answers. One tree per
//! method; in each node fixed text wins over a parameter with text around it, that over a plain parameter, that over a
//! wildcard, and the search goes back when the better branch leads nowhere.

mod build;
mod pattern;
mod redirect;
mod search;
mod tree;

#[cfg(test)]
mod tests;

pub use build::{Builder, Options, RouteError};
pub use pattern::{Pattern, PatternError, Segment};
pub use redirect::Redirect;
pub use search::{BuiltIn, Match, Router, check_params, route_anything};
