//! A thin client over reqwest.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use http::{Method, StatusCode};
use reqwest::redirect::Policy;

use super::tls::{SideTls, client_config};
use crate::telemetry::mask::without_values;
use crate::upstream::client::ClientError;
use crate::upstream::proof;

/// Key sets and tokens are small; what is larger is a mistake or an attack.
pub const MOST_BYTES: usize = 1 << 20;
/// What a call of [`SideClient::call`] may bring.
pub const MOST_CALL_BYTES: usize = 16 << 20;
/// No side call takes longer, whoever waits for it.
pub const MOST_TIME: Duration = Duration::from_secs(5);
/// As many as the reference follows.
const MOST_REDIRECTS: usize = 10;

/// A client for side calls. Honours `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY`.
#[derive(Debug, Clone)]
pub struct SideClient {
    http: reqwest::Client,
}

/// An answer to a side call, whatever its status.
#[derive(Debug, Clone)]
pub struct SideAnswer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

/// Why a side call gave no answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SideError {
    /// No usable connection.
    #[error("{method} \"{url}\": {reason}")]
    Connect {
        method: &'static str,
        url: String,
        reason: String,
    },
    /// The connection broke, or the answer is not HTTP.
    #[error("{method} \"{url}\": {reason}")]
    Broken {
        method: &'static str,
        url: String,
        reason: String,
    },
    #[error("{method} \"{url}\": no complete answer within {limit:?}")]
    Time {
        method: &'static str,
        url: String,
        limit: Duration,
    },
    /// Whoever asked has no time left.
    #[error("{method} \"{url}\": context deadline exceeded")]
    Late { method: &'static str, url: String },
    #[error("answer larger than {most_bytes} bytes")]
    Size { most_bytes: usize },
    #[error("unexpected status {0}")]
    Status(StatusCode),
    #[error("should have a JSON content type")]
    ContentType,
}

impl SideClient {
    /// Makes a client that introduces itself as `user_agent`.
    ///
    /// # Errors
    /// A CA file that cannot be used, or a list of cipher suites of which we have none.
    pub fn new(tls: &SideTls, user_agent: &HeaderValue) -> Result<SideClient, ClientError> {
        SideClient::with(tls, user_agent, redirects())
    }

    /// The same, but a redirect is an answer like any other: for calls that carry a secret, which is for one server.
    ///
    /// # Errors
    /// As [`SideClient::new`].
    pub fn without_redirects(
        tls: &SideTls,
        user_agent: &HeaderValue,
    ) -> Result<SideClient, ClientError> {
        SideClient::with(tls, user_agent, Policy::none())
    }

    fn with(
        tls: &SideTls,
        user_agent: &HeaderValue,
        redirects: Policy,
    ) -> Result<SideClient, ClientError> {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured((*client_config(tls)?).clone())
            .user_agent(user_agent.clone())
            .redirect(redirects)
            .connect_timeout(MOST_TIME)
            .pool_idle_timeout(Duration::from_secs(90))
            .pool_max_idle_per_host(2)
            .http1_only()
            .build()
            .map_err(|error| ClientError::Side {
                reason: error.to_string(),
            })?;
        Ok(SideClient { http })
    }

    /// Fetches `url`; anything but a 2xx is an error. With `types`, the answer's `Content-Type` must begin with one.
    ///
    /// # Errors
    /// See [`SideError`].
    pub async fn get(&self, url: &str, types: &[&str]) -> Result<SideAnswer, SideError> {
        let request = self.http.request(Method::GET, url);
        let answer = self.send(request, "Get", url, MOST_TIME).await?;
        if !answer.status.is_success() {
            return Err(SideError::Status(answer.status));
        }
        let kind = answer.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let fits = |wanted: &&str| kind.is_some_and(|kind| kind.starts_with(wanted.as_bytes()));
        if !types.is_empty() && !types.iter().any(fits) {
            return Err(SideError::ContentType);
        }
        Ok(answer)
    }

