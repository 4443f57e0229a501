//! Compiles the block.

use std::sync::Arc;

use super::config::BreakerBlock;
use super::runtime::HttpBreaker;
use crate::config::{ConfigError, Node};
use crate::ext::circuit_breaker::{CircuitBreaker, Settings};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::runtime::clock::Clock;

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    let Some(block) = BreakerBlock::read(node) else {
        return BackendPart::Nothing;
    };
    let valid = valid(&block, node);
    if cx.report.config_errors() > before {
        return BackendPart::Nothing;
    }
    let settings = Settings {
        name: block
            .name
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| site.pattern.to_string()),
        log_status_change: block.log_status_change,
        ..Settings::counting(block.interval, block.timeout, block.max_errors)
    };
    let key = site.state("qos/circuit-breaker/http", node);
    let breaker = cx.carry_over(key, |_| {
        let breaker = CircuitBreaker::new(settings, Clock::system());
        Arc::new(HttpBreaker::new(breaker, valid))
    });
    BackendPart::Step(Box::new(breaker))
}

fn valid(block: &BreakerBlock<'_>, node: &Node<'_>) -> Vec<u16> {
    let at = block
        .block
        .get("valid_status_codes")
        .unwrap_or_else(|| node.clone());
    let mut valid = Vec::with_capacity(block.valid.len());
    for number in &block.valid {
        match u16::try_from(*number) {
            Ok(status @ 100..=599) => valid.push(status),
            _ => at.config_error(ConfigError::OutOfRange {
                found: number.to_string(),
                range: "100 to 599".to_owned(),
            }),
        }
    }
    if block.valid.is_empty() && at.items().is_empty() && block.block.has("valid_status_codes") {
        at.invalid("without a valid status every call is a failure");
    }
    valid
}
