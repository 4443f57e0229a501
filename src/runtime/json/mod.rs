//! JSON values with the text of their numbers, raw slices of an upstream's body, and the reference's way of writing.
//!
//! | module | what lives there |
//! |---|---|
//! | `value` | [`Value`]: a tree whose branches may still be unread slices of the body |
//! | `scan` | the syntax: finds where a value ends and whether it can be kept as it was written |
//! | `parse` | body in, [`Value`] out, as deep as asked for |
//! | `literal` | values that the configuration holds, numbers as the reference prints them |
//! | `error` | what is wrong with a body, in the words of the reference |
//! | `text` | a value in a URL, in the notation of Go |
//! | `write` | [`Value`] in, bytes out |

mod error;
mod literal;
mod parse;
mod scan;
mod text;
mod value;
mod write;

#[cfg(test)]
mod tests;

pub use error::Error;
pub use parse::{Depth, parse, parse_whole};
pub use value::{Kind, Object, Raw, Value};
pub use write::{Style, to_bytes, write, write_string};

/// How deeply objects and arrays may be nested; a bound against bodies made to exhaust the stack.
pub const MAX_DEPTH: usize = 512;
