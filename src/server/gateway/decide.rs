//! What needs no waiting: steps of the service, routing, endpoints of our own.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use http::{HeaderValue, Method, StatusCode, header};

use super::Gateway;
use super::context::Ctx;
use crate::runtime::ahead::Way;
use crate::runtime::files::{Asked, Folder};
use crate::runtime::request::Head;
use crate::runtime::response::{Branding, Response};
use crate::runtime::router::{BuiltIn, Match, Redirect};
use crate::runtime::service::{Endpoint, Service};
use crate::server::{builtin, files};

/// Whether new requests are welcome; an endpoint of that path in the file goes first.
const READY_PATH: &str = "/__ready";

/// What the synchronous part of a request came to.
pub(super) enum Decision {
    /// Given before the service's own gates.
    Before(Response),
    Response(Response),
    /// The body is read and logged or echoed.
    Debug,
    Echo,
    Endpoint(Arc<Endpoint>),
    /// A file of a folder.
    File(Arc<Folder>, Box<Asked>),
}

impl Gateway {
    /// Everything that needs no waiting: service steps, routing, built-in endpoints.
    pub(super) fn decide(&self, head: &Head<'_>, ctx: &mut Ctx, service: &Service) -> Decision {
        for step in service.steps.iter().filter(|step| step.covers_health()) {
            if let Some(response) = step.request(head, &mut ctx.notes) {
                ctx.silent = step.is_silent();
                return Decision::Before(response);
            }
        }
        if head
            .headers
            .get(header::EXPECT)
            .is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"100-continue"))
        {
            // RFC 9110 §10.1.1: an expectation that nobody here can meet.
            return Decision::Before(text(
                StatusCode::EXPECTATION_FAILED,
                "417 Expectation Failed",
            ));
        }
        if head.path == "*" && *head.method == Method::OPTIONS {
            ctx.silent = true;
            return Decision::Before(Response::empty(StatusCode::OK));
        }
        if let Some(ahead) = &service.ahead
            && let Way::Site(site, rest) = ahead.way(head.path)
        {
            let asked = Box::new(files::asked(head, rest));
            return match after_routing(head, ctx, service) {
                Some(response) => Decision::Before(response),
                None => Decision::File(Arc::clone(&site.folder), asked),
            };
        }
        let prefix = self.trusted_prefix(head, service);
        let found = service
            .router
            .route(head.method, head.path, head.query, prefix);
        match &found {
            Match::Redirect(redirect) => {
                ctx.silent = true;
                return Decision::Before(redirect_response(redirect));
            }
            Match::BadTarget => {
                return Decision::Before(text(StatusCode::BAD_REQUEST, "400 Bad Request"));
            }
            Match::BadParam(reason) => {
                return Decision::Before(text(StatusCode::BAD_REQUEST, reason));
            }
            Match::BuiltIn(BuiltIn::Health) => return Decision::Before(builtin::health()),
            Match::NotFound
                if head.path == READY_PATH
                    && matches!(*head.method, Method::GET | Method::HEAD) =>
            {
                return Decision::Before(builtin::ready(
                    self.shared.draining.load(Ordering::Relaxed),
                    service.readiness.as_deref(),
                ));
            }
            _ => {}
        }
        if let Some(response) = after_routing(head, ctx, service) {
            return Decision::Before(response);
        }
        match found {
            Match::Found { endpoint, params } => {
                ctx.notes.params = params;
                Decision::Endpoint(Arc::clone(endpoint))
            }
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
            _ => Decision::Response(unrouted(
                StatusCode::NOT_FOUND,
                "404 page not found",
                &service.options.error_body_404,
            )),
        }
    }

    /// `X-Forwarded-Prefix`, from a proxy that we believe.
    fn trusted_prefix<'h>(&self, head: &Head<'h>, service: &Service) -> Option<&'h str> {
        if !service.options.client_address.trusts(head.peer) {
            return None;
        }
        head.headers
            .get("x-forwarded-prefix")
            .and_then(|value| value.to_str().ok())
    }
}

/// The steps that see a request once it is known where it goes.
#[inline]
fn after_routing(head: &Head<'_>, ctx: &mut Ctx, service: &Service) -> Option<Response> {
    let mut steps = service.steps.iter().filter(|step| !step.covers_health());
    steps.find_map(|step| step.request(head, &mut ctx.notes))
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
