//! OAuth2 client credentials: one token per client, refreshed before it expires.
//!
//! There is one [`TokenSource`] for each distinct [`ClientCredentials`], and backends with equal ones share it. The
//! first call that needs a token triggers the fetch and waits for it. Later tokens are fetched in the background,
//! after 80 % of a token's life.

mod request;
mod response;
mod source;
mod store;

pub use request::ClientCredentials;
pub use response::TokenError;
pub use source::TokenSource;
pub use store::TokenStore;
