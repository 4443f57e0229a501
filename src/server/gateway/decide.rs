//! The synchronous part of a request: steps of the service, routing, built-in endpoints.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::Gateway;
use super::context::Ctx;
use crate::runtime::files::{Asked, Folder};
use crate::runtime::prerouting::{Destination, Prerouting, Routed, Shown};
use crate::runtime::request::{Head, Notes};
use crate::runtime::response::{Branding, Response};
use crate::runtime::router::{BuiltIn, Match, Redirect};
use crate::runtime::service::{Endpoint, Service};
use crate::runtime::step::ServiceStep;
use crate::server::body::{self, Expectation};
use crate::server::{builtin, files};
use crate::telemetry::request_id;

/// Whether the gateway accepts new requests. A configured endpoint with this path takes precedence.
const READY_PATH: &str = "/__ready";

/// The result of the synchronous part of a request.
pub(super) enum Decision {
    /// A rejection, or a response about health, which the gates of the service do not see.
    Before(Response),
    Response(Response),
    /// A response without a line in the access log.
    Silent(Response),
    /// The body is read and logged or echoed.
    Debug,
    Echo,
    /// The endpoint with this [`Endpoint::id`].
    Endpoint(usize),
    /// A file of a folder.
    File(Arc<Folder>, Box<Asked>),
}

impl Gateway {
    /// Everything that needs no waiting: service steps, routing, built-in endpoints.
    pub(super) fn decide(&self, head: &Head<'_>, ctx: &mut Ctx, service: &Service) -> Decision {
        let health = service.options.health_path.as_deref();
        let prerouting = service.prerouting.as_deref();
        let routed = prerouting.map(|prerouting| prerouting.route(head, health));
        if let Some(routed) = &routed {
            remember(routed, &mut ctx.notes);
        }
        for step in service.steps.iter().filter(|step| step.covers_health()) {
            if let Some(response) = stepped(&**step, head, &mut ctx.notes) {
                ctx.silent = step.is_silent();
                ctx.bare = ctx.silent;
                return Decision::Before(response);
            }
        }
        let routed = routed.as_ref();
        let aside = || routed.and_then(|routed| without_router(routed, head, service));
        if let Some(decision) = without_route(head).or_else(aside) {
            return guarded(decision, head, ctx, service);
        }
        let found = self.found(head, service, routed);
        if let Some(response) = self.about_itself(&found, head, ctx, service) {
            return Decision::Before(response);
        }
        if let Some(response) = after_routing(head, ctx, service) {
            return Decision::Before(response);
        }
        matched(found, ctx, service)
    }

    /// What the router finds for the path of the request, or for the path that it was rewritten to.
    fn found<'r>(
        &self,
        head: &Head<'_>,
        service: &'r Service,
        routed: Option<&Routed<'_>>,
    ) -> Match<'r, Arc<Endpoint>> {
        let prefix = self.trusted_prefix(head, service);
        let found = match (routed, service.prerouting.as_deref()) {
            (Some(routed), Some(prerouting)) => {
                shown_to_client(head, service, routed, prerouting, prefix)
            }
            _ => service
                .router
                .route(head.method, head.path, head.query, prefix),
        };
        // The catch-all endpoint does not get the gateway's own paths.
        match found {
            Match::Found { endpoint, .. }
                if endpoint.is_catch_all() && head.path.starts_with("/__") =>
            {
                Match::NotFound
            }
            found => found,
        }
    }

    /// The built-in response about health, which the gates of the service do not see.
    fn about_itself(
        &self,
        found: &Match<'_, Arc<Endpoint>>,
        head: &Head<'_>,
        ctx: &mut Ctx,
        service: &Service,
    ) -> Option<Response> {
        let reads = matches!(*head.method, Method::GET | Method::HEAD);
        match found {
            Match::BuiltIn(BuiltIn::Health) => {
                let response_edits = service.response_edits.as_ref();
                ctx.bare =
                    response_edits.is_some_and(|response_edits| !response_edits.covers_health);
                Some(builtin::health(&service.agents))
            }
            Match::NotFound if head.path == READY_PATH && reads => Some(builtin::ready(
                self.shared.draining.load(Ordering::Relaxed),
                service.readiness.as_deref(),
            )),
            _ => None,
        }
    }

    /// `X-Forwarded-Prefix`, from a trusted proxy.
    fn trusted_prefix<'h>(&self, head: &Head<'h>, service: &Service) -> Option<&'h str> {
        if !service.options.client_address.trusts(head.peer) {
            return None;
        }
        head.headers
            .get("x-forwarded-prefix")
            .and_then(|value| value.to_str().ok())
    }
}

