//! A thin client over reqwest.

use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue, RETRY_AFTER};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;

use super::addresses::{Attempt, Ordered};
use super::failure::failure;
use super::follow::Request;
use super::renewed::Renewed;
use super::tls::{SideTls, client_config};
use crate::telemetry::mask::without_values;
use crate::upstream::budget::Full;
use crate::upstream::client::ClientError;
use crate::upstream::collect::{Collector, Overflow};
use crate::upstream::error::ConnectFailure;
use crate::upstream::host_rules::{HostRules, Redirects};
use crate::upstream::registry::Registry;

/// Key sets and tokens are small. A larger response is an error or an attack.
pub(crate) const MAX_BYTES: usize = 1 << 20;
/// The maximum size of a response to [`SideClient::call`].
const MAX_CALL_BYTES: usize = 16 << 20;
/// The maximum duration of a side call.
pub(crate) const MAX_TIME: Duration = Duration::from_secs(5);
/// The maximum time for a connection, divided among the addresses of the name. The first of two leaves
/// time for the other one within the usual timeout of a guard, which is 2 s, and has time for a second SYN (RFC 6298 §2.1).
const MAX_CONNECT: Duration = Duration::from_secs(3);
/// The maximum number of idle connections of [`SideClient::pooled`] to one host.
const MAX_IDLE: usize = 250;

/// A client for side calls. It respects `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone)]
pub struct SideClient {
    http: Arc<Renewed>,
    /// The same without our certificate, for the target of a redirect. `None` if there is no certificate.
    anonymous: Option<Arc<Renewed>>,
    /// The rules of calls that have no rules of their own.
    rules: HostRules,
}

/// A response to a side call, with any status.
#[derive(Debug, Clone)]
pub struct SideResponse {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why a side call gave no response.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SideError {
    /// There is no usable connection.
    #[error("{method} \"{url}\": {reason}")]
    Connect {
        failure: ConnectFailure,
        method: &'static str,
        url: String,
        reason: String,
    },
    /// The connection broke, or the response is not HTTP.
    #[error("{method} \"{url}\": {reason}")]
    Broken {
        method: &'static str,
        url: String,
        reason: String,
    },
    #[error("{method} \"{url}\": no complete response within {limit:?}")]
    Time {
        method: &'static str,
        url: String,
        limit: Duration,
    },
    /// The deadline of the caller has passed.
    #[error("{method} \"{url}\": context deadline exceeded")]
    Late { method: &'static str, url: String },
    #[error("response larger than {most_bytes} bytes")]
    Size { most_bytes: usize },
    #[error(transparent)]
    Full(Full),
    #[error("unexpected status {status}")]
    Status {
        status: StatusCode,
        /// How long the server does not want to be called, if it says so.
        retry_after: Option<Duration>,
    },
    #[error("should have a JSON content type")]
    ContentType,
}

/// The time in `Retry-After`, as seconds or as a date (RFC 9110 §10.2.3).
pub(crate) fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        // A number that is too large for its type is still a long time.
        return Some(Duration::from_secs(text.parse().unwrap_or(u64::MAX)));
    }
    let at = httpdate::parse_http_date(text).ok()?;
    Some(
        at.duration_since(std::time::SystemTime::now())
            .unwrap_or_default(),
    )
}

impl SideClient {
    /// Creates a client that sends this `User-Agent`. It follows redirects by the same rules as calls of backends.
    ///
    /// # Errors
    /// A CA file is not usable, or none of the cipher suites is supported.
    pub fn new(tls: &SideTls, user_agent: &HeaderValue) -> Result<SideClient, ClientError> {
        SideClient::with(tls, user_agent, Redirects::Follow)
    }

    /// Like [`SideClient::new`], but does not follow redirects: for calls with a secret that is meant for one server.
    ///
    /// # Errors
    /// As [`SideClient::new`].
    pub fn without_redirects(
        tls: &SideTls,
        user_agent: &HeaderValue,
    ) -> Result<SideClient, ClientError> {
        SideClient::with(tls, user_agent, Redirects::None)
    }

    /// Like [`SideClient::without_redirects`], but also ignores proxies: for servers of this machine or its network.
    ///
    /// # Errors
    /// As [`SideClient::new`].
    pub fn direct(tls: &SideTls, user_agent: &HeaderValue) -> Result<SideClient, ClientError> {
        SideClient::built(tls, user_agent, Redirects::None, Calls::Direct)
    }

