//! How we reach an upstream: host sets, balancing, pools, TLS; nobody else opens a connection.
//!
//! | module | what lives there |
//! |---|---|
//! | `message` | [`Outgoing`] and [`Incoming`]: a call and its answer, whole |
//! | `client`, `pool`, `peer` | [`Client`]: connections that are kept, one pool of them for each TLS policy |
//! | `multiplex` | HTTP/2 connections: who shares them, and which still answer |
//! | `proxy`, `tunnel` | [`Proxies`]: which calls go through a proxy, and how to get through it |
//! | `rules` | [`HostRules`]: what one backend's calls may do |
//! | `tls` | [`TlsPolicy`]: what the file says of TLS towards upstreams, loaded from disk |
//! | `certificate` | certificates and keys in files: read, checked, described |
//! | `proof` | the signature of a handshake, also by certificates that the library does not read |
//! | `listed` | [`ListedCertificates`]: certificates that are trusted as they stand |
//! | `host`, `hosts` | [`HostSet`]: which address a call goes to; static lists, DNS, SRV |
//! | `turn` | in which order hosts and addresses are tried |
//! | `dns` | [`DnsTable`]: the address table, refreshed off the request path |
//! | `exchange` | [`Exchange`]: one request and one answer on one connection, as a stream |
//! | `wire` | the head of a request as it goes on the wire |
//! | `link` | a connection that sends before it waits, and can take back what was read |
//! | `call` | whole-body calls: redirects, gzip, limits |
//! | [`collect`] | bodies that are read whole, in blocks, within a limit and the budget |
//! | [`budget`] | bytes of bodies that the whole process may hold |
//! | `redirect`, `gunzip` | which call follows a redirect; gzip decoded piece by piece |
//! | `error` | [`CallError`]: why a call gave no answer, in the words of the log |
//! | `flight` | work of a background task that requests wait for, together |
//! | `side` | key sets, tokens, discovery, keepers: calls of our own, over reqwest, bounded in time and size |
//! | `keys` | [`KeySetStore`]: key sets kept fresh in the background, read without waiting |
//! | `credentials` | OAuth2 client credentials: one token per client, refreshed before it expires |

pub mod budget;
mod call;
mod certificate;
mod client;
pub mod collect;
pub mod credentials;
mod dns;
mod error;
mod exchange;
mod flight;
mod gunzip;
mod handshake;
mod host;
mod hosts;
pub mod keys;
mod link;
mod listed;
mod message;
mod multiplex;
mod peer;
mod pool;
mod proof;
mod proxy;
mod redirect;
mod rules;
mod side;
mod tls;
mod tunnel;
mod turn;
mod wire;

pub use call::CallOptions;
pub use certificate::{
    CertificateFacts, PemError, certificate_pair, certificates_in, facts, read_ocsp_response,
};
pub use client::{Client, ClientError, Clients, HttpVersion, MAX_RESPONSE_HEADER_BYTES, Settings};
pub use credentials::{ClientCredentials, TokenSource, TokenStore};
pub use dns::DnsTable;
pub use error::{CallError, CallErrorKind};
pub use exchange::{Exchange, RequestBody, has_surplus};
pub use gunzip::{Gunzip, is_gzip};
pub use hosts::{HostSet, Target};
pub use keys::{KeyDocument, KeySetStore, KeySource, SourceSpec};
pub use listed::{ListedCertificates, ShownBy};
pub use message::{Incoming, Outgoing};
pub use proof::{Signed, explained, verify as verify_signature, words as certificate_words};
pub use proxy::{Proxies, ProxyError};
pub use redirect::NextCall;
pub use rules::{HostRules, Redirects};
pub use side::{
    SideAnswer, SideClient, SideError, SideTls, VaultSecret, VaultServer, VaultServerError,
};
pub use tls::{CertificatePair, TlsPolicy};
pub use wire::{OUR_USER_AGENT, trimmed};
