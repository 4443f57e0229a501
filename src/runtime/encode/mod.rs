//! A value in, a client's body out.

mod encoding;
mod negotiate;
mod plain;
mod xml;
mod yaml;

#[cfg(test)]
mod tests;

pub use encoding::Encoding;
