//! The keys of the block.

use crate::config::tls::TLS;
use crate::config::{Kind, Namespace, key};

pub(crate) const METRICS: Namespace = Namespace {
    name: "portcullis/metrics",
    aliases: &[],
    guard: true,
    doc: "A page for Prometheus at `/metrics`. It is off without this block.",
    keys: &[
        key("listen", Kind::Text, "127.0.0.1:9090", "Address and port."),
        key(
            "per_endpoint",
            Kind::Bool,
            "true",
            "Count for each endpoint. `false` keeps the page small with thousands of endpoints.",
        ),
        key(
            "page",
            Kind::Bool,
            "false",
            "A read-only page for a browser at `/`: routes, rejected requests, backends, key sets, certificates.",
        ),
        key(
            "tls",
            Kind::Block(TLS),
            "",
            "TLS for this listener, with the keys of the service's `tls`. With `enable_mtls`, only clients with a certificate can read the pages.",
        )
        .guarding(),
    ],
};
