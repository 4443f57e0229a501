//! The exchange of one request's token, and the tokens that were issued.

use std::borrow::Cow;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, StatusCode};

use crate::ext::identity::{Inquiry, NoAnswer, Told, ask};
use crate::jose::SubjectToken;
use crate::runtime::clock::Clock;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::single_flights::Digest;
use crate::runtime::step::Credentials;
use crate::upstream::SideClient;
use crate::upstream::credentials::{ClientAuth, IssuedToken, TokenError, issued_token};

/// How long before its end a token is no longer used, so that it does not expire on its way.
const MARGIN: Duration = Duration::from_secs(10);

/// How long a refusal of the token server is not asked for again.
const REFUSED_FOR: Duration = Duration::from_secs(10);

/// A token that is rejected sooner after it was issued is not replaced: the next one would be no better.
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
    pub(super) keep: Duration,
    pub(super) timeout: Duration,
}

/// A token, or the refusal of the token server.
pub(super) type Answer = Result<Issued, Refused>;

#[derive(Clone)]
pub(super) struct Issued {
    authorization: HeaderValue,
    /// By the monotonic clock.
    at: Duration,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refused {
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
}

impl TokenExchange {
    /// The parameters are the same for all tokens of this exchange, so the client's token alone is the question.
    fn question(&self, subject: &SubjectToken) -> Digest {
        self.inquiry.question([subject.as_str().as_bytes()])
    }

    async fn exchange(&self, subject: &SubjectToken) -> Result<Told<Answer>, NoAnswer> {
        let Asked { url, auth, .. } = &self.asked;
        let (fields, now) = (self.fields(subject), self.clock.wall());
        let response = ask(&self.side, url, auth, fields, now).await?;
        self.told(response.status, issued_token(&response))
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

    /// What the response means. A server that could not decide has given no answer.
    fn told(
        &self,
        status: StatusCode,
        outcome: Result<IssuedToken, TokenError>,
    ) -> Result<Told<Answer>, NoAnswer> {
        match outcome {
            Ok(token) => Ok(Told {
                keep: self.keep(token.life),
                bytes: token.authorization.len(),
                refusal: false,
                answer: Ok(Issued {
                    authorization: token.authorization,
                    at: self.clock.now(),
                }),
            }),
            Err(TokenError::Rejected { error, text })
                if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS =>
            {
                let refused = Refused {
                    status: refusal(error.as_deref()),
                    text: text.into(),
                };
                Ok(Told {
                    keep: REFUSED_FOR,
                    bytes: refused.text.len(),
                    refusal: true,
                    answer: Err(refused),
                })
            }
            Err(error) => Err(NoAnswer::new(error.to_string())),
        }
    }

    fn keep(&self, life: Option<Duration>) -> Duration {
        let useful = life.map_or(Duration::MAX, |life| {
            life.saturating_sub(MARGIN.min(life / 10))
        });
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

fn failure(status: StatusCode, text: &str) -> Failure {
    Failure {
        status,
        ..Failure::new(Kind::Credentials, format!("token exchange: {text}"))
    }
}

impl Credentials for TokenExchange {
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
                let text = "the request has no token to exchange";
                return Err(failure(StatusCode::UNAUTHORIZED, text));
            };
            let question = self.question(subject);
            let answer = match self.inquiry.known(&question) {
                Some(answer) => Ok(answer),
                None => {
                    let time = limit.min(self.asked.timeout);
                    let asking = self.inquiry.ask(&question, time, || self.exchange(subject));
                    asking.await
                }
            };
            match answer {
                Ok(Ok(issued)) => Ok(issued.authorization),
                Ok(Err(refused)) => Err(failure(refused.status, &refused.text)),
                Err(late) if late == NoAnswer::LATE && limit <= self.asked.timeout => {
                    Err(Failure::deadline())
                }
                Err(NoAnswer(why)) => Err(failure(StatusCode::BAD_GATEWAY, &why)),
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
