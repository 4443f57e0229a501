//! Requirements of an endpoint on tokens, in addition to those of its validator.

use std::fmt;
use std::sync::Arc;

use crate::jose::Claims;

/// A check that may reject a valid token. Called for every request, including those with a cached token.
pub(crate) trait Requirement: Send + Sync + fmt::Debug {
    /// Whether a token with these claims may pass. Must not block.
    fn admits(&self, claims: &Claims) -> bool;

    /// For people: the condition that a token with these claims does not fulfil, and why. `None` if it may pass.
    fn refusal(&self, claims: &Claims) -> Option<String>;
}

/// Several checks, all of which must pass.
impl Requirement for Vec<Arc<dyn Requirement>> {
    fn admits(&self, claims: &Claims) -> bool {
        self.iter().all(|demand| demand.admits(claims))
    }

    fn refusal(&self, claims: &Claims) -> Option<String> {
        self.iter().find_map(|demand| demand.refusal(claims))
    }
}
