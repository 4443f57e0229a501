//! Signed introspection responses (RFC 9701).

use std::sync::Arc;
use std::time::Duration;

use http::header::CONTENT_TYPE;
use serde_json::Value;

use crate::ext::identity::{NoAnswer, PublicKeys};
use crate::jose::{Check, Claims, Purpose, Reason, Rejection, Rules, Verifier};
use crate::upstream::SideResponse;
use crate::upstream::keys::KeySource;

/// The media type of signed responses, for `Accept` (RFC 9701 §4).
pub(super) const MEDIA_TYPE: &str = "application/token-introspection+jwt";

/// How signed responses are verified.
#[derive(Debug)]
pub(super) struct Signed {
    pub(super) source: Arc<KeySource<PublicKeys>>,
    pub(super) verifier: Verifier,
    /// The provider.
    pub(super) issuer: Box<str>,
    /// The gateway, by its client id.
    pub(super) audience: Box<str>,
    /// Tolerated clock difference for `nbf` and `iat`.
    pub(super) leeway: Duration,
}

impl Signed {
    /// The JSON object about the token. Waits for keys for at most `limit`. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// The response is not signed, or is not meant for this gateway.
    pub(super) async fn open(
        &self,
        response: &SideResponse,
        limit: Duration,
        now: Duration,
    ) -> Result<Vec<u8>, NoAnswer> {
        let kind = response.headers.get(CONTENT_TYPE);
        let kind = kind.and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case(MEDIA_TYPE) {
            return Err(NoAnswer::response("the response is not signed"));
        }
        let text = std::str::from_utf8(&response.body)
            .map_err(|_| NoAnswer::response("the signed response is not text"))?
            .trim();
        self.source.ready(limit, |_| true).await;
        let claims = match self.verify(text) {
            unknown if is_unknown(&unknown) => {
                let is_known = |_: &PublicKeys| !is_unknown(&self.verify(text));
                self.source.refresh_for_unknown(limit, is_known).await;
                self.verify(text)
            }
            verified => verified,
        };
        let claims = claims.map_err(|rejection| unusable(&rejection))?;
        self.about_token(&claims, now).map_err(NoAnswer::response)
    }

    fn verify(&self, text: &str) -> Result<Claims, Rejection> {
        let current = self.source.current();
        let snapshot = current.as_ref().ok_or_else(Rejection::keys_unavailable)?;
        let verifier = Verifier {
            purpose: Purpose::Introspection,
            ..self.verifier
        };
        verifier.verify(text, &snapshot.set.0)
    }

    /// The checks of RFC 9701 §5.
    fn about_token(&self, claims: &Claims, now: Duration) -> Result<Vec<u8>, &'static str> {
        if claims.issuer() != Some(&*self.issuer) {
            return Err("the signed response is from another issuer");
        }
        let is_ours = match claims.claim("aud") {
            Some(Value::String(one)) => *one == *self.audience,
            Some(Value::Array(several)) => several.iter().any(|one| *one == *self.audience),
            _ => false,
        };
        if !is_ours {
            return Err("the signed response is for another audience");
        }
        if claims.issued_at().is_none() {
            return Err("the signed response has no iat");
        }
        // Both dates as for other tokens (RFC 7519 §4.1.5).
        let clock = Rules {
            leeway: self.leeway,
            ..Rules::default()
        };
        let holds = |check| clock.run(check, claims, now).is_ok();
        if !holds(Check::NotBefore) || !holds(Check::IssuedAt) {
            return Err("the signed response is not valid yet");
        }
        if claims
            .expiry()
            .is_some_and(|ends| ends.since_epoch() <= now)
        {
            return Err("the signed response has expired");
        }
        match claims.claim("token_introspection") {
            Some(about @ Value::Object(_)) => Ok(about.to_string().into_bytes()),
            _ => Err("the signed response has no token_introspection"),
        }
    }
}

fn is_unknown(verified: &Result<Claims, Rejection>) -> bool {
    matches!(verified, Err(rejection) if rejection.reason == Reason::UnknownKey)
}

fn unusable(rejection: &Rejection) -> NoAnswer {
    NoAnswer::response(format!("the signed response: {rejection}"))
}
