//! The token request, in exactly the form that KrakenD sends.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{AUTHORIZATION, HeaderMap, HeaderValue};

use super::response::TokenError;
use crate::telemetry::mask::{KnownSecrets, is_secret};
use crate::upstream::side::SideTls;

/// The parameters of a token request (`auth/client-credentials`).
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct ClientCredentials {
    pub client_id: String,
    pub client_secret: String,
    pub token_url: String,
    /// Scopes joined by spaces, for `scope`. An empty value is sent too, as in KrakenD; `None` omits it.
    pub scope: Option<String>,
    /// Additional form fields (`endpoint_params`).
    pub params: Vec<(String, Vec<String>)>,
    pub tls: SideTls,
}

impl ClientCredentials {
    /// What the request contains that no log may show.
    pub(super) fn secrets(&self) -> KnownSecrets {
        let mut known = KnownSecrets::default();
        known.add(&self.client_secret);
        for (_, values) in self.params.iter().filter(|(name, _)| is_secret(name)) {
            values.iter().for_each(|value| known.add(value));
        }
        known
    }
}

impl fmt::Debug for ClientCredentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientCredentials")
            .field("client_id", &self.client_id)
            .field("client_secret", &"[redacted]")
            .field("token_url", &self.token_url)
            .finish_non_exhaustive()
    }
}

/// How a client authenticates to the token endpoint (RFC 6749 §2.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum AuthStyle {
    /// `Authorization: Basic`.
    Header,
    /// `client_id` and `client_secret` in the form.
    Form,
}

/// The headers and the body of the request.
pub(super) fn token_request(
    of: &ClientCredentials,
    style: AuthStyle,
) -> Result<(HeaderMap, String), TokenError> {
    let mut fields: Vec<(&str, &str)> = Vec::new();
    for (name, values) in &of.params {
        if name == "scope" {
            return Err(TokenError::Request(
                "oauth2: cannot overwrite parameter \"scope\"".to_owned(),
            ));
        }
        fields.extend(values.iter().map(|value| (name.as_str(), value.as_str())));
    }
    if !of.params.iter().any(|(name, _)| name == "grant_type") {
        fields.push(("grant_type", "client_credentials"));
    }
    fields.extend(of.scope.as_deref().map(|scope| ("scope", scope)));
    let mut headers = HeaderMap::new();
    match style {
        AuthStyle::Header => {
            headers.insert(AUTHORIZATION, basic(&of.client_id, &of.client_secret)?);
        }
        AuthStyle::Form => {
            fields.retain(|(name, _)| !matches!(*name, "client_id" | "client_secret"));
            fields.push(("client_id", &of.client_id));
            fields.push(("client_secret", &of.client_secret));
        }
    }
    // Sorted by name. Values of the same name keep their order.
    fields.sort_by_key(|(name, _)| *name);
    Ok((headers, form(&fields)))
}

/// Both parts are form-encoded before they are joined (RFC 6749 §2.3.1).
pub(super) fn basic(client_id: &str, secret: &str) -> Result<HeaderValue, TokenError> {
    let pair = format!("{}:{}", form_encoded(client_id), form_encoded(secret));
    let mut value = HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(pair)))
        .map_err(|_| TokenError::Request("oauth2: credentials cannot be sent".to_owned()))?;
    value.set_sensitive(true);
    Ok(value)
}

/// The body of a form (`application/x-www-form-urlencoded`).
pub(crate) fn form<N: AsRef<str>, V: AsRef<str>>(fields: &[(N, V)]) -> String {
    let pairs = fields.iter().map(|(name, value)| {
        format!(
            "{}={}",
            form_encoded(name.as_ref()),
            form_encoded(value.as_ref())
        )
    });
    pairs.collect::<Vec<_>>().join("&")
}

/// `application/x-www-form-urlencoded` as Go writes it: unreserved bytes of RFC 3986 are unchanged, a space becomes
/// `+`.
fn form_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                encoded.push(char::from(byte));
            }
            b' ' => encoded.push('+'),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) fn credentials() -> ClientCredentials {
        ClientCredentials {
            client_id: "the id".to_owned(),
            client_secret: "s3cr:et/+".to_owned(),
            token_url: "http://h/token".to_owned(),
            scope: Some("a b".to_owned()),
            params: vec![
                (
                    "resource".to_owned(),
                    vec!["r1".to_owned(), "r2".to_owned()],
                ),
                ("audience".to_owned(), vec!["https://aud/".to_owned()]),
            ],
            tls: SideTls::default(),
        }
    }

    #[test]
    fn the_request_equals_that_of_krakend() {
        let (headers, body) = token_request(&credentials(), AuthStyle::Header).unwrap();
        assert_eq!(
            headers[AUTHORIZATION],
            "Basic dGhlK2lkOnMzY3IlM0FldCUyRiUyQg=="
        );
        assert_eq!(
            body,
            "audience=https%3A%2F%2Faud%2F&grant_type=client_credentials&resource=r1&resource=r2&scope=a+b"
        );
    }

    #[test]
    fn the_configured_client_overrides_form_fields() {
        let mut credentials = credentials();
        credentials.params = vec![("client_id".to_owned(), vec!["other".to_owned()])];
        let (headers, body) = token_request(&credentials, AuthStyle::Form).unwrap();
        assert!(headers.is_empty());
        assert_eq!(
            body,
            "client_id=the+id&client_secret=s3cr%3Aet%2F%2B&grant_type=client_credentials&scope=a+b"
        );
    }

    #[test]
    fn a_custom_grant_type_is_kept_and_a_scope_is_rejected() {
        let mut credentials = credentials();
        credentials.params = vec![("grant_type".to_owned(), vec!["x".to_owned()])];
        let (_, body) = token_request(&credentials, AuthStyle::Header).unwrap();
        assert_eq!(body, "grant_type=x&scope=a+b");
        credentials.params = vec![("scope".to_owned(), vec![])];
        assert!(token_request(&credentials, AuthStyle::Header).is_err());
    }

    #[test]
    fn a_scope_may_be_empty_or_absent() {
        let body = |scope: Option<&str>| {
            let credentials = ClientCredentials {
                scope: scope.map(str::to_owned),
                params: Vec::new(),
                ..credentials()
            };
            token_request(&credentials, AuthStyle::Header).unwrap().1
        };
        assert_eq!(body(Some("")), "grant_type=client_credentials&scope=");
        assert_eq!(body(None), "grant_type=client_credentials");
    }

    #[test]
    fn secrets_are_not_printed() {
        assert!(!format!("{:?}", credentials()).contains("s3cr"));
    }
}
