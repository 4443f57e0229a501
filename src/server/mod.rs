//! Connections from clients: listeners, TLS, shutdown, the HTTP response to a failure.
//!
//! | module | content |
//! |---|---|
//! | `processors` | the number of worker threads |
//! | [`start`], [`process`], `signals`, [`successor`] | start, reload, upgrade, stop: signals and drain; the process that takes over |
//! | `listeners`, `handover`, `folder` | the listening sockets, how they are passed on, and the folder of control sockets |
//! | `accept`, `room`, `streams`, `descriptors`, `socket` | the accept loop, the limit of connections and which of them are idle, file descriptors, a client's socket |
//! | `front`, `drive`, `conn`, [`head`], [`rewrite`], [`chunks`], [`proxy_protocol`] | a connection before and between requests |
//! | [`tls`], `client_auth`, [`tickets`], `handshakes` | certificates selected by name and replaced at run time; client certificates; session ticket keys; the handshake limiter |
//! | [`gateway`] | the `ProxyHttp` implementation: decide, gates, run, report |
//! | `quick` | the health response without a session |
//! | `client`, `body`, `intake`, `respond`, `finish`, `builtin` | a session as the pipeline sees it, request bodies, their sizes and coding, the gateway's own responses, the last changes to any response, health and echo |
//! | `tunnel`, `frames` | WebSocket: its conditions, the copy in both directions, and its end; where messages end |
//! | [`admin`], [`pages`], [`control`], [`watch`], `upkeep`, `memory` | admin listeners and the bodies of their pages, the control socket, changed files, background tasks, returning memory |

mod accept;
pub(crate) mod admin;
mod body;
mod builtin;
pub(crate) mod chunks;
mod client;
mod client_auth;
mod conn;
pub(crate) mod control;
mod descriptors;
mod drive;
mod files;
mod finish;
mod folder;
mod frames;
mod front;
pub(crate) mod gateway;
mod gather;
mod handover;
mod handshakes;
pub(crate) mod head;
mod intake;
pub(crate) mod listeners;
mod memory;
pub(crate) mod pages;
pub(crate) mod process;
mod processors;
pub(crate) mod proxy_protocol;
mod quick;
mod respond;
pub(crate) mod rewrite;
mod room;
mod signals;
mod socket;
pub(crate) mod start;
mod streams;
pub(crate) mod successor;
pub(crate) mod tickets;
pub(crate) mod tls;
mod tunnel;
mod upkeep;
pub(crate) mod watch;
