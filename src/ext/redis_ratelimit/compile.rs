//! Compiles the block to the limiter of `qos/ratelimit`.

use std::sync::Arc;
use std::time::Duration;

use super::SERVICE;
use super::config::LimiterBlock;
use crate::config::{ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::inherited_steps::imply;
use crate::ext::rate_limit::{Identity, clients, in_redis, ipv6_prefix};
use crate::ext::redis::{Address, OnFailure, Server, ServerKind, StoreOptions};
use crate::ext::redis_pools::{Definition, open, split};
use crate::jose::ClaimPath;

const OPTIONS: StoreOptions = StoreOptions::new(4, Duration::from_millis(5));

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = LimiterBlock::read(node) else {
        return ServicePart::Nothing;
    };
    let identity = identity(&block);
    let definition = definition(&block);
    let (Some(rate), Some(period)) = (positive(&block), period(&block)) else {
        return ServicePart::Nothing;
    };
    let (Some(identity), Some(definition)) = (identity, definition) else {
        return ServicePart::Nothing;
    };
    if cx.report.config_errors() > before {
        return ServicePart::Nothing;
    }
    let shared = open(&definition, OnFailure::Local, cx);
    let known_later = matches!(identity, Identity::Claim(_));
    let identity = match identity {
        Identity::Address(_) => Identity::Address(ipv6_prefix(cx)),
        other => Identity::OrAddress(Box::new(other), ipv6_prefix(cx)),
    };
    let limit = clients(
        format!("{} {}", SERVICE.namespace, node.value().to_json()),
        (rate, period, rate.saturating_add(block.burst.unwrap_or(0))),
        identity,
        in_redis(&shared, "service", SERVICE.namespace, period),
        cx,
    );
    if known_later {
        imply(Arc::new(limit), cx);
        return ServicePart::Nothing;
    }
    ServicePart::Gate(Box::new(limit))
}

fn positive(block: &LimiterBlock<'_>) -> Option<u64> {
    match block.rate {
        Some(0) => {
            let at = block.block.get("rate");
            at.unwrap_or_else(|| block.block.node().clone())
                .invalid("a rate of 0 would reject every request");
            None
        }
        None if !block.block.has("rate") => {
            block.block.missing("rate");
            None
        }
        rate => rate,
    }
}

fn period(block: &LimiterBlock<'_>) -> Option<Duration> {
    if !block.block.has("period") {
        block.block.missing("period");
    }
    let period = block.period?;
    if period.is_zero() {
        let at = block.block.get("period");
        at.unwrap_or_else(|| block.block.node().clone())
            .invalid("the period must be longer than 0");
        return None;
    }
    Some(period)
}

fn definition(block: &LimiterBlock<'_>) -> Option<Definition> {
    let host = block.host.as_deref()?;
    let Some((name, port)) = split(host) else {
        let at = block.block.get("host");
        at.unwrap_or_else(|| block.block.node().clone())
            .config_error_hint(
                ConfigError::invalid(format!("{host:?} is not the address of a Redis server")),
                "such as \"redis:6379\"",
            );
        return None;
    };
    Some(Definition {
        server: Server::new(ServerKind::One(Address::new(name, port))),
        options: OPTIONS,
        identity: format!("{host:?}"),
    })
}

fn identity(block: &LimiterBlock<'_>) -> Option<Identity> {
    let node = block.block.node();
    let Some(tokenizer) = block.tokenizer else {
        if !block.block.has("tokenizer") {
            node.config_error_hint(
                ConfigError::Missing("tokenizer"),
                "how clients are identified: \"ip\"",
            );
        }
        return None;
    };
    let field = || {
        if block.field.is_none() {
            node.config_error(ConfigError::Missing("tokenizer_field"));
        }
        block.field.as_deref()
    };
    Some(match tokenizer {
        "jwt" => {
            let name = block.field.as_deref().unwrap_or("jti");
            Identity::Claim(ClaimPath::dotted_unless_url(name))
        }
        "url" => Identity::Url,
        "path" => Identity::Path,
        "param" => Identity::Query(field()?.into()),
        "cookie" => Identity::Cookie(field()?.into()),
        "header" => {
            let name = field()?;
            Identity::Header(node.header_name(name)?)
        }
        _ => Identity::Address(Default::default()),
    })
}
