//! The exchange of one request's token, and the tokens that were issued.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};

use crate::ext::identity::{
    CallResult, Cause, Client, Inquiry, JSON, NoAnswer, SubjectWanted, ask, is_bearer_token,
};
use crate::jose::SubjectToken;
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::single_flights::Digest;
use crate::runtime::step::Credentials;
use crate::telemetry::mask::{KnownSecrets, is_secret, without_values};
use crate::upstream::SideClient;
use crate::upstream::credentials::{ClientAuth, IssuedToken, Sent, TokenError, issued_token};

/// How long before its end a token is no longer used, so that it does not expire on its way.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a rejection by the token server is cached.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// A token that the backend rejects within this time after its issue is not replaced, because a new one would be
/// rejected, too.
const YOUNG: Duration = Duration::from_secs(1);

/// The settings of one exchange.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) url: String,
    pub(super) auth: ClientAuth,
    /// The parameters that are the same for every request.
    pub(super) fields: Vec<(String, String)>,
    /// RFC 7523 instead of RFC 8693.
    pub(super) is_bearer: bool,
    pub(super) expected: Expected,
    pub(super) keep: Duration,
    pub(super) timeout: Duration,
}

/// A token, or the rejection by the token server.
pub(super) type Answer = Result<Issued, Refused>;

#[derive(Clone)]
pub(super) struct Issued {
    authorization: HeaderValue,
    /// By the monotonic clock.
    at: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
    /// The request has no token.
    is_missing: bool,
    pub(super) status: StatusCode,
    text: Arc<str>,
}

/// `portcullis/token-exchange` of one backend.
#[derive(Debug)]
pub(super) struct TokenExchange {
    pub(super) asked: Asked,
    pub(super) side: SideClient,
    pub(super) clock: Clock,
    pub(super) inquiry: Arc<Inquiry<Answer>>,
    /// The responses to requests whose token is not exchanged.
    pub(super) wanted: Arc<SubjectWanted>,
}

/// What an exchange expects of a new token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Expected {
    /// RFC 7523: a response of RFC 6749 §5.1.
    Any,
    /// RFC 8693: a bearer token, or one of the type that the configuration asks for.
    Type(Option<String>),
}

impl TokenExchange {
    /// The parameters are the same for all tokens of this exchange, so the client's token alone is the question.
    fn question(&self, subject: &SubjectToken) -> Digest {
        self.inquiry.question([subject.as_str().as_bytes()])
    }

    async fn exchange(
        self: Arc<Self>,
        subject: SubjectToken,
    ) -> Result<CallResult<Answer>, NoAnswer> {
        let Asked { url, auth, .. } = &self.asked;
        let (fields, now) = (self.fields(&subject), self.clock.wall());
        let response = ask(&self.side, url, auth, fields, JSON, now).await?;
        let token = issued_token(&response, || self.secrets(&subject));
        self.told(response.status, token, || self.secrets(&subject))
    }

    /// What the request contains that no log may show.
    fn secrets(&self, subject: &SubjectToken) -> KnownSecrets {
        let mut known = self.asked.auth.secrets();
        known.add(subject.as_str());
        for (_, value) in self.asked.fields.iter().filter(|(name, _)| is_secret(name)) {
            known.add(value);
        }
        known
    }

    fn fields(&self, subject: &SubjectToken) -> Vec<(Cow<'static, str>, String)> {
        let token = subject.as_str().to_owned();
        let text = |name: &'static str, value: &str| (Cow::Borrowed(name), value.to_owned());
        let mut fields = if self.asked.is_bearer {
            vec![
                text("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer"),
                (Cow::Borrowed("assertion"), token),
            ]
        } else {
            vec![
                text(
                    "grant_type",
                    "urn:ietf:params:oauth:grant-type:token-exchange",
                ),
                (Cow::Borrowed("subject_token"), token),
                text(
                    "subject_token_type",
                    "urn:ietf:params:oauth:token-type:access_token",
                ),
            ]
        };
        let own = self.asked.fields.iter().cloned();
        fields.extend(own.map(|(name, value)| (Cow::Owned(name), value)));
        fields
    }

