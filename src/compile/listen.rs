//! Compiles the settings of the listener.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::time::Duration;

use crate::compile::certificates;
use crate::compile::files::readable;
use crate::compile::options;
use crate::compile::output::Metrics;
use crate::config::tls::{KeyPair, Versions};
use crate::config::{Block, ConfigError, Node, Service, Tls};
use crate::ext::limits::LIMITS;
use crate::ext::metrics_page::METRICS;
use crate::ext::redis::session_ticket_keys;
use crate::ext::server::SERVER;
use crate::ext::{CertificateUse, Compile, warn_if_others_write};
use crate::runtime::listen::{
    ClientRoots, KeyFiles, Limits, Listen, MAX_FIELDS, ServerTls, SharedSecrets, TlsVersion,
};

/// As in Go: the meaning of `max_header_bytes` 0.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// As in Go, which allows this much more than the configured value.
const HEADER_SLACK: u64 = 4096;
/// Below the 35 s after which systemd kills the process with our unit file.
const DRAIN: Duration = Duration::from_secs(30);
/// If a provider has not responded within this time, the start no longer waits for it: its tokens are rejected, and
/// everything else is served.
const READY_WAIT: Duration = Duration::from_secs(30);

/// Compiles all settings of the listener. `port` is from the command line and takes precedence.
pub(super) fn listen(file: &Service<'_>, port: Option<u16>, cx: &Compile<'_>) -> Listen {
    let ip = file.listen_ip.as_deref().and_then(|ip| address(file, ip));
    let port = port.unwrap_or_else(|| port_of(file));
    let server = file.extra.open(&SERVER);
    Listen {
        address: SocketAddr::new(ip.unwrap_or_else(any_address), port),
        tls: file
            .tls
            .as_ref()
            .and_then(|tls| server_tls(tls, server.as_ref(), cx)),
        limits: limits(file, server.as_ref()),
        threads: server
            .as_ref()
            .and_then(|server| server.within("threads", 1, 1024))
            .map(|threads| threads as usize),
        drain: file.max_shutdown_wait_time.unwrap_or(DRAIN),
        shutdown_delay: server
            .as_ref()
            .and_then(|server| server.duration("shutdown_delay"))
            .unwrap_or_default(),
        upgrade_wait: server
            .as_ref()
            .and_then(|server| server.duration("upgrade_wait"))
            .unwrap_or(UPGRADE_WAIT),
    }
}

/// The session ticket keys in Redis, if they are configured and the blocks are compiled.
pub(super) fn shared_tickets(file: &Service<'_>, cx: &mut Compile<'_>) -> Option<SharedSecrets> {
    let node = file.extra.of(&SERVER)?;
    let server = node.block(SERVER.keys)?;
    if !server.flag("session_tickets_in_redis") {
        return None;
    }
    let at = server.get("session_tickets_in_redis").unwrap_or(node);
    if server.has("session_ticket_keys") {
        at.invalid("the keys of session tickets already come from a file: \"session_ticket_keys\"");
    }
    let secrets = session_ticket_keys(cx);
    if secrets.is_none() {
        at.config_error_hint(
            ConfigError::invalid("there is no Redis in this file"),
            "\"portcullis/redis\": {\"url\": \"redis://host:6379\"} beside it",
        );
    }
    secrets
}

/// How long a new process waits for the sockets of an old one that may not respond.
const UPGRADE_WAIT: Duration = Duration::from_secs(8);

/// How long `GET /__ready` waits for key sets.
pub(super) fn ready_wait(file: &Service<'_>) -> Duration {
    file.extra
        .open(&SERVER)
        .and_then(|server| server.duration("ready_wait"))
        .unwrap_or(READY_WAIT)
}

fn limits(file: &Service<'_>, server: Option<&Block<'_>>) -> Limits {
    let default = Limits::default();
    let block = file.extra.open(&LIMITS);
    let max_header_bytes = file
        .max_header_bytes
        .unwrap_or(MAX_HEADER_BYTES)
        .saturating_add(HEADER_SLACK);
    Limits {
        head: file
            .read_header_timeout
            .or(file.read_timeout)
            .unwrap_or(default.head),
        idle: file
            .idle_timeout
            .or(file.read_timeout)
            .unwrap_or(default.idle),
        read: file.read_timeout.unwrap_or(default.read),
        write: file.write_timeout.or(default.write),
        max_header_bytes: usize::try_from(max_header_bytes).unwrap_or(usize::MAX),
        max_fields: block
            .as_ref()
            .and_then(|block| block.within("headers", 1, MAX_FIELDS as i64))
            .map_or(MAX_FIELDS, |fields| fields as usize),
        max_connections: block
            .as_ref()
            .and_then(|block| block.count("connections"))
            .filter(|count| *count > 0)
            .map_or(default.max_connections, |count| count as usize),
        h2c: file.use_h2c,
        proxy_protocol: server
            .map(|server| options::networks(server, "proxy_protocol"))
            .filter(|peers| !peers.is_empty())
            .map(Vec::into_boxed_slice),
    }
}

/// All addresses of both families, if the machine supports both.
pub(crate) fn any_address() -> IpAddr {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}

