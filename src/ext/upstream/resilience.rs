//! Reads the keys that go beyond round robin: those of the backend, or else those of the service.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::config::ON_DEFAULT;
use super::sticky::{self, Sticky};
use crate::config::{Block, ConfigError, Data, Node, host};
use crate::upstream::resilience::{
    BudgetRules, EjectionRules, HealthCheck, Hedge, Protocol, ResilienceRules, RetryOn, RetryRules,
    Statuses,
};

/// Shorter intervals would be load, not checks.
const MIN_INTERVAL: Duration = Duration::from_millis(10);
const MAX_THRESHOLD: i64 = 1000;
const MAX_WEIGHT: i64 = 1000;
const MAX_ATTEMPTS: i64 = 10;
const MAX_HEDGES: i64 = 3;

/// What a backend asks for.
#[derive(Debug, Default)]
pub(crate) struct Asked {
    pub rules: ResilienceRules,
    pub budget: BudgetRules,
    pub sticky: Option<Sticky>,
}

/// The blocks that may say something about a backend.
pub(crate) struct Blocks<'b, 'a> {
    pub own: Option<&'b Block<'a>>,
    pub service: Option<&'b Block<'a>>,
}

impl<'b, 'a> Blocks<'b, 'a> {
    /// The block that has `key`: the backend's, or else the service's.
    fn with(&self, key: &str) -> Option<&'b Block<'a>> {
        let mut blocks = [self.own, self.service].into_iter().flatten();
        blocks.find(|block| block.get(key).is_some())
    }
}

/// Reads the keys for a backend with these hosts. `named`: they come from SRV records.
pub(crate) fn read(blocks: &Blocks<'_, '_>, hosts: &[String], named: bool) -> Asked {
    let inner = |key: &str| blocks.with(key).and_then(|block| block.block(key));
    let retries = inner("retries");
    let hedge = inner("hedge").and_then(|block| hedge(&block));
    let sticky = inner("sticky").and_then(|block| sticky::read(&block));
    let panic = blocks.with("panic_threshold");
    let panic = panic.and_then(|block| block.within("panic_threshold", 0, 100));
    let slow_start = blocks.with("slow_start");
    Asked {
        budget: retries.as_ref().map(budget).unwrap_or_default(),
        rules: ResilienceRules {
            check: inner("health_check").and_then(|block| check(&block)),
            ejection: inner("ejection").map(|block| ejection(&block)),
            slow_start: slow_start.and_then(|block| block.set_duration("slow_start")),
            weights: weights(blocks, hosts, named),
            sticky: sticky.is_some(),
            repeats: repeats(retries.as_ref(), hedge),
            panic_threshold: small(panic.unwrap_or(0)),
        },
        sticky,
    }
}

fn small(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

fn number(block: &Block<'_>, key: &str, (least, most): (i64, i64), otherwise: u32) -> u32 {
    block.within(key, least, most).map_or(otherwise, small)
}

fn check(block: &Block<'_>) -> Option<HealthCheck> {
    if block.bool("enabled") == Some(false) {
        return None;
    }
    let is_grpc = block.choice("protocol") == Some("grpc");
    let foreign: &[&str] = if is_grpc {
        &["path", "method", "expected_statuses"]
    } else {
        &["service"]
    };
    for key in foreign {
        if let Some(node) = block.get(key) {
            let protocol = if is_grpc { "http" } else { "grpc" };
            node.config_error_hint(
                ConfigError::invalid(format!("is for checks over {protocol} only")),
                format!("\"protocol\": \"{protocol}\", or remove it"),
            );
        }
    }
    let interval = at_least(block, "interval", MIN_INTERVAL).unwrap_or(Duration::from_secs(10));
    let timeout = at_least(block, "timeout", Duration::from_millis(1));
    Some(HealthCheck {
        protocol: if is_grpc {
            Protocol::Grpc {
                service: block.text("service").unwrap_or("").into(),
            }
        } else {
            Protocol::Http {
                method: method(block),
                target: target(block),
                expected: statuses(block),
            }
        },
        host: host_header(block),
        headers: headers(block),
        interval,
        timeout: timeout.unwrap_or(Duration::from_secs(2)),
        healthy_threshold: number(block, "healthy_threshold", (1, MAX_THRESHOLD), 2),
        unhealthy_threshold: number(block, "unhealthy_threshold", (1, MAX_THRESHOLD), 3),
    })
}

fn at_least(block: &Block<'_>, key: &str, least: Duration) -> Option<Duration> {
    let duration = block.duration(key)?;
    if duration < least {
        block.get(key)?.invalid(format!("at least {least:?}"));
    }
    Some(duration.max(least))
}

fn method(block: &Block<'_>) -> Method {
    let Some(written) = block.text("method") else {
        return Method::GET;
    };
    Method::from_bytes(written.to_ascii_uppercase().as_bytes()).unwrap_or_else(|_| {
        if let Some(node) = block.get("method") {
            node.invalid(format!("{} is not a method", node.shown()));
        }
        Method::GET
    })
}

fn target(block: &Block<'_>) -> Box<str> {
    let path = block.text("path").unwrap_or("/");
    let is_target = path.starts_with('/')
        && path
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'#');
    if !is_target && let Some(node) = block.get("path") {
        node.config_error_hint(
            ConfigError::invalid(format!("{} is not a path", node.shown())),
            "\"/health\": it begins with a slash, and other characters than ASCII are encoded (%20)",
        );
    }
    path.into()
}

