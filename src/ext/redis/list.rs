//! A list that several gateways share: the revoked tokens.

use std::time::Duration;

/// A list of elements with their times. The arguments are described in `list.lua`.
pub(super) const LIST: &str = include_str!("list.lua");

/// The maximum number of elements in one response about a list.
#[cfg(test)]
pub(crate) const LIST_PAGE: usize = 5_000;

/// A query of a shared list.
#[derive(Debug, Clone)]
pub(crate) struct ListAsk {
    pub key: String,
    /// Elements to add.
    pub add: Vec<String>,
    /// Elements that were added before this time are not wanted, in milliseconds of the store's clock.
    pub since: u64,
    /// How long an element is kept.
    pub keep: Duration,
    /// How many of the wanted elements are already known.
    pub skip: usize,
}

/// The response about a shared list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Listed {
    /// In milliseconds of the store's clock.
    pub now: u64,
    /// At most 5,000, and fewer if they are long: a reply of Redis has a limit in bytes.
    pub elements: Vec<String>,
    /// Whether there are more after these.
    pub has_more: bool,
}
