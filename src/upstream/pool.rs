//! Pooled connections, and how a call obtains one.
//!
//! Pingora's connect future contains the state of a dial, nearly ten kilobytes, even if a pooled connection is used,
//! and each request would copy it. Here the pool is checked first. The dial, which is rare, is boxed.

use std::sync::Arc;
use std::time::Duration;

use pingora_core::connectors::{ConnectorOptions, TransportConnector};
use pingora_core::protocols::http::client::HttpSession;
use pingora_core::protocols::l4::stream::Stream as TcpStream;
use pingora_core::protocols::{ALPN, Shutdown, Stream, tls};
use pingora_core::tls::TlsConnector;
use pingora_core::upstreams::peer::Peer;
use pingora_core::{Error, ErrorType};
use rustls::ClientConfig;
use tokio::time::Instant;

use super::error::late;
use super::idle::{Idle, Limits};
use super::link::Link;
use super::multiplex::Multiplexed;
use super::peer::PooledPeer;
use super::session::{Connection, Session};
use super::tls::no_certificates;
use crate::telemetry::observe::Wait;

/// The connections of one client.
pub(super) enum Pool {
    /// For clients that use only HTTP/1, which is the default.
    Http1(Box<Dialler>),
    Any(Box<AnyVersion>),
}

/// For clients that may use HTTP/2.
pub(super) struct AnyVersion {
    dialler: Dialler,
    multiplexed: Multiplexed,
}

/// Pingora's connections with our own TLS configurations. One configuration with our verifier is used for all
/// connections that offer the same HTTP versions. Pingora creates one for each connection and accepts no verifier.
pub(super) struct Dialler {
    transport: TransportConnector,
    /// Connections over HTTP/1 that wait for their next call.
    idle: Arc<Idle>,
    http1: TlsConnector,
    http2: TlsConnector,
    both: TlsConnector,
}

impl Pool {
    /// A pool for clients that use only HTTP/1, with this TLS configuration. Idle connections are kept for
    /// `idle`.
    pub(super) fn http1(limits: Limits, idle: Duration, config: &ClientConfig) -> Pool {
        Pool::Http1(Box::new(Dialler::new(limits, idle, config)))
    }

    /// A pool for both versions. With HTTP/2, a connection that is silent for `ping_after` while a request waits is
    /// tested, and a connection without streams is kept for `idle`.
    pub(super) fn any(
        limits: Limits,
        config: &ClientConfig,
        ping_after: Duration,
        idle: Duration,
    ) -> Pool {
        Pool::Any(Box::new(AnyVersion {
            dialler: Dialler::new(limits, idle, config),
            multiplexed: Multiplexed::new(ping_after, idle, limits),
        }))
    }

    /// A pooled connection to `peer`, if there is one.
    pub(super) async fn reuse(&self, peer: &PooledPeer) -> Option<Connection> {
        match self {
            Pool::Http1(pool) => {
                let stream = pool.idle.take(peer.reuse_hash())?;
                Link::over(stream).map(Connection::Http1)
            }
            Pool::Any(pool) => Box::pin(pool.reuse(peer)).await,
        }
    }

    /// A pooled connection to `peer` that calls may use while descriptors are scarce: one that other calls use, too.
    pub(super) async fn reuse_unless(
        &self,
        is_scarce: bool,
        peer: &PooledPeer,
    ) -> Option<Connection> {
        match self {
            Pool::Http1(_) if is_scarce => None,
            _ => self.reuse(peer).await,
        }
    }

    /// A new connection to `peer`. Gives up after `limit`, in addition to the limits of the peer.
    pub(super) async fn fresh(
        &self,
        peer: &PooledPeer,
        limit: Option<Duration>,
    ) -> Result<Connection, Box<Error>> {
        let dial = Box::pin(async {
            match self {
                Pool::Http1(pool) => over_http1(pool.dial(peer).await?),
                Pool::Any(pool) => pool.dial(peer).await,
            }
        });
        match limit {
            None => dial.await,
            Some(limit) => match Wait::limited(limit, dial).await {
                Ok(found) => found,
                Err(wait) => Error::e_explain(late(wait), "no connection in time"),
            },
        }
    }

    /// Returns a connection to the pool after its exchange, if it can be used again.
    pub(super) async fn release(
        &self,
        (connection, is_reusable): (Connection, bool),
        peer: &PooledPeer,
    ) {
        let idle = match self {
            Pool::Http1(pool) => &pool.idle,
            Pool::Any(pool) => &pool.dialler.idle,
        };
        let stream: Option<Stream> = match connection {
            Connection::Http1(link) if is_reusable => Some(link),
            Connection::Http1(mut link) => {
                Shutdown::shutdown(&mut *link).await;
                None
            }
            Connection::Pingora(session) => Box::pin(reused(session)).await,
        };
        if let Some(stream) = stream {
            idle.put(peer.reuse_hash(), stream);
        }
    }

