//! Compiles the block.

use std::sync::Arc;

use super::KEYS;
use crate::config::{ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::telemetry::mask::without_values;

/// The URLs whose key sets are merged for validators.
#[derive(Debug)]
pub(crate) struct Aggregator {
    port: u16,
    pub origins: Vec<String>,
}

impl Aggregator {
    /// Whether a `jwk_url` is the address of the plugin.
    pub(crate) fn is_at(&self, url: &str) -> bool {
        let Ok(uri) = url.parse::<http::Uri>() else {
            return false;
        };
        let host = uri.host().unwrap_or_default();
        let is_here =
            host.eq_ignore_ascii_case("localhost") || matches!(host, "127.0.0.1" | "[::1]");
        uri.scheme_str() == Some("http") && is_here && uri.port_u16() == Some(self.port)
    }
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    if !block.has("port") {
        block.missing("port");
    }
    let port = block.within("port", 1, 65_535);
    let origins = block.text_items("origins");
    if origins.is_empty() && cx.report.config_errors() == before {
        block.missing("origins");
    }
    for (url, at) in &origins {
        let uri = url.parse::<http::Uri>().ok();
        let is_url = uri.is_some_and(|uri| {
            uri.host().is_some() && matches!(uri.scheme_str(), Some("http" | "https"))
        });
        if !is_url {
            let text = format!("{:?} is not the URL of a key set", without_values(url));
            at.config_error_hint(
                ConfigError::invalid(text),
                "\"https://issuer.example/jwks\"",
            );
        }
    }
    let port = port.and_then(|port| u16::try_from(port).ok());
    if let (Some(port), true) = (port, cx.report.config_errors() == before) {
        let origins = origins.into_iter().map(|(url, _)| url).collect();
        cx.set_fact(Arc::new(Aggregator { port, origins }));
    }
    ServicePart::Nothing
}
