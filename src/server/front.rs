//! The front loop: handles a connection before and between requests.
//!
//! Pingora limits each read but not a whole head, and waits forever on an idle connection. Here every head has one
//! deadline, a maximum size and a maximum number of headers. Ambiguous framing ends the connection. Only after these
//! checks does Pingora's session see the request.

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use pingora_core::apps::{HttpServerApp, HttpServerOptions, ServerApp};
use pingora_core::protocols::Stream;
use pingora_core::protocols::http::ServerSession;
use pingora_core::protocols::http::v2::server::default_h2_options;
use pingora_core::server::ShutdownWatch;
use pingora_core::tls::TlsAcceptor;
use pingora_proxy::HttpProxy;
use tokio::io::AsyncWriteExt;
use tokio::time::{Instant, Sleep};

use crate::runtime::listen::Limits;
use crate::runtime::response::Response;
use crate::server::accept::{App, Guest};
use crate::server::chunks::BadChunk;
use crate::server::client_auth::rejected_certificate;
use crate::server::conn::{Body, Conn};
use crate::server::gateway::{Gateway, Shared};
use crate::server::handshakes::HandshakeLimiter;
use crate::server::head::{BadHead, BodyFraming, HeadFacts, HeadReader};
use crate::server::rewrite::usual_form;
use crate::server::room::Place;
use crate::server::tls::Certificates;
use crate::server::{proxy_protocol, quick, socket};
use crate::telemetry::metrics::ConnectionGuard;

/// The first bytes of HTTP/2 with prior knowledge (RFC 9113 §3.4).
const H2_PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The timeout of a TLS handshake.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long clients with an idle connection may still send a request after a stop: a request that was sent before its
/// client could know about the stop gets a response, which announces the end of the connection.
pub(super) const FAREWELL: Duration = Duration::from_millis(300);
/// How long a rejected client has to read the response before the connection is closed.
const LINGER: Duration = Duration::from_millis(500);

/// Serves the connections of the gateway's listener.
pub struct Front {
    proxy: Arc<HttpProxy<Gateway>>,
    limits: Limits,
    certificates: Option<Arc<Certificates>>,
    shared: Arc<Shared>,
    /// True once clients should move to another gateway.
    leaving: ShutdownWatch,
    handshakes: HandshakeLimiter,
}

/// The result of waiting for a head.
enum Wait {
    Head(HeadFacts),
    Http2,
    /// Nothing arrived, the client closed the connection, or the process is stopping.
    Over,
    Rejected(BadHead),
    /// The head did not arrive in time.
    Slow,
}

impl Front {
    /// A front for `proxy` with these limits. With certificates it accepts only TLS, and as many handshakes compute
    /// at a time as there are `workers`. `leaving` tells HTTP/2 clients to move to another gateway.
    pub fn new(
        proxy: Arc<HttpProxy<Gateway>>,
        limits: Limits,
        certificates: Option<Arc<Certificates>>,
        shared: Arc<Shared>,
        leaving: ShutdownWatch,
        workers: usize,
    ) -> Front {
        Front {
            proxy,
            limits,
            certificates,
            shared,
            leaving,
            handshakes: HandshakeLimiter::new(workers),
        }
    }

    async fn connection(
        &self,
        stream: Stream,
        place: &Place,
        shutdown: &ShutdownWatch,
    ) -> Option<()> {
        let mut conn = Conn::plain(stream);
        if let Some(trusted) = &self.limits.proxy_protocol {
            place.waits();
            let read = proxy_protocol::read(&mut conn, trusted);
            let read = tokio::select! {
                biased;
                read = pingora_timeout::timeout(self.limits.head, read) => read,
                () = place.is_needed() => return None,
            };
            place.works();
            match read {
                Ok(Ok(())) => {}
                Ok(Err(reason)) => {
                    self.shared.metrics.bad_request("proxy_protocol");
                    log::info!("PROXY protocol: {reason}");
                    return None;
                }
                Err(_) => return None,
            }
        }
        if let Some(certificates) = &self.certificates {
            conn = self.handshake(conn, place, certificates).await?;
        }
        conn.set_watch(place.watch());
        if conn.is_h2() {
            place.waits();
            let begins = tokio::select! {
                biased;
                begins = self.preface(&mut conn) => begins,
                () = place.is_needed() => false,
            };
            place.works();
            if !begins {
                return None;
            }
            self.http2(conn.into_h2(), shutdown).await;
            return None;
        }
        self.http1(Box::new(conn), place, shutdown).await
    }