    /// The meaning of the response. If the server could not decide, there is no answer.
    fn told(
        &self,
        status: StatusCode,
        outcome: Result<IssuedToken, TokenError>,
        sent: impl FnOnce() -> KnownSecrets,
    ) -> Result<CallResult<Answer>, NoAnswer> {
        match outcome {
            Ok(token) if !is_bearer_token(token_of(&token.authorization)) => {
                Err(NoAnswer::response(
                    "the new token has characters that a bearer token must not have (RFC 6750 §2.1)",
                ))
            }
            Ok(token) => match self.asked.expected.check(&token.sent, sent) {
                Err(why) => Err(NoAnswer::response(why)),
                Ok(()) => Ok(self.issued(token)),
            },
            Err(TokenError::Rejected { error, text })
                if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS =>
            {
                let refused = Refused {
                    is_missing: false,
                    status: refusal(error.as_deref()),
                    text: text.into(),
                };
                Ok(CallResult {
                    keep: REFUSED_FOR,
                    bytes: refused.text.len(),
                    refusal: true,
                    answer: Err(refused),
                })
            }
            Err(TokenError::Rejected { text, .. }) if !status.is_server_error() => {
                Err(NoAnswer::response(text))
            }
            Err(TokenError::Unusable(why)) => Err(NoAnswer::response(why)),
            Err(error) => Err(NoAnswer::new(error.to_string())),
        }
    }

    fn issued(&self, token: IssuedToken) -> CallResult<Answer> {
        CallResult {
            keep: self.keep(token.life),
            bytes: token.authorization.len(),
            refusal: false,
            answer: Ok(Issued {
                authorization: token.authorization,
                at: self.clock.now(),
            }),
        }
    }

    /// How long a token is used. One whose life is unknown may end at any time, and is used once.
    fn keep(&self, life: Option<Duration>) -> Duration {
        let life = life.unwrap_or_default();
        let useful = life.saturating_sub(MARGIN.min(life / 10));
        useful.min(self.asked.keep)
    }
}

