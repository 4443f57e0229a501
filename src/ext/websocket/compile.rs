//! Compiles the block.

use std::borrow::Cow;
use std::time::Duration;

use super::config::WEBSOCKET;
use crate::config::{ConfigError, Extra};
use crate::runtime::service::WebSocket;

/// As in KrakenD.
const TIMEOUT: Duration = Duration::from_secs(300);

/// Compiles the block, and returns it with its `input_headers`.
pub(crate) fn websocket(extra: &Extra<'_>) -> Option<(WebSocket, Vec<String>)> {
    let block = extra.open(&WEBSOCKET)?;
    if !block.flag("enable_direct_communication") {
        block.node().config_error_hint(
            ConfigError::invalid("WebSocket multiplexing is not supported"),
            "\"enable_direct_communication\": true, if the backend communicates with each client directly",
        );
    }
    let rules = WebSocket {
        subprotocols: block
            .texts("subprotocols")
            .into_iter()
            .map(String::into_boxed_str)
            .collect(),
        max_message_bytes: block.count("max_message_size").filter(|most| *most > 0),
        idle: block.set_duration("timeout").unwrap_or(TIMEOUT),
    };
    Some((rules, block.texts("input_headers")))
}

/// Whether a host is written as one for WebSockets.
pub(crate) fn is_host(written: &str) -> bool {
    matches!(host(written), Cow::Owned(_))
}

/// A host as the client calls it: `ws` is HTTP, and `wss` is HTTPS.
pub(crate) fn host(written: &str) -> Cow<'_, str> {
    let scheme = |name: &str| {
        let start = written.get(..name.len());
        start.is_some_and(|start| start.eq_ignore_ascii_case(name))
    };
    match () {
        () if scheme("ws://") => Cow::Owned(format!("http://{}", &written[5..])),
        () if scheme("wss://") => Cow::Owned(format!("https://{}", &written[6..])),
        () => Cow::Borrowed(written),
    }
}