    async fn handshake(
        &self,
        conn: Conn,
        place: &Place,
        certificates: &Certificates,
    ) -> Option<Conn> {
        let conn = self.not_plain(conn, place).await?;
        let socket = pingora_core::protocols::GetSocketDigest::get_socket_digest(&conn);
        let acceptor = TlsAcceptor::from(certificates.server_config());
        let stream: Stream = Box::new(conn.into_h2());
        let accept = self.handshakes.take(acceptor.accept(stream));
        // As long as a head may take: to the client, this is the wait for its request.
        let timeout = self.limits.head.min(HANDSHAKE_TIMEOUT);
        place.waits();
        let accepted = tokio::select! {
            biased;
            accepted = pingora_timeout::timeout(timeout, accept) => accepted,
            () = place.is_needed() => return None,
        };
        place.works();
        match accepted {
            Ok(Ok(stream)) => Some(Conn::tls(stream, socket)),
            Ok(Err(error)) => {
                self.shared.metrics.tls_handshake_failed();
                match rejected_certificate(&error) {
                    Some(why) => log::warn!(
                        "[SERVICE: Gateway] TLS: the certificate of a client is refused: {why}"
                    ),
                    None => log::debug!("TLS handshake failed: {error}"),
                }
                None
            }
            Err(_) => {
                self.shared.metrics.tls_handshake_failed();
                None
            }
        }
    }

    /// Responds to a client that sends HTTP where TLS is expected. Otherwise returns the connection.
    async fn not_plain(&self, mut conn: Conn, place: &Place) -> Option<Conn> {
        if conn.ahead().is_empty() {
            place.waits();
            let timeout = self.limits.head.min(HANDSHAKE_TIMEOUT);
            let first = tokio::select! {
                biased;
                first = pingora_timeout::timeout(timeout, conn.fill()) => first,
                () = place.is_needed() => return None,
            };
            if !matches!(first, Ok(Ok(count)) if count > 0) {
                return None;
            }
            place.works();
        }
        // A method is in upper case. A TLS record starts with its type, 22.
        if !conn.ahead().first().is_some_and(u8::is_ascii_uppercase) {
            return Some(conn);
        }
        self.shared.metrics.tls_handshake_failed();
        let text =
            b"HTTP/1.0 400 Bad Request\r\n\r\nClient sent an HTTP request to an HTTPS server.\n";
        last_words(&mut conn, text).await;
        None
    }

    /// HTTP/2 that was negotiated in the TLS handshake still starts with its preface, which Pingora would await
    /// forever.
    async fn preface(&self, conn: &mut Conn) -> bool {
        let whole = async {
            while conn.ahead().len() < H2_PREFACE.len() {
                match conn.fill().await {
                    Ok(count) if count > 0 => {}
                    _ => return false,
                }
            }
            conn.ahead().starts_with(H2_PREFACE)
        };
        matches!(
            pingora_timeout::timeout(self.limits.head, whole).await,
            Ok(true)
        )
    }

    async fn http2(&self, conn: Conn, shutdown: &ShutdownWatch) {
        // A client that connects although the process is stopping has found no other gateway yet.
        let shutdown = if *self.leaving.borrow() {
            shutdown.clone()
        } else {
            self.leaving.clone()
        };
        // The proxy's own application handles HTTP/2 on a stream whose protocol is known.
        ServerApp::process_new(&self.proxy, Box::new(conn), &shutdown).await;
    }

