//! The steps from a token's text to its claims, with or without the cache.

use std::sync::Arc;
use std::time::Duration;

use crate::jose::algorithm::{Algorithm, Algorithms};
use crate::jose::cache::{Origin, Scope, TokenCache};
use crate::jose::claims::Claims;
use crate::jose::key_set::{KeyIdStrategy, KeySet};
use crate::jose::reason::Rejection;
use crate::jose::token::{Purpose, Token};

/// How one endpoint verifies a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verifier {
    pub algorithms: Algorithms,
    pub strategy: KeyIdStrategy,
    /// Whether a token without a key id is verified with the only key of the set.
    pub lone_key: bool,
    pub purpose: Purpose,
}

/// The result of [`Verifier::verify_cached`].
#[derive(Debug)]
pub struct Verified {
    pub verdict: Result<Arc<Claims>, Rejection>,
    /// The token was not in the cache. Its verification took as long as a few requests.
    pub computed: bool,
}

/// The steps of a verification, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// The token has three parts in base64url and a JSON header.
    Form,
    /// The header names a configured algorithm.
    Algorithm,
    /// The header requires no extension.
    Extensions,
    /// The header does not name another purpose.
    Type,
    /// The set has the key that the token names.
    Key,
    Signature,
    /// The payload is a JSON object whose registered claims have the right types.
    Claims,
}

impl Step {
    /// The name for output.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Form => "form",
            Step::Algorithm => "algorithm",
            Step::Extensions => "extensions",
            Step::Type => "type",
            Step::Key => "key",
            Step::Signature => "signature",
            Step::Claims => "claims",
        }
    }
}

impl Verifier {
    /// A verifier for one algorithm, which requires tokens to name their key.
    pub const fn new(algorithm: Algorithm, strategy: KeyIdStrategy) -> Verifier {
        Verifier {
            algorithms: Algorithms::only(algorithm),
            strategy,
            lone_key: false,
            purpose: Purpose::Access,
        }
    }

    /// Verifies a token and returns its claims. The claims themselves are checked by [`Rules`](crate::jose::Rules).
    pub fn verify(&self, text: &str, keys: &KeySet) -> Result<Claims, Rejection> {
        self.verify_traced(text, keys, |_, _| ())
    }

    /// Like [`Verifier::verify`], and calls `trace` with each step and its result, for `token explain`.
    pub fn verify_traced(
        &self,
        text: &str,
        keys: &KeySet,
        mut trace: impl FnMut(Step, Result<(), &Rejection>),
    ) -> Result<Claims, Rejection> {
        let token = traced(&mut trace, Step::Form, Token::parse(text))?;
        traced(
            &mut trace,
            Step::Algorithm,
            token.check_algorithm(self.algorithms),
        )?;
        traced(&mut trace, Step::Extensions, token.check_critical())?;
        traced(&mut trace, Step::Type, token.check_type(self.purpose))?;
        let key = traced(
            &mut trace,
            Step::Key,
            keys.find(&token, self.strategy, self.lone_key),
        )?;
        traced(
            &mut trace,
            Step::Signature,
            token.verify(key, self.algorithms),
        )?;
        traced(&mut trace, Step::Claims, token.claims())
    }

    /// Like [`Verifier::verify`], unless the cache has exactly this token, verified with exactly these keys.
    ///
    /// `keys` must be the set that `origin` identifies. `now` and `leeway` only limit how long the token is cached:
    /// the caller checks `exp` and all other claims on every request.
    pub fn verify_cached(
        &self,
        text: &str,
        keys: &KeySet,
        origin: Origin,
        cache: &TokenCache,
        now: Duration,
        leeway: Duration,
    ) -> Verified {
        let scope = self.scope(origin);
        let place = cache.place(text.as_bytes(), scope);
        if let Some(claims) = cache.get_at(place, text.as_bytes(), scope, now) {
            return Verified {
                verdict: Ok(claims),
                computed: false,
            };
        }
        let verdict = self.verify(text, keys).map(Arc::new);
        if let Ok(claims) = &verdict {
            cache.insert_at(place, text, scope, claims, now, leeway);
        }
        Verified {
            verdict,
            computed: true,
        }
    }

    /// The claims of a cached token, which was text when it was verified. Uses no key, and does not count a token that is
    /// not found.
    pub fn recall(
        &self,
        token: &[u8],
        origin: Origin,
        cache: &TokenCache,
        now: Duration,
    ) -> Option<Arc<Claims>> {
        cache.peek(token, self.scope(origin), now)
    }

