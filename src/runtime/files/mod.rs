//! Files of a folder, as responses.
//!
//! | module | content |
//! |---|---|
//! | `folder` | [`Folder`]: finds a file for a path and decides about the response |
//! | `name` | the path of a URL as names of files |
//! | `open` | opens a file that is below the folder, whatever happens to links meanwhile |
//! | `condition` | validators, preconditions, and encodings that a client accepts |
//! | [`range`], [`media`] | byte ranges; media types |
//! | `listing` | a folder as a page |
//! | `reading` | reads files on a small number of threads |
//!
//! All functions here read the file system: except for those of `reading` that wait, they belong on a thread for
//! blocking work.

mod condition;
mod folder;
mod listing;
pub(crate) mod media;
mod name;
mod open;
pub mod range;
mod reading;
#[cfg(test)]
mod tests;

pub(crate) use folder::{Asked, Body, Folder, Served};
pub(crate) use name::names;
pub(crate) use reading::{in_turn, read_piece, read_small, read_whole};
