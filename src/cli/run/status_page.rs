//! Serves the status page at `/` of the metrics listener.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::{HeaderValue, Method, Response};

use crate::cli::gateway_state::GatewayState;
use crate::server::admin::{AdminRequest, Handle, Handler, not_allowed};
use crate::server::pages::{Body, Page, SharedPages};
use crate::telemetry::status_page::{Facts, Filter, History, html};

/// How long a page is shown to others who ask for the same one: many viewers cost as much as one.
const FRESH: Duration = Duration::from_secs(1);

const HEADERS: [(&str, &str); 3] = [
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
    ),
    ("cache-control", "no-store"),
    ("x-content-type-options", "nosniff"),
];

/// The status page, and other pages of its listener.
pub(super) struct StatusPage {
    others: Handler,
    told: Arc<GatewayState>,
    history: Arc<History>,
    facts: Facts,
    last: Mutex<Option<Rendered>>,
    pages: SharedPages<Filter>,
}

/// A page as it was shown.
struct Rendered {
    at: Instant,
    filter: Filter,
    html: Arc<str>,
}

/// The last page, if it is for this filter and was made less than [`FRESH`] ago. Otherwise a new one.
fn fresh(
    last: &mut Option<Rendered>,
    now: Instant,
    filter: Filter,
    make: impl FnOnce(&Filter) -> String,
) -> Arc<str> {
    if let Some(shown) = last
        && shown.filter == filter
        && now.saturating_duration_since(shown.at) < FRESH
    {
        return Arc::clone(&shown.html);
    }
    let html: Arc<str> = make(&filter).into();
    *last = Some(Rendered {
        at: now,
        filter,
        html: Arc::clone(&html),
    });
    html
}

impl StatusPage {
    pub(super) fn new(
        others: Handler,
        told: Arc<GatewayState>,
        history: Arc<History>,
        facts: Facts,
    ) -> StatusPage {
        StatusPage {
            others,
            told,
            history,
            facts,
            last: Mutex::default(),
            pages: SharedPages::default(),
        }
    }

    /// The page for a filter. Requests that come meanwhile wait for it: all run on threads for blocking work.
    fn html(&self, filter: Filter) -> Arc<str> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        fresh(&mut last, Instant::now(), filter, |filter| {
            let native = self.told.native.load();
            let families = self.told.families();
            html(
                &families,
                native.as_deref(),
                &self.history,
                &self.facts,
                filter,
            )
        })
    }
}

impl Handle for StatusPage {
    fn respond(&self, request: &AdminRequest) -> Response<Body> {
        if request.path != "/" {
            return self.others.respond(request);
        }
        if request.method != Method::GET {
            return not_allowed();
        }
        let filter = Filter::of_query(request.query.as_deref());
        let html = |page: &mut Page| page.push(self.html(filter.clone()).as_bytes());
        let content_type = "text/html; charset=utf-8";
        let (pages, headers) = (&self.pages, &request.headers);
        let mut response = pages.response(filter.clone(), headers, content_type, html);
        for (name, value) in HEADERS {
            let value = HeaderValue::from_static(value);
            response.headers_mut().insert(name, value);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_made_once_a_second_for_all_viewers() {
        let (mut last, mut made) = (None, 0);
        let start = Instant::now();
        let mut shown = |millis, query| {
            let now = start + Duration::from_millis(millis);
            let page = fresh(&mut last, now, Filter::of_query(Some(query)), |_| {
                made += 1;
                made.to_string()
            });
            page.to_string()
        };
        assert_eq!(shown(0, ""), "1");
        assert_eq!(shown(999, ""), "1");
        assert_eq!(shown(999, "filter=/a"), "2", "another page");
        assert_eq!(shown(1998, "filter=/a"), "2");
        assert_eq!(shown(1999, "filter=/a"), "3");
    }
}
