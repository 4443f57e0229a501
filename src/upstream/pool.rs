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
    ///
    /// Boxed: it is half a kilobyte, and on its way through the layers above it is moved half a dozen times.
    pub(super) async fn session(
        &self,
        peer: &PooledPeer,
    ) -> Result<(Box<HttpSession>, bool), Box<Error>> {
        match self {
            Pool::Http1(pool) => {
                if let Some(session) = pool.reused_http_session(peer).await {
                    return Ok((Box::new(HttpSession::H1(session)), true));
                }
                let (session, reused) = Box::pin(pool.get_http_session(peer)).await?;
                Ok((Box::new(HttpSession::H1(session)), reused))
            }
            Pool::Any(pool) => {
                let (session, reused) = Box::pin(pool.get_http_session(peer)).await?;
                Ok((Box::new(session), reused))
            }
        }
    }

    /// Takes a connection back that is good for another call; kept for `idle`.
    pub(super) async fn release(
        &self,
        session: Box<HttpSession>,
        peer: &PooledPeer,
        idle: Duration,
    ) {
        match (self, *session) {
            (Pool::Http1(pool), HttpSession::H1(session)) => {
                pool.release_http_session(session, peer, Some(idle)).await;
            }
            // Dropping it closes it; such a pool makes none of these.
            (Pool::Http1(_), _) => {}
            (Pool::Any(pool), session) => {
                Box::pin(pool.release_http_session(session, peer, Some(idle))).await;
            }
        }
    }
}
