//! Opaque tokens: the gateway asks the provider whether a token is active, and for its claims (RFC 7662).

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;
use serde_json::Value;

use super::signed_introspection::{MEDIA_TYPE, Signed};
use crate::ext::identity::{
    CallResult, Cause, Client, Inquiry, JSON, NoAnswer, ask, is_bearer_token,
};
use crate::jose::{Claims, Reason, Rejection};
use crate::runtime::clock::Clock;
use crate::telemetry::mask::without_values;
use crate::upstream::SideClient;
use crate::upstream::credentials::ClientAuth;

/// The longest token that is sent to a provider. Headers are rarely allowed to be longer.
const MAX_TOKEN_BYTES: usize = 8 * 1024;

/// The settings of one introspection endpoint.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) url: String,
    pub(super) auth: ClientAuth,
    /// Filled into responses without `iss`: the endpoint belongs to this issuer.
    pub(super) issuer: Option<Box<str>>,
    /// How long an active token is kept at most. Its `exp` may end it before.
    pub(super) active_for: Duration,
    /// How long an inactive token is kept. Zero disables it.
    pub(super) inactive_for: Duration,
    /// How long a request waits for a response.
    pub(super) timeout: Duration,
}

/// What the provider said about a token: its claims, or that it is not active.
pub(super) type Answer = Result<Arc<Claims>, Rejection>;

/// One introspection endpoint, with what it said about tokens.
pub struct Introspection {
    pub(super) asked: Asked,
    pub(super) side: SideClient,
    /// How responses are verified, if they must be signed.
    pub(super) signed: Option<Signed>,
    pub(super) clock: Clock,
    pub(super) inquiry: Arc<Inquiry<Answer>>,
}

impl Introspection {
    /// The URL without credentials and values of its query.
    pub(super) fn label(&self) -> String {
        without_values(&self.asked.url)
    }

    /// What is known about a token without a call. `None` if the provider must be asked.
    pub(super) fn known(&self, token: &str) -> Option<Answer> {
        if token.len() > MAX_TOKEN_BYTES || !is_bearer_token(token.as_bytes()) {
            return Some(Err(Rejection::new(
                Reason::Malformed,
                "the token has characters that a bearer token must not have (RFC 6750 §2.1), or is too long",
            )));
        }
        self.inquiry
            .known(&self.inquiry.question([token.as_bytes()]))
    }

    /// Calls the provider, or waits for an equal call, for at most `limit`. `client` sent the token.
    pub(super) async fn ask(
        self: &Arc<Self>,
        token: &str,
        client: Client,
        limit: Duration,
    ) -> Answer {
        let question = self.inquiry.question([token.as_bytes()]);
        let limit = limit.min(self.asked.timeout);
        let call = || {
            let (one, token) = (Arc::clone(self), token.to_owned());
            async move { one.fetch(&token).await }
        };
        match self.inquiry.ask(&question, client, limit, call).await {
            Ok(answer) => answer,
            Err(NoAnswer { why, cause }) => Err(Rejection::new(
                match cause {
                    Cause::Busy => Reason::Overloaded,
                    Cause::Server | Cause::Response | Cause::Late => {
                        Reason::IntrospectionUnavailable
                    }
                },
                why,
            )),
        }
    }

    async fn fetch(&self, token: &str) -> Result<CallResult<Answer>, NoAnswer> {
        let fields = vec![
            ("token".into(), token.to_owned()),
            ("token_type_hint".into(), "access_token".to_owned()),
        ];
        let now = self.clock.wall();
        let Asked { url, auth, .. } = &self.asked;
        let accept = self.signed.as_ref().map_or(JSON, |_| MEDIA_TYPE);
        let response = ask(&self.side, url, auth, fields, accept, now).await?;
        match response.status {
            status if status.is_success() => {}
            // The provider rejects the gateway, not this token (RFC 7662 §2.3). Further calls would fail, too.
            StatusCode::UNAUTHORIZED => {
                return Err(NoAnswer::new(
                    "the provider rejects the gateway as its client",
                ));
            }
            status => return Err(NoAnswer::status(status)),
        }
        let answer = match &self.signed {
            None => self.answer(&response.body)?,
            Some(signed) => {
                let about = signed.open(&response, self.asked.timeout, now).await?;
                self.answer(&about)?
            }
        };
        Ok(CallResult {
            // The time of the response, and not of the call: nothing is kept beyond `exp` (RFC 7662 §4).
            keep: self.keep(&answer, self.clock.wall()),
            bytes: answer.as_ref().map_or(0, |claims| claims.weight()),
            refusal: answer.is_err(),
            answer,
        })
    }

