//! An upstream's body in, a value out.

mod alphabet;
mod decoder;
mod feed;
mod xml;

#[cfg(test)]
mod tests;

pub use decoder::{Decoder, Kind, decode_anything};
