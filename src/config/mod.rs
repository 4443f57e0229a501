//! Parses a configuration: a tree with positions, and types named after its keys, where absent values stay absent.
//!
//! | module | content |
//! |---|---|
//! | [`value`] | the tree, independent of the format |
//! | [`json`], [`yaml`], [`toml`] | the parsers |
//! | [`mod@key`], [`block`], [`node`] | tables of keys, and reading a block by its table |
//! | [`rule`] | which errors do not stop the start |
//! | [`report`], [`path`], [`suggest`] | errors, their location, and suggestions |
//! | [`duration`], [`host`], [`size`] | `"1.5s"`, `"http://a:80"`, `"8MiB"` |
//! | [`re2`] | regular expressions in Go's syntax |
//! | [`load`], [`environment`], [`expand`] | from a path to a tree: `KRAKEND_*`, `${NAME}` |
//! | [`flexible`], [`template`] | `FC_*`: renders settings, partials and templates to the text of a configuration |
//! | [`service`], [`endpoint`], [`backend`], [`tls`], [`extra`] | the core levels |
//! | [`namespace`] | what a namespace of `compile` declares |
//!
//! The meaning of keys is defined in `compile`.

pub mod backend;
pub mod block;
pub mod duration;
pub mod endpoint;
pub mod environment;
pub mod expand;
pub mod extra;
pub mod flexible;
pub mod host;
pub mod json;
pub mod key;
pub mod load;
pub mod namespace;
pub mod node;
pub mod path;
pub mod re2;
pub mod report;
pub mod rule;
pub mod service;
pub mod size;
pub mod suggest;
pub mod template;
pub mod tls;
pub mod toml;
pub mod value;
pub mod yaml;

pub use backend::Backend;
pub use block::{Block, OneOrMany};
pub use endpoint::Endpoint;
pub use environment::Environment;
pub use extra::Extra;
pub use key::{Key, Kind, joined, key};
pub use namespace::Namespace;
pub use node::{Node, Typing};
pub use report::{ConfigError, Finding, Problem, Report, Severity};
pub use rule::Rule;
pub use service::Service;
pub use tls::{ClientTls, Tls};
pub use value::{Data, Position, Value};
