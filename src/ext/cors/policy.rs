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
        let refusal = self.allow_preflight(head, &mut response.fields);
        self.tell(head, "preflight", refusal.err());
        response
    }

    /// Adds the headers for a request that is not a preflight.
    pub(crate) fn actual(&self, head: &Head<'_>, fields: &mut Fields) {
        fields.push((VARY, VARY_ORIGIN));
        let Some(origin) = head.headers.get(ORIGIN) else {
            return;
        };
        let refusal = if !self.origin(origin) {
            Some(refused(ORIGIN_REFUSED, origin))
        } else if !self.method(head.method.as_str()) {
            Some((METHOD_REFUSED, head.method.as_str()))
        } else {
            None
        };
        self.tell(head, "actual request", refusal);
        if refusal.is_some() {
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

    /// Adds the headers that allow the request.
    fn allow_preflight<'h>(&self, head: &Head<'h>, fields: &mut Fields) -> Result<(), Refusal<'h>> {
        let headers = head.headers;
        let origin = headers.get(ORIGIN).ok_or(("there is no Origin", ""))?;
        let method = headers
            .get(ACCESS_CONTROL_REQUEST_METHOD)
            .ok_or(("there is no Access-Control-Request-Method", ""))?;
        let asked = || headers.get_all(ACCESS_CONTROL_REQUEST_HEADERS).iter();
        if !self.origin(origin) {
            return Err(refused(ORIGIN_REFUSED, origin));
        }
        if !method.to_str().is_ok_and(|method| self.method(method)) {
            return Err(refused(METHOD_REFUSED, method));
        }
        if let Some(names) = asked().find(|names| !self.header_names(names)) {
            let text = "\"allow_headers\" does not have all of these headers:";
            return Err(refused(text, names));
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
        Ok(())
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

    fn tell(&self, head: &Head<'_>, what: &str, refusal: Option<Refusal<'_>>) {
        if !self.debug {
            return;
        }
        match refusal {
            None => log::debug!("[CORS] {what} to {} allowed", head.path),
            Some((why, value)) => {
                // What a client sends may be long.
                let value: String = value.chars().take(200).collect();
                let path = head.path;
                log::debug!("[CORS] {what} to {path} rejected: {why} {value}");
            }
        }
    }
}

/// Why a request is not allowed, and what of it.
type Refusal<'h> = (&'static str, &'h str);

const ORIGIN_REFUSED: &str = "\"allow_origins\" does not have the origin";
const METHOD_REFUSED: &str = "\"allow_methods\" does not have the method";

fn refused<'h>(why: &'static str, value: &'h HeaderValue) -> Refusal<'h> {
    (why, value.to_str().unwrap_or_default())
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
