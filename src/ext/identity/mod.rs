//! What the extensions about identity share.
//!
//! | module | what lives there |
//! |---|---|
//! | `demand` | what an endpoint demands of tokens besides: an expression, for instance; validators ask it |
//! | `revocation` | who knows which tokens are revoked: a revoker leaves it, validators ask it |
//! | `key_file` | `jwk_local_path` with `secret_url` and `cypher_key`: key files, also encrypted ones |
//! | `keys` | the process's key sets and its cache of verified tokens |
//! | `status` | both of them in numbers, for metrics and tables |
//! | `token_cache` | `portcullis/token-cache`: the bounds of that cache |

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
