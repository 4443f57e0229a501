//! Shared parts of the extensions about identity.
//!
//! | module | content |
//! |---|---|
//! | `demand` | additional requirements on tokens, such as an expression; validators check them |
//! | `revocation` | the interface to revoked tokens: a revoker provides it, validators use it |
//! | `key_file` | `jwk_local_path` with `secret_url` and `cypher_key`: key files, including encrypted ones |
//! | `keys` | the process's key sets and its cache of verified tokens |
//! | `status` | the state of both, for metrics and tables |
//! | `token_cache` | `portcullis/token-cache`: the limits of that cache |

mod demand;
mod key_file;
mod keys;
mod revocation;
mod status;
mod token_cache;

pub use demand::Demand;
pub use key_file::{KeyFile, keeper_tls};
pub use keys::{Identity, PublicKeys};
pub use revocation::{Revocation, Revoker};
pub use status::IdentityStatus;
pub use token_cache::{Bounds, TOKEN_CACHE};
