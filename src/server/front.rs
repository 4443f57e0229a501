//! The front loop: handles a connection before and between requests.
//!
//! Pingora limits each read but not a whole head, and waits forever on an idle connection. Here every head has one
//! deadline, a maximum size and a maximum number of headers. Ambiguous framing ends the connection. Only after these
//! checks does Pingora's session see the request.

mod head;
mod http2;
mod reject;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use pingora_core::apps::HttpServerApp;
use pingora_core::protocols::Stream;
use pingora_core::server::ShutdownWatch;
use pingora_proxy::{HttpProxy, Session};
use tokio::io::AsyncWriteExt;

use crate::runtime::boxed::in_place;
use crate::runtime::listen::Limits;
use crate::server::accept::{Accepted, App};
use crate::server::chunks::BadChunk;
use crate::server::conn::{Body, Conn};
use crate::server::connection_limit::ConnectionSlot;
use crate::server::gateway::{Gateway, Shared};
use crate::server::handshakes::{Failed, HandshakeLimiter, TlsSide};
use crate::server::head::{BadHead, BodyFraming, HeadFacts};
use crate::server::http1_fast_path::Wire;
use crate::server::rewrite::usual_form;
use crate::server::tls::Certificates;
use crate::server::{health_fast_path, http1_driver, http1_fast_path, large_head, proxy_protocol};
use crate::telemetry::metrics::ConnectionGuard;
use crate::upstream::budget::Charge;
use crate::upstream::within;
use head::{Pause, Wait};

pub(crate) use http2::limit_http2;
pub(super) use reject::{farewell, last_words, no_longer_new, reject};

/// The timeout of a TLS handshake.
pub(super) const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clients with an idle connection may still send a request after a stop: a request that was sent before its
/// client could know about the stop gets a response, which announces the end of the connection. A request that has begun
/// has the usual time.
pub(super) const FAREWELL: Duration = Duration::from_millis(300);
/// How long a client whose connection is new may take instead: between its TLS handshake and its request is a round trip.
const FIRST_REQUEST: Duration = Duration::from_secs(2);

/// Serves the connections of the gateway's listener.
pub(super) struct Front {
    /// Serves requests over HTTP/1.
    gateway: Gateway,
    /// Serves connections over HTTP/2, with a gateway of its own over the same service.
    proxy: Arc<HttpProxy<Gateway>>,
    limits: Limits,
    certificates: Option<Arc<Certificates>>,
    shared: Arc<Shared>,
    /// True once clients should move to another gateway.
    leaving: ShutdownWatch,
    handshakes: HandshakeLimiter,
}

