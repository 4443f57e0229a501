//! `plugin/http-server`, `plugin/http-client`, `plugin/req-resp-modifier` and `plugin/middleware`.
//!
//! Go plugins cannot be loaded. The names that are built-ins of KrakenD's enterprise edition have namespaces of their
//! own here: `compile` moves their blocks there before anything else is read. Any other name stops the start, unless
//! `ignore_plugins` of `portcullis/compat` contains it.
//!
//! | module | content |
//! |---|---|
//! | `names` | the table of names and their namespaces |
//! | `shape` | the blocks of plugins whose namespaces have other keys |
//! | `hints` | what to write instead of other plugins |

mod hints;
mod names;
mod shape;

pub(crate) use hints::hint;
pub(crate) use names::{BUILT_IN, BuiltIn, PluginKind, built_in, meant};
pub(crate) use shape::Moved;
