//! `backend/lambda`, in a backend: a function of AWS Lambda is called instead of a host.
//!
//! | module | content |
//! |---|---|
//! | `config`, `compile` | the block and its compilation |
//! | `runtime` | calls the function, and handles its response |

mod compile;
mod config;
mod runtime;
#[cfg(test)]
mod tests;

use super::extension::BackendExtension;

pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "backend/lambda",
    aliases: &["github.com/devopsfaith/krakend-lambda"],
    guard: true,
    doc: "Calls a function of AWS Lambda and uses its result as the response. A backend with this block needs no `host`. The call is signed with keys from the environment, a web identity, a container, the shared credentials file or the metadata of the machine.",
    keys: config::KEYS,
    compile: compile::backend,
};
