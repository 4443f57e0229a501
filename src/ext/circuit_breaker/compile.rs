//! Compiles the block.

use std::sync::Arc;
use std::time::Duration;

use super::config::Block;
use super::runtime::{CircuitBreaker, Settings};
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::runtime::clock::Clock;

/// KrakenD's default for a pause of 0.
pub(in crate::ext) const DEFAULT_PAUSE: Duration = Duration::from_secs(60);

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
            "nothing is set: there is no circuit breaker",
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
    let seconds = |number: Option<u64>| number.filter(|n| *n > 0).map(Duration::from_secs);
    let settings = Settings {
        interval: seconds(block.interval),
        timeout: seconds(block.timeout).unwrap_or(DEFAULT_PAUSE),
        max_errors: block.max_errors.unwrap_or(0),
        name: block.name.unwrap_or_default(),
        log_status_change: block.log_status_change,
        stream_errors: block.stream_errors,
    };
    log::debug!(
        "[BACKEND: {}][CB] Creating the circuit breaker named '{}'",
        site.pattern,
        settings.name
    );
    let key = format!(
        "qos/circuit-breaker {} {} {} {} {}",
        site.endpoint.method,
        site.endpoint.pattern,
        site.index,
        site.pattern,
        node.value().to_json()
    );
    let breaker = cx.carry(key, |_| {
        Arc::new(CircuitBreaker::new(settings, Clock::system()))
    });
    BackendPart::Step(Box::new(breaker))
}
