//! Upgraded connections (WebSocket): through Pingora's own proxy path, which keeps both sides in step about the 101.

use std::io;
use std::pin::pin;
use std::sync::Arc;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Instant;

use crate::runtime::answer::Answer;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipeline::{self, Guard, Limit, stream};
use crate::runtime::service::{Endpoint, Service, StreamWork, Upgrade};
use crate::server::conn::Conn;
use crate::server::gateway::{Ctx, head_of};
use crate::server::leash::{Leash, Terms};
use crate::telemetry::moment::now;
use crate::upstream::{Outgoing, Target};

/// Fields of the handshake that must reach the upstream, whatever `input_headers` says.
const HANDSHAKE: [&str; 5] = [
    "sec-websocket-key",
    "sec-websocket-version",
    "sec-websocket-protocol",
    "sec-websocket-extensions",
    "origin",
];

/// Where a tunnel leads, decided before Pingora asks.
#[derive(Debug)]
pub struct Tunnel {
    target: Target,
    out: Outgoing,
    handshake: HeaderMap,
    /// Its place among the open tunnels of the endpoint.
    _room: Option<OwnedSemaphorePermit>,
}

/// Whether the client asks for a WebSocket. Other protocols are not switched to: their `Upgrade` is dropped, as a
/// server that does not know them would do (RFC 9110 §7.8).
pub fn is_asked_for(session: &Session) -> bool {
    session.is_upgrade_req()
        && session
            .req_header()
            .headers
            .get(header::UPGRADE)
            .is_some_and(|protocol| protocol.as_bytes().eq_ignore_ascii_case(b"websocket"))
}

/// Whether a tunnel failed because nobody answered its handshake in time. It is the client's connection that tells.
pub fn is_late(error: &Error) -> bool {
    error
        .root_cause()
        .downcast_ref::<io::Error>()
        .is_some_and(|cause| cause.kind() == io::ErrorKind::TimedOut)
}

impl Tunnel {
    /// Checks the endpoint's terms and prepares the call.
    ///
    /// # Errors
    /// The refusal; its reason is in the log.
    pub async fn prepare(
        session: &mut Session,
        ctx: &mut Ctx,
        service: &Service,
        endpoint: &Endpoint,
        work: &StreamWork,
    ) -> Result<Tunnel, Answer> {
        let Some(upgrade) = &work.upgrade else {
            return Err(Answer::empty(StatusCode::FORBIDDEN));
        };
        if !upgrade.admits(session.req_header().headers.get(header::ORIGIN)) {
            ctx.notes.refused = Some("origin");
            return Err(Answer::empty(StatusCode::FORBIDDEN));
        }
        let room = match &upgrade.room {
            None => None,
            Some(room) => match Arc::clone(room).try_acquire_owned() {
                Ok(permit) => Some(permit),
                Err(_) => {
                    ctx.notes.refused = Some("connections");
                    return Err(Answer::empty(StatusCode::SERVICE_UNAVAILABLE));
                }
            },
        };
        let (target, out) = match call(session, ctx, service, endpoint, work).await {
            Ok(call) => call,
            Err(failure) => {
                log::error!("[ENDPOINT: {}] {failure}", endpoint.pattern);
                ctx.notes.errors.push(failure.text.clone());
                return Err(stream::failed(&service.options, failure));
            }
        };
        let sent = &session.req_header().headers;
        let handshake = HANDSHAKE
            .iter()
            .filter_map(|name| Some((HeaderName::from_static(name), sent.get(*name)?.clone())))
            .collect();
        hold(session, ctx, service, endpoint, upgrade);
        Ok(Tunnel {
            target,
            out,
            handshake,
            _room: room,
        })
    }

    /// The peer. It has no limits of its own: the client's connection knows when the tunnel has to end.
    pub fn peer(&self) -> Box<HttpPeer> {
        let mut peer = self.target.peer.clone();
        peer.options.set_http_version(1, 1);
        peer.options.read_timeout = None;
        Box::new(peer)
    }

    /// Replaces the client's header by what the endpoint lets through, and the handshake.
    ///
    /// # Errors
    /// A target that cannot be written, which `prepare` would have refused.
    pub fn request(&self, upstream: &mut RequestHeader) -> pingora_core::Result<()> {
        let path = format!("{}{}", self.target.base, self.out.target);
        let mut request = RequestHeader::build(self.out.method.clone(), path.as_bytes(), Some(16))?;
        request.set_version(upstream.version);
        request.insert_header(header::HOST, self.target.authority.clone())?;
        for (name, value) in self.out.headers.iter().chain(&self.handshake) {
            if *name != header::ACCEPT_ENCODING {
                request.append_header(name, value)?;
            }
        }
        let protocol = upstream.headers.get(header::UPGRADE).cloned();
        let protocol = protocol
            .ok_or_else(|| Error::explain(ErrorType::InvalidHTTPHeader, "no Upgrade field"))?;
        request.insert_header(header::UPGRADE, protocol)?;
        request.insert_header(header::CONNECTION, HeaderValue::from_static("Upgrade"))?;
        *upstream = request;
        Ok(())
    }
}

/// Where the endpoint's one backend is, and what it is asked.
async fn call(
    session: &Session,
    ctx: &Ctx,
    service: &Service,
    endpoint: &Endpoint,
    work: &StreamWork,
) -> Result<(Target, Outgoing), Failure> {
    let limit = Limit::at(Instant::now() + endpoint.timeout);
    let head = head_of(session, ctx.client)
        .ok_or_else(|| Failure::new(Kind::Request, "the request target is no text"))?;
    let client = pipeline::ClientCall::new(
        &service.options,
        endpoint,
        &head,
        &ctx.notes,
        bytes::Bytes::new(),
        Instant::now(),
    );
    // A limit or a breaker refuses here. How long a tunnel lasts says nothing about its upstream.
    let _guard = Guard::enter(&work.backend.steps, &limit)?;
    let mut prepared = stream::prepare(&service.options, endpoint, &work.backend, client)?;
    if let Some(credentials) = &work.backend.credentials {
        let value = stream::authorization(&**credentials, &limit).await?;
        prepared.out.headers.insert(header::AUTHORIZATION, value);
    }
    let found = work.backend.hosts.target();
    match limit.wait(pin!(found)).await {
        Some(target) => Ok((target.map_err(Failure::from)?, prepared.out)),
        None => Err(Failure::deadline()),
    }
}

/// Puts the tunnel's bounds on the client's connection.
fn hold(
    session: &mut Session,
    ctx: &Ctx,
    service: &Service,
    endpoint: &Endpoint,
    upgrade: &Upgrade,
) {
    // Silence is allowed in one direction.
    session.as_downstream_mut().set_read_timeout(None);
    let expiry = ctx.notes.claims.as_ref().and_then(|claims| claims.expiry());
    let end = expiry
        .filter(|_| upgrade.until_expiry)
        .and_then(|expiry| Instant::now().checked_add(expiry.since_epoch().saturating_sub(now())));
    let terms = Terms {
        handshake: endpoint.timeout,
        idle: service.options.stream_idle_timeout,
        end,
    };
    let conn = session
        .stream()
        .and_then(|stream| stream.as_any().downcast_ref::<Conn>());
    if let Some(conn) = conn {
        conn.hold(Leash::new(terms));
    }
}