    /// Gives up a session that has waited for a response since `asked`. `false`: the peer has never sent anything on its
    /// HTTP/2 connection, not even its settings.
    pub(super) fn abandon(&self, session: &Session, peer: &PooledPeer, asked: Instant) -> bool {
        if let (Pool::Any(pool), Session::Pingora(session)) = (self, session)
            && let HttpSession::H2(session) = &**session
        {
            return pool.multiplexed.doubt(session, peer.reuse_hash(), asked);
        }
        true
    }
}

impl AnyVersion {
    async fn reuse(&self, peer: &PooledPeer) -> Option<Connection> {
        let alpn = peer.get_peer_options().map(|options| &options.alpn);
        if alpn.is_some_and(|alpn| alpn.get_max_http_version() == 2) {
            let found = self.multiplexed.reuse(peer.reuse_hash()).await;
            if let Some(session) = found {
                return Some(Connection::http2(session));
            }
        }
        // A server that was offered both may have chosen HTTP/1.
        let stream = self.dialler.idle.take(peer.reuse_hash())?;
        Link::over(stream).map(Connection::Http1)
    }

    async fn dial(&self, peer: &PooledPeer) -> Result<Connection, Box<Error>> {
        let stream = self.dialler.dial(peer).await?;
        let is_http2 = match stream.selected_alpn_proto() {
            Some(chosen) => chosen == ALPN::H2,
            // In plain text nothing is negotiated: prior knowledge is used (RFC 9113 §3.3).
            None => {
                let alpn = peer.get_alpn();
                !peer.tls() && alpn.is_some_and(|alpn| alpn.get_min_http_version() == 2)
            }
        };
        if is_http2 {
            let begun = self.multiplexed.begin(stream, peer.reuse_hash());
            let session = Wait::Http2.during(begun).await?;
            Ok(Connection::http2(session))
        } else {
            over_http1(stream)
        }
    }
}

impl Dialler {
    fn new(limits: Limits, idle: Duration, config: &ClientConfig) -> Dialler {
        let offering = |protocols: &[&str]| {
            let mut config = config.clone();
            let protocols = protocols.iter().map(|name| name.as_bytes().to_vec());
            config.alpn_protocols = protocols.collect();
            TlsConnector::from(Arc::new(config))
        };
        // It only dials, and without TLS: the size of its pool is without effect.
        let mut options = ConnectorOptions::new(1);
        options.ca_file = no_certificates();
        Dialler {
            transport: TransportConnector::new(Some(options)),
            idle: Idle::new(limits, idle),
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

    /// A new connection, over TLS if the peer requires it. As in Pingora, the connection timeout applies once to TCP
    /// and once to TLS.
    async fn dial(&self, peer: &PooledPeer) -> Result<Stream, Box<Error>> {
        if !peer.tls() {
            return Wait::Connect.during(self.transport.new_stream(peer)).await;
        }
        let bare = peer.bare();
        let connecting = self.transport.new_stream(&bare);
        let stream = Wait::Connect.during(connecting).await?;
        let Ok(stream) = stream.into_any().downcast::<TcpStream>() else {
            return Error::e_explain(ErrorType::InternalError, "no TCP connection below TLS");
        };
        let handshake = tls::client::handshake(self.tls(peer), peer.sni(), *stream);
        let handshake = Wait::Tls.during(handshake);
        let stream = match peer.connection_timeout() {
            None => handshake.await?,
            Some(limit) => match pingora_timeout::timeout(limit, handshake).await {
                Ok(outcome) => outcome?,
                Err(_) => {
                    let what = format!("connecting to server {peer}, timeout {limit:?}");
                    return Error::e_explain(ErrorType::TLSHandshakeTimedout, what);
                }
            },
        };
        Ok(Box::new(stream))
    }
}

/// A connection over HTTP/1, which is a [`Link`].
fn over_http1(stream: Stream) -> Result<Connection, Box<Error>> {
    let link = Link::over(stream);
    link.map(Connection::Http1)
        .ok_or_else(|| Error::explain(ErrorType::InternalError, "no link over a connection"))
}

/// The connection of a session of Pingora, if it can be used again.
async fn reused(session: Box<HttpSession>) -> Option<Stream> {
    // An HTTP/2 stream ends when it is dropped. Its connection never left the pool.
    let HttpSession::H1(mut session) = *session else {
        return None;
    };
    session.respect_keepalive();
    session.reuse().await
}
