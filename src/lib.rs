//! Portcullis: an API gateway on Pingora that reads KrakenD `"version": 3` files.
//!
//! | folder | what lives there |
//! |---|---|
//! | [`cli`] | `run`, `check`, `demo`, …: arguments in, text and exit codes out |
//! | [`config`] | what the file says: types named after its keys, defaults left as absent |
//! | [`compile`] | what the file means: defaults applied, names resolved, every mistake found and reported |
//! | [`ext`] | one folder for each `extra_config` namespace, and the lists of them |
//! | [`runtime`] | what happens to a request: match it, fan out, merge, filter, encode the answer |
//! | [`jose`] | tokens, key sets, signatures: functions over bytes that know nothing of HTTP |
//! | [`upstream`] | how we reach a backend: host sets, balancing, pools, TLS; nobody else opens a connection |
//! | [`server`] | how clients reach us: listeners, TLS, shutdown, the HTTP answer to a failure |
//! | [`telemetry`] | what we report: log lines, counters, the access log |
//!
//! "May use" goes one way: `cli → server → runtime → {upstream, jose}`, and
//! `cli → compile → ext → {config, runtime, upstream, jose}`; anyone may report to [`telemetry`].
//! `tests/it/architecture.rs` fails on an arrow drawn backwards.

#![forbid(unsafe_code)]

pub mod cli;
pub mod compile;
pub mod config;
pub mod ext;
pub mod jose;
pub mod runtime;
pub mod server;
pub mod telemetry;
pub mod upstream;
