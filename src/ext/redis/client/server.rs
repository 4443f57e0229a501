//! Addresses, credentials, and URLs of Redis servers.

use std::fmt;
use std::sync::Arc;

use percent_encoding::percent_decode_str;
use reqwest::Url;
use rustls::ClientConfig;

use crate::upstream::SideTls;

const PORT: u16 = 6379;
const SENTINEL_PORT: u16 = 26379;

/// Host and port of one server.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    /// A name or an IP address, without brackets.
    pub host: String,
    pub port: u16,
    /// The name that its certificate must have, if that is not `host`.
    pub certificate_name: Option<String>,
}

impl Address {
    pub(crate) fn new(host: impl Into<String>, port: u16) -> Address {
        Address {
            host: host.into(),
            port,
            certificate_name: None,
        }
    }

    /// Whether both name the same server.
    pub(super) fn is(&self, other: &Address) -> bool {
        self.host == other.host && self.port == other.port
    }
}

/// Which servers there are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServerKind {
    One(Address),
    /// Some members of a cluster, at least one.
    Cluster(Vec<Address>),
    Sentinel(Sentinels),
}

/// Sentinels, which know the address of the current primary.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Sentinels {
    pub addresses: Vec<Address>,
    /// The name of the primary.
    pub service: String,
    /// The sentinels' own credentials. Without them, those of the server.
    pub credentials: Option<Credentials>,
}

impl fmt::Debug for Sentinels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let addresses = &self.addresses;
        f.debug_struct("Sentinels")
            .field("addresses", addresses)
            .finish_non_exhaustive()
    }
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    pub user: Option<String>,
    pub password: String,
}

/// A server, a cluster, or a server that sentinels name, and how to connect to it.
#[derive(Clone)]
pub(crate) struct Server {
    pub kind: ServerKind,
    pub credentials: Option<Credentials>,
    pub database: Option<u8>,
    pub tls: Option<Arc<ClientConfig>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Without the password.
        f.debug_struct("Server")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// A server without credentials, TLS or database.
    pub(crate) fn new(kind: ServerKind) -> Server {
        Server {
            kind,
            credentials: None,
            database: None,
            tls: None,
        }
    }

    /// `redis://user:password@host:6379/0`, and the schemes `rediss`, `redis-cluster`, `rediss-cluster`,
    /// `redis-sentinel` and `rediss-sentinel`. Further members or sentinels are in `node=host:port` of the query, the name of the
    /// primary in `sentinelServiceName`, and the sentinels' own credentials in `sentinelUsername` and
    /// `sentinelPassword`. `None` if it is not such a URL.
    pub(crate) fn from_url(text: &str) -> Option<Server> {
        let url = Url::parse(text).ok()?;
        let (is_tls, kind) = match url.scheme() {
            "redis" => (false, ServerKind::One(first(&url, PORT)?)),
            "rediss" => (true, ServerKind::One(first(&url, PORT)?)),
            "redis-cluster" => (false, ServerKind::Cluster(all(&url, PORT)?)),
            "rediss-cluster" => (true, ServerKind::Cluster(all(&url, PORT)?)),
            "redis-sentinel" => (false, ServerKind::Sentinel(sentinels(&url)?)),
            "rediss-sentinel" => (true, ServerKind::Sentinel(sentinels(&url)?)),
            _ => return None,
        };
        // The path of a cluster is ignored: a cluster has one database.
        let database = match kind {
            ServerKind::Cluster(_) => None,
            ServerKind::One(_) | ServerKind::Sentinel(_) => database(&url)?,
        };
        // Without files of its own, this cannot fail.
        let tls = if is_tls {
            Some(Arc::new(SideTls::default().config().ok()?))
        } else {
            None
        };
        Some(Server {
            kind,
            credentials: Credentials::new(
                decoded(url.username())?,
                decoded(url.password().unwrap_or_default())?,
            ),
            database,
            tls,
        })
    }
}

impl Credentials {
    /// Without a password there are none. An empty user is the default one.
    pub(crate) fn new(user: String, password: String) -> Option<Credentials> {
        (!password.is_empty()).then(|| Credentials {
            user: Some(user).filter(|user| !user.is_empty()),
            password,
        })
    }
}

fn decoded(text: &str) -> Option<String> {
    let decoded = percent_decode_str(text).decode_utf8();
    decoded.ok().map(|text| text.into_owned())
}

/// The address before the path.
fn first(url: &Url, port: u16) -> Option<Address> {
    let host = url.host_str().filter(|host| !host.is_empty())?;
    let host = host.trim_start_matches('[').trim_end_matches(']');
    Some(Address::new(host, url.port().unwrap_or(port)))
}

/// That address and those of the query.
fn all(url: &Url, port: u16) -> Option<Vec<Address>> {
    let mut addresses = vec![first(url, port)?];
    for (key, value) in url.query_pairs() {
        if key == "node" {
            let (host, port) = crate::ext::redis_pools::split(&value)?;
            addresses.push(Address::new(host, port));
        }
    }
    Some(addresses)
}

fn sentinels(url: &Url) -> Option<Sentinels> {
    let in_query = |name: &str| {
        let mut pairs = url.query_pairs();
        pairs.find_map(|(key, value)| (key == name).then(|| value.into_owned()))
    };
    Some(Sentinels {
        addresses: all(url, SENTINEL_PORT)?,
        service: in_query("sentinelServiceName")?,
        credentials: Credentials::new(
            in_query("sentinelUsername").unwrap_or_default(),
            in_query("sentinelPassword").unwrap_or_default(),
        ),
    })
}

/// The number in the path. The outer `None` is an invalid one.
fn database(url: &Url) -> Option<Option<u8>> {
    match url.path().trim_start_matches('/') {
        "" => Some(None),
        number => number.parse().ok().map(Some),
    }
}
