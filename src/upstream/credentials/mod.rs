//! OAuth2 client credentials: one token per client, refreshed before it expires.
//!
//! A [`TokenSource`] stands for one distinct [`ClientCredentials`]; backends with equal ones share it. The first call
//! that needs a token has it fetched and waits; later tokens come in the background, from 80 % of a token's life.

mod request;
mod response;
mod source;
mod store;

pub use request::ClientCredentials;
pub use response::TokenError;
pub use source::TokenSource;
pub use store::TokenStore;
