//! Parses a configuration: a tree with positions, and types named after its keys, where absent values stay absent.
//!
//! | module | content |
//! |---|---|
//! | [`value`] | the tree, independent of the format |
//! | [`json`], [`yaml`], [`toml`] | the parsers |
//! | [`mod@key`], [`block`], [`node`] | tables of keys, and reading a block by its table |
//! | [`rule`] | which errors do not stop the start |
//! | [`report`], [`path`], [`suggest`] | errors, their location, and suggestions |
//! | `secret` | which values messages do not show |
//! | [`duration`], [`host`], [`size`] | `"1.5s"`, `"http://a:80"`, `"8MiB"` |
//! | [`re2`] | regular expressions in Go's syntax |
//! | [`load`], [`environment`], [`expand`], [`php_arrays`] | from a path to a tree: `KRAKEND_*`, `${NAME}`, lists for objects |
//! | [`flexible`], [`template`] | `FC_*`: renders settings, partials and templates to the text of a configuration |
//! | [`service`], [`endpoint`], [`agent`], [`backend`], [`tls`], [`extra_config`] | the core levels |
//! | [`variables`] | the environment variables that the program reads |
//! | [`namespace`] | what a namespace of `compile` declares |
//!
//! The meaning of keys is defined in `compile`.

pub(crate) mod agent;
pub(crate) mod backend;
pub(crate) mod block;
pub(crate) mod duration;
pub(crate) mod endpoint;
pub(crate) mod environment;
pub(crate) mod expand;
pub(crate) mod extra_config;
pub(crate) mod flexible;
pub(crate) mod host;
pub(crate) mod json;
pub(crate) mod key;
pub(crate) mod load;
pub(crate) mod namespace;
pub(crate) mod node;
pub(crate) mod path;
pub(crate) mod php_arrays;
pub(crate) mod re2;
pub(crate) mod report;
pub(crate) mod rule;
mod secret;
pub(crate) mod service;
pub(crate) mod size;
pub(crate) mod suggest;
pub(crate) mod template;
pub(crate) mod tls;
pub(crate) mod toml;
pub(crate) mod value;
pub(crate) mod variables;
pub(crate) mod yaml;

pub(crate) use agent::Agent;
pub(crate) use backend::Backend;
pub(crate) use block::{Block, OneOrMany};
pub(crate) use endpoint::Endpoint;
pub use environment::Environment;
pub(crate) use extra_config::Extra;
pub(crate) use key::{Key, Kind, joined, key};
pub(crate) use namespace::Namespace;
pub use node::Node;
pub(crate) use node::Typing;
pub use report::{ConfigError, Finding, Report, Severity};
pub(crate) use rule::Rule;
pub use service::Service;
pub(crate) use tls::{ClientTls, Tls};
pub(crate) use value::{Data, Position, Value};
