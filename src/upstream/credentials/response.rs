//! The response of a token endpoint.

use std::collections::HashMap;
use std::time::Duration;

use http::header::{CONTENT_TYPE, HeaderValue};
use serde::Deserialize;
use serde_json::Value;

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

/// The members of an error response that are shown: those of RFC 6749 §5.2, of RFC 9457 §3.1, and one that many servers use.
const SHOWN: [&str; 6] = [
    "error",
    "error_description",
    "error_uri",
    "title",
    "detail",
    "message",
];

/// The codes of RFC 6749 §4.1.2.1 and §5.2, RFC 6750 §3.1 and RFC 8693 §2.2.2. They are shown whatever the secret is.
const CODES: [&str; 12] = [
    "access_denied",
    "insufficient_scope",
    "invalid_client",
    "invalid_grant",
    "invalid_request",
    "invalid_scope",
    "invalid_target",
    "invalid_token",
    "server_error",
    "temporarily_unavailable",
    "unauthorized_client",
    "unsupported_grant_type",
];

#[derive(Deserialize, Default)]
#[serde(default)]
struct Response {
    access_token: Option<String>,
    token_type: Option<String>,
    issued_token_type: Option<String>,
    expires_in: Option<Value>,
    error: Option<String>,
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
            text: rejection(response, &sent()),
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
    if is_form(response) {
        return Ok(from_form(&response.body));
    }
    serde_json::from_slice(&response.body)
        .map_err(|_| TokenError::Unusable("oauth2: cannot parse json"))
}

fn is_form(response: &SideResponse) -> bool {
    matches!(
        &*media_type(response),
        "application/x-www-form-urlencoded" | "text/plain"
    )
}

/// The type of the body, without parameters. Empty if it is missing or not text.
fn media_type(response: &SideResponse) -> String {
    let kind = response.headers.get(CONTENT_TYPE);
    let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let kind = kind.split(';').next().unwrap_or_default();
    kind.trim().to_ascii_lowercase()
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
            _ => {}
        }
    }
    response
}

/// Why the server has rejected the request, as far as its response may be shown: it got a secret, and may quote it.
fn rejection(response: &SideResponse, sent: &KnownSecrets) -> String {
    let SideResponse { status, body, .. } = response;
    let mut text = "oauth2:".to_owned();
    let (mut shown, mut hidden) = (0, Vec::new());
    for (name, value) in said(response) {
        let is_code = name == "error" && CODES.contains(&&*value);
        let value = if is_code {
            Some(value)
        } else {
            sent.shown(&value)
        };
        let Some(value) = value else {
            hidden.push(name);
            continue;
        };
        // The error must be the first one. Without it the status says most.
        if shown == 0 && name != "error" {
            text.push_str(&format!(" cannot fetch token: {status}:"));
        }
        match name {
            "error" | "error_description" | "error_uri" => text.push_str(&format!(" {value:?}")),
            _ => text.push_str(&format!(" {name} {value:?}")),
        }
        shown += 1;
    }
    if shown == 0 {
        text.push_str(&format!(" cannot fetch token: {status}"));
    }
    if !hidden.is_empty() {
        let names = hidden.join(", ");
        text.push_str(&format!(
            "; {names}: not shown, because it may contain a credential"
        ));
    } else if shown == 0 && !body.is_empty() {
        let kind = media_type(response);
        let is_type = kind.len() < 64 && kind.contains('/') && !kind.contains(' ');
        let kind = sent.shown(&kind).filter(|_| is_type);
        let kind = kind.map(|kind| format!(", {kind},")).unwrap_or_default();
        text.push_str(&format!(
            "; its body of {} bytes{kind} is not shown",
            body.len()
        ));
    }
    text
}

/// The members of an error response that are shown, in this order.
fn said(response: &SideResponse) -> Vec<(&'static str, String)> {
    let mut members: HashMap<String, String> = if is_form(response) {
        form_urlencoded::parse(&response.body)
            .into_owned()
            .collect()
    } else {
        let object: serde_json::Map<String, Value> =
            serde_json::from_slice(&response.body).unwrap_or_default();
        let texts = object.into_iter().filter_map(|(name, value)| match value {
            Value::String(text) => Some((name, text)),
            _ => None,
        });
        texts.collect()
    };
    let texts = SHOWN.map(|name| (name, members.remove(name).unwrap_or_default()));
    texts
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .collect()
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
fn life(expires_in: Option<&Value>) -> Option<Duration> {
    let seconds = match expires_in? {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
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
        sent.add("s3cr:et/+");
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
            "oauth2: cannot fetch token: 503 Service Unavailable; its body of 4 bytes, text/html, is not shown"
        );
        assert_eq!(
            json("{}").unwrap_err(),
            "oauth2: server response missing access_token"
        );
        assert!(json("{\"access_token\":\"a\\nb\"}").is_err());
    }

    fn told(status: u16, kind: &'static str, body: &str) -> String {
        let error = token(&response(status, kind, body), sent).err();
        error.expect(body).to_string()
    }

    #[test]
    fn secrets_in_the_body_of_an_error_are_not_shown() {
        for body in [
            r#"{"access_token":"SECRET"}"#,
            r#"{"message":"bad","received":{"client_secret":"s3cr:et/+"}}"#,
            r#"{"message":"bad","s3cr:et/+":"s3cr:et/+"}"#,
            r#"{"said":"{\"client-secret\":\"SECRET\"}"}"#,
            r#"{"message":{"client-secret":"SECRET"}}"#,
            "bad secret s3cr:et/+",
            "client_id=a&error=s3cr%3aet%2F%2B",
            "you sent dGhlK2lkOnMzY3IlM0FldCUyRiUyQg",
            r#"{"message":"wrong: s3cr:et\/+"}"#,
            "<error><client_secret>SECRET</client_secret></error>",
        ] {
            for (status, kind) in [
                (400, "application/json"),
                (500, "text/plain"),
                (401, "s3cr:et/+/a"),
            ] {
                let text = told(status, kind, body);
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
    }

    #[test]
    fn an_error_shows_the_usual_members_and_no_others() {
        for (body, shown) in [
            (
                r#"{"trace":[1],"message":"no","detail":5,"title":"t"}"#,
                r#"oauth2: cannot fetch token: 500 Internal Server Error: title "t" message "no""#,
            ),
            (
                r#"{"error":"x","error_description":"a\u0000"}"#,
                r#"oauth2: "x"; error_description: not shown, because it may contain a credential"#,
            ),
            (
                r#"{"error":"bad s3cr:et/+"}"#,
                "oauth2: cannot fetch token: 500 Internal Server Error; error: not shown, because it may contain a credential",
            ),
            (
                r#"{"error":{"code":5}}"#,
                "oauth2: cannot fetch token: 500 Internal Server Error; its body of 20 bytes, application/json, is not shown",
            ),
            ("", "oauth2: cannot fetch token: 500 Internal Server Error"),
        ] {
            assert_eq!(told(500, "application/json", body), shown);
        }
        let form = "error=invalid_grant&error_description=too+old&x=SECRET";
        let kind = "application/x-www-form-urlencoded";
        assert_eq!(
            told(400, kind, form),
            r#"oauth2: "invalid_grant" "too old""#
        );
    }

    #[test]
    fn a_registered_code_is_shown_whatever_the_secret_is() {
        let response = response(400, "application/json", r#"{"error":"invalid_client"}"#);
        let error = token(&response, || {
            let mut sent = KnownSecrets::default();
            sent.add("client");
            sent
        });
        assert_eq!(
            error.err().unwrap().to_string(),
            r#"oauth2: "invalid_client""#
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