    /// Posts a form; every status is an answer.
    ///
    /// # Errors
    /// See [`SideError`].
    pub async fn post_form(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<SideAnswer, SideError> {
        let form = "application/x-www-form-urlencoded";
        self.post(url, form, headers, body).await
    }

    /// Posts JSON; every status is an answer.
    ///
    /// # Errors
    /// See [`SideError`].
    pub async fn post_json(
        &self,
        url: &str,
        headers: HeaderMap,
        body: String,
    ) -> Result<SideAnswer, SideError> {
        self.post(url, "application/json", headers, body).await
    }

    async fn post(
        &self,
        url: &str,
        kind: &'static str,
        headers: HeaderMap,
        body: String,
    ) -> Result<SideAnswer, SideError> {
        let request = self
            .http
            .request(Method::POST, url)
            .header(CONTENT_TYPE, HeaderValue::from_static(kind))
            .headers(headers)
            .body(body);
        self.send(request, "Post", url, MOST_TIME).await
    }

    /// Makes a call of any kind, at most `limit` long; every status is an answer.
    ///
    /// # Errors
    /// See [`SideError`].
    pub async fn call(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        body: Bytes,
        limit: Duration,
    ) -> Result<SideAnswer, SideError> {
        let verb = verb(&method);
        let mut request = self.http.request(method, url).headers(headers);
        if !body.is_empty() {
            request = request.body(body);
        }
        let answer = exchange(request, verb, url, MOST_CALL_BYTES);
        match tokio::time::timeout(limit, answer).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SideError::Late {
                method: verb,
                url: without_values(url),
            }),
        }
    }

    async fn send(
        &self,
        request: reqwest::RequestBuilder,
        method: &'static str,
        url: &str,
        limit: Duration,
    ) -> Result<SideAnswer, SideError> {
        match tokio::time::timeout(limit, exchange(request, method, url, MOST_BYTES)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(SideError::Time {
                method,
                url: without_values(url),
                limit,
            }),
        }
    }
}

async fn exchange(
    request: reqwest::RequestBuilder,
    method: &'static str,
    url: &str,
    most_bytes: usize,
) -> Result<SideAnswer, SideError> {
    let failed = |error: reqwest::Error| failure(&error.without_url(), method, url);
    let mut response = request.send().await.map_err(failed)?;
    let announced = response.content_length().unwrap_or(0);
    if announced > most_bytes as u64 {
        return Err(SideError::Size { most_bytes });
    }
    let status = response.status();
    let headers = std::mem::take(response.headers_mut());
    let mut body = BytesMut::new();
    while let Some(chunk) = response.chunk().await.map_err(failed)? {
        if body.len() + chunk.len() > most_bytes {
            return Err(SideError::Size { most_bytes });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(SideAnswer {
        status,
        headers,
        body: body.freeze(),
    })
}

/// Says what happened in the reference's words where there are such, else in those of the innermost cause.
fn failure(error: &reqwest::Error, method: &'static str, url: &str) -> SideError {
    let mut cause: &(dyn std::error::Error + 'static) = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    let refused = cause
        .downcast_ref::<std::io::Error>()
        .is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionRefused);
    let url = without_values(url);
    if error.is_connect() {
        let reason = if refused {
            format!("dial tcp {}: connect: connection refused", authority(&url))
        } else {
            reason(cause)
        };
        return SideError::Connect {
            method,
            url,
            reason,
        };
    }
    SideError::Broken {
        method,
        url,
        reason: cause.to_string(),
    }
}

/// What a verifier of ours says stands in the reference's words already.
fn reason(cause: &(dyn std::error::Error + 'static)) -> String {
    let mut inner = cause;
    while let Some(wrapped) = inner
        .downcast_ref::<std::io::Error>()
        .and_then(std::io::Error::get_ref)
    {
        inner = wrapped;
    }
    match inner.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::General(text)) => text.clone(),
        Some(rustls::Error::InvalidCertificate(why)) => {
            let why = why.to_string();
            format!("invalid peer certificate: {}", proof::words(&why))
        }
        _ => cause.to_string(),
    }
}

/// The method as the reference's messages spell it.
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

fn authority(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host)
}

/// Up to ten, and never from https to http: what came in secret must not go on in the clear.
fn redirects() -> Policy {
    Policy::custom(|attempt| {
        let was_secure = attempt
            .previous()
            .last()
            .is_some_and(|url| url.scheme() == "https");
        if was_secure && attempt.url().scheme() != "https" {
            attempt.error("redirect from https to http")
        } else if attempt.previous().len() >= MOST_REDIRECTS {
            attempt.error("stopped after 10 redirects")
        } else {
            attempt.follow()
        }
    })
}
