//! The interface that signs composed responses, for `auth/signer`.

use std::fmt;

use crate::runtime::failure::Failure;
use crate::runtime::json::Value;
use crate::upstream::budget::Charge;

/// Signs members of a composed response.
pub trait ResponseSigner: Send + Sync + fmt::Debug {
    /// Whether the signing key is available. Without it the endpoint responds to every request with 401.
    fn ready(&self) -> bool;

    /// Replaces the members that are to be signed, in place. Members that are not objects are unchanged. `held` is the
    /// charge for the signatures.
    ///
    /// # Errors
    /// There is no key, or no memory.
    fn sign(&self, data: &mut Value, held: &mut Charge) -> Result<(), Failure>;
}
