//! The requests of a side call: the first one, and those that follow its redirects.
//!
//! The rules are those of calls of backends. The library that makes side calls has rules of its own, which would send
//! headers and bodies to any origin, so it is not asked to follow.

use bytes::Bytes;
use http::{HeaderMap, Method};
use reqwest::{Response, Url};

use super::addresses::Attempt;
use super::client::{SideClient, SideError};
use super::failure::failure;
use crate::telemetry::mask::without_values;
use crate::upstream::host_rules::HostRules;
use crate::upstream::redirect::{self, Body, From, MAX_REQUESTS, Next};

/// A request, which is sent again if it is redirected.
pub(super) struct Request {
    method: Method,
    headers: HeaderMap,
    body: Option<Bytes>,
}

impl Request {
    pub(super) fn new(method: Method, headers: HeaderMap, body: Option<Bytes>) -> Request {
        Request {
            method,
            headers,
            body,
        }
    }

    /// Sends the request and returns the last response, whose body is still unread.
    ///
    /// # Errors
    /// No response, or a redirect that cannot be followed although `rules` allow it.
    pub(super) async fn send(
        mut self,
        client: &SideClient,
        rules: &HostRules,
        verb: &'static str,
        url: &str,
        attempt: &mut Attempt,
    ) -> Result<Response, SideError> {
        let broken = |reason: String| SideError::Broken {
            method: verb,
            url: without_values(url),
            reason,
        };
        let mut place = Url::parse(url).map_err(|error| broken(error.to_string()))?;
        let mut elsewhere = false;
        let mut requests = 1;
        loop {
            let http = client.http(elsewhere);
            let mut request = http
                .request(self.method.clone(), place.clone())
                .headers(self.headers.clone());
            if let Some(body) = &self.body {
                request = request.body(body.clone());
            }
            attempt.begin(place.host_str());
            let response = request.send().await;
            let response = response.map_err(|error| failure(&error.without_url(), verb, url))?;
            attempt.responded(response.remote_addr());
            let Some((next, headers)) = self.next(&response, &place, rules).map_err(broken)? else {
                return Ok(response);
            };
            if place.scheme() == "https" && !next.origin.starts_with("https:") {
                return Err(broken("redirect from https to http".to_owned()));
            }
            if requests >= MAX_REQUESTS {
                return Err(broken(format!("stopped after {MAX_REQUESTS} redirects")));
            }
            requests += 1;
            elsewhere |= !next.same_origin;
            place = target(&place, &next).map_err(broken)?;
            self.method = next.method;
            self.headers = headers;
            self.body = self.body.filter(|_| next.with_body);
        }
    }

    /// The request that follows `response` to a request to `place`, and its headers.
    fn next(
        &self,
        response: &Response,
        place: &Url,
        rules: &HostRules,
    ) -> Result<Option<(Next, HeaderMap)>, String> {
        let (status, headers) = (response.status(), response.headers());
        if !status.is_redirection() {
            return Ok(None);
        }
        let query = place.query().map(|query| format!("?{query}"));
        let from = From {
            secure: place.scheme() == "https",
            authority: &authority(place),
            target: &format!("{}{}", place.path(), query.unwrap_or_default()),
        };
        let body = match self.body {
            Some(_) => Body::Kept,
            None => Body::None,
        };
        let next = redirect::next(status, headers, from, &self.method, body, rules);
        let next = next.map_err(|error| error.to_string())?;
        Ok(next.map(|next| {
            let headers = redirect::headers(&self.headers, from, &next);
            (next, headers)
        }))
    }
}

/// `host[:port]`.
fn authority(url: &Url) -> String {
    let host = url.host_str().unwrap_or_default();
    match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    }
}

/// The URL of the next request. The user and the password in a URL are for its origin only.
fn target(place: &Url, next: &Next) -> Result<Url, String> {
    let url = Url::parse(&format!("{}{}", next.origin, next.target));
    let mut url = url.map_err(|error| format!("failed to parse Location header: {error}"))?;
    if next.same_origin {
        // Neither fails: the URL has a host.
        let _ = url.set_username(place.username());
        let _ = url.set_password(place.password());
    }
    Ok(url)
}
