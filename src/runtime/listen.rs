//! The settings of the listener, which the server needs before it reads a request.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

/// The maximum number of headers that Pingora's parser accepts.
pub const MAX_FIELDS: usize = 256;

/// The client-facing listener. It is fixed for the life of a process: a reload that changes it is rejected.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: Option<ServerTls>,
    pub limits: Limits,
    /// The number of worker threads. `None` uses the number of processors (or the CPU quota).
    pub threads: Option<usize>,
    /// How long a stop waits for requests in progress.
    pub drain: Duration,
    /// How long connections are still accepted after a stop was requested, while `/__ready` reports that the gateway
    /// is not ready.
    pub shutdown_delay: Duration,
    /// How long a process that takes over waits for the sockets before it checks whether the old one responds.
    pub upgrade_wait: Duration,
}

/// Limits of a client's connection, before and between its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// From the first byte of a head to its end, and before the first byte of a connection (`read_header_timeout`).
    pub head: Duration,
    /// Between two requests on one connection (`idle_timeout`).
    pub idle: Duration,
    /// Between two reads of a request body (`read_timeout`).
    pub read: Duration,
    /// For one write to the client (`write_timeout`). The connection of a client that reads nothing for this time is
    /// closed, because it would otherwise hold its response and its upstream connection forever.
    pub write: Option<Duration>,
    /// The size of request line and headers together (`max_header_bytes` + 4096, as KrakenD counts).
    pub max_header_bytes: usize,
    /// The number of headers in one head.
    pub max_fields: usize,
    /// The number of concurrent connections. Further ones are closed immediately.
    pub max_connections: usize,
    /// HTTP/2 with prior knowledge on a plain listener (`use_h2c`).
    pub h2c: bool,
    /// The peers that must send the PROXY protocol. `None` disables it.
    pub proxy_protocol: Option<Box<[IpNet]>>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // A real client sends its head faster than this.
            head: Duration::from_secs(10),
            // Longer than the minute for which common load balancers keep a connection, so that they close it first.
            idle: Duration::from_secs(90),
            read: Duration::from_secs(60),
            // A client that accepts no data for this time will not accept the rest.
            write: Some(Duration::from_secs(60)),
            max_header_bytes: (1 << 20) + 4096,
            max_fields: MAX_FIELDS,
            max_connections: 65_536,
            h2c: false,
            proxy_protocol: None,
        }
    }
}

/// The `tls` block. As in KrakenD, the minimum and maximum versions default to TLS 1.3.
#[derive(Debug, Clone, PartialEq)]
pub struct ServerTls {
    /// PEM files with certificate chain and private key. The first pair is the default, the others are selected by
    /// SNI.
    pub keys: Vec<KeyFiles>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// IANA numbers of TLS 1.2 suites. Empty uses the defaults.
    pub cipher_suites: Vec<u16>,
    /// TLS group numbers in order of preference. Empty uses the defaults.
    pub curves: Vec<u16>,
    /// A file with keys for session tickets. `None` generates keys.
    pub ticket_keys: Option<PathBuf>,
    /// Keys for session tickets that several gateways share. Until the first one is available, generated keys are
    /// used.
    pub shared_tickets: Option<SharedSecrets>,
    /// Clients may choose HTTP/2.
    pub offers_http2: bool,
    /// Requires a client certificate that is issued by these CAs or, unless disabled, by those of the system.
    pub mtls: Option<ClientRoots>,
}

/// A secret that several gateways share.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret {
    /// When it starts to be used for encryption, in seconds since the Unix epoch.
    pub made: u64,
    /// 32 bytes in hexadecimal.
    pub text: String,
}

impl fmt::Debug for SharedSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedSecret")
            .field("made", &self.made)
            .finish_non_exhaustive()
    }
}

/// Secrets that come from elsewhere and change over time: the current one first, followed by past and future ones.
#[derive(Debug, Clone, Default)]
pub struct SharedSecrets(Arc<ArcSwap<Vec<SharedSecret>>>);

impl SharedSecrets {
    /// The current secrets. Empty before the first ones have arrived.
    pub fn current(&self) -> Arc<Vec<SharedSecret>> {
        self.0.load_full()
    }

    /// Replaces the secrets.
    pub fn set(&self, secrets: Vec<SharedSecret>) {
        if *self.0.load_full() != secrets {
            self.0.store(Arc::new(secrets));
        }
    }

    /// Whether there is another reference besides the caller's.
    pub fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Two values are equal if they are filled by the same task.
impl PartialEq for SharedSecrets {
    fn eq(&self, other: &SharedSecrets) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The files of one certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    pub certificate: PathBuf,
    pub private_key: PathBuf,
    /// An OCSP response to staple (RFC 6066 §8).
    pub ocsp_response: Option<PathBuf>,
}

/// The CAs of client certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientRoots {
    pub ca_files: Vec<PathBuf>,
    pub system_roots: bool,
}

/// The supported versions of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}
