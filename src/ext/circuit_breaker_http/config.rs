//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "interval",
        Kind::Integer,
        "",
        "Required: seconds in which failures are counted; 0 means no limit.",
    ),
    key(
        "timeout",
        Kind::Integer,
        "",
        "Required: how many seconds the circuit stays open before one call is tried; 0 means 60.",
    ),
    key(
        "max_errors",
        Kind::Integer,
        "",
        "Required: consecutive failures that are tolerated. The next one opens the circuit.",
    ),
    key(
        "valid_status_codes",
        Kind::Integers,
        "",
        "Required: the statuses that are not failures, after redirects.",
    ),
    key("name", Kind::Text, "", "A name for the log."),
    key(
        "log_status_change",
        Kind::Bool,
        "false",
        "Log when the circuit opens and closes.",
    ),
];

/// `qos/circuit-breaker/http` as configured.
#[derive(Debug)]
pub(super) struct BreakerBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) interval: Option<u64>,
    pub(super) timeout: Option<u64>,
    pub(super) max_errors: Option<u64>,
    pub(super) valid: Vec<i64>,
    pub(super) name: Option<String>,
    pub(super) log_status_change: bool,
}

impl<'a> BreakerBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<BreakerBlock<'a>> {
        let block = node.block(KEYS)?;
        for key in ["interval", "timeout", "max_errors", "valid_status_codes"] {
            if !block.has(key) {
                block.missing(key);
            }
        }
        Some(BreakerBlock {
            interval: block.count("interval"),
            timeout: block.count("timeout"),
            max_errors: block.count("max_errors"),
            valid: block.integers("valid_status_codes"),
            name: block.string("name"),
            log_status_change: block.flag("log_status_change"),
            block,
        })
    }
}
