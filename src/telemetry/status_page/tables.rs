//! The tables of the page.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto::{Metric, MetricFamily};

use super::history::{Counts, look, quantile};
use super::write::{duration, plain, seconds, table};
use super::{Filter, History, label, metrics_of, now};
use crate::telemetry::mask::masked;
use crate::telemetry::observe::Native;
use crate::telemetry::series::{Numbers, Series};
use crate::telemetry::trace::Value;

/// A route, its counters now and some minutes ago, the classes of status in between, and their sum.
type RouteRow<'l> = (&'l String, &'l Counts, Option<&'l Counts>, [f64; 5], f64);

/// The tables, one after the other.
pub(super) struct Tables<'p> {
    pub(super) filter: &'p Filter,
    pub(super) out: String,
}

impl Tables<'_> {
    pub(super) fn routes(&mut self, families: &[MetricFamily], history: &History) {
        let now = look(families);
        let (window, then) = history.oldest().unwrap_or_default();
        let time = window.as_secs_f64().max(1.0);
        let all = now.routes.iter();
        let all = all.filter(|(place, _)| self.filter.takes(&[place]));
        let mut rows: Vec<(f64, RouteRow<'_>)> = all
            .map(|(place, counts)| {
                let earlier = then.routes.get(place);
                let classes = counts.classes_since(earlier);
                let total: f64 = classes.iter().sum();
                (total / time, (place, counts, earlier, classes, total))
            })
            .collect();
        // Routes with the same rate stay where they are when the page is loaded again.
        rows.sort_by_key(|(_, (place, ..))| *place);
        let row = |(place, counts, earlier, classes, total): &RouteRow<'_>| {
            let [_, _, _, client, server] = classes;
            let share = |part: f64| {
                if *total > 0.0 {
                    100.0 * part / total
                } else {
                    0.0
                }
            };
            let buckets = counts.buckets_since(*earlier);
            let buckets = now.ends.iter().copied().zip(buckets.iter().copied());
            vec![
                plain(place),
                plain(format!("{:.2}/s", total / time)),
                (
                    if share(*server) >= 5.0 { "bad" } else { "" },
                    format!("{:.1} %", share(*server)),
                ),
                plain(format!("{:.1} %", share(*client))),
                plain(seconds(quantile(buckets.clone(), 0.5))),
                plain(seconds(quantile(buckets, 0.99))),
            ]
        };
        let title = format!("Routes, last {}", duration(window));
        let columns = ["Route", "Rate", "5xx", "4xx", "p50", "p99"];
        table(&title, &columns, rows, row, &mut self.out);
    }

    pub(super) fn rejections(&mut self, families: &[MetricFamily]) {
        let mut rows = Vec::new();
        for (name, what) in [
            ("portcullis_requests_refused_total", "policy"),
            ("portcullis_jwt_rejected_total", "token"),
            ("portcullis_http_bad_requests_total", "malformed"),
        ] {
            for metric in metrics_of(families, name) {
                let (route, reason) = (label(metric, "route"), label(metric, "reason"));
                if self.filter.takes(&[route, reason]) {
                    let count = metric.get_counter().get_value();
                    rows.push((count, (route, what, reason, count)));
                }
            }
        }
        let row = |(route, what, reason, count): &(&str, &str, &str, f64)| {
            vec![
                plain(route),
                plain(format!("{what}: {reason}")),
                plain(count),
            ]
        };
        let title = "Rejected requests, since the start";
        table(
            title,
            &["Route", "Reason", "Count"],
            rows,
            row,
            &mut self.out,
        );
    }

    /// Circuit breakers that are not closed.
    pub(super) fn breakers(&mut self, families: &[MetricFamily]) {
        let all = metrics_of(families, "portcullis_circuit_breaker_state").iter();
        let all = all.map(|metric| (metric.get_gauge().get_value(), metric));
        let open = all.filter(|(state, metric)| {
            let names = ["route", "backend", "name"].map(|name| label(metric, name));
            *state > 0.0 && self.filter.takes(&names)
        });
        let row = |metric: &&Metric| {
            let is_open = metric.get_gauge().get_value() >= 2.0;
            vec![
                plain(label(metric, "route")),
                plain(label(metric, "backend")),
                plain(label(metric, "name")),
                ("bad", if is_open { "open" } else { "half open" }.to_owned()),
            ]
        };
        let columns = ["Route", "Backend", "Name", "State"];
        table(
            "Circuit breakers",
            &columns,
            open.collect(),
            row,
            &mut self.out,
        );
    }

    /// Hosts with a state, the unhealthy ones first.
    pub(super) fn health(&mut self, families: &[MetricFamily]) {
        let mut changes: BTreeMap<(&str, &str), f64> = BTreeMap::new();
        for metric in metrics_of(families, "portcullis_upstream_host_changes_total") {
            let key = (label(metric, "host"), label(metric, "to"));
            changes.insert(key, metric.get_counter().get_value());
        }
        let usable = by_label(families, "portcullis_upstream_host_healthy", "host");
        let usable = usable.iter().filter(|(host, _)| self.filter.takes(&[host]));
        let rows = usable.map(|(host, usable)| (-usable, (*host, *usable)));
        let row = |(host, usable): &(&str, f64)| {
            let count = |to| changes.get(&(*host, to)).copied().unwrap_or_default();
            let (class, shown) = if *usable > 0.0 {
                ("good", "healthy")
            } else {
                ("bad", "unhealthy or ejected")
            };
            vec![
                plain(host),
                (class, shown.to_owned()),
                plain(count("unhealthy")),
                plain(count("ejected")),
            ]
        };
        let columns = ["Host", "State", "Unhealthy", "Ejected"];
        table(
            "Health of hosts",
            &columns,
            rows.collect(),
            row,
            &mut self.out,
        );
    }

    /// Host names, those without addresses first.
    pub(super) fn names(&mut self, families: &[MetricFamily]) {
        let found = by_label(families, "portcullis_dns_addresses", "name");
        let ages = by_label(families, "portcullis_dns_age_seconds", "name");
        let ages = ages.iter().filter(|(name, _)| self.filter.takes(&[name]));
        let rows = ages.map(|(name, age)| {
            let addresses = found.get(name).copied().unwrap_or_default();
            (-addresses.min(1.0), (*name, *age, addresses))
        });
        let row = |(name, age, addresses): &(&str, f64, f64)| {
            let class = if *addresses > 0.0 { "good" } else { "bad" };
            vec![
                plain(name),
                (class, addresses.to_string()),
                plain(shown_age(Some(*age))),
            ]
        };
        let columns = ["Name", "Addresses", "Looked up"];
        table("Host names", &columns, rows.collect(), row, &mut self.out);
    }

    pub(super) fn hosts(&mut self, native: &Native, families: &[MetricFamily]) {
        let open = by_label(families, "portcullis_upstream_connections_open", "host");
        let idle = by_label(families, "portcullis_upstream_connections_idle", "host");
        let families = native.0.families();
        let mut hosts: BTreeMap<Cow<'_, str>, Host> = BTreeMap::new();
        for series in families.iter().flat_map(|(_, all)| all) {
            let Some(host) = attribute(series, "host") else {
                continue;
            };
            let host = host.label();
            match hosts.get_mut(&*host) {
                Some(known) => add(known, series),
                None => add(hosts.entry(host).or_default(), series),
            }
        }
        let all = hosts.iter().map(|(name, host)| (masked(name), host));
        let found = all.filter(|(name, _)| self.filter.takes(&[name]));
        let rows = found.map(|(name, host)| (host.total as f64, (name, host)));
        let row = |(name, host): &(Cow<'_, str>, &Host)| {
            let share = 100.0 * host.failed as f64 / host.total.max(1) as f64;
            let shown = if name.is_empty() {
                "no connection"
            } else {
                name
            };
            let connections = |of: &BTreeMap<&str, f64>| match of.get(&**name) {
                Some(count) => plain(count),
                None => plain("–"),
            };
            let buckets = host.buckets.iter().copied();
            vec![
                plain(shown),
                plain(host.total),
                (
                    if share >= 5.0 { "bad" } else { "good" },
                    format!("{share:.1} %"),
                ),
                plain(seconds(quantile(buckets.clone(), 0.5))),
                plain(seconds(quantile(buckets, 0.99))),
                connections(&open),
                connections(&idle),
            ]
        };
        table(
            "Backends, since the start",
            &["Host", "Requests", "Failed", "p50", "p99", "Open", "Idle"],
            rows.collect(),
            row,
            &mut self.out,
        );
    }

    /// Key sets, those without keys first.
    pub(super) fn key_sets(&mut self, families: &[MetricFamily]) {
        let ages = by_label(families, "portcullis_jwks_age_seconds", "source");
        let stale = by_label(families, "portcullis_jwks_stale", "source");
        let all = by_label(families, "portcullis_jwks_keys", "source");
        // The text of the filter must not find what is not shown.
        let all = all
            .iter()
            .map(|(source, keys)| (*source, masked(source), *keys));
        let all = all.filter(|(_, shown, _)| self.filter.takes(&[shown]));
        let rows = all.map(|(source, shown, keys)| (-keys, (source, shown, keys)));
        let row = |(source, shown, keys): &(&str, Cow<'_, str>, f64)| {
            let is_stale = stale.get(source) == Some(&1.0);
            vec![
                plain(shown),
                (if *keys > 0.0 { "good" } else { "bad" }, keys.to_string()),
                (
                    if is_stale { "bad" } else { "" },
                    shown_age(ages.get(source).copied()),
                ),
            ]
        };
        let columns = ["Source", "Keys", "Age"];
        table("Key sets", &columns, rows.collect(), row, &mut self.out);
    }

    /// Certificates, the one that expires next first.
    pub(super) fn certificates(&mut self, families: &[MetricFamily]) {
        let name = "portcullis_certificate_expiry_timestamp_seconds";
        let all = metrics_of(families, name).iter();
        let all = all.filter(|metric| self.filter.takes(&[label(metric, "subject")]));
        let left = |metric: &Metric| metric.get_gauge().get_value() - now();
        let rows = all.map(|metric| (-left(metric), metric));
        let row = |metric: &&Metric| {
            let days = left(metric) / 86_400.0;
            vec![
                plain(label(metric, "subject")),
                plain(label(metric, "use")),
                (
                    if days < 7.0 { "bad" } else { "good" },
                    format!("{days:.0} days"),
                ),
            ]
        };
        let columns = ["Subject", "Use", "Expires in"];
        table("Certificates", &columns, rows.collect(), row, &mut self.out);
    }
}

