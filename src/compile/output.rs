//! What compiling a file yields, beside the service itself.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::Finding;
use crate::ext::{Carry, Facts, Task};
use crate::runtime::service::Service;

/// What became of a file.
#[derive(Debug)]
pub struct Outcome {
    /// `None` when something stops the start.
    pub compiled: Option<Compiled>,
    /// Mistakes and warnings, in the order of the file.
    pub findings: Vec<Finding>,
}

/// A file that can be served.
#[derive(Debug)]
pub struct Compiled {
    pub service: Arc<Service>,
    pub name: Option<String>,
    pub listen: Listen,
    /// How long a stopping gateway waits for what is in flight.
    pub drain: Duration,
    /// The page for Prometheus; `None` without one.
    pub metrics: Option<Metrics>,
    /// Worker threads; `None`: as many as processors.
    pub threads: Option<usize>,
    /// What service-level blocks left for the server, by type: the settings of the log, for instance.
    pub facts: Facts,
    /// State to hand to the next compilation.
    pub carry: Carry,
    /// Background work to start once this file is in use.
    pub tasks: Vec<Task>,
    /// What `check -d` prints.
    pub summary: Vec<String>,
}

/// How clients reach us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// `None`: all addresses, IPv4 and IPv6.
    pub ip: Option<IpAddr>,
    pub port: u16,
    pub tls: Option<ServerTls>,
    /// HTTP/2 without TLS.
    pub h2c: bool,
    /// For a whole request; `None`: no limit.
    pub read_timeout: Option<Duration>,
    /// For the head of a request.
    pub read_header_timeout: Duration,
    /// For a whole answer; `None`: no limit.
    pub write_timeout: Option<Duration>,
    /// For a connection between two requests.
    pub idle_timeout: Duration,
    /// Largest request head, in bytes.
    pub max_header_bytes: u64,
    /// Most header fields of a request.
    pub max_headers: usize,
    /// Most connections at a time; `None`: no limit.
    pub max_connections: Option<usize>,
}

/// TLS towards clients. The files are known to be readable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    pub keys: Vec<KeyFiles>,
    pub min: TlsVersion,
    pub max: TlsVersion,
    /// TLS group ids in the order of preference; empty: the default.
    pub curves: Vec<u16>,
    /// IANA numbers of TLS 1.2 suites; empty: the default.
    pub cipher_suites: Vec<u16>,
    /// Clients must show a certificate (`enable_mtls`).
    pub client_auth: Option<ClientAuth>,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
}

/// Who may sign client certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientAuth {
    pub ca_certs: Vec<PathBuf>,
    pub system_pool: bool,
}

/// The versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    V1_2,
    V1_3,
}

/// The page for Prometheus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Metrics {
    pub listen: SocketAddr,
    /// Whether each endpoint has counters of its own.
    pub per_endpoint: bool,
}