/// Our own metrics page for Prometheus.
pub(super) fn metrics(file: &Service<'_>, cx: &Compile<'_>) -> Option<Metrics> {
    let node = file.extra.of(&METRICS)?;
    let block = node.block(METRICS.keys)?;
    let listen = match block.get("listen") {
        Some(at) => socket(&at, block.text("listen")?)?,
        None => SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
    };
    Some(Metrics {
        listen,
        per_endpoint: block.bool("per_endpoint").unwrap_or(true),
        page: block.flag("page"),
        tls: block
            .block("tls")
            .and_then(|tls| server_tls(&Tls::read(tls), None, cx))
            .map(|tls| ServerTls {
                offers_http2: false,
                ..tls
            }),
    })
}

fn socket(node: &Node<'_>, text: &str) -> Option<SocketAddr> {
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    };
    let socket = full.parse().ok();
    if socket.is_none() {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is not an address with a port", node.shown())),
            "such as \"127.0.0.1:9090\"",
        );
    }
    socket
}

fn address(file: &Service<'_>, text: &str) -> Option<IpAddr> {
    let ip = text.parse().ok();
    if ip.is_none()
        && let Some(node) = file.block.get("listen_ip")
    {
        node.config_error_hint(
            ConfigError::Address(text.to_owned()),
            "an address such as \"127.0.0.1\" or \"::1\", not a name",
        );
    }
    ip
}

fn port_of(file: &Service<'_>) -> u16 {
    let Some(port) = file.port else { return 8080 };
    u16::try_from(port).unwrap_or_else(|_| {
        if let Some(node) = file.block.get("port") {
            node.config_error(ConfigError::OutOfRange {
                found: port.to_string(),
                range: "1 to 65535".to_owned(),
            });
        }
        8080
    })
}

fn server_tls(tls: &Tls<'_>, server: Option<&Block<'_>>, cx: &Compile<'_>) -> Option<ServerTls> {
    if tls.disabled {
        tls.block
            .node()
            .warn(ConfigError::invalid("TLS is configured but disabled"));
        return None;
    }
    if tls.keys.is_empty() {
        tls.block.node().config_error_hint(
            ConfigError::invalid("public key not defined"),
            "\"keys\": [{\"public_key\": \"cert.pem\", \"private_key\": \"key.pem\"}]",
        );
    }
    let keys = tls
        .keys
        .iter()
        .filter_map(|pair| key_files(pair, cx))
        .collect();
    if tls.enable_mtls && tls.disable_system_ca_pool && tls.ca_certs.is_empty() {
        tls.block.node().warn_hint(
            ConfigError::invalid(
                "the only trusted client certificates are those of \"keys\", and of authorities among them",
            ),
            "\"ca_certs\": [\"clients-ca.pem\"]",
        );
    }
    let (min_version, max_version) = versions(&tls.block, tls.versions, TlsVersion::Tls13);
    Some(ServerTls {
        keys,
        min_version,
        max_version,
        curves: numbers(&tls.block, "curve_preferences", &tls.curve_preferences),
        cipher_suites: numbers(&tls.block, "cipher_suites", &tls.cipher_suites),
        ticket_keys: server
            .and_then(|server| server.get("session_ticket_keys"))
            .and_then(|node| {
                let path = readable(&node, cx)?;
                warn_if_others_write(&node, &path);
                Some(path)
            }),
        shared_tickets: None,
        offers_http2: true,
        mtls: tls.enable_mtls.then(|| ClientRoots {
            ca_files: tls
                .ca_certs
                .iter()
                .filter_map(|node| certificates::authorities(node, cx))
                .collect(),
            system_roots: !tls.disable_system_ca_pool,
        }),
    })
}

fn key_files(pair: &KeyPair<'_>, cx: &Compile<'_>) -> Option<KeyFiles> {
    for (part, name) in [
        (&pair.certificate, "public"),
        (&pair.private_key, "private"),
    ] {
        if part.is_none() {
            pair.block.node().invalid(format!("{name} key not defined"));
        }
    }
    let ocsp_response = certificates::ocsp_response(pair, cx);
    let pair = certificates::pair(pair, CertificateUse::Server, cx)?;
    Some(KeyFiles {
        certificate: pair.certificate,
        private_key: pair.private_key,
        ocsp_response,
    })
}

/// The TLS versions. Versions before TLS 1.2 are raised to it with a warning.
pub(super) fn versions(
    block: &Block<'_>,
    written: Versions,
    default_min: TlsVersion,
) -> (TlsVersion, TlsVersion) {
    let read = |key: &str, version: Option<&'static str>| match version {
        Some("TLS13") => Some(TlsVersion::Tls13),
        Some("TLS12") => Some(TlsVersion::Tls12),
        Some(old) => {
            if let Some(node) = block.get(key) {
                node.warn_hint(
                    ConfigError::invalid(format!("{old} is not supported")),
                    "TLS12 is used instead",
                );
            }
            Some(TlsVersion::Tls12)
        }
        None => None,
    };
    let min = read("min_version", written.min);
    let max = read("max_version", written.max).unwrap_or(TlsVersion::Tls13);
    let min = min.unwrap_or(default_min);
    if min > max {
        block
            .node()
            .invalid("\"min_version\" is above \"max_version\"");
    }
    (min, max)
}

/// Numbers of TLS parameters, which have 16 bits.
pub(super) fn numbers(block: &Block<'_>, key: &str, written: &[i64]) -> Vec<u16> {
    written
        .iter()
        .filter_map(|number| {
            let id = u16::try_from(*number).ok();
            if id.is_none()
                && let Some(node) = block.get(key)
            {
                node.config_error(ConfigError::OutOfRange {
                    found: number.to_string(),
                    range: "0 to 65535".to_owned(),
                });
            }
            id
        })
        .collect()
}