    fn scope(&self, origin: Origin) -> Scope {
        Scope {
            origin,
            verifier: *self,
        }
    }
}

fn traced<T>(
    trace: &mut impl FnMut(Step, Result<(), &Rejection>),
    step: Step,
    verdict: Result<T, Rejection>,
) -> Result<T, Rejection> {
    trace(step, verdict.as_ref().map(|_| ()));
    verdict
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::cache::CacheLimits;
    use crate::jose::reason::Reason;
    use crate::jose::testing::{hs256_with_header, public_set};

    const VERIFIER: Verifier = Verifier::new(Algorithm::Hs256, KeyIdStrategy::Kid);

    fn steps(text: &str) -> Vec<(&'static str, Option<Reason>)> {
        let mut seen = Vec::new();
        let _ = VERIFIER.verify_traced(text, &public_set(), |step, verdict| {
            seen.push((
                step.as_str(),
                verdict.err().map(|rejection| rejection.reason),
            ));
        });
        seen
    }

    #[test]
    fn each_step_is_traced_until_one_fails() {
        let good = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, "{}");
        let names: Vec<_> = steps(&good).into_iter().map(|(name, _)| name).collect();
        assert_eq!(
            names,
            [
                "form",
                "algorithm",
                "extensions",
                "type",
                "key",
                "signature",
                "claims"
            ]
        );
        let unknown = hs256_with_header(r#"{"alg":"HS256","kid":"x"}"#, "{}");
        assert_eq!(
            steps(&unknown).last(),
            Some(&("key", Some(Reason::UnknownKey)))
        );
        assert_eq!(steps("x"), [("form", Some(Reason::Malformed))]);
        let no_claims = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, "[]");
        assert_eq!(
            steps(&no_claims).last(),
            Some(&("claims", Some(Reason::Malformed)))
        );
    }

    #[test]
    fn a_token_for_another_purpose_is_rejected() {
        let of = |typ: &str, purpose: Purpose| {
            let header = format!(r#"{{"alg":"HS256","kid":"oct","typ":{typ}}}"#);
            let verifier = Verifier {
                purpose,
                ..VERIFIER
            };
            let verified = verifier.verify(&hs256_with_header(&header, "{}"), &public_set());
            verified.map(drop).map_err(|rejection| rejection.reason)
        };
        let wrong = Err(Reason::WrongType);
        for (typ, access, declared, logout) in [
            (r#""JWT""#, Ok(()), wrong, Ok(())),
            (r#""x+jwt""#, Ok(()), wrong, Ok(())),
            ("7", Ok(()), wrong, Ok(())),
            (r#""at+jwt""#, Ok(()), Ok(()), wrong),
            (r#""Application/AT+JWT""#, Ok(()), Ok(()), wrong),
            (r#""logout+jwt""#, wrong, wrong, Ok(())),
            (r#""LOGOUT+jwt""#, wrong, wrong, Ok(())),
            (r#""dpop+jwt""#, wrong, wrong, wrong),
            (r#""application/secevent+jwt""#, wrong, wrong, wrong),
            (r#""token-introspection+jwt""#, wrong, wrong, wrong),
        ] {
            assert_eq!(of(typ, Purpose::Access), access, "{typ}");
            assert_eq!(of(typ, Purpose::DeclaredAccess), declared, "{typ}");
            assert_eq!(of(typ, Purpose::Logout), logout, "{typ}");
        }
        let introspection = r#""token-introspection+jwt""#;
        assert_eq!(of(introspection, Purpose::Introspection), Ok(()));
        assert_eq!(of(r#""JWT""#, Purpose::Introspection), wrong);
    }

    #[test]
    fn only_verified_tokens_are_recalled() {
        let (cache, now) = (TokenCache::new(CacheLimits::default()), Duration::ZERO);
        let origin = Origin(1);
        let good = hs256_with_header(r#"{"alg":"HS256","kid":"oct"}"#, "{}");
        let bad = format!("{good}AAAA");
        for text in [&good, &bad] {
            assert_eq!(VERIFIER.recall(text.as_bytes(), origin, &cache, now), None);
            let _ = VERIFIER.verify_cached(text, &public_set(), origin, &cache, now, now);
        }
        assert!(
            VERIFIER
                .recall(good.as_bytes(), origin, &cache, now)
                .is_some()
        );
        assert!(
            VERIFIER
                .recall(bad.as_bytes(), origin, &cache, now)
                .is_none()
        );
    }
}
