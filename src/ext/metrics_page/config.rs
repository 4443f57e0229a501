//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const METRICS: Namespace = Namespace {
    name: "portcullis/metrics",
    aliases: &[],
    guard: true,
    doc: "A page for Prometheus at `/metrics`. Off unless this block is there.",
    keys: &[
        key("listen", Kind::Text, "127.0.0.1:9090", "Address and port."),
        key(
            "per_endpoint",
            Kind::Bool,
            "true",
            "Counters for each endpoint; without them the page stays small with thousands of routes.",
        ),
        key(
            "page",
            Kind::Bool,
            "false",
            "A read-only page for people at `/`: routes, rejected requests, backends, key sets, certificates.",
        ),
    ],
};
