//! JSON values that keep the text of their numbers, unparsed slices of an upstream's body, and a writer compatible
//! with KrakenD.
//!
//! | module | content |
//! |---|---|
//! | `value` | [`Value`]: a tree whose branches may be unparsed slices of the body |
//! | `scan` | the scanner: finds where a value ends, and whether its text can be kept |
//! | `parse` | parses a body to a [`Value`], to the requested depth |
//! | `index` | an object as its text and the positions of its members, for data that are only written |
//! | `literal` | values from the configuration, with numbers as KrakenD writes them |
//! | `error` | errors in a body, in KrakenD's words |
//! | `out` | where a writer puts its text: a buffer, or a counter |
//! | `text` | a value in a URL, in Go's notation |
//! | `weight` | the memory that a tree takes, estimated before it is built |
//! | `write` | serializes a [`Value`] |

mod error;
mod index;
mod literal;
mod out;
mod parse;
mod scan;
mod text;
mod value;
mod weight;
mod write;

#[cfg(test)]
mod tests;

pub(crate) use error::Error;
pub(crate) use out::{Count, Out, Unmade, charged_text, made};
pub use parse::{Depth, parse};
pub(crate) use parse::{parse_whole, parse_within};
pub(crate) use value::Kind;
pub use value::Object;
pub use value::Value;
pub(crate) use weight::{Growth, OBJECT, charge, charge_bytes, charge_xml};
#[cfg(feature = "lua")]
pub(crate) use weight::{ITEM, LIST};
pub use write::{Style, to_bytes};
pub(crate) use write::{size_hint, write, write_lossy, write_object, write_string};

/// The maximum nesting of objects and arrays, which protects the stack.
pub(crate) const MAX_DEPTH: usize = 512;