    async fn http1(
        &self,
        mut conn: Box<Conn>,
        place: &Place,
        shutdown: &ShutdownWatch,
    ) -> Option<()> {
        let mut pause = Pause::new(&self.limits, place, shutdown.clone());
        let mut out = Vec::new();
        loop {
            let facts = match self.next_head(&mut conn, &mut pause).await {
                Wait::Head(facts) => facts,
                Wait::Http2 => {
                    self.http2(conn.into_h2(), shutdown).await;
                    return None;
                }
                Wait::Over => return None,
                Wait::Rejected(BadHead::RequestLine) if self.is_no_http(&mut conn) => {
                    self.shared.metrics.bad_request("preface");
                    return None;
                }
                Wait::Rejected(bad) => {
                    self.shared.metrics.bad_request(bad.as_str());
                    log::info!(
                        "refused a malformed request from {}: {}",
                        peer(&conn),
                        bad.as_str()
                    );
                    self.reject(&mut conn, bad.status_line(), bad.as_str())
                        .await;
                    return None;
                }
                Wait::Slow => {
                    self.shared.metrics.bad_request("slow_head");
                    let status = "408 Request Timeout";
                    self.reject(&mut conn, status, "slow_head").await;
                    return None;
                }
            };
            if self.quick(&mut conn, facts, &mut out).await? {
                continue;
            }
            let Ok(request) = take_request(&mut conn, facts) else {
                self.shared.metrics.bad_request("chunk");
                self.reject(&mut conn, "400 Bad Request", "chunk").await;
                return None;
            };
            let mut session = ServerSession::new_http1(conn);
            session.set_keepalive(Some(self.limits.idle.as_secs().max(1)));
            session.set_read_timeout(Some(self.limits.read));
            session.set_write_timeout(self.limits.write);
            session.set_total_drain_timeout(Some(self.limits.read));
            session.set_pipelined_prefix(request);
            let reused = self.proxy.process_new_http(session, shutdown).await?;
            let (stream, _) = reused.consume();
            conn = stream.into_any().downcast::<Conn>().ok()?;
        }
    }

    /// Rejects what is not a request, with the body that the file gives to errors.
    async fn reject(&self, conn: &mut Conn, status: &str, reason: &str) {
        let code = status.split(' ').next().unwrap_or_default();
        let active = self.shared.active.load_full();
        let (Some(errors), Ok(code)) = (&active.service.errors, code.parse()) else {
            return reject(conn, status).await;
        };
        let id = errors.id();
        let id = id.as_ref().and_then(|id| id.to_str().ok());
        let response = errors.dress(Response::empty(code), Some(reason), id);
        let Some((_, kind)) = response.fields.first() else {
            return reject(conn, status).await;
        };
        reject_with(conn, status, kind.as_bytes(), &response.body).await;
    }

    /// Responds to a health probe without a session. `false` if the request must be handled normally, `None` if the
    /// connection has ended.
    async fn quick(&self, conn: &mut Conn, facts: HeadFacts, out: &mut Vec<u8>) -> Option<bool> {
        let Some(peer) = conn.peer_ip() else {
            return Some(false);
        };
        let head = conn.ahead().get(..facts.length).unwrap_or_default();
        if quick::health(&self.shared, head, facts, peer, out).is_none() {
            return Some(false);
        }
        bytes::Buf::advance(conn.ahead(), facts.length);
        let write = async {
            conn.write_all(out).await?;
            conn.flush().await
        };
        let limit = self.limits.write.unwrap_or(HANDSHAKE_TIMEOUT);
        match pingora_timeout::timeout(limit, write).await {
            Ok(Ok(())) => Some(true),
            _ => None,
        }
    }

