//! Calls to upstreams, over real sockets.

// Helpers of tests are tests, which clippy does not see outside a `#[test]` function.
#![allow(clippy::unwrap_used)]

mod calls;
mod connect;
mod credentials;
mod discovery;
mod http2;
mod key_hosts;
mod key_unions;
mod keys;
mod proxies;
#[path = "../it/support/sealed.rs"]
mod seal;
mod sealed;
mod start;
mod streams;
mod stub;
mod tls;
mod waits;
