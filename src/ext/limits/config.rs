//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub(crate) const LIMITS: Namespace = Namespace {
    name: "portcullis/limits",
    aliases: &[],
    guard: true,
    doc: "Upper limits. A size is a number of bytes, or a string such as `\"8MiB\"`.",
    keys: &[
        key(
            "request_body",
            Kind::Any,
            "8MiB",
            "Largest request body of a composed endpoint (413). `no-op` endpoints stream without this limit.",
        ).guarding(),
        key(
            "upstream_body",
            Kind::Any,
            "64MiB",
            "Largest decoded backend response of a composed endpoint, and largest message of NATS or RabbitMQ.",
        ).guarding(),
        key(
            "buffered",
            Kind::Any,
            "half of the memory",
            "Bytes of request bodies, of backend responses, and of the trees that are built from them, that the whole process may hold at a time. Beyond it, requests get 503, and streams continue. The default is half of the memory of the control group or the machine.",
        ).guarding(),
        key(
            "upstream_headers",
            Kind::Any,
            "1MiB",
            "Largest head of a backend's response: status line and headers, of which there are at most 10000. At most 1 MiB.",
        ).guarding(),
        key(
            "connections",
            Kind::Integer,
            "65536",
            "Client connections at a time. Further connections are closed immediately.",
        ).guarding(),
        key(
            "headers",
            Kind::Integer,
            "256",
            "Headers of a request (431); at most 256.",
        ).guarding(),
        key(
            "ipv6_prefix",
            Kind::Integer,
            "64",
            "Bits of an IPv6 address that identify a client, 1 to 128, for rate limits by address and for limits on password guesses.",
        ).guarding(),
    ],
};
