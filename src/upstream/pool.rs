//! Connections that are kept, and how a call comes by one.
//!
//! Pingora's way to a connection carries the state of a dial along, nearly ten kilobytes, even when one waits in the
//! pool; each request would copy them. Here the pool is asked first, and the dial, which is rare, is boxed.

use std::time::Duration;

use pingora_core::Error;
use pingora_core::connectors::ConnectorOptions;
use pingora_core::connectors::http::{Connector, v1};
use pingora_core::protocols::http::client::HttpSession;

use super::peer::PooledPeer;

/// The connections of one client.
pub(super) enum Pool {
    /// For clients that speak HTTP/1 only, which is the default.
    Http1(v1::Connector),
    Any(Box<Connector<()>>),
}

impl Pool {
    /// A pool with these options; `http1`: nothing else will be spoken.
    pub(super) fn new(options: ConnectorOptions, http1: bool) -> Pool {
        match http1 {
            true => Pool::Http1(v1::Connector::new(Some(options))),
            false => Pool::Any(Box::new(Connector::new(Some(options)))),
        }
    }

    /// A connection to `peer`, and whether an earlier call has used it.
    pub(super) async fn session(
        &self,
        peer: &PooledPeer,
    ) -> Result<(HttpSession, bool), Box<Error>> {
        match self {
            Pool::Http1(pool) => {
                if let Some(session) = pool.reused_http_session(peer).await {
                    return Ok((HttpSession::H1(session), true));
                }
                let (session, reused) = Box::pin(pool.get_http_session(peer)).await?;
                Ok((HttpSession::H1(session), reused))
            }
            Pool::Any(pool) => Box::pin(pool.get_http_session(peer)).await,
        }
    }

    /// Takes a connection back that is good for another call, out of `session`; kept for `idle`.
    ///
    /// A session is half a kilobyte, and each function that it is handed to copies it twice: hence the reference.
    pub(super) async fn release(
        &self,
        session: &mut Option<HttpSession>,
        peer: &PooledPeer,
        idle: Duration,
    ) {
        match (self, session.take()) {
            (Pool::Http1(pool), Some(HttpSession::H1(session))) => {
                pool.release_http_session(session, peer, Some(idle)).await;
            }
            // Dropping it closes it; such a pool makes none of these.
            (Pool::Http1(_), _) | (_, None) => {}
            (Pool::Any(pool), Some(session)) => {
                Box::pin(pool.release_http_session(session, peer, Some(idle))).await;
            }
        }
    }
}