fn host_header(block: &Block<'_>) -> Option<HeaderValue> {
    let host = block.text("host")?;
    let value = HeaderValue::from_str(host).ok();
    let value = value.filter(|_| !host.is_empty() && host.bytes().all(|b| b.is_ascii_graphic()));
    if value.is_none() {
        block.get("host")?.invalid("is not a value for Host");
    }
    value
}

fn headers(block: &Block<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in block.text_map("headers") {
        match (HeaderName::try_from(&name), HeaderValue::try_from(&value)) {
            (Ok(name), Ok(value)) => {
                headers.append(name, value);
            }
            _ => {
                if let Some(node) = block.get("headers") {
                    node.invalid(format!("{name:?} is not a header with a value"));
                }
            }
        }
    }
    headers
}

/// The text of an item that may be written as a number.
fn item(node: &Node<'_>) -> Option<String> {
    match &node.value().data {
        Data::Number(text) | Data::Text(text) => Some(text.to_string()),
        _ => None,
    }
}

fn statuses(block: &Block<'_>) -> Statuses {
    if !block.has("expected_statuses") {
        return Statuses(Box::new([(200, 399)]));
    }
    let nodes = block.list("expected_statuses");
    if nodes.is_empty()
        && let Some(node) = block.get("expected_statuses")
    {
        node.invalid("without any status, no host is ever healthy");
    }
    let ranges = nodes.iter().filter_map(|node| {
        let range = item(node).and_then(|text| range(&text));
        if range.is_none() {
            node.config_error_hint(
                ConfigError::invalid(format!("{} is not a status", node.shown())),
                "200, \"2xx\" or \"200-399\"",
            );
        }
        range
    });
    Statuses(ranges.collect())
}

fn range(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        text.trim()
            .parse::<u16>()
            .ok()
            .filter(|it| (100..=599).contains(it))
    };
    if let Some(class) = text.strip_suffix("xx").or_else(|| text.strip_suffix("XX")) {
        let class = class
            .parse::<u16>()
            .ok()
            .filter(|it| (1..=5).contains(it))?;
        return Some((class * 100, class * 100 + 99));
    }
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some((first, last))
}

fn ejection(block: &Block<'_>) -> EjectionRules {
    let base = at_least(block, "base_time", Duration::from_millis(1));
    let base_time = base.unwrap_or(Duration::from_secs(5));
    let longest = at_least(block, "max_time", Duration::from_millis(1));
    let max_time = longest.unwrap_or(Duration::from_secs(60).max(base_time));
    if max_time < base_time
        && let Some(node) = block.get("max_time")
    {
        node.invalid(format!("is shorter than \"base_time\" ({base_time:?})"));
    }
    EjectionRules {
        consecutive_5xx: number(block, "consecutive_5xx", (0, 100_000), 5),
        base_time,
        max_time,
        max_percent: number(block, "max_percent", (0, 100), 50),
    }
}