impl Front {
    /// A front for `proxy` with these limits. With certificates it accepts only TLS, and as many handshakes compute
    /// at a time as there are `workers`. `leaving` tells HTTP/2 clients to move to another gateway.
    pub(super) fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        limits: Limits,
        certificates: Option<Arc<Certificates>>,
        shared: Arc<Shared>,
        leaving: ShutdownWatch,
        workers: usize,
    ) -> Front {
        Front {
            gateway: Gateway::new(Arc::clone(&shared), limits.clone()),
            proxy,
            limits,
            certificates,
            shared,
            leaving,
            handshakes: HandshakeLimiter::new(workers),
        }
    }

    fn ended(&self, place: &ConnectionSlot) {
        if place.must_close() {
            self.shared.metrics.connection_reclaimed();
        }
    }

    /// Serves a connection. Returns it if it goes on with HTTP/2.
    async fn connection(
        &self,
        stream: Stream,
        place: &ConnectionSlot,
        shutdown: &ShutdownWatch,
    ) -> Option<Box<Conn>> {
        let mut conn = Box::new(Conn::plain(stream));
        conn.arrival = Some(self.shared.arriving.one());
        if let Some(trusted) = &self.limits.proxy_protocol {
            place.waits_for_client();
            let read = proxy_protocol::read(&mut conn, trusted);
            let read = tokio::select! {
                biased;
                read = pingora_timeout::timeout(self.limits.head, read) => read,
                () = place.is_needed() => return None,
                () = no_longer_new(shutdown.clone()) => return None,
            };
            place.is_active();
            match read {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => {
                    self.shared.metrics.bad_request("proxy_protocol");
                    log::info!("[SERVICE: Gateway] PROXY protocol: {reason}");
                    return None;
                }
                Err(_) => return None,
            }
        }
        if let Some(certificates) = &self.certificates {
            let side = TlsSide {
                certificates,
                limiter: &self.handshakes,
                // As long as a head may take: to the client, this is the wait for its request.
                timeout: self.limits.head.min(HANDSHAKE_TIMEOUT),
                stopping: shutdown,
            };
            // Boxed, so that a connection does not keep the room for its handshake.
            conn = match in_place(|| side.accept(conn, place)).await {
                Ok(conn) => conn,
                Err(Failed::Silent) => return None,
                Err(Failed::Handshake) => {
                    self.shared.metrics.tls_handshake_failed();
                    return None;
                }
            };
        }
        conn.set_watch(place.watch());
        if conn.is_h2() {
            place.waits_for_client();
            let begins = tokio::select! {
                biased;
                begins = self.preface(&mut conn) => begins,
                () = place.is_needed() => false,
                () = no_longer_new(shutdown.clone()) => false,
            };
            place.is_active();
            return begins.then_some(conn);
        }
        self.http1(conn, place, shutdown).await
    }

    async fn http1(
        &self,
        mut conn: Box<Conn>,
        place: &ConnectionSlot,
        shutdown: &ShutdownWatch,
    ) -> Option<Box<Conn>> {
        let mut pause = Pause::new(&self.limits, place, shutdown.clone());
        let wire = Wire::new(&conn, self.limits.write);
        let mut out = Vec::new();
        loop {
            let facts = match self.next_head(&mut conn, &mut pause).await {
                Wait::Head(facts) => facts,
                Wait::Http2 => return Some(conn),
                Wait::Over => return None,
                Wait::Rejected(BadHead::RequestLine) if self.is_no_http(&mut conn) => {
                    self.shared.metrics.bad_request("preface");
                    return None;
                }
                Wait::Rejected(bad) => {
                    self.shared.metrics.bad_request(bad.as_str());
                    // Such endings are boxed: a connection has no room for them.
                    Box::pin(self.reject(&mut conn, bad.status_line(), bad.as_str())).await;
                    return None;
                }
                Wait::Full => {
                    Box::pin(self.full(&mut conn)).await;
                    return None;
                }
                Wait::Slow => {
                    self.shared.metrics.bad_request("slow_head");
                    let status = "408 Request Timeout";
                    Box::pin(self.reject(&mut conn, status, "slow_head")).await;
                    return None;
                }
            };
            // The head is held as it came and as a map, at least until its request ends.
            let mut held = Charge::default();
            if held.cover(facts.memory()).is_err() {
                *conn.ahead() = bytes::BytesMut::new();
                Box::pin(self.full(&mut conn)).await;
                return None;
            }
            // A connection whose place another client needs ends with this response, which says so.
            let must_close = place.must_close();
            if !must_close && self.health_fast_path(&mut conn, facts, &mut out).await? {
                conn.arrival = None;
                continue;
            }
            let Ok(request) = take_request(&mut conn, facts) else {
                self.shared.metrics.bad_request("chunk");
                Box::pin(self.reject(&mut conn, "400 Bad Request", "chunk")).await;
                return None;
            };
            // Connections end soon once the process is stopping.
            let keep_alive = !must_close && !self.shared.draining.load(Ordering::Relaxed);
            // Not awaited in the match: a connection would have room for the head.
            let begun = match http1_fast_path::head(request, &facts) {
                Ok(head) => {
                    let mut session = http1_fast_path::begin(&wire, conn, head);
                    if !keep_alive {
                        http1_fast_path::end_connection(&mut session);
                    }
                    Ok(session)
                }
                Err(request) => Err((conn, request)),
            };
            conn = match begun {
                Ok(session) => http1_driver::serve_usual(&self.gateway, session, &wire).await?,
                // Boxed, so that a connection has no room for it while none is served.
                Err((conn, request)) => {
                    in_place(|| self.unusual(conn, request, keep_alive)).await?
                }
            };
            // Until now another part may not have counted the request. From now on the client is idle.
            conn.arrival = None;
        }
    }

    /// Serves a request with a session of Pingora. Returns the connection if another request may follow.
    async fn unusual(
        &self,
        mut conn: Box<Conn>,
        request: bytes::BytesMut,
        keep_alive: bool,
    ) -> Option<Box<Conn>> {
        let Some((request, aside)) = large_head::set_aside(request) else {
            let bad = BadHead::TooLarge;
            self.shared.metrics.bad_request(bad.as_str());
            self.reject(&mut conn, bad.status_line(), bad.as_str())
                .await;
            return None;
        };
        let mut session = Session::new_h1(conn);
        session.set_keepalive(keep_alive.then(|| self.limits.idle.as_secs().max(1)));
        session.set_read_timeout(Some(self.limits.read));
        session.set_write_timeout(self.limits.write);
        session.set_total_drain_timeout(Some(self.limits.read));
        session.set_pipelined_prefix(request);
        if !http1_driver::has_request(&mut session, aside).await {
            Box::pin(self.unreadable(session)).await;
            return None;
        }
        http1_driver::serve(&self.gateway, session).await
    }

    /// The budget of memory has no space for the head of a request.
    async fn full(&self, conn: &mut Conn) {
        self.shared.metrics.bad_request("buffers_full");
        let status = "503 Service Unavailable";
        self.reject(conn, status, "buffers_full").await;
    }

    /// Responds to a health probe without a session. `false` if the request must be handled normally, `None` if the
    /// connection has ended.
    async fn health_fast_path(
        &self,
        conn: &mut Conn,
        facts: HeadFacts,
        out: &mut Vec<u8>,
    ) -> Option<bool> {
        let Some(peer) = conn.peer_ip() else {
            return Some(false);
        };
        let head = conn.ahead().get(..facts.length).unwrap_or_default();
        if health_fast_path::health(&self.shared, head, facts, peer, out).is_none() {
            return Some(false);
        }
        bytes::Buf::advance(conn.ahead(), facts.length);
        let write = async {
            conn.write_all(out).await?;
            conn.flush().await
        };
        let limit = self.limits.write.unwrap_or(HANDSHAKE_TIMEOUT);
        match within(limit, write).await {
            Some(Ok(())) => Some(true),
            _ => None,
        }
    }
}

