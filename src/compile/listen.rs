//! How clients reach us.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use crate::compile::files::readable;
use crate::compile::output::{ClientAuth, KeyFiles, Listen, Metrics, ServerTls, TlsVersion};
use crate::config::namespaces::{LIMITS, METRICS, OPENTELEMETRY, SERVER};
use crate::config::tls::Versions;
use crate::config::{Block, Mistake, Node, Service, Tls};
use crate::ext::Compile;

/// As the reference's HTTP library: what `max_header_bytes` 0 means.
const MAX_HEADER_BYTES: u64 = 1 << 20;
/// As the reference's HTTP library: it allows this much more than it was told.
const HEADER_SLACK: u64 = 4096;
/// Pingora reads no more fields than this.
const MAX_HEADERS: i64 = 256;
/// A client that sends its head slower than this is no client.
const READ_HEADER: Duration = Duration::from_secs(10);
const IDLE: Duration = Duration::from_secs(60);

/// Reads everything about the listener. `port` is the command line's, which wins.
pub fn listen(file: &Service<'_>, port: Option<u16>, cx: &Compile<'_>) -> Listen {
    let limits = file
        .extra
        .find(LIMITS.name, LIMITS.aliases)
        .and_then(|node| node.block(LIMITS.keys));
    Listen {
        ip: file.listen_ip.as_deref().and_then(|ip| address(file, ip)),
        port: port.unwrap_or_else(|| port_of(file)),
        tls: file.tls.as_ref().and_then(|tls| server_tls(tls, cx)),
        h2c: file.use_h2c,
        read_timeout: file.read_timeout,
        read_header_timeout: file
            .read_header_timeout
            .or(file.read_timeout)
            .unwrap_or(READ_HEADER),
        write_timeout: file.write_timeout,
        idle_timeout: file.idle_timeout.or(file.read_timeout).unwrap_or(IDLE),
        max_header_bytes: file
            .max_header_bytes
            .unwrap_or(MAX_HEADER_BYTES)
            .saturating_add(HEADER_SLACK),
        max_headers: limits
            .as_ref()
            .and_then(|limits| limits.within("headers", 1, MAX_HEADERS))
            .unwrap_or(MAX_HEADERS) as usize,
        max_connections: limits
            .as_ref()
            .and_then(|limits| limits.count("connections"))
            .filter(|count| *count > 0)
            .map(|count| count as usize),
    }
}

/// The page for Prometheus: our own namespace, or the reference's exporter.
pub fn metrics(file: &Service<'_>) -> Option<Metrics> {
    if let Some(node) = file.extra.find(METRICS.name, METRICS.aliases) {
        let block = node.block(METRICS.keys)?;
        let listen = match block.get("listen") {
            Some(at) => socket(&at, block.text("listen")?)?,
            None => SocketAddr::from((Ipv4Addr::LOCALHOST, 9090)),
        };
        return Some(Metrics {
            listen,
            per_endpoint: block.bool("per_endpoint").unwrap_or(true),
        });
    }
    let node = file.extra.find(OPENTELEMETRY.name, OPENTELEMETRY.aliases)?;
    node.warn_hint(
        Mistake::Unsupported {
            namespace: OPENTELEMETRY.name.to_owned(),
        },
        "of it only the Prometheus exporter is served",
    );
    let exporters = node.block(OPENTELEMETRY.keys)?.block("exporters")?;
    exporters.blocks("prometheus").iter().find_map(exporter)
}

/// Worker threads; `None`: as many as processors.
pub fn threads(file: &Service<'_>) -> Option<usize> {
    file.extra
        .find(SERVER.name, SERVER.aliases)?
        .block(SERVER.keys)?
        .within("threads", 1, 1024)
        .map(|threads| threads as usize)
}

fn exporter(block: &Block<'_>) -> Option<Metrics> {
    let port = block.within("port", 1, 65535).unwrap_or(9090) as u16;
    let ip = match block.get("listen_ip").or_else(|| block.get("host")) {
        Some(node) => match block.text("listen_ip").or_else(|| block.text("host")) {
            None | Some("") => Ipv4Addr::LOCALHOST.into(),
            Some("localhost") => Ipv4Addr::LOCALHOST.into(),
            Some(text) => match text.parse::<IpAddr>() {
                Ok(ip) => ip,
                Err(_) => {
                    node.mistake(Mistake::Address(text.to_owned()));
                    return None;
                }
            },
        },
        None => Ipv4Addr::LOCALHOST.into(),
    };
    (!block.flag("disable_metrics")).then_some(Metrics {
        listen: SocketAddr::new(ip, port),
        per_endpoint: true,
    })
}

