//! The block as configured.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "interval",
        Kind::Integer,
        "0",
        "Seconds in which failures are counted; 0 means no limit.",
    ),
    key(
        "timeout",
        Kind::Integer,
        "60",
        "How many seconds the circuit stays open before one call is tried.",
    ),
    key(
        "max_errors",
        Kind::Integer,
        "0",
        "Consecutive failures that are tolerated. The next one opens the circuit.",
    ),
    key("name", Kind::Text, "", "A name for the log."),
    key(
        "log_status_change",
        Kind::Bool,
        "false",
        "Log when the circuit opens and closes.",
    ),
    key(
        "stream_errors",
        Kind::Bool,
        "false",
        "Ours: statuses of 500 and above also count as failures of a `no-op` backend.",
    ),
];

/// `qos/circuit-breaker` as configured.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) interval: Option<u64>,
    pub(super) timeout: Option<u64>,
    pub(super) max_errors: Option<u64>,
    pub(super) name: Option<String>,
    pub(super) log_status_change: bool,
    pub(super) stream_errors: bool,
}

impl Block {
    pub(super) fn read(node: &Node<'_>) -> Option<Block> {
        let block = node.block(KEYS)?;
        Some(Block {
            interval: block.count("interval"),
            timeout: block.count("timeout"),
            max_errors: block.count("max_errors"),
            name: block.string("name"),
            log_status_change: block.flag("log_status_change"),
            stream_errors: block.flag("stream_errors"),
        })
    }

    /// As in KrakenD, a block without any value means no circuit breaker.
    pub(super) fn is_empty(&self) -> bool {
        let numbers = [self.interval, self.timeout, self.max_errors];
        numbers.iter().all(|number| number.unwrap_or(0) == 0)
            && self.name.as_deref().unwrap_or("").is_empty()
            && !self.log_status_change
            && !self.stream_errors
    }
}
