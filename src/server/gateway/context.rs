//! One request, from its head to its access-log line.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{HeaderName, StatusCode};
use pingora_http::RequestHeader;
use pingora_proxy::Session;

use super::active::{Active, Common, Route};
use crate::per_worker::OwnArc;
use crate::runtime::errors::ErrorBodies;
use crate::runtime::pipeline::Ended;
use crate::runtime::request::{Head, Host, Notes, RequestId};
use crate::runtime::response::Response;
use crate::runtime::response_edits::ResponseEdits;
use crate::runtime::service::Endpoint;
use crate::server::http1_fast_path::Wire;
use crate::telemetry::metrics::InFlight;
use crate::telemetry::observe;
use crate::upstream::budget::Charge;

/// One request, from its head to its access-log line.
#[derive(Debug)]
pub(crate) struct Ctx {
    pub(in crate::server) started: Instant,
    place: Place,
    /// After a 405, an endpoint of the same path.
    pub(super) near: Option<Arc<Endpoint>>,
    pub(in crate::server) notes: Notes,
    pub(in crate::server) client: Option<IpAddr>,
    /// The status of our own response. For a gRPC client the response itself has 200.
    pub(in crate::server) answered: Option<StatusCode>,
    /// Not in the access log: redirects and preflight requests, to which KrakenD responds before it logs.
    pub(super) silent: bool,
    /// Preflights and health: responses that are not finished (see [`Ctx::finishing`]).
    pub(super) bare: bool,
    /// The maximum time between two pieces of the body over HTTP/2. The session of HTTP/1 has its own.
    pub(in crate::server) silence: Option<Duration>,
    /// For the memory of a large head over HTTP/2. The front loop holds that of HTTP/1.
    pub(super) held: Charge,
    /// Counts the request until it ends, also when its task is dropped.
    _in_flight: InFlight,
    /// `telemetry/metrics` has counted the start of the request, and must count its end.
    pub(in crate::server) counted: bool,
    /// The result of the endpoint's work, and its duration. `None` if the work did not start.
    pub(in crate::server) ended: Option<(Ended, Duration)>,
    /// For traces and the series of `telemetry/opentelemetry`. `None` if they are off.
    pub(in crate::server) observed: Option<Arc<observe::Request>>,
    /// The connection of the client, if the request is a usual one.
    pub(in crate::server) wire: Option<Wire>,
}

/// What a request keeps of the configuration that was in use when it arrived. A reload does not change it.
#[derive(Debug)]
enum Place {
    /// All of it, until it is decided what happens to the request.
    Service(OwnArc<Active>),
    Endpoint(OwnArc<Route>),
    /// The request is for no endpoint.
    Outside(Arc<Common>),
}

impl Ctx {
    /// A new request, to be served by `active`.
    #[inline]
    pub(super) fn new(active: OwnArc<Active>, in_flight: InFlight) -> Ctx {
        Ctx {
            started: Instant::now(),
            place: Place::Service(active),
            near: None,
            notes: Notes::default(),
            client: None,
            answered: None,
            silent: false,
            bare: false,
            silence: None,
            held: Charge::default(),
            _in_flight: in_flight,
            counted: false,
            ended: None,
            observed: None,
            wire: None,
        }
    }

    /// The request is for this endpoint, and counts as one of its requests in flight as long as it lasts.
    pub(super) fn enter(&mut self, route: &OwnArc<Route>) {
        self.leave();
        route.metrics.entered();
        self.place = Place::Endpoint(Arc::clone(route));
    }

    /// The request is for no endpoint.
    pub(super) fn stay_outside(&mut self, active: &Active) {
        self.place = Place::Outside(Arc::clone(active.common()));
    }

    fn leave(&self) {
        if let Some(route) = self.route() {
            route.metrics.left();
        }
    }

    /// The endpoint of the request with its handles, once it is known.
    #[inline]
    pub(super) fn route(&self) -> Option<&Route> {
        match &self.place {
            Place::Service(_) | Place::Outside(_) => None,
            Place::Endpoint(route) => Some(route),
        }
    }