    fn keep(&self, answer: &Answer, now: Duration) -> Duration {
        match answer {
            Ok(claims) => {
                let ends = claims.expiry().map(|expiry| expiry.since_epoch());
                let left = ends.map_or(Duration::MAX, |ends| ends.saturating_sub(now));
                left.min(self.asked.active_for)
            }
            Err(_) => self.asked.inactive_for,
        }
    }

    /// Reads a response (RFC 7662 §2.2). Anything except a clear `"active": true` counts as not active.
    fn answer(&self, body: &[u8]) -> Result<Answer, NoAnswer> {
        let claims = match Claims::parse(body) {
            Ok(claims) => claims,
            // The provider has responded, but a rule could not use the response.
            Err(rejection) if rejection.reason == Reason::BadClaim => return Ok(Err(rejection)),
            Err(rejection) => {
                return Err(NoAnswer::response(format!(
                    "not a JSON object: {rejection}"
                )));
            }
        };
        match claims.claim("active").and_then(Value::as_bool) {
            Some(true) if is_of_another_kind(&claims) => Ok(Err(Rejection::new(
                Reason::WrongType,
                "the provider says that this is no access token",
            ))),
            Some(true) => Ok(Ok(Arc::new(match &self.asked.issuer {
                Some(issuer) => claims.or_issuer(issuer),
                None => claims,
            }))),
            Some(false) => Ok(Err(inactive())),
            None => Err(NoAnswer::response("the response has no \"active\"")),
        }
    }
}

impl fmt::Debug for Introspection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Introspection").field(&self.label()).finish()
    }
}

/// Whether the provider says that the token is not an access token.
///
/// A provider finds tokens of all kinds, whatever the hint says (RFC 7662 §2.1). A refresh token is active, too, but it
/// is for the provider alone. The members are those of Ory Hydra (`token_use`), of other servers (`token_type`) and of
/// Keycloak (`typ`).
fn is_of_another_kind(claims: &Claims) -> bool {
    const KINDS: [&str; 6] = [
        "refresh_token",
        "refresh",
        "offline",
        "id_token",
        "id",
        "logout",
    ];
    const URN: &str = "urn:ietf:params:oauth:token-type:";
    ["token_use", "token_type", "typ"].iter().any(|name| {
        let kind = claims.claim(name).and_then(Value::as_str);
        let kind = kind.map(|kind| kind.strip_prefix(URN).unwrap_or(kind));
        kind.is_some_and(|kind| KINDS.iter().any(|one| one.eq_ignore_ascii_case(kind)))
    })
}

