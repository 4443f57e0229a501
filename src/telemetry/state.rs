//! Metrics of the current state: connections, circuit breakers, names, caches, the configuration.
//!
//! They are set when a page is requested, so they cost nothing in between. Labels come from the configuration, and one
//! metric has [`MAX_SERIES`] series at most.

use std::collections::BTreeMap;

use prometheus::core::Atomic;
use prometheus::core::GenericGaugeVec;
use prometheus::{CounterVec, GaugeVec, IntGauge, IntGaugeVec};

use crate::telemetry::mask::masked;
use crate::telemetry::metrics::Registration;
use crate::telemetry::series::MAX_SERIES;

/// The labels of the series for everything beyond the limit.
const OTHERS: &str = "*";

/// The metrics of the current state.
#[derive(Debug)]
pub(crate) struct State {
    breakers: IntGaugeVec,
    connections_open: IntGaugeVec,
    connections_idle: IntGaugeVec,
    dns_age: GaugeVec,
    dns_found: IntGaugeVec,
    host_usable: IntGaugeVec,
    host_changes: CounterVec,
    repeats: CounterVec,
    cache_responses: IntGauge,
    cache_bytes: IntGauge,
    config: IntGaugeVec,
    workers: IntGauge,
}

/// What is there now.
#[derive(Debug, Default)]
pub(crate) struct Now {
    /// By route, backend and name: 0 for closed, 1 for half open, 2 for open.
    pub breakers: BTreeMap<[String; 3], i64>,
    /// Open and idle connections, by host.
    pub hosts: Vec<(String, usize, usize)>,
    /// Names that are looked up: the age of the addresses in seconds, or NaN without any, and their number.
    pub names: Vec<(String, f64, usize)>,
    /// Hosts with health checks, ejection or a slow start: whether they are used, and how often they became
    /// unhealthy, healthy again, and were ejected.
    pub health: Vec<(String, bool, [u64; 3])>,
    /// By host set: retries, hedged requests, and calls that were not made again because of the budget.
    pub repeats: Vec<(String, [u64; 3])>,
    /// Stored responses and their bytes.
    pub cached: (usize, usize),
}

impl State {
    pub(super) fn new(registration: &Registration<'_>) -> State {
        State {
            breakers: registration.int_gauges(
                "portcullis_circuit_breaker_state",
                "State of the circuit breakers of backends: 0 closed, 1 half open, 2 open.",
                &["route", "backend", "name"],
            ),
            connections_open: registration.int_gauges(
                "portcullis_upstream_connections_open",
                "Connections to hosts of backends that are open now.",
                &["host"],
            ),
            connections_idle: registration.int_gauges(
                "portcullis_upstream_connections_idle",
                "Those of them that no call uses.",
                &["host"],
            ),
            dns_age: registration.gauges(
                "portcullis_dns_age_seconds",
                "Time since the last successful lookup of a host name of a backend.",
                &["name"],
            ),
            dns_found: registration.int_gauges(
                "portcullis_dns_addresses",
                "Addresses of a host name, or hosts of a service, that the last successful lookup found.",
                &["name"],
            ),
            host_usable: registration.int_gauges(
                "portcullis_upstream_host_healthy",
                "Hosts with health checks, ejection or a slow start: 1 healthy, 0 unhealthy or ejected.",
                &["host"],
            ),
            host_changes: registration.counters(
                "portcullis_upstream_host_changes_total",
                "Changes of these hosts: unhealthy, healthy (again), ejected.",
                &["host", "to"],
            ),
            repeats: registration.counters(
                "portcullis_upstream_repeats_total",
                "Calls that were made again, by the first host of their backend: retry, hedge, or over_budget for those that were not made.",
                &["host", "kind"],
            ),
            cache_responses: registration.int_gauge(
                "portcullis_http_cache_responses",
                "Responses in the caches of backends.",
            ),
            cache_bytes: registration.int_gauge(
                "portcullis_http_cache_bytes",
                "Bytes of the responses in the caches of backends.",
            ),
            config: registration.int_gauges(
                "portcullis_config_info",
                "Always 1; the hash is that of the configuration in use, with its templates and variables filled in.",
                &["hash"],
            ),
            workers: registration.int_gauge(
                "portcullis_workers",
                "Threads that handle requests.",
            ),
        }
    }

    /// The configuration in use, and the threads that serve it.
    pub(crate) fn configured(&self, hash: &str, workers: usize) {
        self.config.reset();
        self.config.with_label_values(&[hash]).set(1);
        self.workers.set(count(workers));
    }

