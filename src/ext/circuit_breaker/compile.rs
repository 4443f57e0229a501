//! Compiles the block.

use std::sync::Arc;

use super::config::Block;
use super::runtime::{CircuitBreaker, Settings};
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::runtime::clock::Clock;

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = Block::read(node) else {
        return BackendPart::Nothing;
    };
    if block.is_empty() {
        node.warn(ConfigError::invalid(
            "no key is set: there is no circuit breaker",
        ));
        return BackendPart::Nothing;
    }
    if site.endpoint.streams && !block.stream_errors {
        node.warn_hint(
            ConfigError::invalid(
                "the backend of a \"no-op\" endpoint: statuses of 500 and above are not failures for this breaker",
            ),
            "\"stream_errors\": true counts them; without it only calls without a response count",
        );
    }
    let settings = Settings {
        name: block
            .name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| site.pattern.to_string()),
        log_status_change: block.log_status_change,
        stream_errors: block.stream_errors,
        ..Settings::counting(block.interval, block.timeout, block.max_errors)
    };
    log::debug!(
        "[BACKEND: {}][CB] Creating the circuit breaker named '{}'",
        site.pattern,
        settings.name
    );
    let key = site.state("qos/circuit-breaker", node);
    let breaker = cx.carry_over(key, |_| {
        Arc::new(CircuitBreaker::new(settings, Clock::system()))
    });
    BackendPart::Step(Box::new(breaker))
}