    /// Waits for the next head: first for its first byte and then, with one deadline, for the rest.
    async fn next_head(&self, conn: &mut Conn, pause: &mut Pause<'_>) -> Wait {
        if conn.ahead().is_empty() && !pause.first_byte(conn).await {
            return Wait::Over;
        }
        while conn.ahead().starts_with(b"\r\n") {
            let _ = conn.ahead().split_to(2); // RFC 9112 §2.2: an empty line before the request line is ignored
        }
        let mut reader = HeadReader::new(self.limits.max_header_bytes, self.limits.max_fields);
        let wait = match self.judge(&mut reader, conn) {
            Some(wait) => wait,
            None => self.late_head(&mut reader, conn, pause).await,
        };
        pause.place.asked();
        wait
    }

    /// Waits for the rest of a head. A client that stops within its head can be replaced like a silent one.
    async fn late_head(
        &self,
        reader: &mut HeadReader,
        conn: &mut Conn,
        pause: &mut Pause<'_>,
    ) -> Wait {
        pause.place.waits();
        let rest = pingora_timeout::timeout(self.limits.head, self.rest_of_head(reader, conn));
        tokio::select! {
            biased;
            wait = rest => wait.unwrap_or(Wait::Slow),
            () = &mut pause.end => Wait::Over,
        }
    }

    async fn rest_of_head(&self, reader: &mut HeadReader, conn: &mut Conn) -> Wait {
        loop {
            match conn.fill().await {
                Ok(0) | Err(_) => return Wait::Over,
                Ok(_) => {
                    if let Some(wait) = self.judge(reader, conn) {
                        return wait;
                    }
                }
            }
        }
    }

    /// Whether a client of a listener for both versions uses neither: a client of HTTP/2 would not understand a
    /// response in HTTP/1 (RFC 9113 §3.4 closes the connection).
    fn is_no_http(&self, conn: &mut Conn) -> bool {
        let ahead: &[u8] = conn.ahead();
        let line = ahead.split(|byte| *byte == b'\n').next();
        self.limits.h2c && line.is_none_or(|line| memchr::memmem::find(line, b"HTTP/").is_none())
    }

