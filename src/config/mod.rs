//! What the file says: a tree with positions, and types named after its keys, defaults left as absent.
//!
//! | module | what lives there |
//! |---|---|
//! | [`value`] | the tree, whatever format it came from |
//! | [`json`] | the parsers |
//! | [`key`], [`block`], [`node`] | tables of keys, and reading a block by its table |
//! | [`report`], [`path`], [`suggest`] | what is wrong, where, and what was meant |
//! | [`duration`] | `"1.5s"` |
//!
//! Nothing here knows what a key means; that is `compile`'s part.

pub mod block;
pub mod duration;
pub mod json;
pub mod key;
pub mod node;
pub mod path;
pub mod report;
pub mod suggest;
pub mod value;

pub use block::Block;
pub use key::{Key, Kind, key};
pub use node::{Node, Typing};
pub use report::{Finding, Mistake, Report, Severity};
pub use value::{Data, Position, Value};
