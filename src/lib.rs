//! Portcullis: an API gateway on Pingora that reads KrakenD files of versions 3 and 4.
//!
//! | folder | content |
//! |---|---|
//! | `cli` | `run`, `check`, `demo`, …: parses arguments, prints text, returns exit codes |
//! | `config` | parses a configuration: types named after its keys, where absent values stay absent |
//! | `compile` | compiles a configuration: applies defaults, resolves names, reports every error |
//! | `ext` | one folder for each `extra_config` namespace, and the lists of them |
//! | `runtime` | request processing: match the route, call the backends, merge, filter, encode the response |
//! | `jose` | tokens, key sets, signatures: functions over bytes, independent of HTTP |
//! | `upstream` | connections to backends: host sets, load balancing, pools, TLS |
//! | `server` | connections from clients: listeners, TLS, shutdown, the HTTP response to a failure |
//! | `telemetry` | log lines, counters, traces, the access log |
//! | `backoff` | pauses that grow with the failures in a row; every module may use it |
//! | `per_worker` | what each worker thread has for itself; every module may use it |
//! | `named_file` | reads a file that the configuration names; every module may use it |
//! | `internals` | the hidden door of tests, benchmarks and fuzz targets |
//!
//! `ARCHITECTURE.md` says which file of a folder to open, and which folder may use which. Dependencies have one
//! direction: `cli → server → runtime → {upstream, jose}`, and `cli → compile → ext → {config, runtime, upstream,
//! jose}`. Every module except `config` and `jose` may use `telemetry`. `tests/it/architecture.rs` fails on a
//! dependency in the wrong direction.

#![forbid(unsafe_code)]
#![warn(unreachable_pub)]

mod backoff;
mod cli;
mod compile;
mod config;
mod ext;
mod jose;
mod named_file;
mod per_worker;
mod runtime;
mod server;
mod telemetry;
mod upstream;

#[doc(hidden)]
pub mod internals;

pub use cli::{main, serve};