impl App for Front {
    type Held = ConnectionGuard;

    fn admit(&self) -> Option<ConnectionGuard> {
        let guard = ConnectionGuard::open(&self.shared.metrics, self.limits.max_connections);
        if guard.is_none() {
            self.shared.metrics.connection_rejected();
        }
        guard
    }

    async fn serve(
        self: Arc<Self>,
        accepted: Accepted,
    ) -> Option<impl Future<Output = ()> + Send + 'static> {
        let Accepted {
            stream,
            place,
            closing,
        } = accepted;
        let Some(conn) = self.connection(stream, &place, &closing).await else {
            self.ended(&place);
            return None;
        };
        Some(async move {
            self.http2(conn, &closing).await;
            self.ended(&place);
            drop(place);
        })
    }

    async fn closed(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// The available bytes of the request, in canonical form. The connection keeps the rest.
pub(super) fn take_request(
    conn: &mut Conn,
    mut facts: HeadFacts,
) -> Result<bytes::BytesMut, BadChunk> {
    let head = conn.ahead().get(..facts.length).unwrap_or_default();
    if let Some(usual) = usual_form(head, &facts) {
        let rest = conn.ahead().split_off(facts.length);
        facts.length = usual.len();
        let mut whole = bytes::BytesMut::from(usual.as_slice());
        whole.unsplit(rest);
        *conn.ahead() = whole;
    }
    let body = match facts.body {
        BodyFraming::Chunked => Body::Chunked,
        _ if facts.upgrade => Body::Opaque,
        BodyFraming::None => Body::Length(0),
        BodyFraming::Length(length) => Body::Length(length),
    };
    conn.begin_request(facts.length, body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::server::future_sizes::{any, size_of_future};

    async fn rest(front: Arc<Front>, conn: Box<Conn>, closing: ShutdownWatch) {
        front.http2(conn, &closing).await;
    }

    /// What every open connection takes, apart from its buffers.
    #[test]
    fn a_connection_takes_little_memory() {
        let open = size_of_future(|| App::serve(any::<Arc<Front>>(), any()));
        assert!(open <= 768, "{open}");
        let http2 = size_of_future(|| rest(any(), any(), any()));
        assert!(http2 <= 704, "{http2}");
        assert!(size_of::<Conn>() <= 256);
        // A tunnel keeps that of the request that opened it.
        let request = size_of_future(|| any::<&Front>().unusual(any(), any(), any()));
        assert!(request <= 1300, "{request}");
    }
}
