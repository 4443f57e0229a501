//! Our own calls (key sets, tokens, discovery, keepers) over reqwest, limited in time and size.

mod addresses;
mod client;
mod failure;
mod follow;
mod grpc;
mod renewed;
mod tls;
mod vault;

pub use client::SideClient;
pub(crate) use client::{MAX_BYTES, MAX_TIME, SideError, SideResponse, retry_after};
pub(crate) use grpc::{GrpcClient, GrpcResponse};
pub use tls::SideTls;
pub(super) use tls::client_config;
pub(crate) use vault::{VaultError, VaultServerError};
pub use vault::{VaultSecret, VaultServer};
