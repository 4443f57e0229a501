//! `modifier/martian`, in a backend: changes the call as it is sent and the answer as it came.
//!
//! | module | what lives there |
//! |---|---|
//! | `config` | the tables: every modifier with its fields |
//! | `compile`, `filter`, `leaf` | from a definition to a [`Modifier`], and what is wrong with it |
//! | `modifier`, `runtime` | the tree that requests and answers pass, and the step around it |
//! | `change`, `condition` | what a modifier does, and what a filter asks |
//! | `field` | header fields, those among them that are about the message itself |
//! | `cookie`, `place`, `range` | cookies, scheme and host and port, byte ranges |
//! | `files`, `media` | what `static.Modifier` serves |

mod change;
mod compile;
mod condition;
mod config;
mod cookie;
mod field;
mod files;
mod filter;
mod leaf;
mod media;
mod modifier;
mod place;
pub mod range;
mod runtime;
#[cfg(test)]
mod tests;

pub use files::below;
pub use modifier::Modifier;
pub use runtime::Martian;

use super::registry::BackendExtension;

/// `modifier/martian`.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "modifier/martian",
    aliases: &["github.com/devopsfaith/krakend-martian"],
    doc: "Changes the call as it is sent and the answer as it came: exactly one of these modifiers, of which groups and filters hold others. Each may have a `scope`, a list of `request` and `response`; without it, it acts wherever it can.",
    keys: config::KEYS,
    compile: compile::backend,
};
