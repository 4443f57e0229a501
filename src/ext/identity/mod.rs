//! Shared parts of the extensions about identity.
//!
//! | module | content |
//! |---|---|
//! | `bearer` | the syntax of bearer tokens (RFC 6750) |
//! | `client_auth` | how the gateway authenticates at a provider, as configured |
//! | `inquiry` | calls to a server about a credential, with a cache |
//! | `answer_cache`, `scheduler` | the results that it keeps, and the order of its calls |
//! | `server` | a configured server with its inquiry and its client |
//! | `requirement` | additional requirements on tokens, such as an expression; validators check them |
//! | `revocation` | the interface to revoked tokens: a revoker provides it, validators use it |
//! | `key_file` | `jwk_local_path` with `secret_url` and `cypher_key`: key files, including encrypted ones |
//! | `keys` | the process's key sets and its cache of verified tokens |
//! | `parameters` | configured parameters of token requests |
//! | `status` | the state of both, for metrics and tables |
//! | `subject_token` | whether a request's token is kept for its backends |
//! | `token_cache` | `portcullis/token-cache`: the limits of that cache |

mod answer_cache;
mod bearer;
mod client_auth;
mod inquiry;
mod key_file;
mod keys;
mod parameters;
mod requirement;
mod revocation;
mod scheduler;
mod server;
mod status;
mod subject_token;
mod token_cache;

#[cfg(test)]
pub(crate) use answer_cache::CacheSize;
pub(crate) use bearer::is_bearer_token;
pub(crate) use client_auth::{
    CLIENT_AUTH_KEYS, JSON, ask, check_secret_url, client_auth, waiting_time,
};
pub(crate) use inquiry::{CallResult, Cause, Inquiry, NoAnswer};
pub(crate) use key_file::{KeyFile, keeper_tls};
pub(crate) use keys::{FetchedKey, Identity, PublicKeys};
pub(crate) use parameters::{is_resource, no_resource, unfit_parameters};
pub(crate) use requirement::Requirement;
pub(crate) use revocation::{Revocation, Revoker};
pub(crate) use scheduler::Client;
pub(crate) use server::Server;
pub(crate) use status::IdentityStatus;
pub(crate) use subject_token::{ExchangeRejections, SubjectWanted};
pub(crate) use token_cache::{Bounds, TOKEN_CACHE};
