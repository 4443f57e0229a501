//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};
use crate::ext::rate_limit::{ENDPOINT_REDIS_KEYS, TIER_KEYS};

const TIER: &[Key] = &[
    key(
        "tier_value_as",
        Kind::Choice(&["literal", "policy", "*"]),
        "literal",
        "`literal`: `tier_value` is the value of the header. `policy`: it is an expression over `value`. `*`: the tier takes every request.",
    ),
    key(
        "tier_value",
        Kind::Text,
        "",
        "Such as `gold`, or `value.matches('silver.*')` for a policy.",
    ),
    key(
        "ratelimit",
        Kind::Block(TIER_KEYS),
        "",
        "The limits of this tier, counted by this gateway.",
    )
    .guarding()
    .also(&["limits"]),
    key(
        "ratelimit_redis",
        Kind::Block(ENDPOINT_REDIS_KEYS),
        "",
        "The limits of this tier, counted in a Redis of `redis`. With `ratelimit` in the same tier, both limits apply.",
    )
    .guarding(),
];

pub(super) const KEYS: &[Key] = &[
    key(
        "tier_key",
        Kind::Text,
        "",
        "Required: the header that names the tier. Set it from a claim (`propagate_claims`) or a role (`propagate_role`), or else clients choose their tier.",
    ),
    key(
        "tiers",
        Kind::Blocks(TIER),
        "",
        "Required: the tiers. The first one that matches is used.",
    ),
    key(
        "on_unmatched_tier_allow",
        Kind::Bool,
        "true",
        "Ours: whether requests without a matching tier pass, without a limit. Otherwise they get 403.",
    ).guarding(),
];

/// `qos/ratelimit/tiered` as configured.
#[derive(Debug)]
pub(super) struct TieredBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) tier_key: Option<String>,
    pub(super) tiers: Vec<TierBlock<'a>>,
    pub(super) allows_unmatched: bool,
}

/// One tier as configured.
#[derive(Debug)]
pub(super) struct TierBlock<'a> {
    pub(super) node: Node<'a>,
    pub(super) value_as: &'static str,
    pub(super) value: String,
    pub(super) value_at: Node<'a>,
    pub(super) local: Option<Node<'a>>,
    pub(super) redis: Option<Node<'a>>,
}

impl<'a> TieredBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<TieredBlock<'a>> {
        let block = node.block(KEYS)?;
        let tiers = block.blocks("tiers").into_iter();
        Some(TieredBlock {
            tier_key: block.required("tier_key"),
            tiers: tiers.map(TierBlock::read).collect(),
            allows_unmatched: block.bool("on_unmatched_tier_allow").unwrap_or(true),
            block,
        })
    }
}

impl<'a> TierBlock<'a> {
    fn read(block: Block<'a>) -> TierBlock<'a> {
        TierBlock {
            value_as: block.choice("tier_value_as").unwrap_or("literal"),
            value: block.string("tier_value").unwrap_or_default(),
            value_at: block
                .get("tier_value")
                .unwrap_or_else(|| block.node().clone()),
            local: block.get("ratelimit"),
            redis: block.get("ratelimit_redis"),
            node: block.node().clone(),
        }
    }
}
