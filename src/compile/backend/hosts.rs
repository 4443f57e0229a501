//! The hosts of a backend.

use crate::config::host::{self, Clean};
use crate::config::{Backend, ConfigError, Node, Typing};
use crate::ext::{amqp, pubsub, websocket};
use crate::telemetry::mask::masked;

/// The cleaned hosts of this backend, or those of the service.
pub(super) fn hosts(file: &Backend<'_>, service_hosts: &[String], websocket: bool) -> Vec<String> {
    if file.host.is_empty() {
        return service_hosts.to_vec();
    }
    if pubsub::is_wanted(&file.extra) || amqp::is_wanted(&file.extra) {
        // Addresses of topics, queues and brokers, which the block reads.
        let texts = file.host.iter().filter_map(|node| node.text(Typing::Weak));
        return texts.map(str::to_owned).collect();
    }
    if websocket {
        let hosts = file.host.iter().filter_map(verbatim);
        return hosts
            .map(|host| websocket::host(&host).into_owned())
            .collect();
    }
    if file.disable_host_sanitize {
        file.host.iter().for_each(is_no_websocket);
        return file.host.iter().filter_map(verbatim).collect();
    }
    cleaned(&file.host)
}

/// A cleaned list of hosts. Invalid ones are reported.
pub(in crate::compile) fn cleaned(list: &[Node<'_>]) -> Vec<String> {
    list.iter().filter_map(clean).collect()
}

fn clean(node: &Node<'_>) -> Option<String> {
    let text = node.text(Typing::Weak)?;
    let shown = || {
        if node.value().masked {
            "[redacted]".to_owned()
        } else if text.contains(|c: char| c.is_whitespace() || c.is_control()) {
            // Escaped, so that a space or a line feed at its end is visible.
            format!("{:?}", masked(text))
        } else {
            masked(text).into_owned()
        }
    };
    match host::sanitise(text) {
        Some(Clean { url, cut: false }) => Some(url),
        Some(Clean { url, cut: true }) => {
            node.warn_hint(
                ConfigError::invalid(format!("the text around the host {} is removed", shown())),
                if node.value().masked {
                    "write the host alone".to_owned()
                } else {
                    format!("write \"{url}\"")
                },
            );
            Some(url)
        }
        None if host::taken_by_krakend(text) => {
            calls_fail(node, &shown());
            Some(text.to_owned())
        }
        None => {
            let hint = if INPUTS.iter().any(|input| text.contains(input)) {
                NO_INPUTS
            } else if host::is_unfilled(text) {
                UNFILLED
            } else if websocket::is_host(text) {
                FOR_WEBSOCKETS
            } else {
                "\"http://name:port\" or \"https://name:port\"; a path belongs in \"url_pattern\""
            };
            node.config_error_hint(ConfigError::Host { host: shown() }, hint);
            None
        }
    }
}

/// The beginnings of the inputs of a `url_pattern`.
const INPUTS: [&str; 4] = ["{input_headers.", "{input_query_strings.", "{JWT.", "{resp"];

const NO_INPUTS: &str = "a host has no inputs, because clients must not choose which server is called: \
                         \"backend/conditional\" chooses between backends";

const UNFILLED: &str = "to fill in a value: FC_ENABLE=1 renders templates, and \"portcullis/secrets\": \
                        {\"expand\": true} fills in ${NAME}";

/// A text that is not a host, but that KrakenD accepts.
fn calls_fail(node: &Node<'_>, shown: &str) {
    let hint = if INPUTS.iter().any(|input| shown.contains(input)) {
        NO_INPUTS
    } else if host::is_unfilled(shown) {
        UNFILLED
    } else {
        "\"http://name:port\" or \"https://name:port\""
    };
    node.warn_hint(
        ConfigError::invalid(format!("{shown} is not a host: every call to it fails")),
        hint,
    );
}

/// Only an endpoint for WebSockets can call a host of that scheme.
fn is_no_websocket(node: &Node<'_>) {
    if let Some(text) = node.text(Typing::Weak)
        && websocket::is_host(text)
    {
        node.config_error_hint(
            ConfigError::invalid("an endpoint without \"websocket\" cannot call such a host"),
            FOR_WEBSOCKETS,
        );
    }
}

const FOR_WEBSOCKETS: &str =
    "\"websocket\": {\"enable_direct_communication\": true} in the extra_config of the endpoint";

/// A host that is used unchanged.
fn verbatim(node: &Node<'_>) -> Option<String> {
    let text = node.text(Typing::Weak)?;
    if host::is_unfilled(text) && !node.value().masked {
        calls_fail(node, &masked(text));
    }
    Some(host::with_path(text))
}
