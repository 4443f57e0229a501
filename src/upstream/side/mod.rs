//! Our own calls (key sets, tokens, discovery, keepers) over reqwest, limited in time and size.

mod client;
mod grpc;
mod tls;
mod vault;

pub use client::{MOST_BYTES, MOST_TIME, SideClient, SideError, SideResponse, retry_after};
pub use grpc::{GrpcClient, GrpcResponse};
pub use tls::SideTls;
pub(super) use tls::client_config;
pub use vault::{VaultError, VaultSecret, VaultServer, VaultServerError};
