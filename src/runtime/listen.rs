//! Where and how clients are listened to: what the server needs to know before the first byte.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use ipnet::IpNet;

/// Pingora's parser reads no more fields than this.
pub const MAX_FIELDS: usize = 256;

/// The client-facing listener. Fixed for the life of a process: a reload that changes it is refused.
#[derive(Debug, Clone, PartialEq)]
pub struct Listen {
    pub address: SocketAddr,
    pub tls: Option<ServerTls>,
    pub limits: Limits,
    /// Worker threads; `None` takes as many as the machine (or its quota) has.
    pub threads: Option<usize>,
    /// How long a stop waits for requests in flight.
    pub drain: Duration,
    /// How long connections are still accepted after a stop was asked for, while `/__ready` says no.
    pub shutdown_delay: Duration,
}

/// What a client may cost before and between its requests.
#[derive(Debug, Clone, PartialEq)]
pub struct Limits {
    /// From the first byte of a head to its end, and before the first byte of a connection (`read_header_timeout`).
    pub head: Duration,
    /// Between two requests on one connection (`idle_timeout`).
    pub idle: Duration,
    /// Between two reads of a request body (`read_timeout`).
    pub read: Duration,
    /// For one write to the client (`write_timeout`): a client that reads nothing for so long is left, or it would hold
    /// its answer and its upstream for ever.
    pub write: Option<Duration>,
    /// Request line and fields together (`max_header_bytes` + 4096, as the reference counts).
    pub max_header_bytes: usize,
    /// Fields in one head.
    pub max_fields: usize,
    /// Connections at a time; more are closed at once.
    pub max_connections: usize,
    /// HTTP/2 with prior knowledge on a plain listener (`use_h2c`).
    pub h2c: bool,
    /// PROXY protocol is demanded from these peers; `None` does not speak it.
    pub proxy_protocol: Option<Box<[IpNet]>>,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // A client that sends its head slower than this is no client.
            head: Duration::from_secs(10),
            // Longer than the minute for which common load balancers keep a connection: they should be first to close.
            idle: Duration::from_secs(90),
            read: Duration::from_secs(60),
            // A client that takes nothing for so long will not take the rest.
            write: Some(Duration::from_secs(60)),
            max_header_bytes: (1 << 20) + 4096,
            max_fields: MAX_FIELDS,
            max_connections: 65_536,
            h2c: false,
            proxy_protocol: None,
        }
    }
}

/// The `tls` block (spec of the reference: both versions default to TLS 1.3).
#[derive(Debug, Clone, PartialEq)]
pub struct ServerTls {
    /// PEM files: certificate chain and private key; the first is the default, the rest by SNI.
    pub keys: Vec<KeyFiles>,
    pub min_version: TlsVersion,
    pub max_version: TlsVersion,
    /// IANA numbers of TLS 1.2 suites; empty takes the defaults.
    pub cipher_suites: Vec<u16>,
    /// TLS group numbers in order of preference; empty takes the defaults.
    pub curves: Vec<u16>,
    /// A file with keys for session tickets; `None` makes own ones.
    pub ticket_keys: Option<PathBuf>,
    /// Keys for session tickets that several gateways agree on; while there are none, own ones.
    pub shared_tickets: Option<SharedSecrets>,
    /// Demand a client certificate that these and, unless disabled, the system's roots vouch for.
    pub mtls: Option<ClientRoots>,
}

/// A secret that several gateways know.
#[derive(Clone, PartialEq, Eq)]
pub struct SharedSecret {
    /// From when on it encrypts, in seconds since 1970.
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

/// Secrets that come from elsewhere and change with time: the one in use first, then those that were or will be.
#[derive(Debug, Clone, Default)]
pub struct SharedSecrets(Arc<ArcSwap<Vec<SharedSecret>>>);

impl SharedSecrets {
    /// Those of now; none before the first have come.
    pub fn current(&self) -> Arc<Vec<SharedSecret>> {
        self.0.load_full()
    }

    /// Puts others in their place.
    pub fn set(&self, secrets: Vec<SharedSecret>) {
        if *self.0.load_full() != secrets {
            self.0.store(Arc::new(secrets));
        }
    }

    /// Whether anybody holds them besides the one who asks.
    pub fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }
}

/// Two are the same when they are filled by the same task.
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
    /// A response of the authority to staple (RFC 6066 §8).
    pub ocsp_response: Option<PathBuf>,
}

/// Who may sign client certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientRoots {
    pub ca_files: Vec<PathBuf>,
    pub system_roots: bool,
}

/// The versions of TLS that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum TlsVersion {
    Tls12,
    Tls13,
}
