//! How clients reach us: listeners, TLS, shutdown, the HTTP answer to a failure.
//!
//! | module | what lives there |
//! |---|---|
//! | [`process`], [`successor`] | start, reload, hand-over, stop: the signals and the drain; who takes over |
//! | [`processors`] | how many worker threads make use of what is granted |
//! | [`front`], [`conn`], [`head`], [`rewrite`], [`chunks`], [`proxy_protocol`] | a connection before and between requests |
//! | [`tls`], [`client_auth`], [`tickets`], [`turns`] | certificates, chosen by name, replaced while running, and those of clients; keys of session tickets; handshakes that do not crowd out requests |
//! | [`gateway`], [`active_stats`] | the `ProxyHttp` implementation: decides and delegates; its part of `/__stats` |
//! | [`quick`] | the health answer, given before there is a session |
//! | [`body`], [`respond`], [`builtin`] | request bodies in, our own answers out, health and echo |
//! | [`relay`], [`trailers`], [`grpc`] | `no-op` answers as a streaming copy; refusals that gRPC clients understand |
//! | [`tunnel`] | WebSocket: on what terms, the bytes both ways, and what ends them |
//! | [`admin`], [`control`], [`watch`], [`upkeep`] | pages for operators, orders, changed files, background tasks |

mod active_stats;
pub mod admin;
mod body;
mod builtin;
pub mod chunks;
mod client_auth;
mod conn;
pub mod control;
mod front;
pub mod gateway;
mod grpc;
pub mod head;
pub mod process;
mod processors;
pub mod proxy_protocol;
mod quick;
mod relay;
mod respond;
pub mod rewrite;
pub mod successor;
pub mod tickets;
pub mod tls;
mod trailers;
mod tunnel;
mod turns;
mod upkeep;
mod watch;
