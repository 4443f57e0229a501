//! Where a composed answer is signed, for `auth/signer`.

use std::fmt;

use crate::runtime::failure::Failure;
use crate::runtime::json::Value;

/// Signs members of a composed answer (spec/auth.md §3).
pub trait ResponseSigner: Send + Sync + fmt::Debug {
    /// Whether the signing key is there. Without one the endpoint answers 401 to everything.
    fn ready(&self) -> bool;

    /// Replaces the members that are to be signed, in place; members that are no objects are left alone.
    fn sign(&self, data: &mut Value) -> Result<(), Failure>;
}
