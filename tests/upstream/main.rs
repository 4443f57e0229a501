//! Calls to upstreams, over real sockets.

mod calls;
mod credentials;
mod discovery;
mod keys;
mod streams;
mod stub;
