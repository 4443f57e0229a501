//! Compiles the block. An ambiguous block stops the start, because a filter without effect gives false security.

use std::net::IpAddr;

use http::HeaderName;
use ipnet::IpNet;

use super::config::FilterBlock;
use super::networks::Networks;
use super::runtime::Filter;
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite, ServiceFacts};
use crate::ext::extension::{BackendPart, EndpointPart, ServicePart};
use crate::runtime::service::ClientAddress;

/// KrakenD's list, in its order.
const HEADERS: [HeaderName; 3] = [
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("x-real-ip"),
    HeaderName::from_static("x-appengine-remote-addr"),
];

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some((mut filter, networks)) = filter(node, cx) else {
        return ServicePart::Nothing;
    };
    let health = cx
        .fact::<ServiceFacts>()
        .and_then(|facts| facts.health_path.clone());
    filter.health = health.as_deref().map(Box::from);
    if let Some(path) = health
        && filter.allow
        && !networks.iter().any(is_internal)
    {
        node.warn_hint(
            ConfigError::invalid(format!(
                "the filter also covers {path}: probes from other addresses get 403"
            )),
            "list the addresses of your probes, too",
        );
    }
    ServicePart::Step(Box::new(filter))
}

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    match filter(node, cx) {
        Some((filter, _)) => EndpointPart::step(filter),
        None => EndpointPart::Nothing,
    }
}

pub(super) fn backend(
    node: &Node<'_>,
    _site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(filter(node, cx).map(|(filter, _)| filter))
}

/// The filter, and its networks as configured. `None` after an error, which is reported.
fn filter(node: &Node<'_>, cx: &Compile<'_>) -> Option<(Filter, Vec<IpNet>)> {
    let before = cx.report.config_errors();
    let block = FilterBlock::read(node)?;
    let networks: Vec<IpNet> = block.cidr.iter().filter_map(network).collect();
    let address = address(&block, cx);
    if !block.block.has("CIDR") {
        block.block.missing("CIDR");
    } else if block.cidr.is_empty() && cx.report.config_errors() == before {
        let at = block.block.get("CIDR").unwrap_or_else(|| node.clone());
        at.invalid("an empty list rejects either all clients or none");
    }
    if !block.block.has("allow") {
        node.config_error_hint(
            ConfigError::Missing("allow"),
            "true lets only these networks pass, false rejects them",
        );
    }
    let allow = block.allow?;
    if cx.report.config_errors() > before {
        return None;
    }
    if allow && address.trusted.is_empty() && !block.client_ip_headers.is_empty() {
        let at = block.block.get("client_ip_headers");
        at.unwrap_or_else(|| node.clone()).warn_hint(
            ConfigError::invalid("no proxy is trusted: these headers are never read"),
            "list your proxies in \"trusted_proxies\"",
        );
    }
    let filter = Filter {
        networks: Networks::new(networks.iter().copied()),
        allow,
        address,
        health: None,
    };
    Some((filter, networks))
}

/// The service's rules with those of the block.
fn address(block: &FilterBlock<'_>, cx: &Compile<'_>) -> ClientAddress {
    let facts = cx.fact::<ServiceFacts>();
    let mut address =
        facts.map_or_else(ClientAddress::default, |facts| facts.client_address.clone());
    let more: Vec<IpNet> = block.trusted_proxies.iter().filter_map(network).collect();
    let named: Vec<HeaderName> = block
        .client_ip_headers
        .iter()
        .filter_map(|name| {
            let at = block.block.get("client_ip_headers");
            let at = at.unwrap_or_else(|| block.block.node().clone());
            at.header_name(name)
        })
        .collect();
    if !named.is_empty() {
        address.headers = named.into();
        address.by_header = true;
    } else if !more.is_empty() {
        address.headers = HEADERS.into();
        address.by_header = true;
    }
    let trusted = address.trusted.iter().copied().chain(more);
    address.trusted = trusted.collect();
    address
}

/// A network or a single address. Bits after its prefix are cleared.
fn network((text, node): &(String, Node<'_>)) -> Option<IpNet> {
    let parsed = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from));
    let Ok(network) = parsed else {
        node.config_error_hint(
            ConfigError::invalid(format!(
                "{} is neither an address nor a network",
                node.shown()
            )),
            "such as \"10.0.0.1\" or \"10.0.0.0/8\"",
        );
        return None;
    };
    let plain = network.trunc();
    if plain != network {
        node.warn(ConfigError::invalid(format!(
            "{} is treated as {plain}",
            node.shown()
        )));
    }
    Some(plain)
}

/// Whether probes of an orchestrator may come from this network.
fn is_internal(network: &IpNet) -> bool {
    match network.network().to_canonical() {
        IpAddr::V4(address) => {
            address.is_loopback()
                || address.is_private()
                || address.is_link_local()
                || network.prefix_len() == 0
        }
        IpAddr::V6(address) => {
            address.is_loopback()
                || address.is_unique_local()
                || address.is_unicast_link_local()
                || network.prefix_len() == 0
        }
    }
}
