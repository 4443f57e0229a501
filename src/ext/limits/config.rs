//! The keys of the block.

use crate::config::{Kind, Namespace, key};

pub const LIMITS: Namespace = Namespace {
    name: "portcullis/limits",
    aliases: &[],
    guard: true,
    doc: "Upper bounds. Sizes are bytes, or a text such as `\"8MiB\"`.",
    keys: &[
        key(
            "request_body",
            Kind::Any,
            "8MiB",
            "Largest request body of a composed endpoint (413); `no-op` streams without one.",
        ),
        key(
            "upstream_body",
            Kind::Any,
            "64MiB",
            "Largest decoded backend answer of a composed endpoint.",
        ),
        key(
            "buffered",
            Kind::Any,
            "half of the memory",
            "Bytes of request bodies, of backend answers, and of the trees that are built of them, that the whole process holds at a time; beyond it requests get 503, streams go on. By default half of what the control group or the machine grants.",
        ),
        key(
            "upstream_headers",
            Kind::Any,
            "1MiB",
            "Largest head of a backend's answer, status line and header fields, whatever their number; 1 MiB at most.",
        ),
        key(
            "connections",
            Kind::Integer,
            "65536",
            "Client connections at a time; more are closed at once.",
        ),
        key(
            "headers",
            Kind::Integer,
            "256",
            "Header fields of a request (431); 256 at most.",
        ),
        key(
            "ipv6_prefix",
            Kind::Integer,
            "64",
            "Bits of an IPv6 address that make one client, 1 to 128, for rate limits by address and for guesses at passwords.",
        ),
    ],
};
