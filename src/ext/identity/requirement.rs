//! Requirements of an endpoint on tokens, in addition to those of its validator.

use std::fmt;
use std::sync::Arc;

use crate::jose::Claims;
use crate::runtime::heavy::Overload;

/// A check that may reject a valid token. Called for every request, including those with a cached token.
pub(crate) trait Requirement: Send + Sync + fmt::Debug {
    /// Whether a token with these claims may pass. Must not block.
    ///
    /// # Errors
    /// The process holds too much to find out.
    fn admits(&self, claims: &Claims) -> Result<bool, Overload>;

    /// For people: the condition that a token with these claims does not fulfil, and why. `None` if it may pass.
    fn refusal(&self, claims: &Claims) -> Option<String>;
}

/// Several checks, all of which must pass.
impl Requirement for Vec<Arc<dyn Requirement>> {
    fn admits(&self, claims: &Claims) -> Result<bool, Overload> {
        for demand in self {
            if !demand.admits(claims)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn refusal(&self, claims: &Claims) -> Option<String> {
        self.iter().find_map(|demand| demand.refusal(claims))
    }
}
