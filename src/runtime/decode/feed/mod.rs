//! RSS, Atom and JSON feeds, told in one shape: the reference's.
//!
//! Dates keep the text in which they came, beside a second member in RFC 3339. Members that only some feeds have are
//! left out of items when they are empty, but never of the feed itself.

mod atom;
mod date;
mod json_feed;
mod rss;
mod shape;

pub(super) use shape::decode;
