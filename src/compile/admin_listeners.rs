//! The admin listeners of a configuration, and conflicts between the addresses of its listeners.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::compile::any_address;
use crate::compile::output::{Compiled, Metrics};
use crate::config::{ConfigError, Finding, Position, Report, Severity, Value};
use crate::ext::auth_revoker::Api;
use crate::ext::opentelemetry::Page;
use crate::runtime::listen::ServerTls;
use crate::telemetry::stats::Stats;

/// An address that a start binds, besides that of the gateway.
#[derive(Debug, Clone)]
pub(crate) struct AdminAddress {
    /// The block that asks for it, under `extra_config`.
    pub(crate) namespace: &'static str,
    pub(crate) address: SocketAddr,
    pub(crate) content: Content,
}

/// What is served there.
#[derive(Debug, Clone)]
pub(crate) enum Content {
    /// `/__stats` of `telemetry/metrics`.
    Stats(Arc<Stats>),
    /// The HTTP interface of `auth/revoker`.
    Revocation(Arc<Api>),
    /// A metrics page of `telemetry/opentelemetry`.
    Series(Page),
    /// The metrics of `portcullis/metrics`, and the status page.
    Metrics(Metrics),
    /// The RPC port of `auth/revoker`, which serves itself.
    Rpc,
}

impl Content {
    /// The certificates of the listener. Without them it speaks plain HTTP.
    pub(crate) fn tls(&self) -> Option<&ServerTls> {
        match self {
            Content::Metrics(metrics) => metrics.tls.as_ref(),
            _ => None,
        }
    }
}

impl AdminAddress {
    /// Whether the gateway starts if the address cannot be bound.
    pub(crate) fn is_optional(&self) -> bool {
        matches!(self.content, Content::Stats(_))
    }

    /// The block as a JSON pointer (RFC 6901).
    pub(crate) fn pointer(&self) -> String {
        format!("/extra_config/{}", self.namespace.replace('/', "~1"))
    }
}

/// Every address that a start binds besides that of the gateway, in the order in which they are bound.
pub(crate) fn admin_listeners(compiled: &Compiled) -> Vec<AdminAddress> {
    let blocks = &compiled.blocks;
    let mut listeners = Vec::new();
    let mut add = |namespace, address, content| {
        listeners.push(AdminAddress {
            namespace,
            address,
            content,
        });
    };
    if let Some(rpc) = &blocks.revoker_port {
        add("auth/revoker", rpc.0, Content::Rpc);
    }
    if let Some(stats) = &blocks.stats
        && let Some(address) = stats.settings().listen.as_deref().and_then(stats_address)
    {
        add("telemetry/metrics", address, Content::Stats(stats.clone()));
    }
    if let Some(api) = &blocks.revocation {
        add(
            "auth/revoker",
            api.address,
            Content::Revocation(api.clone()),
        );
    }
    let mut pages: Vec<Page> = Vec::new();
    for page in blocks.pages.iter().flat_map(|pages| &pages.list) {
        // All pages show the same series, so those at one address are one page.
        match pages.iter_mut().find(|known| known.address == page.address) {
            Some(known) => known.process |= page.process,
            None => pages.push(*page),
        }
    }
    for page in pages {
        add(
            "telemetry/opentelemetry",
            page.address,
            Content::Series(page),
        );
    }
    if let Some(metrics) = &compiled.metrics {
        add(
            "portcullis/metrics",
            metrics.listen,
            Content::Metrics(metrics.clone()),
        );
    }
    listeners
}

/// `:8090` means all addresses, as in KrakenD.
fn stats_address(listen: &str) -> Option<SocketAddr> {
    match listen.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(any_address(), port.parse().ok()?)),
        None => listen.parse().ok(),
    }
}

/// Reports addresses that two listeners of the same configuration want. A start could not bind the second one.
pub(super) fn report_conflicts(compiled: &Compiled, root: &Value, report: &Report) {
    let gateway = ("the gateway", compiled.listen.address);
    let mut known = vec![gateway];
    for side in admin_listeners(compiled) {
        let found = known
            .iter()
            .find(|(_, address)| overlap(*address, side.address));
        if let Some((other, address)) = found {
            report.add(conflict(&side, other, *address, root));
        }
        known.push((side.namespace, side.address));
    }
}

fn conflict(side: &AdminAddress, other: &str, address: SocketAddr, root: &Value) -> Finding {
    let extra = root.get("extra_config");
    let block = extra.and_then(|extra| extra.get(side.namespace));
    Finding {
        severity: match side.content {
            Content::Stats(_) => Severity::Warning,
            _ => Severity::ConfigError,
        },
        at: block.map_or(Position::UNKNOWN, |block| block.at),
        pointer: side.pointer(),
        config_error: ConfigError::invalid(format!(
            "it cannot listen at {}: {other} listens at {address}",
            side.address
        )),
        hint: Some("give each listener its own port".into()),
    }
}

/// Whether the system rejects one of two addresses while a socket listens at the other one.
fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    // A socket at `[::]` also accepts connections over IPv4.
    let covers = |all: SocketAddr, part: SocketAddr| {
        all.ip().is_unspecified() && (all.is_ipv6() || part.is_ipv4())
    };
    let same = one.ip() == other.ip() || covers(one, other) || covers(other, one);
    same && one.port() == other.port() && one.port() != 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_covers_those_that_could_not_be_bound_with_it() {
        for (one, other, expected) in [
            ("127.0.0.1:80", "127.0.0.1:80", true),
            ("127.0.0.1:80", "127.0.0.1:81", false),
            ("127.0.0.1:80", "127.0.0.2:80", false),
            ("0.0.0.0:80", "127.0.0.1:80", true),
            ("[::]:80", "127.0.0.1:80", true),
            ("[::]:80", "[::1]:80", true),
            ("0.0.0.0:80", "[::1]:80", false),
            ("127.0.0.1:0", "127.0.0.1:0", false),
        ] {
            let (one, other) = (one.parse().unwrap(), other.parse().unwrap());
            assert_eq!(overlap(one, other), expected, "{one} {other}");
            assert_eq!(overlap(other, one), expected, "{other} {one}");
        }
    }
}
