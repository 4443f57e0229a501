//! `websocket`, in an endpoint: direct communication of clients with the backend.
//!
//! `compile` reads the block. It is `portcullis/stream` with `upgrade`, on an endpoint of which nothing else is asked.

mod compile;
mod config;
#[cfg(test)]
mod tests;

pub use compile::{host, is_wanted, websocket};
pub use config::WEBSOCKET;
