//! How clients reach us: listeners, TLS, shutdown, the HTTP answer to a failure.
//!
//! | module | what lives there |
//! |---|---|
//! | [`processors`] | how many worker threads make use of what is granted |
//! | [`start`], [`process`], [`signals`], [`successor`] | start, reload, hand-over, stop: the signals and the drain; who takes over |
//! | [`listeners`], [`handover`], [`folder`] | the listening sockets; how they change hands, and in which folder |
//! | [`accept`], [`room`], [`descriptors`], [`socket`] | the accept loop, who may stay when places are scarce, file descriptors, a client's socket |
//! | [`front`], [`conn`], [`head`], [`rewrite`], [`chunks`], [`proxy_protocol`] | a connection before and between requests |
//! | [`tls`], [`client_auth`], [`tickets`], [`turns`] | certificates, chosen by name, replaced while running, and those of clients; keys of session tickets; handshakes that do not crowd out requests |
//! | [`gateway`] | the `ProxyHttp` implementation: decide, gates, run, report |
//! | [`quick`] | the health answer, given before there is a session |
//! | [`body`], [`respond`], [`builtin`] | request bodies in, our own answers out, health and echo |
//! | [`relay`], [`trailers`], [`grpc`] | `no-op` answers as a streaming copy; refusals that gRPC clients understand |
//! | [`tunnel`] | WebSocket: on what terms, the bytes both ways, and what ends them |
//! | [`admin`], [`control`], [`watch`], [`upkeep`], [`memory`] | pages for operators, orders, changed files, background tasks, memory that goes back |

mod accept;
pub mod admin;
mod body;
mod builtin;
pub mod chunks;
mod client_auth;
mod conn;
pub mod control;
mod descriptors;
mod folder;
mod front;
pub mod gateway;
mod grpc;
mod handover;
pub mod head;
mod listeners;
mod memory;
pub mod process;
mod processors;
pub mod proxy_protocol;
mod quick;
mod relay;
mod respond;
pub mod rewrite;
mod room;
mod signals;
mod socket;
pub mod start;
pub mod successor;
pub mod tickets;
pub mod tls;
mod trailers;
mod tunnel;
mod turns;
mod upkeep;
pub mod watch;
