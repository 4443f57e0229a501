//! Encodes a value to the body of a response.

mod document;
mod encoding;
mod negotiate;
mod plain;
mod xml;
mod yaml;

#[cfg(test)]
mod tests;

pub use encoding::Encoding;
