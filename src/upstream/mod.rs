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
    /// Scheme and authority that the call went to, for texts; `None` when the answer came from elsewhere.
    pub origin: Option<std::sync::Arc<str>>,
}

#[derive(Debug)]
pub struct HostSet;

#[derive(Debug, Clone, Copy)]
pub struct CallOptions {
    pub max_body_bytes: u64,
    pub send_body_on_redirect: bool,
    pub gunzip: bool,
}

#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub struct CallError {
    pub kind: CallErrorKind,
    pub text: std::borrow::Cow<'static, str>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CallErrorKind {
    NoHosts,
    Connect,
    Broken,
    TooLarge,
    HeaderTimeout,
    Redirects,
    Request,
}

impl HostSet {
    pub async fn call(
        &self,
        _out: Outgoing,
        _options: &CallOptions,
    ) -> Result<Incoming, CallError> {
        Err(CallError {
            kind: CallErrorKind::NoHosts,
            text: "no hosts available".into(),
        })
    }
}