    /// Like [`SideClient::without_redirects`], but for many calls at once, each of which keeps its connection.
    ///
    /// # Errors
    /// As [`SideClient::new`].
    pub fn pooled(tls: &SideTls, user_agent: &HeaderValue) -> Result<SideClient, ClientError> {
        SideClient::built(tls, user_agent, Redirects::None, Calls::Many)
    }

    fn with(
        tls: &SideTls,
        user_agent: &HeaderValue,
        redirects: Redirects,
    ) -> Result<SideClient, ClientError> {
        SideClient::built(tls, user_agent, redirects, Calls::Few)
    }

    fn built(
        tls: &SideTls,
        user_agent: &HeaderValue,
        redirects: Redirects,
        calls: Calls,
    ) -> Result<SideClient, ClientError> {
        let client = |tls: &SideTls| shared(client_config(tls)?, user_agent.clone(), calls);
        let shows_certificate = redirects != Redirects::None && tls.client_cert.is_some();
        let without = SideTls {
            client_cert: None,
            ..tls.clone()
        };
        Ok(SideClient {
            http: client(tls)?,
            anonymous: shows_certificate.then(|| client(&without)).transpose()?,
            rules: HostRules {
                redirects,
                ..HostRules::default()
            },
        })
    }

    /// The client for a request: without our certificate, if a redirect led to another origin.
    pub(super) fn http(&self, elsewhere: bool) -> Arc<reqwest::Client> {
        let anonymous = self.anonymous.as_ref().filter(|_| elsewhere);
        anonymous.unwrap_or(&self.http).client()
    }

    /// Fetches `url`. Any status except 2xx is an error. If `types` is not empty, the `Content-Type` must begin with
    /// one of them.
    ///
    /// # Errors
    /// See `SideError`.
    pub async fn get(&self, url: &str, types: &[&str]) -> Result<SideResponse, SideError> {
        let request = Request::new(Method::GET, HeaderMap::new(), None);
        let response = self.send(request, "Get", url, MAX_TIME).await?;
        if !response.status.is_success() {
            return Err(SideError::Status {
                status: response.status,
                retry_after: retry_after(&response.headers),
            });
        }
        let kind = response
            .headers
            .get(CONTENT_TYPE)
            .map(HeaderValue::as_bytes);
        let fits = |wanted: &&str| kind.is_some_and(|kind| kind.starts_with(wanted.as_bytes()));
        if !types.is_empty() && !types.iter().any(fits) {
            return Err(SideError::ContentType);
        }
        Ok(response)
    }

    /// Posts a form. A response with any status is returned.
    ///
    /// # Errors
    /// See `SideError`.
    pub async fn post_form(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<SideResponse, SideError> {
        let form = "application/x-www-form-urlencoded";
        self.post(url, form, headers, body).await
    }

    /// Posts JSON. A response with any status is returned.
    ///
    /// # Errors
    /// See `SideError`.
    pub async fn post_json(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<SideResponse, SideError> {
        self.post(url, "application/json", headers, body).await
    }

    async fn post(
        &self,
        url: &str,
        kind: &'static str,
        mut headers: HeaderMap,
        body: String,
    ) -> Result<SideResponse, SideError> {
        headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(kind));
        let request = Request::new(Method::POST, headers, Some(body.into()));
        self.send(request, "Post", url, MAX_TIME).await
    }

    /// Makes any call, for at most `limit`. A response with any status is returned.
    ///
    /// # Errors
    /// See `SideError`.
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<SideResponse, SideError> {
        self.call_ruled(method, url, headers, body, limit, &self.rules)
            .await
    }

    /// The same with rules of its own for redirects.
    ///
    /// # Errors
    /// See `SideError`.
    pub async fn call_ruled(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
        rules: &HostRules,
    ) -> Result<SideResponse, SideError> {
        let verb = verb(&method);
        let request = Request::new(method, headers, (!body.is_empty()).then_some(body));
        let response = self.exchange(request, verb, url, MAX_CALL_BYTES, rules);
        match tokio::time::timeout(limit, response).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SideError::Late {
                method: verb,
                url: without_values(url),
            }),
        }
    }

    async fn send(
        &self,
        request: Request,
        method: &'static str,
        url: &str,
        limit: Duration,
    ) -> Result<SideResponse, SideError> {
        let response = self.exchange(request, method, url, MAX_BYTES, &self.rules);
        match tokio::time::timeout(limit, response).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SideError::Time {
                method,
                url: without_values(url),
                limit,
            }),
        }
    }

    async fn exchange(
        &self,
        request: Request,
        method: &'static str,
        url: &str,
        most_bytes: usize,
        rules: &HostRules,
    ) -> Result<SideResponse, SideError> {
        let mut attempt = Attempt::new();
        let mut response = request.send(self, rules, method, url, &mut attempt).await?;
        let announced = response.content_length().unwrap_or(0);
        if announced > most_bytes as u64 {
            attempt.end();
            return Err(SideError::Size { most_bytes });
        }
        let status = response.status();
        let headers = std::mem::take(response.headers_mut());
        let mut body = Collector::new(0, most_bytes as u64, 1);
        let failed = |error: reqwest::Error| failure(&error.without_url(), method, url);
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if let Err(overflow) = body.push(&chunk) {
                attempt.end();
                return Err(match overflow {
                    Overflow::TooLarge => SideError::Size { most_bytes },
                    Overflow::Full => SideError::Full(Full),
                });
            }
        }
        attempt.end();
        Ok(SideResponse {
            status,
            headers,
            body: body.done(),
        })
    }
}

