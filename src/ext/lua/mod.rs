//! `modifier/lua-endpoint`, `modifier/lua-proxy`, `modifier/lua-backend`: the operator's scripts.
//!
//! | module | content |
//! |---|---|
//! | `config`, `compile` | the block and its compilation: every script is parsed at start |
//! | `script` | a compiled block: its texts, and the file of each line |
//! | `pool` | idle interpreters |
//! | `interpreter` | one Lua state: created once, with a new set of globals for each request |
//! | `prelude.lua` | those globals, as far as they are written in Lua |
//! | `syntax`, `goto` | gopher-lua's extensions of Lua 5.1, rewritten in Lua 5.1: `goto`, `;;`, `__len` of tables |
//! | `missing_functions` | functions of gopher-lua that do not exist here |
//! | `session` | the use of an interpreter by one request |
//! | `memory` | the memory of interpreters, which counts in the budgets of the process |
//! | `run` | the state of a request that scripts can access, and their limits |
//! | `tree`, `collections` | data as `luaTable` and `luaList` |
//! | `client`, `objects`, `headers` | `ctx`, `request`, `response` |
//! | `calls` | `http_response` |
//! | `text`, `pattern` | the functions of `string` that need limits |
//! | `library` | `custom_error`, `print` and other functions |
//! | `failure` | why a script ended early, and where |
//! | `endpoint`, `pipe` | when scripts run |

mod calls;
mod client;
mod collections;
mod compile;
mod config;
mod endpoint;
mod failure;
mod goto;
mod headers;
mod interpreter;
mod library;
mod memory;
mod missing_functions;
mod objects;
mod pattern;
mod pipe;
mod pool;
mod run;
mod script;
mod session;
mod syntax;
mod text;
mod tree;

#[cfg(test)]
mod tests;

pub use pattern::Matcher;
pub(super) use pool::Pool;

use super::extension::{BackendExtension, EndpointExtension, ServiceExtension};

const ENDPOINT_NAMESPACE: &str = "modifier/lua-endpoint";
const ENDPOINT_ALIASES: &[&str] = &["github.com/devopsfaith/krakend-lua/router"];

/// `modifier/lua-endpoint` of the service: every request except the health check.
pub(super) const SERVICE: ServiceExtension = ServiceExtension {
    namespace: ENDPOINT_NAMESPACE,
    aliases: ENDPOINT_ALIASES,
    guard: true,
    doc: "A Lua script that runs for every request before its endpoint, and also for requests without an endpoint. See [Lua](lua.md).",
    keys: config::ENDPOINT_KEYS,
    compile: compile::service,
};

/// `modifier/lua-endpoint` of an endpoint: the request as the client sent it.
pub(super) const ENDPOINT: EndpointExtension = EndpointExtension {
    namespace: ENDPOINT_NAMESPACE,
    aliases: ENDPOINT_ALIASES,
    guard: true,
    doc: "A Lua script that runs on the client's request after its token was validated. See [Lua](lua.md).",
    keys: config::ENDPOINT_KEYS,
    compile: compile::endpoint,
};

/// `modifier/lua-proxy`: around the whole work of an endpoint.
pub(super) const PROXY: EndpointExtension = EndpointExtension {
    namespace: "modifier/lua-proxy",
    aliases: &["github.com/devopsfaith/krakend-lua/proxy"],
    guard: true,
    doc: "Lua scripts that run before an endpoint calls its backends and after their responses are merged. See [Lua](lua.md).",
    keys: config::PIPE_KEYS,
    compile: compile::proxy,
};

/// `modifier/lua-backend`: around one call.
pub(super) const BACKEND: BackendExtension = BackendExtension {
    namespace: "modifier/lua-backend",
    aliases: &["github.com/devopsfaith/krakend-lua/proxy/backend"],
    guard: true,
    doc: "Lua scripts that run before a backend is called and after it has responded. See [Lua](lua.md).",
    keys: config::PIPE_KEYS,
    compile: compile::backend,
};
