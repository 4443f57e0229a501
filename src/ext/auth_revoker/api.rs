//! The HTTP interface of the revoker: `POST /revoke`, `POST /check` and `POST /logout`. The server provides the connection.

use std::net::SocketAddr;
use std::sync::Arc;

use http::{HeaderValue, Method, StatusCode};
use serde::Deserialize;
use serde_json::json;

use super::logout::Logout;
use super::revocation_list::{RevocationAccess, element};

/// The calls, and the address where they are offered.
#[derive(Debug, Clone)]
pub struct Api {
    pub address: SocketAddr,
    pub revocations: Arc<RevocationAccess>,
    /// Providers that may send logout tokens, which prove themselves.
    pub logout: Option<Arc<Logout>>,
}

/// Either elements as the filter stores them, or one claim and its value.
#[derive(Deserialize)]
#[serde(untagged, deny_unknown_fields)]
enum Body {
    Elements { elems: Vec<String> },
    Claim { key: String, value: String },
}

impl Api {
    /// The content type of every body.
    pub const CONTENT_TYPE: &str = "application/json; charset=utf-8";

    /// Whether the head alone shows that the client has the secret, or the rejection. `None` for a request that anyone may
    /// send: a logout token is verified by its signature.
    pub fn admit(
        &self,
        method: &Method,
        path: &str,
        authorization: Option<&HeaderValue>,
    ) -> Option<Result<(), StatusCode>> {
        let is_post = *method == Method::POST;
        if path == "/logout" && self.logout.is_some() {
            return (!is_post).then_some(Err(StatusCode::METHOD_NOT_ALLOWED));
        }
        // Then no secret is known either.
        Some(if !self.revocations.is_open() {
            Err(StatusCode::SERVICE_UNAVAILABLE)
        } else if !self.is_trusted(authorization) {
            Err(StatusCode::UNAUTHORIZED)
        } else if !matches!(path, "/revoke" | "/check") {
            Err(StatusCode::NOT_FOUND)
        } else if !is_post {
            Err(StatusCode::METHOD_NOT_ALLOWED)
        } else {
            Ok(())
        })
    }

    /// Waits until the keys for a logout token have arrived, as far as possible. The request is then handled.
    pub async fn prepare(&self, method: &Method, path: &str, body: &[u8]) {
        if let ("/logout", Some(logout), &Method::POST) = (path, &self.logout, method) {
            logout.prepare(body).await;
        }
    }

    /// Handles a request. Returns status and body.
    pub fn response(
        &self,
        method: &Method,
        path: &str,
        authorization: Option<&HeaderValue>,
        body: &[u8],
    ) -> (StatusCode, Vec<u8>) {
        match (self.admit(method, path, authorization), &self.logout) {
            (None, Some(logout)) => return (logout.accept(body, &self.revocations), Vec::new()),
            (None, None) => return (StatusCode::NOT_FOUND, Vec::new()),
            (Some(Err(status)), _) => return (status, Vec::new()),
            (Some(Ok(())), _) => {}
        }
        let elements: Vec<Vec<u8>> = match serde_json::from_slice(body) {
            Ok(Body::Elements { elems }) => elems.into_iter().map(String::into_bytes).collect(),
            Ok(Body::Claim { key, value }) => vec![element(&key, &value).to_vec()],
            Err(_) => {
                let usage = json!({
                    "error": "{\"elems\": [\"jti-J1\"]} or {\"key\": \"jti\", \"value\": \"J1\"} is expected"
                });
                return (StatusCode::BAD_REQUEST, usage.to_string().into_bytes());
            }
        };
        let response = match path {
            "/revoke" => {
                let mut all = elements.iter();
                if let Err(error) = all.try_for_each(|element| self.revocations.add(element)) {
                    let error = json!({ "error": format!("{error}: send the request again") });
                    let body = error.to_string().into_bytes();
                    return (StatusCode::SERVICE_UNAVAILABLE, body);
                }
                json!({ "count": elements.len() })
            }
            _ => {
                let checks = elements
                    .iter()
                    .map(|element| self.revocations.contains(element));
                json!({ "checks": checks.collect::<Vec<_>>() })
            }
        };
        (StatusCode::OK, response.to_string().into_bytes())
    }

    fn is_trusted(&self, authorization: Option<&HeaderValue>) -> bool {
        let value = authorization.map(HeaderValue::as_bytes);
        let parts = value.and_then(|value| value.split_at_checked(7));
        parts.is_some_and(|(scheme, secret)| {
            scheme.eq_ignore_ascii_case(b"bearer ") && self.revocations.trusts(secret)
        })
    }
}