    #[inline]
    pub(super) fn endpoint(&self) -> Option<&Endpoint> {
        self.route().map(|route| &*route.endpoint)
    }

    /// The pattern of the endpoint, or an empty one.
    pub(super) fn pattern(&self) -> &str {
        self.endpoint().map_or("", |endpoint| &*endpoint.pattern)
    }

    /// The whole configuration, before the endpoint is known.
    pub(super) fn active(&self) -> Option<OwnArc<Active>> {
        match &self.place {
            Place::Service(active) => Some(Arc::clone(active)),
            Place::Endpoint(_) | Place::Outside(_) => None,
        }
    }

    #[inline]
    pub(in crate::server) fn common(&self) -> &Common {
        match &self.place {
            Place::Service(active) => active.common(),
            Place::Endpoint(route) => &route.common,
            Place::Outside(common) => common,
        }
    }

    /// What is done to the response before it is written.
    #[inline]
    pub(in crate::server) fn response_edits(&self) -> Option<&ResponseEdits> {
        let response_edits = match self.endpoint() {
            Some(endpoint) => endpoint.response_edits.as_deref(),
            None => self.common().response_edits.as_deref(),
        };
        response_edits.filter(|_| !self.bare)
    }

    /// Our own response with the body that `portcullis/errors` defines.
    #[inline]
    pub(in crate::server) fn dressed(&mut self, response: Response) -> Response {
        match &self.common().errors {
            Some(errors) if errors.concerns(&response) => {
                let errors = Arc::clone(errors);
                self.dress(&errors, response)
            }
            _ => response,
        }
    }

    #[cold]
    fn dress(&mut self, errors: &ErrorBodies, response: Response) -> Response {
        if self.notes.request_id.is_none() {
            // The client knows the request by this id, and so does the access log. Without `portcullis/request-id`
            // it is only in the body.
            self.notes.request_id = errors.id().map(|value| RequestId {
                header: HeaderName::from_static("x-request-id"),
                value,
            });
        }
        let id = self.notes.request_id.as_ref();
        let id = id.and_then(|id| id.value.to_str().ok());
        errors.dress(response, self.notes.rejected, id)
    }
}

impl Drop for Ctx {
    fn drop(&mut self) {
        self.leave();
    }
}

/// Path and query of the request.
fn target_of(header: &RequestHeader) -> Option<(&str, Option<&str>)> {
    let raw = header.raw_path();
    // The usual target is that of the URI, which is text and already divided.
    if let Some(target) = header.uri.path_and_query()
        && std::ptr::eq(target.as_str().as_bytes(), raw)
    {
        return Some((target.path(), target.query()));
    }
    let target = std::str::from_utf8(raw).ok()?;
    Some(match target.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (target, None),
    })
}

/// The head of the request. `None` if its target is not text, which no route matches.
pub(in crate::server) fn head_of(session: &Session, client: Option<IpAddr>) -> Option<Head<'_>> {
    let header = session.req_header();
    let (path, query) = target_of(header)?;
    let digest = session.digest();
    let peer = digest
        .and_then(|digest| digest.socket_digest.as_ref()?.peer_addr()?.as_inet())
        .map_or(IpAddr::from([0, 0, 0, 0]), |address| {
            address.ip().to_canonical()
        });
    Some(Head {
        method: &header.method,
        path: if path.is_empty() { "/" } else { path },
        query,
        headers: &header.headers,
        host: Host::Sent(header.uri.authority().map(|authority| authority.as_str())),
        peer,
        client: client.unwrap_or(peer),
        secure: digest.is_some_and(|digest| digest.ssl_digest.is_some()),
        certificate: digest
            .and_then(|digest| digest.ssl_digest.as_deref())
            .map(|tls| tls.cert_digest.as_slice())
            .filter(|thumbprint| !thumbprint.is_empty()),
    })
}