fn weights(blocks: &Blocks<'_, '_>, hosts: &[String], named: bool) -> Box<[(Box<str>, u32)]> {
    let Some(block) = blocks.with("weights") else {
        return Box::default();
    };
    let Some(map) = block.object("weights") else {
        return Box::default();
    };
    let is_own = blocks.own.is_some_and(|own| own.has("weights"));
    if named && is_own {
        map.invalid("with \"sd\": \"dns\" the weights are those of the SRV records");
    }
    let members = map.members();
    let pairs = members.iter().filter_map(|(written, node)| {
        let weight = node.integer(crate::config::Typing::Strict)?;
        if !(0..=MAX_WEIGHT).contains(&weight) {
            node.config_error(ConfigError::OutOfRange {
                found: weight.to_string(),
                range: format!("0 to {MAX_WEIGHT}"),
            });
            return None;
        }
        let clean = host::sanitise(written).map(|clean| clean.url);
        let known = hosts
            .iter()
            .find(|host| **host == **written || Some(*host) == clean.as_ref());
        if known.is_none() && is_own && !named {
            node.config_error_hint(
                ConfigError::invalid(format!("{written:?} is not a host of this backend")),
                format!("one of {}", hosts.join(", ")),
            );
        }
        Some((known?.as_str().into(), small(weight)))
    });
    let weights: Box<[(Box<str>, u32)]> = pairs.collect();
    if !hosts.is_empty() && weights.len() == hosts.len() && weights.iter().all(|(_, it)| *it == 0) {
        map.invalid("at least one host needs a weight above 0");
    }
    weights
}

fn repeats(retries: Option<&Block<'_>>, hedge: Option<Hedge>) -> Option<RetryRules> {
    let attempts = retries.map_or(0, |block| number(block, "attempts", (0, MAX_ATTEMPTS), 1));
    if attempts == 0 && hedge.is_none() {
        return None;
    }
    let per_try = retries.and_then(|block| block.set_duration("per_try_timeout"));
    Some(RetryRules {
        attempts,
        on: retries.map_or_else(RetryOn::default, retry_on),
        per_try_timeout: per_try,
        non_idempotent: retries.is_some_and(|block| block.flag("non_idempotent")),
        hedge,
    })
}

fn retry_on(block: &Block<'_>) -> RetryOn {
    let mut on = RetryOn::default();
    let mut codes = Vec::new();
    let mut add = |text: &str| match text {
        "connect" => {
            on.connect = true;
            true
        }
        "reset" => {
            on.reset = true;
            true
        }
        text => {
            let status = text
                .parse::<u16>()
                .ok()
                .filter(|it| (400..=599).contains(it));
            codes.extend(status.and_then(|it| StatusCode::from_u16(it).ok()));
            status.is_some()
        }
    };
    if block.has("on") {
        for node in block.list("on") {
            if !item(&node).is_some_and(|text| add(&text)) {
                node.config_error_hint(
                    ConfigError::invalid(format!("{} is not a failure", node.shown())),
                    "\"connect\", \"reset\" or a status such as \"503\"",
                );
            }
        }
    } else {
        ON_DEFAULT.iter().for_each(|text| {
            add(text);
        });
    }
    on.statuses = codes.into();
    on
}

fn budget(block: &Block<'_>) -> BudgetRules {
    let default = BudgetRules::default();
    BudgetRules {
        percent: number(block, "budget_percent", (0, 100), default.percent),
        min_per_second: number(
            block,
            "budget_min_per_second",
            (0, 10_000),
            default.min_per_second,
        ),
    }
}

fn hedge(block: &Block<'_>) -> Option<Hedge> {
    let max = number(block, "max", (0, MAX_HEDGES), 1);
    let Some(after) = block.set_duration("after") else {
        if max > 0 {
            block.missing("after");
        }
        return None;
    };
    (max > 0).then_some(Hedge { after, max })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_of_statuses_is_a_number_a_class_or_two_numbers() {
        assert_eq!(range("204"), Some((204, 204)));
        assert_eq!(range("2xx"), Some((200, 299)));
        assert_eq!(range("200-399"), Some((200, 399)));
        for bad in ["", "6xx", "xx", "99", "600", "300-200", "2-3", "ok", "2XXX"] {
            assert_eq!(range(bad), None, "{bad}");
        }
    }
}