fn inactive() -> Rejection {
    Rejection::new(
        Reason::Inactive,
        "the provider says that the token is not active",
    )
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::ext::identity::CacheSize;
    use crate::upstream::SideTls;
    use crate::upstream::credentials::ClientProof;

    fn introspection(issuer: Option<&str>) -> Introspection {
        let side =
            SideClient::without_redirects(&SideTls::default(), &HeaderValue::from_static("x"));
        let asked = Asked {
            url: "https://as.example/introspect?x=y".to_owned(),
            auth: ClientAuth {
                client_id: "gateway".to_owned(),
                proof: ClientProof::Basic("secret".to_owned()),
            },
            issuer: issuer.map(Box::from),
            active_for: Duration::from_secs(60),
            inactive_for: Duration::from_secs(10),
            timeout: Duration::from_secs(1),
        };
        let size = CacheSize {
            entries: 10,
            bytes: 10_000,
        };
        let clock = Clock::manual();
        let inquiry = Inquiry::new("x".to_owned(), size, asked.timeout, clock.clone());
        Introspection {
            asked,
            side: side.unwrap(),
            signed: None,
            inquiry: Arc::new(inquiry.unwrap()),
            clock,
        }
    }

    #[test]
    fn only_an_active_token_has_claims() {
        let one = introspection(Some("https://as.example"));
        let read = |body: &str| match one.answer(body.as_bytes()) {
            Ok(answer) => answer.map_err(|rejection| rejection.reason),
            Err(_) => Err(Reason::IntrospectionUnavailable),
        };
        let claims = read(r#"{"active":true,"sub":"ada","exp":5}"#).unwrap();
        assert_eq!(claims.subject(), Some("ada"));
        assert_eq!(claims.issuer(), Some("https://as.example"));
        let other = read(r#"{"active":true,"iss":"https://other"}"#).unwrap();
        assert_eq!(
            other.issuer(),
            Some("https://other"),
            "it stays, and is compared later"
        );
        assert_eq!(
            read(r#"{"active":false,"sub":"ada"}"#),
            Err(Reason::Inactive)
        );
        for unclear in [
            "",
            "{}",
            "true",
            r#"{"active":"true"}"#,
            r#"{"active":1}"#,
            r#"{"active":null}"#,
            r#"{"active":false,"active":true}"#,
            r#"[{"active":true}]"#,
            r#"{"Active":true}"#,
        ] {
            assert_eq!(
                read(unclear),
                Err(Reason::IntrospectionUnavailable),
                "{unclear}"
            );
        }
        assert_eq!(
            read(r#"{"active":true,"exp":"soon"}"#),
            Err(Reason::BadClaim)
        );
    }

    #[test]
    fn an_active_token_of_another_kind_is_rejected() {
        let one = introspection(None);
        let reason = |member: &str| {
            let body = format!(r#"{{"active":true,{member}}}"#);
            let answer = one.answer(body.as_bytes()).unwrap();
            answer.err().map(|rejection| rejection.reason)
        };
        for member in [
            r#""token_use":"refresh_token""#,
            r#""token_type":"refresh_token""#,
            r#""token_type":"urn:ietf:params:oauth:token-type:refresh_token""#,
            r#""token_type":"id_token""#,
            r#""typ":"Refresh""#,
            r#""typ":"Offline""#,
            r#""typ":"ID""#,
        ] {
            assert_eq!(reason(member), Some(Reason::WrongType), "{member}");
        }
        for member in [
            r#""token_type":"Bearer""#,
            r#""token_type":"access_token""#,
            r#""token_type":"DPoP""#,
            r#""token_use":"access_token""#,
            r#""typ":"Bearer""#,
            r#""typ":["refresh"]"#,
            r#""scope":"refresh_token""#,
        ] {
            assert_eq!(reason(member), None, "{member}");
        }
    }

    #[tokio::test]
    async fn a_response_that_took_long_is_not_kept_beyond_the_end_of_the_token() {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

        let mut one = introspection(None);
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        one.asked.url = format!("http://{}/", listener.local_addr().unwrap());
        let clock = one.clock.clone();
        let ends = clock.wall().as_secs() + 30;
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut request = Vec::new();
            while !request.ends_with(b"access_token") {
                stream.read_buf(&mut request).await.unwrap();
            }
            clock.advance(Duration::from_secs(20));
            let body = format!(r#"{{"active":true,"exp":{ends}}}"#);
            let length = body.len();
            let response = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(response.as_bytes()).await.unwrap();
        });
        let told = one.fetch("abc").await.ok().unwrap();
        assert_eq!(told.keep, Duration::from_secs(10));
    }

    #[test]
    fn a_text_that_is_not_a_token_is_not_sent() {
        let one = introspection(None);
        for text in ["a b", "a\tb", "é", "a&token=b", "=", "", &"a".repeat(9000)] {
            let known = one.known(text).unwrap().unwrap_err();
            assert_eq!(known.reason, Reason::Malformed, "{text}");
        }
        for text in ["abc", "a.b~c-d_e+f/g==", "2YotnFZFEjr1zCsicMWpAA"] {
            assert!(one.known(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_result_is_cached_until_the_token_expires_or_for_the_configured_time() {
        let one = introspection(None);
        let keep = |body: &str| {
            let answer = one.answer(body.as_bytes()).unwrap();
            one.keep(&answer, Duration::from_secs(1000)).as_secs()
        };
        assert_eq!(keep(r#"{"active":true,"exp":1030}"#), 30);
        assert_eq!(keep(r#"{"active":true,"exp":9999}"#), 60);
        assert_eq!(keep(r#"{"active":true}"#), 60);
        assert_eq!(keep(r#"{"active":true,"exp":5}"#), 0);
        assert_eq!(keep(r#"{"active":false,"exp":9999}"#), 10);
    }

    #[test]
    fn debug_output_shows_no_secrets() {
        let shown = format!("{:?}", introspection(None));
        assert!(shown.contains("as.example"), "{shown}");
        assert!(
            !shown.contains("=y") && !shown.contains("secret"),
            "{shown}"
        );
    }
}
