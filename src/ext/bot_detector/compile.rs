//! Compiles the block. An invalid pattern stops the start: KrakenD would let every bot pass.

use super::config::Block;
use super::runtime::{BotDetector, Rules};
use crate::config::{Node, re2};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    match detector(node, cx) {
        Some(detector) => ServicePart::Step(Box::new(detector)),
        None => ServicePart::Nothing,
    }
}

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match detector(node, cx) {
        Some(detector) => EndpointPart::step(detector),
        None => EndpointPart::Nothing,
    }
}

fn detector(node: &Node<'_>, cx: &Compile<'_>) -> Option<BotDetector> {
    let before = cx.report.config_errors();
    let block = Block::read(node)?;
    if block.is_empty() && cx.report.config_errors() == before {
        block
            .block
            .guards_nothing("without \"deny\" or \"patterns\", no client is a bot");
    }
    let patterns = match re2::set(&block.patterns) {
        Ok(patterns) => patterns,
        Err(error) => {
            let at = node.get("patterns").unwrap_or_else(|| node.clone());
            at.invalid(format!("not a regular expression: {error}"));
            return None;
        }
    };
    let bytes = |list: Vec<String>| {
        list.into_iter()
            .map(|text| text.into_bytes().into())
            .collect()
    };
    let rules = Rules {
        deny: bytes(block.deny),
        allow: bytes(block.allow),
        patterns,
        empty_is_bot: block.empty_user_agent_is_bot,
    };
    let remember = usize::try_from(block.cache_size).unwrap_or(usize::MAX);
    (cx.report.config_errors() == before).then(|| BotDetector::new(rules, remember))
}
