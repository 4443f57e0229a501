//! The URL of a backend call.
//!
//! `url_pattern` is parsed once. Values of a request are encoded for their position, so that a value can change
//! neither the number of segments nor the query.

pub(crate) mod escape;
mod parse;
mod render;

#[cfg(test)]
mod tests;

pub use parse::Template;
pub(crate) use parse::TemplateError;
pub use render::render_anything;
pub(crate) use render::{Values, query};
