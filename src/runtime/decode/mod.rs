//! Decodes the body of an upstream to a value.

mod charset;
mod decoder;
mod feed;
mod lenient;
mod xml;
mod yaml;

#[cfg(test)]
mod tests;

pub(crate) use decoder::as_object;
pub use decoder::{Decoder, Kind, decode_anything};