/// The calls that a client is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Calls {
    /// A few at a time.
    Few,
    /// A few at a time, never through a proxy.
    Direct,
    /// Many at once, each of which keeps its connection.
    Many,
}

/// The client with this TLS configuration. Equal ones share it, because a file may have thousands of sources.
fn shared(
    config: Arc<rustls::ClientConfig>,
    user_agent: HeaderValue,
    calls: Calls,
) -> Result<Arc<Renewed>, ClientError> {
    type Key = (usize, HeaderValue, Calls);
    static MADE: LazyLock<Mutex<Registry<Key, Renewed>>> = LazyLock::new(Mutex::default);
    // The client keeps the configuration, so no other one gets its address as long as the client is in use.
    let key = (Arc::as_ptr(&config).addr(), user_agent.clone(), calls);
    let mut known = MADE.lock().unwrap_or_else(PoisonError::into_inner);
    let make = || Renewed::new(move || made(&config, &user_agent, calls));
    known.try_shared(key, make).map(|(client, _)| client)
}

fn made(
    config: &rustls::ClientConfig,
    user_agent: &HeaderValue,
    calls: Calls,
) -> Result<reqwest::Client, ClientError> {
    let builder = reqwest::Client::builder()
        .tls_backend_preconfigured(config.clone())
        .user_agent(user_agent.clone())
        .redirect(Policy::none())
        .dns_resolver(Arc::new(Ordered))
        .connect_timeout(MAX_CONNECT)
        .pool_idle_timeout(Duration::from_secs(90))
        .pool_max_idle_per_host(2)
        .http1_only();
    let builder = match calls {
        Calls::Few => builder,
        Calls::Direct => builder.no_proxy(),
        Calls::Many => builder.pool_max_idle_per_host(MAX_IDLE),
    };
    builder.build().map_err(|error| ClientError::Side {
        reason: error.to_string(),
    })
}

/// The method as KrakenD's messages spell it.
fn verb(method: &Method) -> &'static str {
    match *method {
        Method::GET => "Get",
        Method::POST => "Post",
        Method::PUT => "Put",
        Method::PATCH => "Patch",
        Method::DELETE => "Delete",
        Method::HEAD => "Head",
        Method::OPTIONS => "Options",
        _ => "Call",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_clients_share_their_connections() {
        let client = || SideClient::new(&SideTls::default(), &HeaderValue::from_static("a"));
        let (one, other) = (client().unwrap(), client().unwrap());
        assert!(Arc::ptr_eq(&one.http, &other.http));
    }

    #[test]
    fn a_number_of_seconds_is_never_too_large() {
        let read = |text: &'static str| {
            let headers = HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_static(text))]);
            retry_after(&headers)
        };
        assert_eq!(read(" 5 "), Some(Duration::from_secs(5)));
        for long in ["18446744073709551616", "99999999999999999999999999"] {
            assert_eq!(read(long), Some(Duration::from_secs(u64::MAX)));
        }
        for wrong in ["", "-5", "+5", "5.5", "soon"] {
            assert_eq!(read(wrong), None, "{wrong:?}");
        }
    }
}
