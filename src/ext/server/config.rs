//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const SERVER: Namespace = Namespace {
    name: "portcullis/server",
    aliases: &[],
    guard: true,
    doc: "The process.",
    keys: &[
        key(
            "threads",
            Kind::Integer,
            "as many as processors",
            "Worker threads. The default follows the CPU quota of the control group, rounded up.",
        ),
        key(
            "session_ticket_keys",
            Kind::Text,
            "own keys, replaced every 6 hours",
            "Path of a file with the keys of TLS session tickets, for several gateways behind one address: 32 bytes in hexadecimal or base64 on each line. The first key encrypts, all keys decrypt. A reload reads the file again.",
        ),
        key(
            "session_tickets_in_redis",
            Kind::Bool,
            "false",
            "The keys of TLS session tickets come from the Redis of `portcullis/redis`, where the gateways share a new key every 6 hours.",
        ),
        key(
            "ready_wait",
            Kind::Duration,
            "30s",
            "How long `GET /__ready` responds with 503 after the start while key sets or the revocations of the fleet are not loaded yet. `0s` switches this off.",
        ),
        key(
            "shutdown_delay",
            Kind::Duration,
            "0s",
            "On `SIGTERM`, connections are still accepted for this time, while `/__ready` responds with 503, so that a load balancer can stop sending requests. Then `max_shutdown_wait_time` begins.",
        ),
        key(
            "upgrade_wait",
            Kind::Duration,
            "8s",
            "How long a process started for an upgrade waits for the listening sockets of the old one. If the old process then does not respond at its control socket either, because it is stopped or hangs, the new process kills it and binds the address itself.",
        ),
        key(
            "proxy_protocol",
            Kind::Texts,
            "[] (not spoken)",
            "Load balancers, by address or network, that must begin each connection with a PROXY protocol header (version 1 or 2). For all others, the address of the connection is the client's.",
        ),
    ],
};
