//! Tokens, key sets, signatures: functions over bytes that know nothing of HTTP.
//!
//! | module | what lives there |
//! |---|---|
//! | [`algorithm`] | the names of RFC 7518 that we know, and nothing else |
//! | [`reason`] | why a token was refused: the word for metrics, the sentence for the log |
//! | [`strict`] | JSON read without forgiveness: no duplicate members, bounded depth |
//! | [`key`], [`key_set`] | public keys ready to verify, found by what a token says of its key |
//! | `material`, `edwards`, `thumbprint` | what makes a published key sound, and what belongs to it |
//! | [`token`] | a compact JWS taken apart: what stands in it before anybody believes it |
//! | [`verifier`] | the steps from text to claims, one by one, with or without the cache |
//! | [`cache`] | tokens whose signature was verified, so that it need not be verified again |
//! | [`claims`], [`rules`] | what the token says, and what an endpoint demands of it |
//! | [`propagate`] | claims on their way into header fields and paths |
//! | [`sign`] | tokens that we issue |
//! | [`bloom`] | revoked tokens |
//! | [`sealed`] | key files that are stored encrypted |
//!
//! Nothing here waits, opens a connection or reads a clock: `now` is handed in, as the time since the Unix epoch.

pub mod algorithm;
pub mod bloom;
pub mod cache;
pub mod claims;
mod edwards;
pub mod key;
pub mod key_set;
mod material;
pub mod propagate;
pub mod reason;
pub mod rules;
pub mod sealed;
pub mod sign;
pub mod strict;
#[cfg(test)]
pub(crate) mod testing;
mod thumbprint;
pub mod token;
pub mod verifier;

pub use algorithm::{Algorithm, install_crypto};
pub use cache::{CacheLimits, CacheStats, Origin, TokenCache};
pub use claims::{ClaimPath, Claims};
pub use key::KeyFault;
pub use key_set::{KeyIdStrategy, KeySet, KeySetError, Parsed, Skipped};
pub use reason::{Reason, Refusal};
pub use rules::{Check, Rules, ScopeMatcher};
pub use sign::{Serialization, Signer};
pub use token::{Token, bearer};
pub use verifier::{Step, Verified, Verifier};
