//! The URL of a backend call.
//!
//! `url_pattern` is read once. What a request puts into it is encoded for the place where it stands, so that a value
//! can change neither the number of segments nor the query.

pub(crate) mod escape;
mod parse;
mod render;

#[cfg(test)]
mod tests;

pub use parse::{Template, TemplateError};
pub use render::{Values, query, render_anything};