    /// Replaces what the last call has set.
    pub(crate) fn set(&self, now: &Now) {
        let breakers = now.breakers.iter();
        let breakers = breakers.map(|(labels, state)| (labels.each_ref().map(|it| &**it), *state));
        fill(&self.breakers, breakers, i64::max);
        let hosts: Vec<(String, usize, usize)> = now
            .hosts
            .iter()
            .map(|(host, open, idle)| (masked(host).into_owned(), *open, *idle))
            .collect();
        let add = |a: i64, b: i64| a + b;
        let open = hosts
            .iter()
            .map(|(host, open, _)| ([&**host], count(*open)));
        fill(&self.connections_open, open, add);
        let idle = hosts
            .iter()
            .map(|(host, _, idle)| ([&**host], count(*idle)));
        fill(&self.connections_idle, idle, add);
        let names = now.names.iter();
        fill(
            &self.dns_age,
            names.clone().map(|(name, age, _)| ([&**name], *age)),
            f64::max,
        );
        let found = names.map(|(name, _, found)| ([&**name], count(*found)));
        fill(&self.dns_found, found, add);
        let usable = now.health.iter();
        let usable = usable.map(|(host, usable, _)| ([&**host], i64::from(*usable)));
        fill(&self.host_usable, usable, i64::min);
        let changes = now
            .health
            .iter()
            .map(|(host, _, changes)| (&**host, *changes));
        count_up(
            &self.host_changes,
            ["unhealthy", "healthy", "ejected"],
            changes,
        );
        let repeats = now
            .repeats
            .iter()
            .map(|(host, repeats)| (&**host, *repeats));
        count_up(&self.repeats, ["retry", "hedge", "over_budget"], repeats);
        let (responses, bytes) = now.cached;
        self.cache_responses.set(count(responses));
        self.cache_bytes.set(count(bytes));
    }
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Sets counters that are kept elsewhere: three for each item.
fn count_up<'l>(
    metric: &CounterVec,
    kinds: [&str; 3],
    items: impl Iterator<Item = (&'l str, [u64; 3])>,
) {
    metric.reset();
    for (index, (name, counts)) in items.enumerate() {
        let name = if index < MAX_SERIES { name } else { OTHERS };
        for (kind, count) in kinds.iter().zip(counts) {
            metric.with_label_values(&[name, kind]).inc_by(count as f64);
        }
    }
}

/// Sets one series for each item. Those beyond the limit share one, and `join` tells its value.
fn fill<'l, P: Atomic, const N: usize>(
    metric: &GenericGaugeVec<P>,
    items: impl Iterator<Item = ([&'l str; N], P::T)>,
    join: impl Fn(P::T, P::T) -> P::T,
) {
    metric.reset();
    let mut others: Option<P::T> = None;
    for (index, (labels, value)) in items.enumerate() {
        if index < MAX_SERIES {
            metric.with_label_values(&labels).set(value);
        } else {
            others = Some(others.map_or(value, |so_far| join(so_far, value)));
        }
    }
    if let Some(value) = others {
        metric.with_label_values(&[OTHERS; N]).set(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::Metrics;

    fn page(metrics: &Metrics) -> String {
        String::from_utf8(metrics.page()).unwrap()
    }

    #[test]
    fn removed_items_are_not_shown() {
        let metrics = Metrics::new();
        let mut now = Now::default();
        let place = ["/a".to_owned(), "/b".to_owned(), "cb".to_owned()];
        now.breakers.insert(place, 2);
        now.hosts.push(("http://u:secret@h".to_owned(), 3, 1));
        now.names.push(("h".to_owned(), 4.5, 2));
        now.health.push(("http://h".to_owned(), false, [1, 2, 3]));
        now.repeats.push(("http://h".to_owned(), [4, 5, 6]));
        metrics.state.set(&now);
        metrics.state.configured("abc", 2);
        let shown = page(&metrics);
        for line in [
            r#"portcullis_circuit_breaker_state{backend="/b",name="cb",route="/a"} 2"#,
            r#"portcullis_upstream_connections_open{host="http://u:***@h"} 3"#,
            r#"portcullis_upstream_connections_idle{host="http://u:***@h"} 1"#,
            r#"portcullis_dns_age_seconds{name="h"} 4.5"#,
            r#"portcullis_dns_addresses{name="h"} 2"#,
            r#"portcullis_upstream_host_healthy{host="http://h"} 0"#,
            r#"portcullis_upstream_host_changes_total{host="http://h",to="ejected"} 3"#,
            r#"portcullis_upstream_repeats_total{host="http://h",kind="hedge"} 5"#,
            r#"portcullis_config_info{hash="abc"} 1"#,
            "portcullis_workers 2",
        ] {
            assert!(shown.lines().any(|found| found == line), "{line}\n{shown}");
        }
        metrics.state.set(&Now::default());
        metrics.state.configured("def", 2);
        let shown = page(&metrics);
        assert!(!shown.contains("cb") && !shown.contains("abc") && !shown.contains("***@h"));
    }

    #[test]
    fn beyond_the_limit_there_is_one_series() {
        let metrics = Metrics::new();
        let hosts = (0..MAX_SERIES + 5).map(|n| (format!("http://h{n}"), 2, 1));
        metrics.state.set(&Now {
            hosts: hosts.collect(),
            ..Now::default()
        });
        let shown = page(&metrics);
        let lines = shown
            .lines()
            .filter(|line| line.starts_with("portcullis_upstream_connections_open{"));
        assert_eq!(lines.count(), MAX_SERIES + 1);
        assert!(shown.contains("portcullis_upstream_connections_open{host=\"*\"} 10"));
    }
}
