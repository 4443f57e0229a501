//! `websocket`, in an endpoint: direct communication of clients with the backend.
//!
//! `compile` reads the block. It is `portcullis/stream` with `upgrade`, on an endpoint without other requirements.

mod compile;
mod config;
#[cfg(test)]
mod tests;

pub(crate) use compile::{host, is_host, websocket};
pub(crate) use config::WEBSOCKET;
