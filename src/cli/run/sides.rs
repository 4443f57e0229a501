//! The admin listeners: metrics, the page for people, statistics, revocation.

use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Instant;

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, StatusCode};

use super::loader::FileLoader;
use crate::compile::{self, Compiled};
use crate::ext::auth_revoker::Api;
use crate::ext::identity::IdentityStatus;
use crate::ext::opentelemetry::{Page, Pages};
use crate::server::admin::{Asked, Handler, SideListener, page, plain, whole};
use crate::telemetry::metrics::{KeySetReport, Metrics, process_metrics};
use crate::telemetry::page::{self as people, Facts};
use crate::telemetry::series::page::{Form, render, render_plain};
use crate::telemetry::stats::Stats;
use crate::upstream::budget::Budget;

impl FileLoader {
    /// The admin listeners.
    pub(super) fn sides(&self, compiled: &Compiled) -> Vec<SideListener> {
        let mut sides = self.extras.sides.clone();
        sides.extend(compiled.blocks.stats.clone().and_then(stats));
        sides.extend(compiled.blocks.revocation.clone().map(revocation));
        if let Some(pages) = &compiled.blocks.pages {
            let list = pages.list.iter();
            sides.extend(list.map(|page| series_page(&self.pages, *page)));
        }
        sides.extend(compiled.metrics.map(|metrics| self.metrics_page(metrics)));
        sides
    }

    /// The metrics of `portcullis/metrics`, with the page for people if the configuration asks for it.
    fn metrics_page(&self, metrics: compile::Metrics) -> SideListener {
        let registry = Arc::clone(&self.metrics);
        let identity = Arc::clone(&self.identity);
        let (logger, access) = (Arc::clone(&self.logger), Arc::clone(&self.access));
        let (exporters, native) = (Arc::clone(&self.exporters), Arc::clone(&self.native));
        let text = move || {
            if let Some(identity) = identity.load().as_deref() {
                report_identity(&registry, identity);
            }
            let access = access.lock().unwrap_or_else(PoisonError::into_inner);
            let lost = access.as_ref().map_or(0, |access| access.dropped());
            registry.log_dropped(logger.dropped() + lost);
            let budget = Budget::process();
            registry.buffered(budget.used(), budget.limit(), budget.rejected());
            let mut page = registry.page();
            if let Some(native) = &*native.load() {
                page.extend_from_slice(render_plain(&native.0).as_bytes());
            }
            if let Some(exporters) = &*exporters.load() {
                page.extend_from_slice(exporters.report().as_bytes());
            }
            page
        };
        let plain = page("/metrics", "text/plain; version=0.0.4; charset=utf-8", text);
        SideListener {
            address: metrics.listen,
            handler: if metrics.page {
                self.with_people(plain)
            } else {
                plain
            },
            optional: false,
        }
    }

    /// The same with the page for people at `/`.
    fn with_people(&self, others: Handler) -> Handler {
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        let (identity, native) = (Arc::clone(&self.identity), Arc::clone(&self.native));
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            file: self.name.clone(),
            started: Instant::now(),
        };
        Arc::new(move |asked: &Asked| {
            if asked.path != "/" || asked.method != Method::GET {
                return others(asked);
            }
            if let Some(identity) = identity.load().as_deref() {
                report_identity(&metrics, identity);
            }
            let native = native.load();
            let html = people::html(&metrics, native.as_deref(), &history, &facts);
            let mut response = whole(
                StatusCode::OK,
                "text/html; charset=utf-8",
                html.into_bytes(),
            );
            for (name, value) in [
                (
                    "content-security-policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
                ),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
            ] {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            response
        })
    }

    /// Looks at the counters for that page, from the first configuration that has one.
    pub(super) fn history(&self, compiled: &Compiled) -> Option<BoxFuture<'static, ()>> {
        let wanted = compiled.metrics.is_some_and(|metrics| metrics.page);
        if !wanted || self.looking.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        Some(Box::pin(async move {
            loop {
                history.look(&metrics);
                tokio::time::sleep(people::PERIOD).await;
            }
        }))
    }
}

/// Copies counters that are kept elsewhere to the metrics page.
/// `/__stats` of `telemetry/metrics`.
fn stats(stats: Arc<Stats>) -> Option<SideListener> {
    let address = stats.settings().listen.as_deref().and_then(stats_address)?;
    Some(SideListener {
        address,
        handler: page("/__stats", "application/json; charset=utf-8", move || {
            stats.render()
        }),
        optional: true,
    })
}

/// The HTTP interface of `auth/revoker`.
fn revocation(api: Arc<Api>) -> SideListener {
    SideListener {
        address: api.address,
        handler: Arc::new(move |asked: &Asked| {
            let authorization = asked.headers.get(AUTHORIZATION);
            let (status, body) =
                api.response(&asked.method, &asked.path, authorization, &asked.body);
            whole(status, Api::CONTENT_TYPE, body)
        }),
        optional: false,
    }
}

fn report_identity(metrics: &Metrics, identity: &IdentityStatus) {
    metrics.forget_key_sets();
    for status in identity.key_sets() {
        metrics.key_set(&KeySetReport {
            source: &status.label,
            age: status.age,
            keys: status.keys,
            fetches: status.fetches,
            errors: status.failures,
            stale: status.stale,
        });
    }
    metrics.tokens_without_expiry(identity.without_expiry());
    let cache = identity.token_cache();
    metrics.token_cache(
        cache.hits,
        cache.misses,
        cache.evictions,
        cache.entries,
        cache.bytes,
    );
}

/// A metrics page of `telemetry/opentelemetry`. As in KrakenD, any method gets a response.
fn series_page(pages: &Arc<ArcSwapOption<Pages>>, page: Page) -> SideListener {
    let pages = Arc::clone(pages);
    let handler = move |asked: &Asked| {
        if asked.path != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "404 page not found");
        }
        let accept = asked
            .headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok());
        let form = Form::accepted(accept);
        let mut text = String::new();
        if page.process {
            text.push_str(&process_metrics());
        }
        if let Some(pages) = &*pages.load() {
            text.push_str(&render(&pages.store, &pages.resource, form));
        }
        if asked.method == Method::HEAD {
            text.clear();
        }
        whole(StatusCode::OK, form.content_type(), text.into_bytes())
    };
    SideListener {
        address: page.address,
        handler: Arc::new(handler),
        optional: false,
    }
}

/// `:8090` means all addresses, as in KrakenD.
fn stats_address(listen: &str) -> Option<SocketAddr> {
    match listen.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(compile::any_address(), port.parse().ok()?)),
        None => listen.parse().ok(),
    }
}
