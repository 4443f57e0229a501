//! Calls of our own (key sets, tokens, discovery) over reqwest, bounded in time and size.

mod client;
mod tls;

pub use client::{MOST_BYTES, MOST_TIME, SideAnswer, SideClient, SideError};
pub use tls::SideTls;
