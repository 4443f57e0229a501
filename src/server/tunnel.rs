//! Upgraded connections (WebSocket): through Pingora's own proxy path, which keeps both sides in step about the 101.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use pingora_core::upstreams::peer::HttpPeer;
use pingora_core::{Error, ErrorType, Result};
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use tokio::time::Instant;

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipeline::{self, Begun, Guard, Limit, stream};
use crate::runtime::service::{Endpoint, Service, StreamWork, Work};
use crate::runtime::step::Outcome;
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
    endpoint: Arc<Endpoint>,
    begun: Begun,
}

impl Tunnel {
    /// Prepares the call, through the steps of its backend as any other.
    ///
    /// # Errors
    /// It cannot be made, or a step refuses it.
    pub async fn prepare(
        session: &Session,
        ctx: &Ctx,
        service: &Service,
        endpoint: &Arc<Endpoint>,
        work: &StreamWork,
    ) -> std::result::Result<Tunnel, Failure> {
        let Some(head) = head_of(session, ctx.client) else {
            return Err(Failure::new(Kind::Request, "the request target is no text"));
        };
        let started = Instant::now();
        let call = pipeline::ClientCall::new(
            &service.options,
            endpoint,
            &head,
            &ctx.notes,
            bytes::Bytes::new(),
            started,
        );
        let mut out = stream::prepare(&service.options, endpoint, &work.backend, &call)?.out;
        let limit = Limit::at(started + endpoint.timeout);
        let mut guard = Guard::enter(&work.backend.steps, &limit)?;
        let ready = async {
            if let Some(credentials) = &work.backend.credentials {
                let value = stream::authorization(&**credentials, &limit).await?;
                out.headers.insert(header::AUTHORIZATION, value);
            }
            work.backend.hosts.target().await.map_err(Failure::from)
        };
        let ready = limit.wait(pin!(ready)).await;
        let target = match ready.unwrap_or_else(|| Err(Failure::deadline())) {
            Ok(target) => target,
            Err(failure) => {
                guard.end(Outcome::Failure);
                return Err(failure);
            }
        };
        let begun = guard.detach();
        let mut handshake = HeaderMap::new();
        let sent = session.req_header();
        for name in HANDSHAKE {
            if let Some(value) = sent.headers.get(name) {
                handshake.insert(name, value.clone());
            }
        }
        Ok(Tunnel {
            target,
            out,
            handshake,
            idle: service.options.stream_idle_timeout,
            endpoint: Arc::clone(endpoint),
            begun,
        })
    }

    /// The upstream has answered, or will not: its steps hear of it, once.
    pub fn ended(&mut self, outcome: Outcome) {
        if let Work::Stream(work) = &self.endpoint.work {
            std::mem::take(&mut self.begun).end(&work.backend.steps, outcome);
        }
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