/// The status for the client: 401 if its token is the reason, 403 if it may not have a token for the backend, and 500
/// if the gateway's own client is misconfigured (RFC 6749 §5.2, RFC 8693 §2.2.2).
fn refusal(error: Option<&str>) -> StatusCode {
    match error {
        Some(
            "invalid_grant"
            | "invalid_request"
            | "invalid_token"
            | "interaction_required"
            | "login_required"
            | "consent_required",
        ) => StatusCode::UNAUTHORIZED,
        Some("invalid_target" | "invalid_scope" | "access_denied" | "insufficient_scope") => {
            StatusCode::FORBIDDEN
        }
        _ => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

const ACCESS_TOKEN: &str = "urn:ietf:params:oauth:token-type:access_token";
const JWT: &str = "urn:ietf:params:oauth:token-type:jwt";

impl Expected {
    /// Whether the token may be sent as a bearer token. A token of an unknown kind must not be used (RFC 6749 §7.1).
    fn check(&self, sent: &Sent, secrets: impl FnOnce() -> KnownSecrets) -> Result<(), String> {
        let kind = sent.token_type.as_deref().unwrap_or_default();
        let issued = sent.issued_token_type.as_deref().unwrap_or_default();
        let asked_for = match self {
            Expected::Any => None,
            Expected::Type(asked_for) => {
                let asked_for = asked_for
                    .as_deref()
                    .filter(|asked_for| *asked_for == issued);
                // Without a request for another type, only an access token is meant for this backend.
                if asked_for.is_none() && !matches!(issued, ACCESS_TOKEN | JWT) {
                    let issued = secrets().shown_or_note(issued);
                    return Err(format!(
                        "the server issued no access token, and \"requested_token_type\" does not ask for its issued_token_type {issued:?}"
                    ));
                }
                asked_for
            }
        };
        let is_bearer = kind.eq_ignore_ascii_case("bearer");
        // The type does not matter for other tokens than access tokens (RFC 8693 §2.2.1), if the configuration requests one.
        let is_no_access_token = kind.eq_ignore_ascii_case("n_a")
            && asked_for.is_some_and(|asked_for| asked_for != ACCESS_TOKEN);
        if is_bearer || is_no_access_token {
            return Ok(());
        }
        let kind = secrets().shown_or_note(kind);
        Err(format!(
            "the server issued no bearer token: token_type {kind:?}"
        ))
    }
}

/// The token in `Bearer token`.
fn token_of(authorization: &HeaderValue) -> &[u8] {
    let value = authorization.as_bytes();
    let space = value.iter().position(|byte| *byte == b' ');
    space.map_or(&[], |space| value.split_at(space + 1).1)
}

/// Whether a text has the form of a signed or encrypted JWT (RFC 7519 §3): three or five parts, the first a JSON object.
fn is_jwt(text: &str) -> bool {
    let header = text.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    matches!(text.split('.').count(), 3 | 5)
        && serde_json::from_slice::<Map<String, Value>>(&header)
            .is_ok_and(|header| header.contains_key("alg"))
}

impl TokenExchange {
    fn failure(&self, status: StatusCode, text: &str) -> Failure {
        self.failure_of(Kind::Credentials, status, text)
    }

    /// A failure whose text names the token server.
    fn failure_of(&self, kind: Kind, status: StatusCode, text: &str) -> Failure {
        let url = without_values(&self.asked.url);
        Failure {
            status,
            ..Failure::new(kind, format!("token exchange at {url}: {text}"))
        }
    }

    /// How long a call waits for its token. A part of the endpoint's time is left, so that the client learns which
    /// server is late.
    fn time(&self, limit: Duration) -> Duration {
        self.asked.timeout.min(limit - limit / 10)
    }

    /// The client gets the response of the endpoint's validator: with a challenge (RFC 9110 §15.5.2) and the reason.
    fn refused(&self, refused: &Refused) -> Failure {
        let rejections = &self.wanted.rejections;
        let (kind, response) = match refused.status {
            _ if refused.is_missing => (Kind::TokenMissing, &rejections.missing),
            StatusCode::UNAUTHORIZED => (Kind::ExchangeRefused, &rejections.refused),
            StatusCode::FORBIDDEN => (Kind::ExchangeForbidden, &rejections.forbidden),
            other => return self.failure(other, &refused.text),
        };
        let mut fields = response.fields.clone();
        let content_type = fields.iter().position(|(name, _)| *name == CONTENT_TYPE);
        let content_type = content_type.map(|at| fields.remove(at).1);
        let has_body = !response.body.is_empty();
        Failure {
            passed: Some(Box::new(fields)),
            body: has_body.then(|| (response.body.clone(), content_type)),
            ..self.failure_of(kind, refused.status, &refused.text)
        }
    }
}

impl Credentials for Arc<TokenExchange> {
    fn replaces_subject(&self) -> bool {
        true
    }

    fn ready(&self, subject: Option<&SubjectToken>) -> Option<HeaderValue> {
        let known = self.inquiry.known(&self.question(subject?))?;
        known.ok().map(|issued| issued.authorization)
    }

    fn fetch<'a>(
        &'a self,
        subject: Option<&'a SubjectToken>,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let Some(subject) = subject else {
                // The endpoint accepts requests without a token.
                return Err(self.refused(&Refused {
                    is_missing: true,
                    status: StatusCode::UNAUTHORIZED,
                    text: "the request has no token to exchange".into(),
                }));
            };
            // The assertion must be a JWT (RFC 7523 §2.1). An opaque token stays with its own server.
            if self.asked.is_bearer && !is_jwt(subject.as_str()) {
                return Err(self.refused(&Refused {
                    is_missing: false,
                    status: StatusCode::UNAUTHORIZED,
                    text: "an opaque token cannot be sent as an assertion".into(),
                }));
            }
            let question = self.question(subject);
            let answer = match self.inquiry.known(&question) {
                Some(answer) => Ok(answer),
                None => {
                    let (client, time) = (Client::ANY, self.time(limit));
                    let call = || Arc::clone(self).exchange(subject.clone());
                    self.inquiry.ask(&question, client, time, call).await
                }
            };
            match answer {
                Ok(Ok(issued)) => Ok(issued.authorization),
                Ok(Err(refused)) => Err(self.refused(&refused)),
                Err(NoAnswer { why, cause }) => Err(match cause {
                    Cause::Busy => self.failure(StatusCode::SERVICE_UNAVAILABLE, &why),
                    Cause::Server | Cause::Response | Cause::Late => {
                        self.failure(StatusCode::BAD_GATEWAY, &why)
                    }
                }),
            }
        })
    }

    fn rejected(&self, subject: Option<&SubjectToken>, value: &HeaderValue) -> bool {
        let Some(question) = subject.map(|subject| self.question(subject)) else {
            return false;
        };
        match self.inquiry.known(&question) {
            Some(Ok(issued)) if issued.authorization == *value => {
                if self.clock.now().saturating_sub(issued.at) < YOUNG {
                    return false;
                }
                self.inquiry.forget(&question);
                true
            }
            Some(Ok(_)) => true,
            // It was not kept: it was just issued.
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::is_jwt;

    #[test]
    fn only_a_jwt_is_an_assertion() {
        // {"alg":"RS256"} and {"alg":"dir"}
        for jwt in [
            "eyJhbGciOiJSUzI1NiJ9.e30.c2ln",
            "eyJhbGciOiJkaXIifQ..aXY.dGV4dA.dGFn",
        ] {
            assert!(is_jwt(jwt), "{jwt}");
        }
        for opaque in [
            "",
            "OPAQUE-1",
            "a.b.c",
            "..",
            "e30.e30.c2ln",
            "eyJhbGciOiJSUzI1NiJ9.e30",
        ] {
            assert!(!is_jwt(opaque), "{opaque}");
        }
    }
}
