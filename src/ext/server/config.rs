//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const SERVER: Namespace = Namespace {
    name: "portcullis/server",
    aliases: &[],
    guard: true,
    doc: "The process.",
    keys: &[
        key(
            "threads",
            Kind::Integer,
            "as many as processors",
            "Worker threads. A quota of the control group counts, rounded up.",
        ),
        key(
            "session_ticket_keys",
            Kind::Text,
            "own keys, replaced every 6 hours",
            "Path of a file with the keys of TLS session tickets, for gateways behind one address: 32 bytes in hexadecimal or base64 in each line. The first encrypts, all decrypt. Read again at a reload.",
        ),
        key(
            "session_tickets_in_redis",
            Kind::Bool,
            "false",
            "The keys of TLS session tickets come from the Redis of `portcullis/redis`, where gateways make a new one together every 6 hours.",
        ),
        key(
            "ready_wait",
            Kind::Duration,
            "30s",
            "How long `GET /__ready` answers 503 at start while key sets have not come yet; `0s` switches that off.",
        ),
        key(
            "shutdown_delay",
            Kind::Duration,
            "0s",
            "On `SIGTERM`, connections are accepted for this time, while `/__ready` answers 503: time for a load balancer to move away. Then `max_shutdown_wait_time` begins.",
        ),
        key(
            "proxy_protocol",
            Kind::Texts,
            "[] (not spoken)",
            "Load balancers, by address or network, that must open each connection with a PROXY protocol preamble (version 1 or 2). Who is not listed is taken at its own address.",
        ),
    ],
};
