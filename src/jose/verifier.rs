//! The steps from text to claims, one by one, with or without the cache.

use std::sync::Arc;
use std::time::Duration;

use crate::jose::algorithm::Algorithm;
use crate::jose::cache::{Origin, Scope, TokenCache};
use crate::jose::claims::Claims;
use crate::jose::key_set::{KeyIdStrategy, KeySet};
use crate::jose::reason::Refusal;
use crate::jose::token::Token;

/// How one endpoint gets from a token's text to claims that somebody vouches for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Verifier {
    pub algorithm: Algorithm,
    pub strategy: KeyIdStrategy,
}

/// The steps of a verification, in order, with names for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// Three parts, base64url, a JSON header.
    Form,
    /// The header names the configured algorithm.
    Algorithm,
    /// The header asks for no extension.
    Extensions,
    /// The set has the key that the token names.
    Key,
    Signature,
    /// A JSON object whose registered claims have the right types.
    Claims,
}

impl Step {
    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Step::Form => "form",
            Step::Algorithm => "algorithm",
            Step::Extensions => "extensions",
            Step::Key => "key",
            Step::Signature => "signature",
            Step::Claims => "claims",
        }
    }
}

impl Verifier {
    /// Verifies a token and reads its claims. What the claims are worth is up to [`Rules`](crate::jose::Rules).
    pub fn verify(&self, text: &str, keys: &KeySet) -> Result<Claims, Refusal> {
        self.verify_traced(text, keys, |_, _| ())
    }

    /// The same, telling `trace` of each step and its verdict as it is taken, for `token explain`.
    pub fn verify_traced(
        &self,
        text: &str,
        keys: &KeySet,
        mut trace: impl FnMut(Step, Result<(), &Refusal>),
    ) -> Result<Claims, Refusal> {
        let token = traced(&mut trace, Step::Form, Token::parse(text))?;
        traced(
            &mut trace,
            Step::Algorithm,
            token.check_algorithm(self.algorithm),
        )?;
        traced(&mut trace, Step::Extensions, token.check_critical())?;
        let key = traced(&mut trace, Step::Key, keys.find(&token, self.strategy))?;
        traced(
            &mut trace,
            Step::Signature,
            token.verify(key, self.algorithm),
        )?;
        traced(&mut trace, Step::Claims, token.claims())
    }

    /// The same, unless the cache remembers that this very token was verified with these very keys.
    ///
    /// `keys` must be what `origin` stands for. `now` and `leeway` bound how long the token is remembered; they decide
    /// nothing: the caller checks `exp` and all else on every request.
    pub fn verify_cached(
        &self,
        text: &str,
        keys: &KeySet,
        origin: Origin,
        cache: &TokenCache,
        now: Duration,
        leeway: Duration,
    ) -> Result<Arc<Claims>, Refusal> {
        let scope = Scope {
            origin,
            verifier: *self,
        };
        if let Some(claims) = cache.get(text, scope, now) {
            return Ok(claims);
        }
        let claims = Arc::new(self.verify(text, keys)?);
        cache.insert(text, scope, &claims, now, leeway);
        Ok(claims)
    }
}

fn traced<T>(
    trace: &mut impl FnMut(Step, Result<(), &Refusal>),
    step: Step,
    verdict: Result<T, Refusal>,
) -> Result<T, Refusal> {
    trace(step, verdict.as_ref().map(|_| ()));
    verdict
}
