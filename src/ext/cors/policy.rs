//! One set of rules, and the headers that it adds to a response. The bytes are the same as KrakenD's.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE,
    ACCESS_CONTROL_REQUEST_HEADERS, ACCESS_CONTROL_REQUEST_METHOD, ORIGIN, VARY,
};
use http::{HeaderName, HeaderValue, Method, StatusCode};

use crate::runtime::request::Head;
use crate::runtime::response::{Fields, Response};

const ALLOW_PRIVATE: HeaderName = HeaderName::from_static("access-control-allow-private-network");
const REQUEST_PRIVATE: HeaderName =
    HeaderName::from_static("access-control-request-private-network");

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("Origin");
const VARY_PREFLIGHT: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
);
const VARY_PRIVATE: HeaderValue = HeaderValue::from_static(
    "Origin, Access-Control-Request-Method, Access-Control-Request-Headers, \
     Access-Control-Request-Private-Network",
);

/// The origins of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Origins {
    /// All origins. The response contains `*`.
    Any,
    /// These origins in lower case, and those that start and end with one of the pairs. The response contains the
    /// requesting origin.
    Some {
        exact: Box<[Box<str>]>,
        wild: Box<[(Box<str>, Box<str>)]>,
    },
}

/// The allowed methods or headers of a policy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Allowed {
    Any,
    /// Methods in upper case, headers in lower case.
    Some(Box<[Box<str>]>),
}

/// The rules of one block.
#[derive(Debug, Clone)]
pub(crate) struct Policy {
    pub origins: Origins,
    pub methods: Allowed,
    pub headers: Allowed,
    pub expose: Option<HeaderValue>,
    pub credentials: bool,
    pub private_network: bool,
    pub max_age: Option<HeaderValue>,
    /// Passes preflight requests on.
    pub passthrough: bool,
    pub success: StatusCode,
    pub debug: bool,
}

impl Policy {
    /// The response to a preflight request. A rejection has the same status, without the headers that allow the
    /// request.
    pub(crate) fn preflight(&self, head: &Head<'_>) -> Response {
        let mut response = Response::empty(self.success);
        let vary = if self.private_network {
            VARY_PRIVATE
        } else {
            VARY_PREFLIGHT
        };
        response.fields.push((VARY, vary));
        let allowed = self.allow_preflight(head, &mut response.fields);
        self.tell(head, "preflight", allowed);
        response
    }

    /// Adds the headers for a request that is not a preflight.
    pub(crate) fn actual(&self, head: &Head<'_>, fields: &mut Fields) {
        fields.push((VARY, VARY_ORIGIN));
        let Some(origin) = head.headers.get(ORIGIN) else {
            return;
        };
        let allowed = self.origin(origin) && self.method(head.method.as_str());
        self.tell(head, "actual request", allowed);
        if !allowed {
            return;
        }
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, self.echo(origin)));
        fields.extend(
            self.expose
                .clone()
                .map(|names| (ACCESS_CONTROL_EXPOSE_HEADERS, names)),
        );
        if self.credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
    }

    fn allow_preflight(&self, head: &Head<'_>, fields: &mut Fields) -> bool {
        let Some(origin) = head.headers.get(ORIGIN) else {
            return false;
        };
        let Some(method) = head.headers.get(ACCESS_CONTROL_REQUEST_METHOD) else {
            return false;
        };
        let asked = || head.headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        let allowed = self.origin(origin)
            && method.to_str().is_ok_and(|method| self.method(method))
            && asked().all(|names| self.header_names(names));
        if !allowed {
            return false;
        }
        fields.push((ACCESS_CONTROL_ALLOW_ORIGIN, self.echo(origin)));
        fields.push((ACCESS_CONTROL_ALLOW_METHODS, method.clone()));
        for names in asked().filter(|names| !names.is_empty()) {
            fields.push((ACCESS_CONTROL_ALLOW_HEADERS, names.clone()));
        }
        if self.credentials {
            fields.push((ACCESS_CONTROL_ALLOW_CREDENTIALS, TRUE));
        }
        if self.private_network && head.headers.get(REQUEST_PRIVATE) == Some(&TRUE) {
            fields.push((ALLOW_PRIVATE, TRUE));
        }
        fields.extend(
            self.max_age
                .clone()
                .map(|age| (ACCESS_CONTROL_MAX_AGE, age)),
        );
        true
    }

    fn echo(&self, origin: &HeaderValue) -> HeaderValue {
        match self.origins {
            Origins::Any => ANY,
            Origins::Some { .. } => origin.clone(),
        }
    }

    fn origin(&self, origin: &HeaderValue) -> bool {
        let (exact, wild) = match &self.origins {
            Origins::Any => return true,
            Origins::Some { exact, wild } => (exact, wild),
        };
        let Ok(origin) = origin.to_str() else {
            return false;
        };
        exact.iter().any(|known| known.eq_ignore_ascii_case(origin))
            || wild
                .iter()
                .any(|(start, end)| matches_wild(origin, start, end))
    }

    /// OPTIONS is always allowed. Methods are case-sensitive (RFC 9110 §9.1).
    fn method(&self, method: &str) -> bool {
        match &self.methods {
            Allowed::Any => true,
            Allowed::Some(known) => {
                method == Method::OPTIONS.as_str() || known.iter().any(|name| **name == *method)
            }
        }
    }

    fn header_names(&self, names: &HeaderValue) -> bool {
        let known = match &self.headers {
            Allowed::Any => return true,
            Allowed::Some(known) => known,
        };
        names.to_str().is_ok_and(|names| {
            names
                .split(',')
                .map(str::trim)
                .filter(|name| !name.is_empty())
                .all(|name| known.iter().any(|known| known.eq_ignore_ascii_case(name)))
        })
    }

    fn tell(&self, head: &Head<'_>, what: &str, allowed: bool) {
        if self.debug {
            let word = if allowed { "allowed" } else { "rejected" };
            log::debug!("[CORS] {what} to {} {word}", head.path);
        }
    }
}

/// `http://*.ok.com` as its two parts, which must not overlap.
fn matches_wild(origin: &str, start: &str, end: &str) -> bool {
    let (origin, n) = (origin.as_bytes(), start.len() + end.len());
    origin.len() >= n
        && origin
            .get(..start.len())
            .is_some_and(|head| head.eq_ignore_ascii_case(start.as_bytes()))
        && origin
            .get(origin.len() - end.len()..)
            .is_some_and(|tail| tail.eq_ignore_ascii_case(end.as_bytes()))
}
