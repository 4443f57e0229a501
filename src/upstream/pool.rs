//! Connections that are kept, and how a call comes by one.
//!
//! Pingora's way to a connection carries the state of a dial along, nearly ten kilobytes, even when one waits in the
//! pool; each request would copy them. Here the pool is asked first, and the dial, which is rare, is boxed.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::http::Connector;
use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{Stream, tls};
use pingora_core::tls::TlsConnector;
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType};
use rustls::ClientConfig;

use super::peer::PooledPeer;

/// The connections of one client.
pub(super) enum Pool {
    /// For clients that speak HTTP/1 only, which is the default.
    Http1(Box<Http1Pool>),
    Any(Box<Connector<()>>),
}

/// Pingora's connections, with a TLS configuration of ours: one for all of them, with our verifier in it, where Pingora
/// makes one for each connection.
pub(super) struct Http1Pool {
    transport: TransportConnector,
    tls: TlsConnector,
}

impl Pool {
    /// A pool with these options; `http1`: nothing else will be spoken, with this for TLS.
    pub(super) fn new(options: ConnectorOptions, http1: Option<Arc<ClientConfig>>) -> Pool {
        match http1 {
            Some(config) => Pool::Http1(Box::new(Http1Pool::new(options, &config))),
            None => Pool::Any(Box::new(Connector::new(Some(options)))),
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
                if let Some(stream) = pool.transport.reused_stream(peer).await {
                    return Ok((http1(stream, peer), true));
                }
                let stream = Box::pin(pool.dial(peer)).await?;
                Ok((http1(stream, peer), false))
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
            (Pool::Http1(pool), HttpSession::H1(mut session)) => {
                session.respect_keepalive();
                if let Some(stream) = session.reuse().await {
                    pool.transport
                        .release_stream(stream, peer.reuse_hash(), Some(idle));
                }
            }
            // Dropping it closes it; such a pool makes none of these.
            (Pool::Http1(_), _) => {}
            (Pool::Any(pool), session) => {
                Box::pin(pool.release_http_session(session, peer, Some(idle))).await;
            }
        }
    }
}

impl Http1Pool {
    fn new(options: ConnectorOptions, config: &ClientConfig) -> Http1Pool {
        let mut config = config.clone();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Http1Pool {
            transport: TransportConnector::new(Some(options)),
            tls: TlsConnector::from(Arc::new(config)),
        }
    }

    /// A new connection, over TLS where the peer wants it. The time for a connection counts once for TCP and once for TLS,
    /// as in Pingora.
    async fn dial(&self, peer: &PooledPeer) -> Result<Stream, Box<Error>> {
        if !peer.tls() {
            return self.transport.new_stream(peer).await;
        }
        let stream = self.transport.new_stream(&peer.bare()).await?;
        let Ok(stream) = stream.into_any().downcast::<TcpStream>() else {
            return Error::e_explain(ErrorType::InternalError, "no TCP connection below TLS");
        };
        let handshake = tls::client::handshake(&self.tls, peer.sni(), *stream);
        let stream = match peer.connection_timeout() {
            None => handshake.await?,
            Some(limit) => match pingora_timeout::timeout(limit, handshake).await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    let what = format!("connecting to server {peer}, timeout {limit:?}");
                    return Error::e_explain(ErrorType::ConnectTimedout, what);
                }
            },
        };
        Ok(Box::new(stream))
    }
}

fn http1(stream: Stream, peer: &PooledPeer) -> Box<HttpSession> {
    Box::new(HttpSession::H1(Http1Session::new_with_options(
        stream, peer,
    )))
}
