//! How we reach an upstream: host sets, balancing, pools, TLS; nobody else opens a connection.
//!
//! | module | what lives there |
//! |---|---|
//! | `client` | one exchange over Pingora's connector: pools, stale-connection retry, redirects, gzip, body limits |
//! | `hosts` | [`HostSet`]: which address a call goes to; static lists, DNS, SRV |
//! | `dns` | the address table, refreshed off the request path |
//! | `side` | key sets, tokens, discovery: calls of our own, over reqwest, bounded in time and size |
//! | `keys` | [`KeySetStore`]: key sets kept fresh in the background, read without waiting |
//! | `credentials` | OAuth2 client credentials: one token per client, refreshed before it expires |

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode};

/// One call, ready to be sent. `Host` is not among the headers unless a step set it; the host set supplies it.
#[derive(Debug, Clone)]
pub struct Outgoing {
    pub method: Method,
    /// Path and query as they go on the wire, starting with `/`.
    pub target: String,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// A whole answer of an upstream, its body gunzipped if we had asked for gzip, and bounded.
#[derive(Debug, Clone)]
pub struct Incoming {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

#[derive(Debug)]
pub struct HostSet;