fn shown_age(age: Option<f64>) -> String {
    match age.filter(|age| age.is_finite()) {
        Some(age) => duration(Duration::from_secs_f64(age.clamp(0.0, 1e10))),
        None => "never".to_owned(),
    }
}

/// The values of a metric with one label, by that label.
fn by_label<'f>(families: &'f [MetricFamily], name: &str, of: &str) -> BTreeMap<&'f str, f64> {
    let all = metrics_of(families, name).iter();
    all.map(|metric| (label(metric, of), metric.get_gauge().get_value()))
        .collect()
}

/// Requests to one host.
#[derive(Default)]
struct Host {
    total: u64,
    failed: u64,
    /// Upper ends and counts, summed up.
    buckets: Vec<(f64, u64)>,
}

fn attribute<'s>(series: &'s Series, name: &str) -> Option<&'s Value> {
    let found = series.attributes.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| value)
}

fn add(host: &mut Host, series: &Series) {
    match &series.numbers {
        Numbers::Counter(counter) => {
            if let Some(status) = attribute(series, "status") {
                host.total += counter.get();
                if matches!(&*status.label(), "none" | "5xx") {
                    host.failed += counter.get();
                }
            }
        }
        Numbers::Gauge(_) => {}
        Numbers::Histogram(histogram) => {
            if host.buckets.is_empty() {
                let ends = histogram.bounds().iter().map(|end| *end as f64 / 1e9);
                let ends = ends.chain([f64::INFINITY]);
                host.buckets = ends.map(|end| (end, 0)).collect();
            }
            let mut below = 0;
            for ((_, sum), count) in host.buckets.iter_mut().zip(histogram.counts()) {
                below += count;
                *sum += below;
            }
        }
    }
}
