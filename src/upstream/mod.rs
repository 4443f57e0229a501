//! Connections to upstreams: host sets, load balancing, pools, TLS. All calls to backends and providers go through this
//! module. Clients of Redis and brokers open their own connections with `race`, and log collectors without it.
//!
//! | module | content |
//! |---|---|
//! | `message` | [`Outgoing`] and [`Incoming`]: a complete call and its complete response |
//! | `client`, `pool`, `peer` | [`Client`]: pooled connections, one pool for each TLS policy |
//! | `sockets` | the file descriptors that connections to upstreams may use |
//! | `processors`, `control_group` | the number of processors that are available; the control groups of the process |
//! | `idle` | connections that wait for their next call |
//! | `usage` | the connections to each host and their state, for metrics |
//! | `multiplex` | HTTP/2 connections, shared by several calls and checked with PING |
//! | `proxy`, `tunnel` | [`Proxies`]: which calls go through a proxy, and how |
//! | `host_rules` | [`HostRules`]: what the calls of one backend may do |
//! | `tls` | [`TlsPolicy`]: the configured TLS towards upstreams, loaded from disk |
//! | `certificate` | certificates and keys in files: read, checked, described |
//! | `handshake_signature` | verification of handshake signatures, also for certificates that the library does not parse |
//! | `direct_trust` | [`DirectlyTrusted`]: certificates that are trusted by themselves |
//! | `host`, `hosts` | [`HostSet`]: the address of a call, from static lists, DNS or SRV |
//! | `dial` | what an attempt to connect says about a host |
//! | `failover` | the order in which hosts and addresses are tried |
//! | `resilience` | [`Resilience`]: health checks, weights, sticky hosts, retries; only where the file asks for them |
//! | `dns` | [`DnsTable`]: the address table, refreshed outside the request path |
//! | `race` | connections to a name whose addresses are tried at overlapping times, outside of the pools |
//! | `exchange` | [`Exchange`]: one request and one response on one connection, as a stream |
//! | `session`, `http1_fast_path` | the connection of an exchange, and its usual form over HTTP/1 |
//! | `read_buffer`, [`spare_map`] | the buffers into which heads are read; header maps that are used again |
//! | `websocket` | the handshake of a WebSocket |
//! | `head_writer` | the request head on the wire |
//! | `link` | a connection that flushes before it waits, can return data that was read, and writes a prepared head |
//! | `call` | [`Call`]: one call with its redirects; its response is streamed, or collected up to a limit |
//! | [`collect`] | bodies that are read whole, within a limit and the budget |
//! | [`large_buffer`] | large buffers, whose memory goes back to the system at once |
//! | [`budget`] | a limit on the bytes of bodies that the whole process holds |
//! | `redirect`, `gunzip` | the call that follows a redirect; gzip decoded piece by piece |
//! | `cache_control` | [`CacheControl`](cache_control::CacheControl): the directives of `Cache-Control` |
//! | `timer` | [`within`]: a cheap timeout |
//! | `empty_frames`, `http2_frame` | removes empty DATA frames, which the HTTP/2 library would count; the header of a frame |
//! | `error`, `handshake_error` | [`CallError`]: why a call failed, with the text for the log; why a TLS handshake failed |
//! | `shared_work`, `registry` | work of a background task that requests wait for together; values that are shared by their key |
//! | `passed` | what a process fetched, in lines for the process that takes over from it |
//! | `side` | our own calls (key sets, tokens, discovery, keepers) over reqwest, limited in time and size |
//! | `keys` | `KeySetStore`: key sets, refreshed in the background and read without waiting |
//! | `credentials` | OAuth2 client credentials: one token per client, refreshed before it expires |

pub(crate) mod budget;
pub(crate) mod cache_control;
mod call;
mod certificate;
mod client;
pub(crate) mod collect;
mod control_group;
pub(crate) mod credentials;
mod dial;
mod direct_trust;
mod dns;
mod empty_frames;
mod error;
mod exchange;
mod failover;
mod gunzip;
mod handshake_error;
mod handshake_signature;
mod head_writer;
mod host;
mod host_rules;
mod hosts;
mod http1_fast_path;
pub(crate) mod http2_frame;
mod idle;
pub(crate) mod keys;
pub(crate) mod large_buffer;
mod link;
mod message;
mod multiplex;
pub(crate) mod passed;
mod peer;
mod pool;
pub(crate) mod processors;
mod proxy;
pub(crate) mod race;
pub(crate) mod read_buffer;
mod redirect;
mod registry;
pub(crate) mod resilience;
mod session;
mod shared_work;
mod side;
mod sockets;
pub(crate) mod spare_map;
mod timer;
mod tls;
mod tunnel;
mod usage;
mod websocket;

pub use call::{Call, CallOptions};
pub(crate) use call::{CallBody, Piece, Source, Unwatched};
pub(crate) use certificate::{
    CertificateFacts, PemError, Staple, certificate_pair, certificates_in, facts,
    read_ocsp_response,
};
pub use client::{Client, Clients, HttpVersion, Settings};
pub(crate) use client::{ClientError, MAX_RESPONSE_HEADER_BYTES};
pub use credentials::{ClientCredentials, TokenSource, TokenStore};
pub(crate) use direct_trust::{DirectlyTrusted, ShownBy};
pub use dns::DnsTable;
pub(crate) use empty_frames::EmptyFrames;
pub(crate) use error::CallError;
pub use error::{CallErrorKind, ConnectFailure};
pub use exchange::RequestBody;
pub(crate) use exchange::{Exchange, has_surplus};
pub(crate) use gunzip::{Gunzip, is_gzip};
pub(crate) use handshake_signature::{Signed, explained};
pub(crate) use handshake_signature::{verify as verify_signature, words as certificate_words};
pub(crate) use head_writer::{OUR_USER_AGENT, content_length, is_trimmed, title_case, trimmed};
pub use host_rules::{HostRules, Redirects};
pub use hosts::HostSet;
pub(crate) use http1_fast_path::PASSED_BYTES;
pub use message::Outgoing;
pub(crate) use message::{Incoming, RequestTarget, Response, is_of_connection};
pub use proxy::Proxies;
pub(crate) use side::SideError;
pub(crate) use side::{GrpcClient, GrpcResponse, SideResponse, VaultServerError, retry_after};
pub use side::{SideClient, SideTls, VaultSecret, VaultServer};
pub(crate) use sockets::Sockets;
pub(crate) use timer::within;
pub use tls::{CertificatePair, TlsPolicy};
pub(crate) use tls::{Versions, no_certificates};
pub(crate) use usage::HostStates;
pub(crate) use websocket::{
    Switched, Upgraded, connection_upgrades, handshake_fields, is_websocket,
};
