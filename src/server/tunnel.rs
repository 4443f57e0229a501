//! Upgraded connections (WebSocket): through Pingora's own proxy path, which keeps both sides in step about the 101.

use http::{HeaderMap, HeaderValue, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use std::time::Duration;
use tokio::time::Instant;

use crate::runtime::pipeline::{self, stream};
use crate::runtime::service::{Endpoint, Service, StreamWork};
use crate::server::gateway::{Ctx, head_of};
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
    idle: Duration,
}

impl Tunnel {
    /// Prepares the call; `None`, with the reason in the log, when it cannot be made.
    pub async fn prepare(
        session: &Session,
        ctx: &mut Ctx,
        service: &Service,
        endpoint: &Endpoint,
        work: &StreamWork,
    ) -> Option<Tunnel> {
        let head = head_of(session, ctx.client)?;
        let call = pipeline::ClientCall::new(
            &service.options,
            endpoint,
            &head,
            &ctx.notes,
            bytes::Bytes::new(),
            Instant::now(),
        );
        let prepared = stream::prepare(&service.options, endpoint, &work.backend, &call);
        let prepared = match prepared {
            Ok(prepared) => prepared,
            Err(failure) => return refused(ctx, endpoint, failure.to_string()),
        };
        let target = match tokio::time::timeout(endpoint.timeout, work.backend.hosts.target()).await
        {
            Ok(Ok(target)) => target,
            Ok(Err(error)) => return refused(ctx, endpoint, error.to_string()),
            Err(_) => return refused(ctx, endpoint, "context deadline exceeded".to_owned()),
        };
        let mut handshake = HeaderMap::new();
        let sent = session.req_header();
        for name in HANDSHAKE {
            if let Some(value) = sent.headers.get(name) {
                handshake.insert(name, value.clone());
            }
        }
        Some(Tunnel {
            target,
            out: prepared.out,
            handshake,
            idle: service.options.stream_idle_timeout,
        })
    }

    /// The peer, with the idle time as its only limit once the tunnel stands.
    pub fn peer(&self) -> Box<HttpPeer> {
        let mut peer = self.target.peer.clone();
        peer.options.set_http_version(1, 1);
        peer.options.read_timeout = Some(self.idle);
        Box::new(peer)
    }

    /// Replaces the client's header by what the endpoint lets through, and the handshake.
    ///
    /// # Errors
    /// A target that cannot be written, which `prepare` would have refused.
    pub fn request(&self, upstream: &mut RequestHeader) -> Result<()> {
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

fn refused(ctx: &mut Ctx, endpoint: &Endpoint, reason: String) -> Option<Tunnel> {
    log::error!("[ENDPOINT: {}] {reason}", endpoint.pattern);
    ctx.notes.errors.push(reason.into());
    None
}
