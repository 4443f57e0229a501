//! Pingora's connector with its pools, one for each TLS policy.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use ahash::RandomState;
use pingora_core::protocols::TcpKeepalive;
use pingora_core::upstreams::peer::HttpPeer;
use rustls::ClientConfig;
use tokio::sync::Semaphore;

use super::certificate::PemError;
use super::dns::DnsTable;
use super::idle::Limits;
use super::peer::PooledPeer;
use super::pool::Pool;
use super::proxy::{Proxies, ProxyScheme, ProxyUrl};
use super::registry::Registry;
use super::tls::TlsPolicy;
use super::tunnel::Tunnel;
use super::usage::Usage;

/// KrakenD's limit of idle connections per host. It has none for all hosts together; here that is a multiple.
const IDLE_PER_HOST: usize = 250;
const BUSY_HOSTS: usize = 16;

/// The maximum number of seconds between two TCP keep-alive probes that Linux accepts.
const MAX_KEEP_ALIVE: u64 = 32_767;

/// How long a connection may be silent before a waiting HTTP/2 request tests it, if `dialer_keep_alive` is off.
const PING_AFTER: Duration = Duration::from_secs(15);

/// The maximum size of a response head in bytes. Pingora reads no more.
pub(crate) const MAX_RESPONSE_HEADER_BYTES: usize = 1 << 20;

/// Settings of the calls to upstreams: timeouts, pools, TLS, protocol version.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Settings {
    /// Applies to the TCP connection, and again to the TLS handshake. `None`: while there is another address to try,
    /// a share of the caller's timeout, see [`super::HostRules::timeout`].
    pub dialer_timeout: Option<Duration>,
    /// The interval of TCP keep-alive probes. `None` sends none.
    pub dialer_keep_alive: Option<Duration>,
    /// How long an idle connection is kept.
    pub idle_connection_timeout: Duration,
    /// The number of idle connections kept over all hosts. 0 selects a default.
    pub max_idle_connections: usize,
    /// The number of idle connections kept for one address of a host. 0 selects a default.
    pub max_idle_connections_per_host: usize,
    /// Opens a new connection for each call.
    pub disable_keep_alives: bool,
    /// The time from the last byte of the request to the response head.
    pub response_header_timeout: Option<Duration>,
    pub http_version: HttpVersion,
    /// The number of concurrent calls to one host. Further calls wait, as long as their deadlines allow. `None` means
    /// no limit.
    pub max_in_flight_per_host: Option<usize>,
    /// The maximum size of a response head in bytes, at most `MAX_RESPONSE_HEADER_BYTES`.
    pub max_response_header_bytes: usize,
    pub tls: TlsPolicy,
    /// The calls that go through a proxy.
    pub proxies: Proxies,
}

/// The HTTP version used with an upstream.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum HttpVersion {
    /// HTTP/1.1, as in KrakenD.
    #[default]
    H1,
    /// HTTP/2: over TLS by ALPN, in plain text by prior knowledge (h2c).
    H2,
    /// Over TLS the version that ALPN selects, in plain text HTTP/1.1.
    Auto,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            dialer_timeout: None,
            // Go uses 15 s if the value is 0.
            dialer_keep_alive: Some(Duration::from_secs(15)),
            idle_connection_timeout: Duration::from_secs(90),
            max_idle_connections: 0,
            max_idle_connections_per_host: IDLE_PER_HOST,
            disable_keep_alives: false,
            response_header_timeout: None,
            http_version: HttpVersion::H1,
            max_in_flight_per_host: None,
            max_response_header_bytes: MAX_RESPONSE_HEADER_BYTES,
            tls: TlsPolicy::default(),
            proxies: Proxies::default(),
        }
    }
}

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    #[error("certificates of the system cannot be used: {reason}")]
    SystemCertificates { reason: String },
    #[error("{reason}")]
    Side { reason: String },
}

impl From<PemError> for ClientError {
    fn from(error: PemError) -> ClientError {
        ClientError::File {
            path: error.path,
            reason: error.reason,
        }
    }
}