fn socket(node: &Node<'_>, text: &str) -> Option<SocketAddr> {
    let full = match text.strip_prefix(':') {
        Some(port) => format!("0.0.0.0:{port}"),
        None => text.to_owned(),
    };
    let socket = full.parse().ok();
    if socket.is_none() {
        node.mistake_hint(
            Mistake::invalid(format!("{} is no address with a port", node.shown())),
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
        node.mistake_hint(
            Mistake::Address(text.to_owned()),
            "an address such as \"127.0.0.1\" or \"::1\", not a name",
        );
    }
    ip
}

fn port_of(file: &Service<'_>) -> u16 {
    let Some(port) = file.port else { return 8080 };
    u16::try_from(port).unwrap_or_else(|_| {
        if let Some(node) = file.block.get("port") {
            node.mistake(Mistake::OutOfRange {
                found: port.to_string(),
                range: "1 to 65535".to_owned(),
            });
        }
        8080
    })
}

fn server_tls(tls: &Tls<'_>, cx: &Compile<'_>) -> Option<ServerTls> {
    if tls.disabled {
        tls.block
            .node()
            .warn(Mistake::invalid("TLS is configured but disabled"));
        return None;
    }
    if tls.keys.is_empty() {
        tls.block.node().mistake_hint(
            Mistake::invalid("public key not defined"),
            "\"keys\": [{\"public_key\": \"cert.pem\", \"private_key\": \"key.pem\"}]",
        );
    }
    let keys = tls
        .keys
        .iter()
        .filter_map(|pair| {
            let (certificate, private_key) = (&pair.certificate, &pair.private_key);
            for (part, name) in [(certificate, "public"), (private_key, "private")] {
                if part.is_none() {
                    pair.block.node().invalid(format!("{name} key not defined"));
                }
            }
            let certificate = certificate.as_ref().and_then(|node| readable(node, cx));
            let private_key = private_key.as_ref().and_then(|node| readable(node, cx));
            Some(KeyFiles {
                certificate: certificate?,
                private_key: private_key?,
            })
        })
        .collect();
    let (min, max) = versions(&tls.block, tls.versions, TlsVersion::V1_3);
    Some(ServerTls {
        keys,
        min,
        max,
        curves: numbers(&tls.block, "curve_preferences", &tls.curve_preferences),
        cipher_suites: numbers(&tls.block, "cipher_suites", &tls.cipher_suites),
        client_auth: tls.enable_mtls.then(|| ClientAuth {
            ca_certs: tls
                .ca_certs
                .iter()
                .filter_map(|node| readable(node, cx))
                .collect(),
            system_pool: !tls.disable_system_ca_pool,
        }),
    })
}

/// The versions in words of ours; older ones than TLS 1.2 are raised to it with a warning.
pub fn versions(
    block: &Block<'_>,
    written: Versions,
    default_min: TlsVersion,
) -> (TlsVersion, TlsVersion) {
    let read = |key: &str, version: Option<&'static str>| match version {
        Some("TLS13") => Some(TlsVersion::V1_3),
        Some("TLS12") => Some(TlsVersion::V1_2),
        Some(old) => {
            if let Some(node) = block.get(key) {
                node.warn_hint(
                    Mistake::invalid(format!("{old} is not spoken")),
                    "TLS12 is taken instead",
                );
            }
            Some(TlsVersion::V1_2)
        }
        None => None,
    };
    let min = read("min_version", written.min);
    let max = read("max_version", written.max).unwrap_or(TlsVersion::V1_3);
    let min = min.unwrap_or(default_min);
    if min > max {
        block
            .node()
            .invalid("\"min_version\" is above \"max_version\"");
    }
    (min, max)
}

/// Numbers of TLS parameters, which have 16 bits.
pub fn numbers(block: &Block<'_>, key: &str, written: &[i64]) -> Vec<u16> {
    written
        .iter()
        .filter_map(|number| {
            let id = u16::try_from(*number).ok();
            if id.is_none()
                && let Some(node) = block.get(key)
            {
                node.mistake(Mistake::OutOfRange {
                    found: number.to_string(),
                    range: "0 to 65535".to_owned(),
                });
            }
            id
        })
        .collect()
}
