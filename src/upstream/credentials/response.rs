//! The response of a token endpoint.

use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;

use crate::telemetry::mask::KnownSecrets;
use crate::upstream::side::{SideError, SideResponse};

/// Why there is no token. The text is KrakenD's.
#[derive(Debug, Clone, thiserror::Error)]
pub enum TokenError {
    #[error("{0}")]
    Request(String),
    /// The endpoint was not reached, or sent no complete response.
    #[error(transparent)]
    Unreachable(#[from] SideError),
    /// The endpoint rejected the request, perhaps with an error code (RFC 6749 §5.2).
    #[error("{text}")]
    Rejected { error: Option<String>, text: String },
    /// The response contains no usable token.
    #[error("{0}")]
    Unusable(&'static str),
    /// The deadline of the waiting call has passed.
    #[error("context deadline exceeded")]
    Time,
}

/// A token in the form that `Authorization` uses.
#[derive(Clone)]
pub(crate) struct Token {
    pub authorization: HeaderValue,
    /// `None` if the server names no positive number of seconds. For client credentials this means, as in KrakenD, that it
    /// never expires.
    pub life: Option<Duration>,
    /// The members as the server sent them.
    pub sent: Sent,
}

/// What a server says about a token besides the token itself.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub token_type: Option<String>,
    /// Which kind of token this is (RFC 8693 §2.2.1).
    pub issued_token_type: Option<String>,
}

/// The maximum number of bytes of a response that an error quotes.
const MAX_QUOTED: usize = 1024;

/// The part of a response that is read for this. What is masked may be long.
const MAX_READ: usize = 16 * 1024;

#[derive(Deserialize, Default)]
#[serde(default)]
struct Response {
    access_token: Option<String>,
    token_type: Option<String>,
    issued_token_type: Option<String>,
    expires_in: Option<serde_json::Value>,
    error: Option<String>,
    error_description: Option<String>,
    error_uri: Option<String>,
}

/// Reads the token from a response (RFC 6749 §5). `sent` returns the secrets of the request, which some servers quote in
/// their errors.
pub(crate) fn token(
    response: &SideResponse,
    sent: impl FnOnce() -> KnownSecrets,
) -> Result<Token, TokenError> {
    let fields = fields(response);
    let rejected = !response.status.is_success();
    let error = fields
        .as_ref()
        .ok()
        .and_then(|fields| fields.error.as_deref().filter(|error| !error.is_empty()));
    if rejected || error.is_some() {
        return Err(TokenError::Rejected {
            error: error.map(str::to_owned),
            text: match (error, &fields) {
                (Some(error), Ok(fields)) => rejection(error, fields, &sent()),
                _ => quoted(response, &sent()),
            },
        });
    }
    let fields = fields?;
    let token = fields.access_token.filter(|token| !token.is_empty());
    let token = token.ok_or(TokenError::Unusable(
        "oauth2: server response missing access_token",
    ))?;
    let kind = token_type(fields.token_type.as_deref().unwrap_or_default());
    let mut authorization = HeaderValue::from_str(&format!("{kind} {token}"))
        .map_err(|_| TokenError::Unusable("oauth2: access_token cannot be sent"))?;
    authorization.set_sensitive(true);
    Ok(Token {
        authorization,
        sent: Sent {
            token_type: fields.token_type,
            issued_token_type: fields.issued_token_type,
        },
        life: life(fields.expires_in.as_ref()),
    })
}

fn fields(response: &SideResponse) -> Result<Response, TokenError> {
    let kind = response.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default().trim();
    if matches!(
        kind.to_ascii_lowercase().as_str(),
        "application/x-www-form-urlencoded" | "text/plain"
    ) {
        return Ok(from_form(&response.body));
    }
    serde_json::from_slice(&response.body)
        .map_err(|_| TokenError::Unusable("oauth2: cannot parse json"))
}

fn from_form(body: &[u8]) -> Response {
    let mut response = Response::default();
    for (name, value) in form_urlencoded::parse(body) {
        let value = value.into_owned();
        match &*name {
            "access_token" => response.access_token = Some(value),
            "token_type" => response.token_type = Some(value),
            "issued_token_type" => response.issued_token_type = Some(value),
            "expires_in" => response.expires_in = Some(value.into()),
            "error" => response.error = Some(value),
            "error_description" => response.error_description = Some(value),
            "error_uri" => response.error_uri = Some(value),
            _ => {}
        }
    }
    response
}

fn rejection(error: &str, fields: &Response, sent: &KnownSecrets) -> String {
    let mut text = format!("oauth2: {:?}", sent.masked(error));
    for more in [&fields.error_description, &fields.error_uri] {
        if let Some(more) = more.as_deref().filter(|more| !more.is_empty()) {
            text.push_str(&format!(" {:?}", sent.masked(more)));
        }
    }
    text
}

/// Only error responses are quoted: a successful one would put a token into the log.
fn quoted(response: &SideResponse, sent: &KnownSecrets) -> String {
    let read = response.body.get(..MAX_READ).unwrap_or(&response.body);
    // Masked before it is cut: a part of a secret would not be found.
    let mut shown = sent.masked(&String::from_utf8_lossy(read));
    shown.truncate(shown.floor_char_boundary(MAX_QUOTED));
    format!(
        "oauth2: cannot fetch token: {}\nResponse: {shown}",
        response.status
    )
}

/// The common types in their usual spelling, others unchanged. `N_A` means that the type does not matter (RFC 8693
/// §2.2.1).
fn token_type(text: &str) -> &str {
    match text.to_ascii_lowercase().as_str() {
        "" | "bearer" | "n_a" => "Bearer",
        "mac" => "MAC",
        "basic" => "Basic",
        _ => text,
    }
}

/// Seconds as a number or a string, at most 2³¹−1. None or zero means that the token never expires.
fn life(expires_in: Option<&serde_json::Value>) -> Option<Duration> {
    let seconds = match expires_in? {
        serde_json::Value::Number(number) => number.as_f64()?,
        serde_json::Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let seconds = seconds.clamp(0.0, f64::from(i32::MAX));
    (seconds >= 1.0).then(|| Duration::from_secs_f64(seconds.trunc()))
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, StatusCode};
    use proptest::prelude::*;

    use super::*;

    fn response(status: u16, kind: &'static str, body: &str) -> SideResponse {
        SideResponse {
            status: StatusCode::from_u16(status).unwrap(),
            headers: HeaderMap::from_iter([(CONTENT_TYPE, HeaderValue::from_static(kind))]),
            body: Bytes::copy_from_slice(body.as_bytes()),
        }
    }

    fn sent() -> KnownSecrets {
        let mut sent = KnownSecrets::default();
        sent.add_client("the id", "s3cr:et/+");
        sent
    }

    fn json(body: &str) -> Result<(String, Option<u64>), String> {
        let token = token(&response(200, "application/json", body), sent);
        match token {
            Ok(token) => Ok((
                token.authorization.to_str().unwrap().to_owned(),
                token.life.map(|life| life.as_secs()),
            )),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn tokens_are_read_in_all_forms() {
        assert_eq!(
            json(r#"{"access_token":"t","token_type":"bEArer","expires_in":"60"}"#),
            Ok(("Bearer t".to_owned(), Some(60)))
        );
        assert_eq!(
            json(r#"{"access_token":"t","token_type":"DPoP","expires_in":1e12}"#),
            Ok(("DPoP t".to_owned(), Some(i32::MAX as u64)))
        );
        assert_eq!(
            json(r#"{"access_token":"t"}"#),
            Ok(("Bearer t".to_owned(), None))
        );
        let form = response(
            200,
            "text/plain; charset=utf-8",
            "access_token=a%2Bb+c&expires_in=5",
        );
        assert_eq!(
            token(&form, sent).ok().unwrap().authorization,
            "Bearer a+b c"
        );
    }

    #[test]
    fn rejections_quote_the_server() {
        let body = r#"{"error":"invalid_client","error_description":"Bad client credentials"}"#;
        assert_eq!(
            json(body).unwrap_err(),
            r#"oauth2: "invalid_client" "Bad client credentials""#
        );
        let plain = token(&response(503, "text/html", "down"), sent);
        assert_eq!(
            plain.err().unwrap().to_string(),
            "oauth2: cannot fetch token: 503 Service Unavailable\nResponse: down"
        );
        assert_eq!(
            json("{}").unwrap_err(),
            "oauth2: server response missing access_token"
        );
        assert!(json("{\"access_token\":\"a\\nb\"}").is_err());
    }

    #[test]
    fn secrets_in_the_body_of_an_error_are_masked() {
        let told = |status: u16, kind: &'static str, body: &str| {
            let error = token(&response(status, kind, body), sent).err();
            error.expect(body).to_string()
        };
        let long = format!("{}s3cr:et/+", "x".repeat(1020));
        for body in [
            r#"{"access_token":"SECRET"}"#,
            r#"{"message":"bad","received":{"client_secret":"s3cr:et/+"}}"#,
            r#"{"a":[{"refresh_token" : "SEC\"RET"}]}"#,
            r#"{"said":"{\"client-secret\":\"SECRET\"}"}"#,
            r#"{"access\u005ftoken":"SECRET"}"#,
            r#"{"access_token":"SECRET"#,
            "bad secret s3cr:et/+",
            "client_id=a&x=s3cr%3aet%2F%2B",
            "Authorization: Basic dGhlK2lkOnMzY3IlM0FldCUyRiUyQg==",
            "you sent dGhlK2lkOnMzY3IlM0FldCUyRiUyQg",
            r#"{"message":"wrong: s3cr:et\/+"}"#,
            "cut: s3cr:et/",
            "<error><client_secret>SECRET</client_secret></error>",
            long.as_str(),
        ] {
            for status in [400, 500] {
                let text = told(status, "application/json", body);
                let is_shown = ["SEC", "s3cr", "dGhlK2lk"]
                    .iter()
                    .any(|part| text.contains(part));
                assert!(!is_shown, "{body}: {text}");
            }
            let inner = serde_json::json!({"error": "invalid_client", "error_description": body});
            let text = told(401, "application/json", &inner.to_string());
            let is_shown = ["SEC", "s3cr", "dGhlK2lk"]
                .iter()
                .any(|part| text.contains(part));
            assert!(!is_shown, "{inner}: {text}");
        }
        assert_eq!(
            told(500, "application/json", r#"{"message":"no","trace":[1]}"#),
            "oauth2: cannot fetch token: 500 Internal Server Error\nResponse: {\"message\":\"no\",\"trace\":[1]}"
        );
    }

    proptest! {
        #[test]
        fn any_response_is_a_token_or_an_error(body: String, form: bool) {
            let kind = if form { "text/plain" } else { "application/json" };
            let _ = token(&response(200, kind, &body), sent);
            let _ = token(&response(500, kind, &body), sent);
        }
    }
}
