//! Shared parts of the extensions about identity.
//!
//! | module | content |
//! |---|---|
//! | `client_auth` | how the gateway authenticates at a provider, as configured |
//! | `inquiry` | calls to a server about a credential, with a cache |
//! | `kept`, `turns` | the results that it keeps, and the order of its calls |
//! | `server` | a configured server with its inquiry and its client |
//! | `demand` | additional requirements on tokens, such as an expression; validators check them |
//! | `revocation` | the interface to revoked tokens: a revoker provides it, validators use it |
//! | `key_file` | `jwk_local_path` with `secret_url` and `cypher_key`: key files, including encrypted ones |
//! | `keys` | the process's key sets and its cache of verified tokens |
//! | `parameters` | configured parameters of token requests |
//! | `status` | the state of both, for metrics and tables |
//! | `subject` | whether a request's token is kept for its backends |
//! | `token_cache` | `portcullis/token-cache`: the limits of that cache |

mod client_auth;
mod demand;
mod inquiry;
mod kept;
mod key_file;
mod keys;
mod parameters;
mod revocation;
mod server;
mod status;
mod subject;
mod token_cache;
mod turns;

pub(crate) use client_auth::{
    CLIENT_AUTH_KEYS, JSON, ask, check_secret_url, client_auth, waiting_time,
};
pub(crate) use demand::Demand;
pub(crate) use inquiry::{CallResult, Cause, Inquiry, NoAnswer};
#[cfg(test)]
pub(crate) use kept::Room;
pub(crate) use key_file::{KeyFile, keeper_tls};
pub(crate) use keys::{Identity, PublicKeys};
pub(crate) use parameters::{is_resource, no_resource, unfit_parameters};
pub(crate) use revocation::{Revocation, Revoker};
pub(crate) use server::Server;
pub(crate) use status::IdentityStatus;
pub(crate) use subject::SubjectWanted;
pub(crate) use token_cache::{Bounds, TOKEN_CACHE};
pub(crate) use turns::Client;
