//! `tls` (towards clients) and `client_tls` (towards backends).

use super::block::Block;
use super::key::{Key, Kind, key};
use super::node::Node;
use super::service::texts;

const VERSIONS: &[&str] = &["SSL3.0", "TLS10", "TLS11", "TLS12", "TLS13"];

const SUITES: Key = key(
    "cipher_suites",
    Kind::Integers,
    "",
    "IANA numbers of TLS 1.2 suites.",
);
const CURVES: Key = key(
    "curve_preferences",
    Kind::Integers,
    "",
    "23 P-256, 24 P-384, 25 P-521, 29 X25519.",
);
const MAX_VERSION: Key = key(
    "max_version",
    Kind::Choice(VERSIONS),
    "TLS13",
    "The newest version.",
);

/// The keys of `tls`.
pub(crate) const TLS: &[Key] = &[
    key("disabled", Kind::Bool, "false", "Ignore the block."),
    key(
        "keys",
        Kind::Blocks(KEY_PAIR),
        "",
        "Certificates with their keys. If there are several, the server name (SNI) selects one.",
    ),
    key(
        "public_key",
        Kind::Text,
        "",
        "Older form of `keys`: the path of the certificate chain (PEM).",
    ),
    key(
        "private_key",
        Kind::Text,
        "",
        "Older form of `keys`: the path of the private key (PEM).",
    ),
    key(
        "min_version",
        Kind::Choice(VERSIONS),
        "TLS13",
        "The oldest version. Values below TLS12 mean TLS12.",
    )
    .guarding()
    .also(&["min_tls_version"]),
    MAX_VERSION,
    CURVES,
    SUITES,
    key(
        "enable_mtls",
        Kind::Bool,
        "false",
        "Clients must present a certificate.",
    )
    .guarding()
    .also(&[
        "mtls",
        "client_auth",
        "require_client_cert",
        "verify_client",
    ]),
    key(
        "ca_certs",
        Kind::Texts,
        "[]",
        "Paths of the CA certificates for client certificates (PEM).",
    )
    .guarding()
    .also(&["client_ca", "client_cas", "cas"]),
    key(
        "disable_system_ca_pool",
        Kind::Bool,
        "false",
        "Do not trust the authorities of the system, but only `ca_certs` and the first certificate of each of `keys`.",
    )
    .guarding(),
    key(
        "prefer_server_cipher_suites",
        Kind::Bool,
        "",
        "Accepted and ignored.",
    ),
];

/// One entry of `tls.keys`.
const KEY_PAIR: &[Key] = &[
    key(
        "ocsp_response",
        Kind::Text,
        "",
        "Ours: path of an OCSP response (DER or PEM) that is stapled to the certificate.",
    ),
    key(
        "public_key",
        Kind::Text,
        "",
        "Path of the certificate chain (PEM).",
    ),
    key(
        "private_key",
        Kind::Text,
        "",
        "Path of the private key (PEM).",
    ),
];

/// The keys of `client_tls`.
pub(crate) const CLIENT_TLS: &[Key] = &[
    key(
        "allow_insecure_connections",
        Kind::Bool,
        "false",
        "Do not check the certificates of backends.",
    ),
    key(
        "ca_certs",
        Kind::Texts,
        "[]",
        "Paths of additional CA certificates (PEM).",
    ),
    key(
        "disable_system_ca_pool",
        Kind::Bool,
        "false",
        "Trust `ca_certs` only.",
    ),
    key(
        "min_version",
        Kind::Choice(VERSIONS),
        "TLS12",
        "The oldest version. Values below TLS12 mean TLS12.",
    ),
    MAX_VERSION,
    CURVES,
    SUITES,
    key(
        "client_certs",
        Kind::Blocks(CLIENT_CERT),
        "",
        "Certificates to present to backends.",
    ),
];

/// One entry of `client_tls.client_certs`.
const CLIENT_CERT: &[Key] = &[
    key(
        "certificate",
        Kind::Text,
        "",
        "Path of the certificate chain (PEM).",
    ),
    key(
        "private_key",
        Kind::Text,
        "",
        "Path of the private key (PEM).",
    ),
];

/// The `tls` object.
#[derive(Debug)]
pub struct Tls<'a> {
    pub block: Block<'a>,
    pub disabled: bool,
    /// `keys`, followed by the older single pair.
    pub keys: Vec<KeyPair<'a>>,
    pub versions: Versions,
    pub curve_preferences: Vec<i64>,
    pub cipher_suites: Vec<i64>,
    pub enable_mtls: bool,
    pub ca_certs: Vec<Node<'a>>,
    pub disable_system_ca_pool: bool,
}

/// A certificate chain and its key, by path.
#[derive(Debug)]
pub struct KeyPair<'a> {
    pub block: Block<'a>,
    pub certificate: Option<Node<'a>>,
    pub private_key: Option<Node<'a>>,
    pub ocsp_response: Option<Node<'a>>,
}

/// `min_version` and `max_version` as written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Versions {
    pub min: Option<&'static str>,
    pub max: Option<&'static str>,
}

/// The `client_tls` object.
#[derive(Debug)]
pub struct ClientTls<'a> {
    pub block: Block<'a>,
    pub allow_insecure_connections: bool,
    pub ca_certs: Vec<Node<'a>>,
    pub disable_system_ca_pool: bool,
    pub versions: Versions,
    pub curve_preferences: Vec<i64>,
    pub cipher_suites: Vec<i64>,
    pub client_certs: Vec<KeyPair<'a>>,
}

impl<'a> Tls<'a> {
    /// Reads an opened block with the keys [`TLS`].
    pub(crate) fn read(block: Block<'a>) -> Tls<'a> {
        let mut keys: Vec<KeyPair<'a>> = block
            .blocks("keys")
            .into_iter()
            .map(|pair| KeyPair {
                ocsp_response: pair.get("ocsp_response"),
                ..KeyPair::read(pair, "public_key")
            })
            .collect();
        if block.has("public_key") || block.has("private_key") {
            keys.push(KeyPair::read(block.clone(), "public_key"));
        }
        Tls {
            disabled: block.flag("disabled"),
            keys,
            versions: Versions::read(&block),
            curve_preferences: block.integers("curve_preferences"),
            cipher_suites: block.integers("cipher_suites"),
            enable_mtls: block.flag("enable_mtls"),
            ca_certs: texts(&block, "ca_certs"),
            disable_system_ca_pool: block.flag("disable_system_ca_pool"),
            block,
        }
    }
}

impl<'a> ClientTls<'a> {
    /// Reads an opened block with the keys [`CLIENT_TLS`].
    pub fn read(block: Block<'a>) -> ClientTls<'a> {
        ClientTls {
            allow_insecure_connections: block.flag("allow_insecure_connections"),
            ca_certs: texts(&block, "ca_certs"),
            disable_system_ca_pool: block.flag("disable_system_ca_pool"),
            versions: Versions::read(&block),
            curve_preferences: block.integers("curve_preferences"),
            cipher_suites: block.integers("cipher_suites"),
            client_certs: block
                .blocks("client_certs")
                .into_iter()
                .map(|pair| KeyPair::read(pair, "certificate"))
                .collect(),
            block,
        }
    }
}

impl<'a> KeyPair<'a> {
    fn read(block: Block<'a>, certificate: &str) -> KeyPair<'a> {
        KeyPair {
            certificate: block.get(certificate),
            private_key: block.get("private_key"),
            ocsp_response: None,
            block,
        }
    }
}

impl Versions {
    fn read(block: &Block<'_>) -> Versions {
        Versions {
            min: block.choice("min_version"),
            max: block.choice("max_version"),
        }
    }
}
