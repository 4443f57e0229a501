//! `modifier/martian`, in a backend: changes the call on the wire and its original response.
//!
//! | module | content |
//! |---|---|
//! | `config` | the tables of keys: every modifier with its members |
//! | `compile`, `filter`, `leaf` | compiles a definition to a `Modifier`, and reports its errors |
//! | `modifier`, `runtime` | the tree of modifiers, and the step that runs it |
//! | `change`, `condition` | the changes of modifiers, and the conditions of filters |
//! | `header` | headers, including those that describe the message itself |
//! | `cookie`, `url_authority` | cookies; scheme, host and port |
//! | `files` | the files that `static.Modifier` serves |

mod change;
mod compile;
mod condition;
mod config;
mod cookie;
mod files;
mod filter;
mod header;
mod leaf;
mod modifier;
mod runtime;
#[cfg(test)]
mod tests;
mod url_authority;

pub use crate::runtime::files::range;
pub use files::below;

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "modifier/martian",
    aliases: &["github.com/devopsfaith/krakend-martian"],
    guard: false,
    doc: "Changes the call before it is sent and the response after it has arrived: exactly one of these modifiers. Groups and filters contain other modifiers. Each modifier may have a `scope`, a list of `request` and `response`. Without a `scope`, a modifier applies to both if it can.",
    keys: config::KEYS,
    compile: compile::backend,
};