    fn judge(&self, reader: &mut HeadReader, conn: &mut Conn) -> Option<Wait> {
        let bytes = conn.ahead();
        if self.limits.h2c && self.certificates.is_none() {
            let count = bytes.len().min(H2_PREFACE.len());
            if bytes.get(..count) == H2_PREFACE.get(..count) && count >= 4 {
                return (count == H2_PREFACE.len()).then_some(Wait::Http2);
            }
        }
        match reader.advance(bytes) {
            Ok(Some(facts)) => Some(Wait::Head(facts)),
            Ok(None) => None,
            Err(bad) => Some(Wait::Rejected(bad)),
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

    async fn serve(self: Arc<Self>, guest: Guest) {
        let Guest {
            tcp,
            peer,
            place,
            closing,
        } = guest;
        let stream = match &self.certificates {
            Some(_) => socket::below_tls(tcp, peer),
            None => socket::plain(tcp, peer),
        };
        self.connection(stream, &place, &closing).await;
    }

    async fn closed(&self) {
        self.proxy.http_cleanup().await;
    }
}

/// The maximum size of a request head over HTTP/2: Pingora's own limit, or the configured one if it is lower. There
/// may be a hundred such heads at a time on one connection.
const H2_HEAD_BYTES: usize = 64 * 1024;
/// The number of bytes that are added for each header (RFC 9113 §6.5.2). Pseudo-headers count as headers there.
const H2_FIELD_BYTES: usize = 32;
const H2_PSEUDO_FIELDS: usize = 10;

/// Applies the limits to HTTP/2 connections, which Pingora reads itself.
pub fn limit_http2(proxy: &mut HttpProxy<Gateway>, limits: &Limits) {
    let bytes = limits
        .max_header_bytes
        .saturating_add(H2_PSEUDO_FIELDS * H2_FIELD_BYTES)
        .min(H2_HEAD_BYTES);
    let mut options = default_h2_options();
    options.max_header_list_size(u32::try_from(bytes).unwrap_or(u32::MAX));
    proxy.h2_options = Some(options);
    let mut server = HttpServerOptions::default();
    server.h2_idle_timeout = Some(limits.idle);
    // Nothing is tunnelled: such a request gets a response of the gateway instead of Pingora's own.
    server.allow_connect_method_proxying = true;
    proxy.server_options = Some(server);
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

/// The wait before each request on a connection. One timer and one watch on the stop are created once and serve all
/// of its requests.
struct Pause<'a> {
    place: &'a Place,
    /// The timeout for the next request: a client that has sent nothing yet gets no longer than a head may take.
    timeout: Duration,
    idle: Duration,
    timer: Pin<Box<Sleep>>,
    end: BoxFuture<'static, ()>,
}

impl Pause<'_> {
    fn new<'a>(limits: &Limits, place: &'a Place, stopping: ShutdownWatch) -> Pause<'a> {
        let is_needed = place.is_needed();
        Pause {
            place,
            timeout: limits.head,
            idle: limits.idle,
            timer: Box::pin(tokio::time::sleep(limits.head.min(limits.idle))),
            end: Box::pin(async move {
                tokio::select! {
                    biased;
                    () = farewell(stopping) => {}
                    () = is_needed => {}
                }
            }),
        }
    }

    /// Waits for the first byte of a request. `false` if the client has closed its connection or was silent for too
    /// long, the process is stopping, or another client needs the place.
    async fn first_byte(&mut self, conn: &mut Conn) -> bool {
        let began = Instant::now();
        let timeout = std::mem::replace(&mut self.timeout, self.idle);
        self.place.waits();
        loop {
            tokio::select! {
                biased;
                read = conn.fill() => {
                    self.place.works();
                    return matches!(read, Ok(count) if count > 0);
                }
                () = self.timer.as_mut() => {
                    // The timer was set for an earlier request, so its deadline is not valid.
                    if began.elapsed() >= timeout {
                        return false;
                    }
                    self.timer.as_mut().reset(began + timeout);
                }
                () = &mut self.end => return false,
            }
        }
    }
}

/// Resolves after a stop, when clients have had time to notice it.
async fn farewell(mut stopping: ShutdownWatch) {
    // An error means that the server itself was dropped, which is a stop too.
    let _ = stopping.wait_for(|stop| *stop).await;
    tokio::time::sleep(FAREWELL).await;
}

fn peer(conn: &Conn) -> String {
    pingora_core::protocols::GetSocketDigest::get_socket_digest(conn)
        .and_then(|digest| digest.peer_addr().map(ToString::to_string))
        .unwrap_or_default()
}

/// Writes a rejection without a session and ends the connection: there is no request that a session could handle.
pub(super) async fn reject(conn: &mut Conn, status: &str) {
    reject_with(
        conn,
        status,
        b"text/plain; charset=utf-8",
        status.as_bytes(),
    )
    .await;
}

async fn reject_with(conn: &mut Conn, status: &str, content_type: &[u8], body: &[u8]) {
    let status = format!("HTTP/1.1 {status}\r\nContent-Type: ");
    let rest = format!(
        "\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    let text = [status.as_bytes(), content_type, rest.as_bytes(), body].concat();
    last_words(conn, &text).await;
}

/// Writes the last response on a connection.
async fn last_words(conn: &mut Conn, text: &[u8]) {
    let write = async {
        conn.write_all(text).await?;
        conn.flush().await?;
        conn.shutdown().await?;
        // Unread data in the socket would turn the close into a reset that may discard the response.
        let mut ahead = 0;
        while ahead < 64 * 1024 {
            match conn.fill().await? {
                0 => break,
                count => ahead += count,
            }
            conn.ahead().clear();
        }
        std::io::Result::Ok(())
    };
    let _ = pingora_timeout::timeout(LINGER, write).await;
}
