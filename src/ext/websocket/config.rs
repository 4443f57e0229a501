//! The keys of the block.

use crate::config::{Kind, Namespace, key};

const MULTIPLEXING: &str = "it belongs to multiplexing, which is not supported";
const BUFFERS: &str = "frames are forwarded directly, without a queue";
const PINGS: &str = "client and backend send their own pings";

pub(crate) const WEBSOCKET: Namespace = Namespace {
    name: "websocket",
    aliases: &[],
    guard: true,
    doc: "Lets clients open a WebSocket to the backend. Token, keys and limits are checked at the handshake. Only \
          direct communication is supported: one connection to the backend for each client. See \
          [WebSockets](http2.md#websocket).",
    keys: &[
        key(
            "enable_direct_communication",
            Kind::Bool,
            "false",
            "Must be true: multiplexing is not supported.",
        ),
        key(
            "input_headers",
            Kind::Texts,
            "[]",
            "Headers of the handshake that reach the backend, or `*`, in addition to those of the endpoint.",
        ),
        key(
            "subprotocols",
            Kind::Texts,
            "[] (any)",
            "Only these of the subprotocols that a client offers reach the backend.",
        ),
        key(
            "max_message_size",
            Kind::Integer,
            "none",
            "Bytes of a client's message. A client that sends a larger one is disconnected (1009). Extensions such as compression are not negotiated then. KrakenD's default of 512 bytes does not apply.",
        ),
        key(
            "timeout",
            Kind::Duration,
            "5m",
            "How long neither side may send anything.",
        ),
        key("read_buffer_size", Kind::Leftover, "", BUFFERS),
        key("write_buffer_size", Kind::Leftover, "", BUFFERS),
        key("message_buffer_size", Kind::Leftover, "", BUFFERS),
        key("write_wait", Kind::Leftover, "", BUFFERS),
        key("pong_wait", Kind::Leftover, "", PINGS),
        key("ping_period", Kind::Leftover, "", PINGS),
        key("max_retries", Kind::Leftover, "", MULTIPLEXING),
        key("backoff_strategy", Kind::Leftover, "", MULTIPLEXING),
        key("connect_event", Kind::Leftover, "", MULTIPLEXING),
        key("disconnect_event", Kind::Leftover, "", MULTIPLEXING),
        key("return_error_details", Kind::Leftover, "", MULTIPLEXING),
        key("disable_otel_metrics", Kind::Leftover, "", ""),
    ],
};
