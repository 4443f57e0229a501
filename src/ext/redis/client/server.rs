//! Addresses and credentials of Redis servers.

use std::fmt;
use std::sync::Arc;

use rustls::ClientConfig;

use crate::telemetry::mask::KnownSecrets;

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

    /// What the server and its sentinels get and may repeat.
    pub(super) fn secrets(&self) -> KnownSecrets {
        let sentinels = match &self.kind {
            ServerKind::Sentinel(sentinels) => sentinels.credentials.as_ref(),
            ServerKind::One(_) | ServerKind::Cluster(_) => None,
        };
        let mut known = KnownSecrets::default();
        for credentials in self.credentials.iter().chain(sentinels) {
            known.add(&credentials.password);
        }
        known
    }
}

impl Credentials {
    /// Without a password there are none for the default user. Another user may need none (`nopass`).
    pub(crate) fn new(user: String, password: String) -> Option<Credentials> {
        let is_default = user.is_empty() || user == "default";
        (!is_default || !password.is_empty()).then(|| Credentials {
            user: Some(user).filter(|user| !user.is_empty()),
            password,
        })
    }
}
