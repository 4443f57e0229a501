//! Compiles the block. A tier that cannot be limited stops the start.

use std::sync::Arc;

use super::NAMESPACE;
use super::config::{TierBlock, TieredBlock};
use super::runtime::{Rule, Tier, Tiers};
use crate::config::{ConfigError, Key, Node};
#[cfg(feature = "cel")]
use crate::ext::cel::ValueRule;
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::inherited_steps::{clients_choose, imply_by_header};
use crate::ext::rate_limit::{self, BlockLocation, ENDPOINT_REDIS_KEYS, Scope, TIER_KEYS};

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    if let Some(tiers) = tiers(node, None, cx) {
        let header = tiers.header.clone();
        imply_by_header(Arc::new(tiers), header, node, cx);
    }
    ServicePart::Nothing
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let Some(tiers) = tiers(node, Some(site), cx) else {
        return EndpointPart::Nothing;
    };
    if !cx.is_set_by_gateway(&tiers.header) {
        node.warn_hint(
            clients_choose(&tiers.header),
            "set it from the token or the key: \"propagate_claims\", \"propagate_role\"",
        );
    }
    EndpointPart::step(tiers)
}

fn tiers(node: &Node<'_>, site: Option<&EndpointSite<'_>>, cx: &mut Compile<'_>) -> Option<Tiers> {
    let before = cx.report.config_errors();
    let block = TieredBlock::read(node)?;
    let header = block.tier_key.as_deref().and_then(|name| {
        let at = block.block.get("tier_key");
        at.unwrap_or_else(|| node.clone()).header_name(name)
    });
    let mut tiers = Vec::with_capacity(block.tiers.len());
    for (index, tier) in block.tiers.iter().enumerate() {
        tiers.extend(self::tier(tier, index, site, cx));
    }
    if block.tiers.is_empty() && cx.report.config_errors() == before {
        block.block.missing("tiers");
    }
    if cx.report.config_errors() > before {
        return None;
    }
    doubts(node, &block);
    Some(Tiers {
        header: header?,
        tiers: tiers.into(),
        allows_unmatched: block.allows_unmatched,
    })
}

fn tier(
    tier: &TierBlock<'_>,
    index: usize,
    site: Option<&EndpointSite<'_>>,
    cx: &mut Compile<'_>,
) -> Option<Tier> {
    let rule = rule(tier);
    let mut limits = Vec::new();
    let both: [(&Option<Node<'_>>, &'static [Key]); 2] =
        [(&tier.local, TIER_KEYS), (&tier.redis, ENDPOINT_REDIS_KEYS)];
    for (node, keys) in both {
        let Some(node) = node else { continue };
        let (scope, place) = match site {
            Some(_) => (Scope::ENDPOINT, "tier"),
            None => (Scope::SERVICE, "service-tier"),
        };
        let whose = match site {
            Some(site) => format!("{} {} ", site.method, site.pattern),
            None => String::new(),
        };
        let spot = BlockLocation {
            name: format!(
                "{NAMESPACE} {whose}{index} {} {}",
                node.pointer(),
                node.value().to_json()
            ),
            place,
            // Tiers keep their counts when others are added: the value names the tier, the index only tells equal ones apart.
            keys: format!("{whose}{}:{}:{index}", tier.value_as, tier.value),
            scope,
            site,
        };
        limits.extend(rate_limit::limit(node, keys, spot, cx));
    }
    if tier.local.is_none() && tier.redis.is_none() {
        tier.node.config_error_hint(
            ConfigError::Missing("ratelimit"),
            "\"ratelimit\" or \"ratelimit_redis\"; a tier without a limit has none",
        );
    }
    Some(Tier {
        rule: rule?,
        limits,
    })
}

fn rule(tier: &TierBlock<'_>) -> Option<Rule> {
    match tier.value_as {
        "*" => Some(Rule::Any),
        "policy" => policy(tier),
        _ => Some(Rule::Literal(tier.value.as_str().into())),
    }
}

#[cfg(feature = "cel")]
fn policy(tier: &TierBlock<'_>) -> Option<Rule> {
    ValueRule::compile(&tier.value, &tier.value_at).map(|rule| Rule::Policy(Box::new(rule)))
}

#[cfg(not(feature = "cel"))]
fn policy(tier: &TierBlock<'_>) -> Option<Rule> {
    tier.value_at
        .invalid("this binary was built without the cargo feature \"cel\"");
    None
}

/// Warns about tiers that never count, and about requests without a tier.
fn doubts(node: &Node<'_>, block: &TieredBlock<'_>) {
    let all = block.tiers.iter().position(|tier| tier.value_as == "*");
    match all {
        Some(index) => {
            if let Some(later) = block.tiers.get(index + 1) {
                later.node.warn(ConfigError::invalid(
                    "an earlier tier matches every request: this one is never used",
                ));
            }
        }
        None if block.allows_unmatched => node.warn_hint(
            ConfigError::invalid("requests that match no tier have no limit"),
            "a last tier with \"tier_value_as\": \"*\", or \"on_unmatched_tier_allow\": false",
        ),
        None => {}
    }
}
