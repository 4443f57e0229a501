//! From the block to the table of hosts.

use std::sync::Arc;

use super::SERVICE;
use crate::config::{ConfigError, Node, Typing};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::runtime::prerouting::{Hosts, PreroutingPart};

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let before = cx.report.config_errors();
    let Some(block) = node.block(SERVICE.keys) else {
        return ServicePart::Nothing;
    };
    let mut hosts = Hosts::default();
    match (block.get("hosts"), block.object("aliased_hosts")) {
        (Some(list), None) => {
            // The type of each is checked here.
            let _ = list.texts(Typing::Strict);
            for item in list.items() {
                if let Some(host) = item.text(Typing::Strict) {
                    add(host, None, &item, &mut hosts);
                }
            }
        }
        (None, Some(aliases)) => {
            for (alias, item) in aliases.members() {
                let is_alias = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
                if alias.is_empty() || !alias.chars().all(is_alias) {
                    item.config_error_hint(
                        ConfigError::invalid(format!("{alias:?} is not a valid alias")),
                        "lower-case letters, digits and underscores",
                    );
                } else if let Some(host) = item.text(Typing::Strict) {
                    add(host, Some(alias), &item, &mut hosts);
                }
            }
        }
        _ => node.config_error_hint(
            ConfigError::invalid("exactly one of \"hosts\" and \"aliased_hosts\" is needed"),
            "\"hosts\": [\"api.example.com\"]",
        ),
    }
    if hosts.is_empty() && cx.report.config_errors() == before {
        node.config_error_hint(
            ConfigError::invalid("no host is named"),
            "\"hosts\": [\"api.example.com\"], or remove the block",
        );
    }
    let hosts = Arc::new(hosts);
    cx.set_fact(Arc::clone(&hosts));
    ServicePart::Ahead(PreroutingPart::Hosts(hosts))
}

fn add(host: &str, alias: Option<&str>, node: &Node<'_>, hosts: &mut Hosts) {
    let is_part =
        |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':' | '[' | ']');
    let port = match host.rsplit_once(':') {
        Some((_, port)) if !port.contains(']') => Some(port),
        _ => None,
    };
    let is_port = |port: &str| port.parse::<u16>().is_ok_and(|port| port > 0);
    if host.is_empty() || !host.chars().all(is_part) || !port.is_none_or(is_port) {
        node.config_error_hint(
            ConfigError::invalid(format!("{host:?} is not a host")),
            "a name, with a port unless it is 80 or 443: no scheme, no path, no *",
        );
    } else if !hosts.add(host, alias) {
        node.invalid(format!("the host {host:?} is configured twice"));
    }
}
