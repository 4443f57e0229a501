//! Tokens, key sets and signatures: functions over bytes, independent of HTTP.
//!
//! | module | content |
//! |---|---|
//! | [`algorithm`] | the algorithms that we support, and sets of them |
//! | [`reason`] | why a token was rejected: the word for metrics and the sentence for the log |
//! | [`strict`] | strict JSON: no duplicate members, limited depth |
//! | [`key`], [`key_set`] | public keys prepared for verification, looked up by the ids in a token |
//! | `material`, `edwards`, `thumbprint` | checks of a published key |
//! | [`token`] | parsing of a compact JWS before its signature is verified |
//! | [`verifier`] | the steps from a token's text to its claims, with or without the cache |
//! | [`cache`] | tokens whose signature was verified |
//! | [`claims`], [`rules`] | the claims of a token, and what an endpoint requires of them |
//! | [`dpop`] | proofs that a client has the key to which its token is bound |
//! | [`propagate`] | claims copied into headers and paths |
//! | [`sign`] | tokens that we issue |
//! | [`bloom`] | revoked tokens |
//! | [`sealed`] | encrypted key files |
//!
//! Nothing here blocks, opens a connection or reads a clock. The caller passes `now` as the time since the Unix
//! epoch.

pub mod algorithm;
pub mod bloom;
pub mod cache;
pub mod claims;
pub mod dpop;
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

pub use algorithm::{Algorithm, Algorithms, install_crypto};
pub use cache::{CacheLimits, CacheStats, Origin, TokenCache};
pub use claims::{ClaimPath, Claims, NumericDate};
pub use key::KeyFault;
pub use key_set::{KeyIdStrategy, KeySet, KeySetError, Parsed, Skipped};
pub use reason::{Reason, Rejection};
pub use rules::{Check, Rules, ScopeMatcher};
pub use sign::{Serialization, Signer};
pub use token::{SubjectToken, Token, bearer, dpop_token};
pub use verifier::{Step, Verified, Verifier};