/// Connection pools that share one set of [`Settings`]. Cheap to share; [`Clients`] keeps it across reloads.
pub struct Client {
    pub(super) pool: Pool,
    pub(super) settings: Settings,
    /// The TLS policy of the settings, loaded.
    tls: Arc<ClientConfig>,
    pub(super) dns: Arc<DnsTable>,
    /// Separates the connections of different TLS policies, because Pingora's pool key does not include the CA.
    group_key: u64,
    pool_keys: RandomState,
    /// Limits of concurrent calls, by scheme, host and port: several host sets may share a host.
    slots: Mutex<HashMap<String, Weak<Semaphore>>>,
    /// The connections, by scheme, host and port.
    usages: Mutex<Registry<String, Usage>>,
    /// The same client without a certificate of its own. `None` if this one has none.
    anonymous: Option<Arc<Client>>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl Client {
    /// Creates a client that looks up names in `dns`.
    ///
    /// # Errors
    /// A certificate file of the TLS policy or of the system is not usable.
    pub fn new(settings: Settings, dns: Arc<DnsTable>) -> Result<Arc<Client>, ClientError> {
        // Otherwise Pingora would install another default, which supports fewer kinds of keys (no P-521).
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let tls = settings.tls.load()?;
        let mut hasher = DefaultHasher::new();
        settings.tls.hash(&mut hasher);
        settings.http_version.hash(&mut hasher);
        let anonymous = if settings.tls.client_certs.is_empty() {
            None
        } else {
            let mut settings = settings.clone();
            settings.tls.client_certs.clear();
            Some(Client::new(settings, Arc::clone(&dns))?)
        };
        Ok(Arc::new(Client {
            pool: pool(&settings, &tls),
            tls,
            group_key: hasher.finish(),
            pool_keys: RandomState::new(),
            settings,
            dns,
            slots: Mutex::default(),
            usages: Mutex::default(),
            anonymous,
        }))
    }

    /// The table that resolves the names of this client's host sets.
    pub fn dns(&self) -> &Arc<DnsTable> {
        &self.dns
    }

    /// What the connections of this client have in common.
    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// The connections to `origin`.
    pub(super) fn usage(&self, origin: String) -> Arc<Usage> {
        let mut usages = self.usages.lock().unwrap_or_else(PoisonError::into_inner);
        usages.shared(origin, Usage::default).0
    }

    /// The same client without a certificate of its own, for an origin that the file does not name. `None` if this one
    /// has none.
    pub(super) fn anonymous(&self) -> Option<&Arc<Client>> {
        self.anonymous.as_ref()
    }

    /// The limit of concurrent calls to `origin`, if there is one. Not for the request path.
    pub(super) fn slots(&self, origin: String) -> Option<Arc<Semaphore>> {
        let most = self.settings.max_in_flight_per_host?;
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|_, permits| permits.strong_count() > 0);
        if let Some(permits) = slots.get(&origin).and_then(Weak::upgrade) {
            return Some(permits);
        }
        let permits = Arc::new(Semaphore::new(most.clamp(1, Semaphore::MAX_PERMITS)));
        slots.insert(origin, Arc::downgrade(&permits));
        Some(permits)
    }

    /// The peer at `address`. With `secure` it must present a certificate for `name`.
    pub(super) fn peer(&self, address: SocketAddr, secure: bool, name: &str) -> PooledPeer {
        let mut peer = HttpPeer::new(address, secure, name.to_owned());
        peer.group_key = self.group_key;
        let options = &mut peer.options;
        options.connection_timeout = self.settings.dialer_timeout;
        options.idle_timeout = Some(self.settings.idle_connection_timeout);
        options.tcp_keepalive = self.settings.dialer_keep_alive.map(keepalive);
        match (self.settings.http_version, secure) {
            (HttpVersion::H1, _) | (HttpVersion::Auto, false) => options.set_http_version(1, 1),
            (HttpVersion::H2, _) => options.set_http_version(2, 2),
            (HttpVersion::Auto, true) => options.set_http_version(2, 1),
        }
        PooledPeer::new(peer, &self.pool_keys)
    }

