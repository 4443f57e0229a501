//! The keys of the blocks.

use crate::config::{Key, Kind, key};

pub(super) const PUBLISHER_KEYS: &[Key] = &[key(
    "topic_url",
    Kind::Text,
    "",
    "What follows the first `host` in the address of the topic.",
)];

pub(super) const SUBSCRIBER_KEYS: &[Key] = &[
    key(
        "subscription_url",
        Kind::Text,
        "",
        "What follows the first `host` in the address of the queue.",
    ),
    key(
        "empty_status",
        Kind::Integer,
        "500",
        "Ours: the status if no message arrives before the timeout: 500, 404 or 204.",
    ),
];
