//! How request bodies are read: `max_payload` and `decompress_gzip`.

use crate::compile::options::bytes;
use crate::config::{Block, ConfigError, Data, Typing};
use crate::ext::{Compile, EndpointSite, ServiceLimits};
use crate::runtime::service::Payload;

/// What the service says of bodies.
#[derive(Debug, Clone, Copy)]
pub(super) struct ServicePayload {
    pub payload: Payload,
    /// The limit of bodies that are read whole. `None` if the file sets none.
    pub whole: Option<u64>,
}

/// Compiles the keys of `router`. `limits` is the block of `portcullis/limits`.
pub(super) fn service(router: Option<&Block<'_>>, limits: Option<&Block<'_>>) -> ServicePayload {
    let most = router.and_then(max_payload);
    let own = bytes(limits, "request_body");
    if let (Some(most), Some(own)) = (most, own)
        && most != own
        && let Some(node) = router.and_then(|block| block.get("max_payload"))
    {
        node.warn(ConfigError::invalid(format!(
            "\"portcullis/limits\" has {own} bytes: for composed endpoints the smaller one counts"
        )));
    }
    ServicePayload {
        payload: Payload {
            most,
            gunzip: router.and_then(gunzip).unwrap_or(false),
        },
        whole: match (most, own) {
            (Some(most), Some(own)) => Some(most.min(own)),
            (most, own) => most.or(own),
        },
    }
}

/// Compiles the keys of an endpoint's `proxy`, within the limits of the service.
pub(super) fn endpoint(
    proxy: Option<&Block<'_>>,
    site: &EndpointSite<'_>,
    cx: &Compile<'_>,
) -> Payload {
    let Some(service) = cx.fact::<ServiceLimits>() else {
        return Payload::default();
    };
    let Some(proxy) = proxy else {
        return service.payload;
    };
    let own = max_payload(proxy);
    let above = if site.streams {
        service.payload.most
    } else {
        Some(service.whole)
    };
    if let (Some(own), Some(above)) = (own, above)
        && own > above
        && let Some(node) = proxy.get("max_payload")
    {
        node.warn_hint(
            ConfigError::invalid(format!("the service's limit of {above} bytes counts")),
            "raise \"max_payload\" of the service's \"router\"",
        );
    }
    Payload {
        most: match (own, service.payload.most) {
            (Some(own), Some(above)) => Some(own.min(above)),
            (own, above) => own.or(above),
        },
        gunzip: gunzip(proxy).unwrap_or(service.payload.gunzip),
    }
}

/// 0 means no limit.
fn max_payload(block: &Block<'_>) -> Option<u64> {
    block.count("max_payload").filter(|most| *most > 0)
}

/// KrakenD's schema has a number in the service, and a boolean in endpoints.
fn gunzip(block: &Block<'_>) -> Option<bool> {
    let node = block.get("decompress_gzip")?;
    match &node.value().data {
        Data::Number(text) => Some(text.parse::<f64>().is_ok_and(|number| number != 0.0)),
        _ => node.bool(Typing::Strict),
    }
}
