//! `modifier/response-headers`, in the service and in endpoints: changes the headers of responses to clients.
//!
//! `compile` reads the blocks. The server makes the changes where it writes responses, after everything else.

mod compile;
mod config;
#[cfg(test)]
mod tests;

pub(crate) use compile::{endpoint, service};
pub(crate) use config::{RESPONSE_HEADERS, RESPONSE_HEADERS_ENDPOINT};
