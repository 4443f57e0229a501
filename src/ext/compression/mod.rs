//! `portcullis/compression`, in the service and in endpoints: compresses responses for clients that accept it.
//!
//! `compile` reads the blocks, together with `router.disable_gzip`. The encoders are in
//! [`crate::runtime::compression`]; the server compresses where it writes responses.

mod compile;
mod config;
#[cfg(test)]
mod tests;

pub(crate) use compile::{Setting, endpoint, service};
pub(crate) use config::{COMPRESSION, COMPRESSION_ENDPOINT};
