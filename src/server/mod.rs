//! Connections from clients: listeners, TLS, shutdown, the HTTP response to a failure.
//!
//! | module | content |
//! |---|---|
//! | [`start`], [`process`], `signals`, `stopped`, [`new_process`], `upgrade`, [`upgrade_report`], `service_manager` | start, reload, upgrade, stop: signals and drain; stopped processes; the process that takes over, and why it does not; what the service manager learns |
//! | `listeners`, `own_listeners`, `socket_transfer`, `hand_over`, `control_folder` | the listening sockets, those that parts of the service serve themselves, how they are passed on, what else an upgrade passes on, and the folder of control sockets |
//! | `accept`, `accept_queue`, `arriving`, `connection_limit`, `http2_streams`, `descriptors`, `socket` | the accept loop, the queue of its listener, requests on their way, the limit of connections and which of them are idle, file descriptors, a client's socket |
//! | `front`, `http1_driver`, `http2_driver`, `conn`, [`head`], `large_head`, [`rewrite`], [`chunks`], [`proxy_protocol`] | a connection before and between requests |
//! | [`tls`], `client_auth`, [`tickets`], `handshakes` | certificates selected by name and replaced at run time; client certificates; session ticket keys; the handshake limiter |
//! | [`gateway`] | the `ProxyHttp` implementation: decide, gates, run, report |
//! | `health_fast_path` | the health response without a session |
//! | `http1_fast_path` | the session of a usual HTTP/1 request |
//! | `client`, `body`, `streamed_body`, `respond`, `response_edits`, `builtin` | a session as the pipeline sees it, request bodies, their sizes and coding, the gateway's own responses, the last changes to any response, health and echo |
//! | `files` | the files of a folder, sent to clients |
//! | `write_buffer` | gathers small writes into one packet |
//! | `websocket`, `websocket_frames` | WebSocket: its conditions, the copy in both directions, and its end; where messages end |
//! | [`admin`], [`pages`], [`control`], [`control_client`], [`reach`], [`watch`], `background`, `memory` | admin listeners and the bodies of their pages, the control socket and its client, how a health check reaches the listener, changed files, background tasks, returning memory |

mod accept;
mod accept_queue;
pub(crate) mod admin;
mod arriving;
mod background;
mod body;
mod builtin;
pub(crate) mod chunks;
mod client;
mod client_auth;
mod conn;
mod connection_limit;
pub(crate) mod control;
pub(crate) mod control_client;
mod control_folder;
mod descriptors;
mod files;
mod front;
#[cfg(test)]
mod future_sizes;
pub(crate) mod gateway;
mod hand_over;
mod handshakes;
pub(crate) mod head;
mod health_fast_path;
mod http1_driver;
mod http1_fast_path;
mod http2_driver;
mod http2_streams;
mod large_head;
pub(crate) mod listeners;
mod memory;
pub(crate) mod new_process;
mod own_listeners;
pub(crate) mod pages;
pub(crate) mod process;
pub(crate) mod proxy_protocol;
pub(crate) mod reach;
mod respond;
mod response_edits;
pub(crate) mod rewrite;
mod service_manager;
mod signals;
mod socket;
mod socket_transfer;
pub(crate) mod start;
mod stopped;
mod streamed_body;
pub(crate) mod tickets;
pub(crate) mod tls;
mod upgrade;
pub(crate) mod upgrade_report;
pub(crate) mod watch;
mod websocket;
mod websocket_frames;
mod write_buffer;
