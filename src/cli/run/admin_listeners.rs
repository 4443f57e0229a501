//! The admin listeners: metrics, the status page, statistics, revocation.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION, CACHE_CONTROL, VARY};
use http::{HeaderValue, Method, Response, StatusCode};

use super::loader::FileLoader;
use super::status_page::StatusPage;
use crate::compile::{self, Compiled, Content};
use crate::ext::auth_revoker::Api;
use crate::ext::opentelemetry;
use crate::server::admin::{
    AdminListener, AdminRequest, Admission, Handle, Handler, not_allowed, page, plain, whole,
};
use crate::server::pages::{Body, Page, SharedPages};
use crate::telemetry::metrics::process_metrics;
use crate::telemetry::series::page::{Form, render};
use crate::telemetry::status_page::{self, Facts};

impl FileLoader {
    /// The admin listeners.
    pub(super) fn admin_listeners(&self, compiled: &Compiled) -> Vec<AdminListener> {
        let served = compile::admin_listeners(compiled)
            .into_iter()
            .filter_map(|side| {
                Some(AdminListener {
                    address: side.address,
                    block: side.namespace,
                    optional: side.is_optional(),
                    tls: side.content.tls().cloned(),
                    handler: self.handler(side.content)?,
                })
            });
        self.extras
            .admin_listeners
            .iter()
            .cloned()
            .chain(served)
            .collect()
    }

    /// Responds to requests at an admin listener. `None` if it serves itself.
    fn handler(&self, content: Content) -> Option<Handler> {
        Some(match content {
            Content::Stats(stats) => {
                let text = move |page: &mut Page| page.push(&stats.render());
                page("/__stats", "application/json; charset=utf-8", text)
            }
            Content::Revocation(api) => Arc::new(Revocation(api)),
            Content::Series(page) => self.series_page(page),
            Content::Metrics(metrics) => self.metrics_page(metrics),
            Content::Rpc => return None,
        })
    }

    /// The metrics of `portcullis/metrics`, with the status page if the configuration asks for it.
    fn metrics_page(&self, metrics: compile::Metrics) -> Handler {
        let told = Arc::clone(&self.told);
        let pages = SharedPages::default();
        let plain: Handler = Arc::new(move |request: &AdminRequest| {
            if request.path != "/metrics" {
                return plain(StatusCode::NOT_FOUND, "404 page not found");
            }
            if request.method != Method::GET {
                return not_allowed();
            }
            negotiated(&pages, request, |form, body| told.page(form, body))
        });
        if metrics.page {
            let facts = Facts {
                version: env!("CARGO_PKG_VERSION"),
                file: self.name.clone(),
                started: Instant::now(),
            };
            let (told, history) = (Arc::clone(&self.told), Arc::clone(&self.history));
            Arc::new(StatusPage::new(plain, told, history, facts))
        } else {
            plain
        }
    }

    /// A metrics page of `telemetry/opentelemetry`. As in KrakenD, any method gets a response.
    fn series_page(&self, page: opentelemetry::Page) -> Handler {
        let (series, told) = (Arc::clone(&self.pages), Arc::clone(&self.told));
        let pages = SharedPages::default();
        Arc::new(move |request: &AdminRequest| {
            if request.path != "/metrics" {
                return plain(StatusCode::NOT_FOUND, "404 page not found");
            }
            negotiated(&pages, request, |form, body| {
                if page.process {
                    body.push(process_metrics(form).as_bytes());
                }
                if let Some(series) = &*series.load() {
                    // A body in memory has no errors.
                    let _ = render(&series.store, told.gauges(), &series.resource, form, body);
                }
            })
        })
    }

    /// Looks at the counters for that page, from the first configuration that has one.
    pub(super) fn history(&self, compiled: &Compiled) -> Option<BoxFuture<'static, ()>> {
        let wanted = compiled
            .metrics
            .as_ref()
            .is_some_and(|metrics| metrics.page);
        if !wanted || self.looking.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        Some(Box::pin(async move {
            loop {
                let (metrics, history) = (Arc::clone(&metrics), Arc::clone(&history));
                let look = tokio::task::spawn_blocking(move || history.look(&metrics));
                if look.await.is_err() {
                    return;
                }
                tokio::time::sleep(status_page::PERIOD).await;
            }
        }))
    }
}

/// The HTTP interface of `auth/revoker`.
struct Revocation(Arc<Api>);

impl Handle for Revocation {
    fn admit(&self, head: &AdminRequest) -> Admission {
        let authorization = head.headers.get(AUTHORIZATION);
        match self.0.admit(&head.method, &head.path, authorization) {
            None => Admission::Anyone,
            Some(Ok(())) => Admission::Trusted,
            Some(Err(status)) => Admission::Rejected(unstored(status, Vec::new())),
        }
    }

    fn prepare<'a>(&'a self, request: &'a AdminRequest) -> BoxFuture<'a, ()> {
        Box::pin(
            self.0
                .prepare(&request.method, &request.path, &request.body),
        )
    }

    fn respond(&self, request: &AdminRequest) -> Response<Body> {
        let authorization = request.headers.get(AUTHORIZATION);
        let AdminRequest {
            method, path, body, ..
        } = request;
        let (status, body) = self.0.response(method, path, authorization, body);
        unstored(status, body)
    }
}

/// The list changes, and the response to a logout token must not be stored (Back-Channel Logout §2.8).
fn unstored(status: StatusCode, body: Vec<u8>) -> Response<Body> {
    let mut response = whole(status, Api::CONTENT_TYPE, body);
    let no_store = HeaderValue::from_static("no-store");
    response.headers_mut().insert(CACHE_CONTROL, no_store);
    response
}

/// The format of a metrics page that a scraper prefers.
fn form(request: &AdminRequest) -> Form {
    let accepted = request.headers.get_all(ACCEPT).iter();
    Form::accepted(accepted.filter_map(|value| value.to_str().ok()))
}

/// A metrics page in the format that the scraper prefers.
fn negotiated(
    pages: &SharedPages<Form>,
    request: &AdminRequest,
    render: impl FnOnce(Form, &mut Page),
) -> Response<Body> {
    let form = form(request);
    let mut response = pages.response(form, &request.headers, form.content_type(), |page| {
        render(form, page);
    });
    let vary = HeaderValue::from_static("Accept, Accept-Encoding");
    response.headers_mut().insert(VARY, vary);
    response
}
