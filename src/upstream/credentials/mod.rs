//! OAuth2 client credentials: one token per client, refreshed before it expires.
//!
//! There is one [`TokenSource`] for each distinct [`ClientCredentials`], and backends with equal ones share it. The
//! first call that needs a token triggers the fetch and waits for it. Later tokens are fetched in the background,
//! after 80 % of a token's life.
//!
//! [`ClientAuth`] is the proof of identity for other calls to a provider, with more methods than KrakenD has.

mod client_auth;
mod request;
mod response;
mod source;
mod store;

pub(crate) use client_auth::{ClientAuth, ClientProof};
pub use request::ClientCredentials;
pub(crate) use request::form;
pub(crate) use response::{Sent, TokenError};
pub(crate) use response::{Token as IssuedToken, token as issued_token};
pub use source::TokenSource;
pub use store::TokenStore;
