//! Finds endpoint and parameters for path and method.
//!
//! The router is built once from all routes and is read-only afterwards. A path is split at its raw slashes, and each
//! segment is decoded once for comparison, so that an encoded slash, backslash or dot segment never changes which
//! endpoint is selected. There is one tree per method. In each node, fixed text takes precedence over a parameter
//! with text around it, that over a plain parameter, and that over a wildcard. The search backtracks if the better
//! branch has no match.

mod build;
mod pattern;
mod redirect;
mod search;
mod tree;

#[cfg(test)]
mod tests;

pub use build::Options;
pub(crate) use build::{Builder, RouteError};
pub(crate) use pattern::CATCH_ALL;
pub use pattern::Pattern;
pub(crate) use redirect::{Redirect, moved_permanently};
pub(crate) use search::{BuiltIn, Match, check_params};
pub use search::{Router, route_anything};
