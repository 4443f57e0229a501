//! Compiles a parsed configuration: applies defaults, resolves names, and reports every error.
//!
//! | module | content |
//! |---|---|
//! | `service` | the whole configuration: [`file()`] and [`text`] |
//! | `endpoint`, `backend`, `graphql`, `static_data` | one endpoint, one backend |
//! | `agents` | consumers of queues |
//! | `prerouting` | what precedes the router, beside the endpoints |
//! | `claims` | claims in URLs; log lines for endpoints without certain blocks |
//! | `listen`, `options`, `client` | the listener; options; connections to backends |
//! | `resilience` | health checks, weights and retries of the hosts of a backend |
//! | `payload`, `response_edits` | how request bodies are read; the last changes to responses |
//! | `admin_listeners` | the admin listeners, and addresses that two listeners want |
//! | `certificates` | the contents of certificate and key files |
//! | `files` | files that the configuration names |
//! | `summary` | the output of `check -d` |
//! | `misplaced` | guards outside of `extra_config` |
//! | `namespaces` | which extension compiles which block |
//! | `plugins` | the blocks of plugins that are built in, moved to their own namespaces |
//! | [`krakend3`] | what KrakenD 3.0 reads differently |
//! | [`output`] | the result |
//! | [`docs`], [`schema`] | the tables of keys as `docs/configuration.md`, and as a JSON Schema |

mod admin_listeners;
mod agents;
mod backend;
mod certificates;
mod claims;
mod client;
pub(crate) mod docs;
mod endpoint;
mod files;
mod graphql;
pub(crate) mod krakend3;
mod listen;
mod misplaced;
mod namespaces;
mod options;
pub(crate) mod output;
mod payload;
mod plugins;
mod prerouting;
mod resilience;
mod response_edits;
pub(crate) mod schema;
mod service;
mod static_data;
mod summary;

pub(crate) use admin_listeners::{Content, admin_listeners};
pub(crate) use listen::any_address;
pub use output::Outcome;
pub(crate) use output::{Compiled, Metrics};
pub(crate) use service::file;
pub use service::{Inputs, text};