    /// The proxy at `address`, which receives absolute URLs.
    pub(super) fn forward_peer(&self, address: SocketAddr, proxy: &ProxyUrl) -> PooledPeer {
        let mut peer = self.peer(address, proxy.scheme == ProxyScheme::Https, &proxy.name);
        peer.speak_http1();
        peer
    }

    /// The host `name` on `port`, through the proxy at `address`.
    pub(super) fn tunnel_peer(
        &self,
        address: SocketAddr,
        proxy: &ProxyUrl,
        (secure, name, port): (bool, &str, u16),
    ) -> PooledPeer {
        let tunnel = Tunnel {
            proxy: proxy.clone(),
            name: name.into(),
            port,
            timeout: self.settings.dialer_timeout,
            tls: Arc::clone(&self.tls),
        };
        let peer = self.peer(address, secure, name);
        peer.through(tunnel, &self.pool_keys)
    }
}

/// The clients in use, by their settings. A reload that changes no setting keeps every connection.
#[derive(Debug)]
pub struct Clients {
    dns: Arc<DnsTable>,
    known: Mutex<Vec<(Settings, Weak<Client>)>>,
}

impl Clients {
    /// An empty collection over one DNS table.
    pub fn new(dns: Arc<DnsTable>) -> Clients {
        Clients {
            dns,
            known: Mutex::default(),
        }
    }

    /// The addresses of names, for the process that takes over.
    pub(crate) fn give_names(&self) -> String {
        self.dns.give()
    }

    /// Uses addresses that the process before this one has found.
    pub(crate) fn take_names(&self, given: &str) {
        self.dns.take(given);
    }

    /// The client with these settings. It is created if there is none. Not for the request path.
    ///
    /// # Errors
    /// As [`Client::new`].
    pub fn with(&self, settings: &Settings) -> Result<Arc<Client>, ClientError> {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|(_, client)| client.strong_count() > 0);
        let found = known
            .iter()
            .filter(|(its, _)| its == settings)
            .find_map(|(_, client)| client.upgrade());
        if let Some(client) = found {
            return Ok(client);
        }
        let client = Client::new(settings.clone(), Arc::clone(&self.dns))?;
        known.push((settings.clone(), Arc::downgrade(&client)));
        Ok(client)
    }
}

fn pool(settings: &Settings, tls: &ClientConfig) -> Pool {
    let (limits, idle) = (limits(settings), settings.idle_connection_timeout);
    match settings.http_version {
        HttpVersion::H1 => Pool::http1(limits, idle, tls),
        HttpVersion::H2 | HttpVersion::Auto => {
            let ping_after = settings.dialer_keep_alive.unwrap_or(PING_AFTER);
            let ping_after = ping_after.max(Duration::from_secs(1));
            Pool::any(limits, tls, ping_after, idle)
        }
    }
}

fn limits(settings: &Settings) -> Limits {
    let per_peer = match settings.max_idle_connections_per_host {
        0 => IDLE_PER_HOST,
        set => set,
    };
    let all = match settings.max_idle_connections {
        0 => per_peer.saturating_mul(BUSY_HOSTS),
        set => set,
    };
    Limits { all, per_peer }
}

/// The kernel counts in whole seconds, at least one.
fn keepalive(period: Duration) -> TcpKeepalive {
    let whole = period.as_secs() + u64::from(period.subsec_nanos() > 0);
    let period = Duration::from_secs(whole.clamp(1, MAX_KEEP_ALIVE));
    TcpKeepalive {
        idle: period,
        interval: period,
        count: 9,
        #[cfg(target_os = "linux")]
        user_timeout: Duration::ZERO,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keep_alive_is_rounded_up_to_seconds_that_the_kernel_accepts() {
        for (period, seconds) in [
            (1, 1),
            (500, 1),
            (1000, 1),
            (1001, 2),
            (15_000, 15),
            (u64::MAX, MAX_KEEP_ALIVE),
        ] {
            let kept = keepalive(Duration::from_millis(period));
            assert_eq!(kept.idle, Duration::from_secs(seconds), "{period} ms");
            assert_eq!(kept.interval, kept.idle);
        }
    }
}
