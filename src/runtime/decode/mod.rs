//! Decodes the body of an upstream to a value.

mod charset;
mod decoder;
mod feed;
mod xml;
mod yaml;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Kind, as_object, decode_anything};
