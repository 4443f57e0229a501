//! The settings of endpoints and backends, and their handles.

use std::sync::Arc;

use super::config::{BACKEND_KEYS, ENDPOINT_KEYS};
use super::layers;
use crate::config::{Block, ConfigError, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::telemetry::observe::{
    BackendLayer, BackendObserver, EndpointFacts, EndpointObserver, Layer, Observer,
};
use crate::telemetry::trace::Attribute;

/// The handles of an endpoint, and its settings for its backends.
#[derive(Debug)]
pub(crate) struct Observed {
    pub observer: Arc<EndpointObserver>,
    backend: Option<BackendLayer>,
}

/// The block of the endpoint that was compiled last.
#[derive(Debug)]
pub(in crate::ext) struct OfEndpoint {
    place: (String, String),
    proxy: Option<Layer>,
    metric_attributes: Vec<Attribute>,
    trace_attributes: Vec<Attribute>,
    backend: Option<BackendLayer>,
}

/// The block of the backend that was compiled last.
#[derive(Debug)]
pub(in crate::ext) struct OfBackend {
    place: (String, String, usize),
    layer: Option<BackendLayer>,
}

fn place(site: &EndpointSite<'_>) -> (String, String) {
    (site.pattern.to_string(), site.method.to_string())
}

pub(super) fn endpoint_block(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let Some(block) = node.block(ENDPOINT_KEYS) else {
        return EndpointPart::Nothing;
    };
    if let Some(node) = block.get("exporters_override") {
        node.warn(ConfigError::invalid(
            "it has no effect: all exporters get the data of all endpoints",
        ));
    }
    let base = base(cx);
    let global = block.block("global");
    let of = |key, read: fn(&Block<'_>, &str) -> Vec<Attribute>| {
        let global = global.as_ref();
        global.map(|global| read(global, key)).unwrap_or_default()
    };
    cx.set_fact(Arc::new(OfEndpoint {
        place: place(site),
        proxy: block.block("proxy").as_ref().map(layers::layer),
        metric_attributes: of("metrics_static_attributes", layers::labels),
        trace_attributes: of("traces_static_attributes", layers::attributes),
        backend: block
            .block("backend")
            .map(|block| layers::backend(&block, &base)),
    }));
    EndpointPart::Nothing
}

pub(super) fn backend_block(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = node.block(BACKEND_KEYS) else {
        return BackendPart::Nothing;
    };
    for key in ["global", "proxy"] {
        if let Some(node) = block.get(key) {
            node.warn(ConfigError::invalid("it has no effect in a backend"));
        }
    }
    let base = match of_endpoint(site.endpoint, cx).and_then(|own| own.backend.clone()) {
        Some(layer) => layer,
        None => base(cx),
    };
    let (pattern, method) = place(site.endpoint);
    cx.set_fact(Arc::new(OfBackend {
        place: (pattern, method, site.index),
        layer: block
            .block("backend")
            .map(|block| layers::backend(&block, &base)),
    }));
    BackendPart::Nothing
}

/// The layer of the service.
fn base(cx: &Compile<'_>) -> BackendLayer {
    let observer = cx.fact::<Observer>();
    observer.map_or_else(BackendLayer::default, |observer| {
        observer.settings.layers.backend.clone()
    })
}

fn of_endpoint(site: &EndpointSite<'_>, cx: &Compile<'_>) -> Option<Arc<OfEndpoint>> {
    cx.fact::<OfEndpoint>()
        .filter(|own| own.place == place(site))
}

/// The handles of an endpoint, after its blocks were compiled. `None` if nothing is observed.
pub(crate) fn endpoint(site: &EndpointSite<'_>, cx: &Compile<'_>) -> Option<Observed> {
    let observer = cx.fact::<Observer>()?;
    let own = of_endpoint(site, cx);
    let own = own.as_deref();
    let made = observer.endpoint(EndpointFacts {
        pattern: site.pattern,
        method: site.method,
        proxy: own.and_then(|own| own.proxy.clone()),
        metric_attributes: own
            .map(|own| own.metric_attributes.clone())
            .unwrap_or_default(),
        trace_attributes: own
            .map(|own| own.trace_attributes.clone())
            .unwrap_or_default(),
    });
    Some(Observed {
        observer: Arc::new(made),
        backend: own.and_then(|own| own.backend.clone()),
    })
}

/// The handles of a backend, after its blocks were compiled. `reads_errors` means that the body of an error response
/// is read.
pub(crate) fn backend(
    observed: Option<&Observed>,
    site: &BackendSite<'_>,
    reads_errors: bool,
    cx: &Compile<'_>,
) -> Option<Arc<BackendObserver>> {
    let observer = cx.fact::<Observer>()?;
    let observed = observed?;
    let (pattern, method) = place(site.endpoint);
    let here = (pattern, method, site.index);
    let own = cx.fact::<OfBackend>().filter(|own| own.place == here);
    let layer = own.and_then(|own| own.layer.clone());
    Some(Arc::new(observer.backend(
        &observed.observer,
        site.pattern,
        site.method,
        layer.or_else(|| observed.backend.clone()),
        (reads_errors, site.endpoint.streams),
    )))
}