/// Steps see a request under its new path.
fn remember(routed: &Routed<'_>, notes: &mut Notes) {
    if !routed.is_rewritten() {
        return;
    }
    let rewritten = notes.rewritten.get_or_insert_default();
    rewritten.path = Some((*routed.path).into());
    rewritten.query = Some(routed.query.as_deref().map(Box::from));
}

/// The decision about a request that never reaches the router: a folder has its path, or nothing has.
fn without_router(routed: &Routed<'_>, head: &Head<'_>, service: &Service) -> Option<Decision> {
    match &routed.way {
        Destination::Router => None,
        Destination::Nowhere => Some(Decision::Response(not_found(service))),
        Destination::Site(site, rest) => {
            let asked = Box::new(files::asked(head, rest));
            Some(Decision::File(Arc::clone(&site.folder), asked))
        }
    }
}

/// What the router finds for a path that may have been rewritten, as far as the client may know it.
fn shown_to_client<'r>(
    head: &Head<'_>,
    service: &'r Service,
    routed: &Routed<'_>,
    prerouting: &Prerouting,
    prefix: Option<&str>,
) -> Match<'r, Arc<Endpoint>> {
    let query = routed.query.as_deref();
    let to = |prefix| {
        let router = &service.router;
        router.route(head.method, &routed.path, query, prefix)
    };
    let found = match to(None) {
        // `Allow` would reveal which of these endpoints exist.
        Match::Redirect(redirect)
            if !routed.is_rewritten() && prerouting.hides(redirect.path()) =>
        {
            Match::NotFound
        }
        Match::Redirect(_) => to(prefix.filter(|_| routed.shown == Shown::All)),
        found => found,
    };
    as_shown(found, routed, prerouting)
}

/// The decision for what the router has found.
fn matched(found: Match<'_, Arc<Endpoint>>, ctx: &mut Ctx, service: &Service) -> Decision {
    match found {
        Match::Found { endpoint, params } => {
            ctx.notes.params = params;
            Decision::Endpoint(endpoint.id)
        }
        Match::Redirect(redirect) => Decision::Silent(redirect_response(&redirect)),
        Match::BadTarget => Decision::Response(text(StatusCode::BAD_REQUEST, "400 Bad Request")),
        Match::BadParam(reason) => Decision::Response(text(StatusCode::BAD_REQUEST, &reason)),
        Match::BuiltIn(BuiltIn::Debug) => Decision::Debug,
        Match::BuiltIn(BuiltIn::Echo) => Decision::Echo,
        Match::Options { allow } => Decision::Response(Response {
            branding: Branding::Version,
            ..Response::empty(StatusCode::OK).with(header::ALLOW, allow.clone())
        }),
        Match::MethodNotAllowed { allow, near } => {
            ctx.near = near.cloned();
            Decision::Response(
                unrouted(
                    StatusCode::METHOD_NOT_ALLOWED,
                    "405 method not allowed",
                    &service.options.error_body_405,
                )
                .with(header::ALLOW, allow),
            )
        }
        Match::BuiltIn(BuiltIn::Health) | Match::NotFound => Decision::Response(not_found(service)),
    }
}

