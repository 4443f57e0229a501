//! The `tls` object of a connection, with the keys of `client_tls`.

use std::path::PathBuf;

use rustls::ClientConfig;

use crate::config::tls::CLIENT_TLS;
use crate::config::{Block, ConfigError, Node, Typing};
use crate::ext::certificates::{CertificateUse, look};
use crate::ext::context::Compile;
use crate::upstream::{CertificatePair, SideTls, Versions, certificate_pair, certificates_in};

/// How the server is verified. `None` after an error, which is reported.
pub(super) fn config(node: &Node<'_>, cx: &Compile<'_>) -> Option<ClientConfig> {
    let before = cx.report.config_errors();
    let block = node.block(CLIENT_TLS)?;
    let tls = SideTls {
        insecure: block.flag("allow_insecure_connections"),
        ca_certs: authorities(&block, cx),
        disable_system_ca_pool: block.flag("disable_system_ca_pool"),
        cipher_suites: numbers(&block, "cipher_suites"),
        curves: numbers(&block, "curve_preferences"),
        versions: versions(&block),
        client_cert: own(&block, cx),
        ..SideTls::default()
    };
    if cx.report.config_errors() > before {
        return None;
    }
    if tls.insecure {
        let at = block.get("allow_insecure_connections");
        at.unwrap_or_else(|| node.clone())
            .warn(ConfigError::invalid(
                "the certificate of Redis is not checked: anyone on the network path can read and change everything",
            ));
    }
    match tls.config() {
        Ok(config) => Some(config),
        Err(error) => {
            node.invalid(error.to_string());
            None
        }
    }
}

fn authorities(block: &Block<'_>, cx: &Compile<'_>) -> Vec<PathBuf> {
    let items = block.get("ca_certs").map(|list| list.items());
    let mut paths = Vec::new();
    for node in items.unwrap_or_default() {
        let Some(text) = node.text(Typing::Strict) else {
            continue;
        };
        let path = cx.path(text);
        match certificates_in(&path) {
            Ok(_) => {
                look(&node, &path, CertificateUse::Authority, cx);
                paths.push(path);
            }
            Err(error) => node.invalid(error.to_string()),
        }
    }
    paths
}

/// Our own certificate. Of several, the first is presented.
fn own(block: &Block<'_>, cx: &Compile<'_>) -> Option<CertificatePair> {
    let pair = block.blocks("client_certs").into_iter().next()?;
    let found = CertificatePair {
        certificate: cx.path(&pair.required("certificate")?),
        private_key: cx.path(&pair.required("private_key")?),
    };
    match certificate_pair(&found.certificate, &found.private_key) {
        Ok(_) => {
            look(pair.node(), &found.certificate, CertificateUse::Client, cx);
            Some(found)
        }
        Err(error) => {
            pair.node().invalid(error.to_string());
            None
        }
    }
}

fn numbers(block: &Block<'_>, key: &str) -> Vec<u16> {
    let numbers = block.integers(key).into_iter();
    numbers
        .filter_map(|number| {
            let small = u16::try_from(number).ok();
            if small.is_none()
                && let Some(node) = block.get(key)
            {
                node.invalid(format!("{number} is not a number of IANA's list"));
            }
            small
        })
        .collect()
}

fn versions(block: &Block<'_>) -> Versions {
    match (block.choice("min_version"), block.choice("max_version")) {
        (Some("TLS13"), _) => Versions::Only13,
        (_, None | Some("TLS13")) => Versions::All,
        _ => Versions::Only12,
    }
}
