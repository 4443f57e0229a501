//! The interface to revoked tokens.

use std::fmt;
use std::sync::Arc;

use crate::jose::Claims;

/// A list of revoked tokens. Called for every request, including those with a cached token.
pub(crate) trait Revocation: Send + Sync + fmt::Debug {
    /// Whether the token with these claims is revoked. Must not block or allocate much.
    fn is_revoked(&self, claims: &Claims) -> bool;

    /// Whether what was revoked before the start is known.
    fn has_arrived(&self) -> bool {
        true
    }
}

/// The value that a service-level revoker passes, with [`crate::ext::Compile::set_fact`], to the validators compiled
/// after it.
#[derive(Debug, Clone)]
pub(crate) struct Revoker(pub Arc<dyn Revocation>);
