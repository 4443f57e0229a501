//! RSS, Atom and JSON feeds, decoded to one shape, which is KrakenD's.
//!
//! Dates keep their original text, next to a second member in RFC 3339. Members that only some feeds have are omitted
//! from items if they are empty, but never from the feed itself.

mod atom;
mod date;
mod json_feed;
mod rss;
mod shape;

pub(super) use shape::{Error, decode};

#[cfg(test)]
mod tests;
