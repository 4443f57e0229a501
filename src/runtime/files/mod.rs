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
//!
//! All functions here read the file system: they belong on a thread for blocking work.

mod condition;
mod folder;
mod listing;
pub(crate) mod media;
mod name;
mod open;
pub mod range;
#[cfg(test)]
mod tests;

pub(crate) use folder::{Asked, Body, Folder, Served, read_part};
pub(crate) use name::names;
