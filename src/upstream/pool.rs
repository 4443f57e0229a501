//! Connections that are kept, and how a call comes by one.
//!
//! Pingora's way to a connection carries the state of a dial along, nearly ten kilobytes, even when one waits in the
//! pool; each request would copy them. Here the pool is asked first, and the dial, which is rare, is boxed.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::http::v1::client::HttpSession as Http1Session;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{ALPN, Stream, tls};
use pingora_core::tls::TlsConnector;
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::multiplex::Multiplexed;
use super::peer::PooledPeer;

/// The connections of one client.
pub(super) enum Pool {
    /// For clients that speak HTTP/1 only, which is the default.
    Http1(Box<Dialler>),
    Any(Box<AnyVersion>),
}

/// For clients that may speak HTTP/2.
pub(super) struct AnyVersion {
    dialler: Dialler,
    multiplexed: Multiplexed,
}

/// Pingora's connections, with TLS configurations of ours: one for all connections that offer the same versions of HTTP,
/// with our verifier in it, where Pingora makes one for each connection and takes no verifier.
pub(super) struct Dialler {
    transport: TransportConnector,
    http1: TlsConnector,
    http2: TlsConnector,
    both: TlsConnector,
}

impl Pool {
    /// A pool for clients that speak nothing but HTTP/1, with this for TLS.
    pub(super) fn http1(options: ConnectorOptions, config: &ClientConfig) -> Pool {
        Pool::Http1(Box::new(Dialler::new(options, config)))
    }

    /// A pool for both versions. HTTP/2: a request that waits in a silence of `ping_after` has its connection tested;
    /// one without streams is kept for `idle`.
    pub(super) fn any(
        options: ConnectorOptions,
        config: &ClientConfig,
        ping_after: Duration,
        idle: Duration,
    ) -> Pool {
        Pool::Any(Box::new(AnyVersion {
            dialler: Dialler::new(options, config),
            multiplexed: Multiplexed::new(ping_after, idle),
        }))
    }

    /// A connection to `peer` that an earlier call has used, if one is there.
    ///
    /// Boxed: it is half a kilobyte, and on its way through the layers above it is moved half a dozen times.
    pub(super) async fn reuse(&self, peer: &PooledPeer) -> Option<Box<HttpSession>> {
        match self {
            Pool::Http1(pool) => {
                let stream = pool.transport.reused_stream(peer).await?;
                Some(Box::new(http1(stream, peer)))
            }
            Pool::Any(pool) => Box::pin(pool.reuse(peer)).await.map(Box::new),
        }
    }

    /// A new connection to `peer`, given up after `limit`, besides the peer's own limits.
    pub(super) async fn fresh(
        &self,
        peer: &PooledPeer,
        limit: Option<Duration>,
    ) -> Result<Box<HttpSession>, Box<Error>> {
        let dial = Box::pin(async {
            let session = match self {
                Pool::Http1(pool) => http1(pool.dial(peer).await?, peer),
                Pool::Any(pool) => pool.dial(peer).await?,
            };
            Ok(Box::new(session))
        });
        match limit {
            None => dial.await,
            Some(limit) => match tokio::time::timeout(limit, dial).await {
                Ok(found) => found,
                Err(_) => Error::e_explain(ErrorType::ConnectTimedout, "no connection in time"),
            },
        }
    }

    /// Takes a connection back that is good for another call; kept for `idle`.
    pub(super) async fn release(
        &self,
        session: Box<HttpSession>,
        peer: &PooledPeer,
        idle: Duration,
    ) {
        // A stream of HTTP/2 ends when it is dropped; its connection never left the pool.
        let HttpSession::H1(mut session) = *session else {
            return;
        };
        let transport = match self {
            Pool::Http1(pool) => &pool.transport,
            Pool::Any(pool) => &pool.dialler.transport,
        };
        session.respect_keepalive();
        if let Some(stream) = session.reuse().await {
            transport.release_stream(stream, peer.reuse_hash(), Some(idle));
        }
    }

    /// Gives a session up that has been waiting for an answer since `asked`.
    pub(super) fn abandon(&self, session: &HttpSession, peer: &PooledPeer, asked: Instant) {
        if let (Pool::Any(pool), HttpSession::H2(session)) = (self, session) {
            pool.multiplexed.doubt(session, peer.reuse_hash(), asked);
        }
    }
}

impl AnyVersion {
    async fn reuse(&self, peer: &PooledPeer) -> Option<HttpSession> {
        let alpn = peer.get_peer_options().map(|options| &options.alpn);
        if alpn.is_some_and(|alpn| alpn.get_max_http_version() == 2) {
            let found = self.multiplexed.reuse(peer.reuse_hash()).await;
            if let Some(session) = found {
                return Some(HttpSession::H2(session));
            }
        }
        // A server that was offered both may have chosen HTTP/1.
        let stream = self.dialler.transport.reused_stream(peer).await?;
        Some(http1(stream, peer))
    }

    async fn dial(&self, peer: &PooledPeer) -> Result<HttpSession, Box<Error>> {
        let stream = self.dialler.dial(peer).await?;
        let is_http2 = match stream.selected_alpn_proto() {
            Some(chosen) => chosen == ALPN::H2,
            // In plain text nothing is negotiated: prior knowledge (RFC 9113 §3.3).
            None => {
                let alpn = peer.get_alpn();
                !peer.tls() && alpn.is_some_and(|alpn| alpn.get_min_http_version() == 2)
            }
        };
        if is_http2 {
            let session = self.multiplexed.begin(stream, peer.reuse_hash()).await?;
            Ok(HttpSession::H2(session))
        } else {
            Ok(http1(stream, peer))
        }
    }
}

impl Dialler {
    fn new(options: ConnectorOptions, config: &ClientConfig) -> Dialler {
        let offering = |protocols: &[&str]| {
            let mut config = config.clone();
            let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
            config.alpn_protocols = protocols.collect();
            TlsConnector::from(Arc::new(config))
        };
        Dialler {
            transport: TransportConnector::new(Some(options)),
            http1: offering(&["http/1.1"]),
            http2: offering(&["h2"]),
            both: offering(&["h2", "http/1.1"]),
        }
    }

    fn tls(&self, peer: &PooledPeer) -> &TlsConnector {
        match peer.get_alpn() {
            Some(ALPN::H2) => &self.http2,
            Some(ALPN::H2H1) => &self.both,
            _ => &self.http1,
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
        let handshake = tls::client::handshake(self.tls(peer), peer.sni(), *stream);
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

fn http1(stream: Stream, peer: &PooledPeer) -> HttpSession {
    HttpSession::H1(Http1Session::new_with_options(stream, peer))
}
