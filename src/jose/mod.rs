//! Tokens, key sets and signatures: functions over bytes, independent of HTTP.
//!
//! | module | content |
//! |---|---|
//! | [`algorithm`] | the algorithms that we support, and sets of them |
//! | [`reason`] | why a token was rejected: the word for metrics and the sentence for the log |
//! | [`strict_json`] | strict JSON: no duplicate members, limited depth |
//! | [`key`], [`key_set`] | public keys prepared for verification, looked up by the ids in a token |
//! | `material`, `edwards`, `thumbprint` | checks of a published key |
//! | [`token`] | parsing of a compact JWS before its signature is verified |
//! | [`verifier`] | the steps from a token's text to its claims, with or without the cache |
//! | [`cache`] | tokens whose signature was verified |
//! | [`claims`], [`rules`], `weight` | the claims of a token, what an endpoint requires of them, and the memory that they take |
//! | [`dpop`] | proofs that a client has the key to which its token is bound |
//! | [`propagate`] | claims copied into headers and paths |
//! | [`sign`] | tokens that we issue |
//! | [`bloom`] | revoked tokens |
//! | [`sealed`] | encrypted key files |
//!
//! Nothing here blocks, opens a connection or reads a clock. The caller passes `now` as the time since the Unix
//! epoch.

pub(crate) mod algorithm;
pub(crate) mod bloom;
pub(crate) mod cache;
pub(crate) mod claims;
pub(crate) mod dpop;
mod edwards;
pub(crate) mod key;
pub(crate) mod key_set;
mod material;
pub(crate) mod propagate;
pub(crate) mod reason;
pub(crate) mod rules;
pub(crate) mod sealed;
pub(crate) mod sign;
pub(crate) mod strict_json;
#[cfg(test)]
pub(crate) mod testing;
mod thumbprint;
pub(crate) mod token;
pub(crate) mod verifier;
mod weight;

pub use algorithm::{Algorithm, Algorithms, install_crypto};
pub(crate) use cache::CacheStats;
pub use cache::{CacheLimits, Origin, TokenCache};
pub(crate) use claims::{ClaimPath, Claims};
pub(crate) use key::KeyFault;
pub(crate) use key_set::KeySetError;
pub use key_set::{KeyIdStrategy, KeySet};
pub use reason::Reason;
pub(crate) use reason::Rejection;
pub use rules::Rules;
pub(crate) use rules::{Check, ScopeMatcher};
pub use sign::{Serialization, Signer};
pub(crate) use token::Purpose;
pub use token::Token;
pub(crate) use token::{SubjectToken, bearer, bearer_bytes, dpop_token, token_text};
pub use verifier::Verifier;
pub(crate) use verifier::{Step, Verified};