/// What a client may see of a match. An endpoint that is there for a rewrite has no path of its own, and a redirect must
/// not show one.
fn as_shown<'r>(
    found: Match<'r, Arc<Endpoint>>,
    routed: &Routed<'_>,
    prerouting: &Prerouting,
) -> Match<'r, Arc<Endpoint>> {
    let is_direct = !routed.is_rewritten();
    match found {
        Match::Found { endpoint, .. } if is_direct && prerouting.is_internal(&endpoint.pattern) => {
            Match::NotFound
        }
        Match::MethodNotAllowed {
            near: Some(endpoint),
            ..
        } if is_direct && prerouting.is_internal(&endpoint.pattern) => Match::NotFound,
        Match::Options { .. } if is_direct && prerouting.hides(&routed.path) => Match::NotFound,
        Match::Redirect(redirect) => {
            let shown = match routed.shown {
                Shown::All => Some(redirect),
                Shown::After(bytes) => redirect.without(bytes),
                Shown::Not => None,
            };
            shown.map_or(Match::NotFound, Match::Redirect)
        }
        Match::Found {
            endpoint,
            mut params,
        } if endpoint.is_catch_all() => {
            // The endpoint for everything else gets the path that the client asked for.
            if let (Shown::After(bytes), Some((_, rest))) = (routed.shown, params.0.last_mut()) {
                *rest = rest.get(bytes..).unwrap_or_default().to_owned();
            }
            Match::Found { endpoint, params }
        }
        found => found,
    }
}

/// The decision about a request that has no route whatever the configuration is.
fn without_route(head: &Head<'_>) -> Option<Decision> {
    if body::expectation(head.headers) == Expectation::Unknown {
        let response = text(StatusCode::EXPECTATION_FAILED, "417 Expectation Failed");
        return Some(Decision::Response(response));
    }
    (head.path == "*" && *head.method == Method::OPTIONS)
        .then(|| Decision::Silent(Response::empty(StatusCode::OK)))
}

/// The decision, unless a step rejects the request.
fn guarded(decision: Decision, head: &Head<'_>, ctx: &mut Ctx, service: &Service) -> Decision {
    after_routing(head, ctx, service).map_or(decision, Decision::Before)
}

/// The steps that see a request once it is known where it goes.
#[inline]
fn after_routing(head: &Head<'_>, ctx: &mut Ctx, service: &Service) -> Option<Response> {
    let mut steps = service.steps.iter().filter(|step| !step.covers_health());
    steps.find_map(|step| stepped(&**step, head, &mut ctx.notes))
}

/// One step. Its log lines show the id that an earlier step gave to the request.
#[inline]
fn stepped(step: &dyn ServiceStep, head: &Head<'_>, notes: &mut Notes) -> Option<Response> {
    match notes.request_id.as_ref().map(|id| id.value.clone()) {
        None => step.request(head, notes),
        Some(id) => request_id::within_sync(id, || step.request(head, notes)),
    }
}

fn redirect_response(redirect: &Redirect) -> Response {
    let mut response =
        Response::empty(redirect.status).with(header::LOCATION, redirect.location.clone());
    if !redirect.body.is_empty() {
        response.fields.push((
            header::CONTENT_TYPE,
            HeaderValue::from_static("text/html; charset=utf-8"),
        ));
        response.body = redirect.body.clone();
    }
    response
}

pub(super) fn text(status: StatusCode, body: &str) -> Response {
    let mut response = Response::empty(status).with(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    response.body = Bytes::copy_from_slice(body.as_bytes());
    response
}

fn not_found(service: &Service) -> Response {
    unrouted(
        StatusCode::NOT_FOUND,
        "404 page not found",
        &service.options.error_body_404,
    )
}

/// 404 and 405: plain text without a charset, or the configured object.
fn unrouted(status: StatusCode, body: &'static str, configured: &Option<Bytes>) -> Response {
    let (content_type, body) = match configured {
        Some(json) => ("application/json; charset=utf-8", json.clone()),
        None => ("text/plain", Bytes::from_static(body.as_bytes())),
    };
    let mut response =
        Response::empty(status).with(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    response.branding = Branding::Completed(false);
    response.body = body;
    response
}
