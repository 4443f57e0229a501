//! Who knows which tokens are revoked.

use std::fmt;
use std::sync::Arc;

use crate::jose::Claims;

/// Something that knows of revoked tokens. Asked on every request, also for a token that the cache remembers.
pub trait Revocation: Send + Sync + fmt::Debug {
    /// Whether the token with these claims is revoked. Must neither wait nor allocate much.
    fn is_revoked(&self, claims: &Claims) -> bool;
}

/// What a service-level revoker leaves, with [`crate::ext::Compile::leave`], for the validators compiled after it.
#[derive(Debug, Clone)]
pub struct Revoker(pub Arc<dyn Revocation>);
