//! The tables of the page.

use std::collections::BTreeMap;
use std::time::Duration;

use prometheus::proto::MetricFamily;

use super::history::{look, quantile};
use super::write::{duration, escaped, seconds, table};
use super::{History, label, metrics_of, now};
use crate::telemetry::observe::Native;
use crate::telemetry::series::{Numbers, Series};

pub(super) fn routes(families: &[MetricFamily], history: &History, out: &mut String) {
    let now = look(families);
    let (window, then) = history.oldest().unwrap_or_default();
    let mut rows: Vec<(f64, String)> = Vec::new();
    for ((route, method), counts) in &now {
        let counts = counts.since(then.get(&(route.clone(), method.clone())));
        let total = counts.total();
        let [_, _, _, client, server] = counts.classes;
        let share = |part: f64| {
            if total > 0.0 {
                100.0 * part / total
            } else {
                0.0
            }
        };
        let rate = total / window.as_secs_f64().max(1.0);
        let shown = if route.is_empty() {
            "no endpoint"
        } else {
            route
        };
        let row = format!(
            "<tr><td>{} {}</td><td>{rate:.2}/s</td><td class=\"{}\">{:.1} %</td><td>{:.1} %</td><td>{}</td><td>{}</td></tr>",
            escaped(method),
            escaped(shown),
            if share(server) >= 5.0 { "bad" } else { "" },
            share(server),
            share(client),
            seconds(quantile(&counts.buckets, 0.5)),
            seconds(quantile(&counts.buckets, 0.99))
        );
        rows.push((rate, row));
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    let title = format!("Routes, last {}", duration(window));
    table(
        &title,
        &["Route", "Rate", "5xx", "4xx", "p50", "p99"],
        rows,
        out,
    );
}

pub(super) fn rejections(families: &[MetricFamily], out: &mut String) {
    let mut rows = Vec::new();
    for (name, what) in [
        ("portcullis_requests_refused_total", "policy"),
        ("portcullis_jwt_rejected_total", "token"),
        ("portcullis_http_bad_requests_total", "malformed"),
    ] {
        for metric in metrics_of(families, name) {
            let count = metric.get_counter().get_value();
            let row = format!(
                "<tr><td>{}</td><td>{what}: {}</td><td>{count}</td></tr>",
                escaped(label(metric, "route")),
                escaped(label(metric, "reason"))
            );
            rows.push((count, row));
        }
    }
    rows.sort_by(|a, b| b.0.total_cmp(&a.0));
    table(
        "Rejected requests, since the start",
        &["Route", "Reason", "Count"],
        rows,
        out,
    );
}

/// Requests to one host.
#[derive(Default)]
struct Host {
    total: u64,
    failed: u64,
    pub(super) buckets: Vec<(f64, u64)>,
}

/// The values of a metric with one label, by that label.
fn by_label<'f>(families: &'f [MetricFamily], name: &str, of: &str) -> BTreeMap<&'f str, f64> {
    let all = metrics_of(families, name).iter();
    all.map(|metric| (label(metric, of), metric.get_gauge().get_value()))
        .collect()
}

/// Circuit breakers that are not closed.
pub(super) fn breakers(families: &[MetricFamily], out: &mut String) {
    let all = metrics_of(families, "portcullis_circuit_breaker_state").iter();
    let rows = all.filter_map(|metric| {
        let state = metric.get_gauge().get_value();
        let shown = match state {
            2.0 => "open",
            1.0 => "half open",
            _ => return None,
        };
        let row = format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"bad\">{shown}</td></tr>",
            escaped(label(metric, "route")),
            escaped(label(metric, "backend")),
            escaped(label(metric, "name"))
        );
        Some((state, row))
    });
    let columns = ["Route", "Backend", "Name", "State"];
    table("Circuit breakers", &columns, rows.collect(), out);
}

/// Hosts with a state, the unhealthy ones first.
pub(super) fn health(families: &[MetricFamily], out: &mut String) {
    let usable = by_label(families, "portcullis_upstream_host_healthy", "host");
    let changes = metrics_of(families, "portcullis_upstream_host_changes_total");
    let count = |host: &str, to: &str| {
        let mut all = changes.iter();
        let found = all.find(|metric| label(metric, "host") == host && label(metric, "to") == to);
        found.map_or(0.0, |metric| metric.get_counter().get_value())
    };
    let rows = usable.iter().map(|(host, usable)| {
        let (class, shown) = if *usable > 0.0 {
            ("good", "healthy")
        } else {
            ("bad", "unhealthy or ejected")
        };
        let row = format!(
            "<tr><td>{}</td><td class=\"{class}\">{shown}</td><td>{}</td><td>{}</td></tr>",
            escaped(host),
            count(host, "unhealthy"),
            count(host, "ejected")
        );
        (-usable, row)
    });
    let columns = ["Host", "State", "Unhealthy", "Ejected"];
    table("Health of hosts", &columns, rows.collect(), out);
}

pub(super) fn names(families: &[MetricFamily], out: &mut String) {
    let found = by_label(families, "portcullis_dns_addresses", "name");
    let ages = by_label(families, "portcullis_dns_age_seconds", "name");
    let rows = ages.iter().map(|(name, age)| {
        let addresses = found.get(name).copied().unwrap_or_default();
        let row = format!(
            "<tr><td>{}</td><td class=\"{}\">{addresses}</td><td>{}</td></tr>",
            escaped(name),
            if addresses > 0.0 { "good" } else { "bad" },
            if age.is_finite() {
                duration(Duration::from_secs_f64(age.clamp(0.0, 1e10)))
            } else {
                "never".to_owned()
            }
        );
        (*age, row)
    });
    let columns = ["Name", "Addresses", "Looked up"];
    table("Host names", &columns, rows.collect(), out);
}

pub(super) fn hosts(native: &Native, families: &[MetricFamily], out: &mut String) {
    let open = by_label(families, "portcullis_upstream_connections_open", "host");
    let idle = by_label(families, "portcullis_upstream_connections_idle", "host");
    let mut hosts: BTreeMap<String, Host> = BTreeMap::new();
    for (_, all) in native.0.families() {
        for series in &all {
            let Some(host) = attribute(series, "host") else {
                continue;
            };
            add(hosts.entry(host).or_default(), series);
        }
    }
    let rows = hosts.iter().map(|(name, host)| {
        let share = 100.0 * host.failed as f64 / host.total.max(1) as f64;
        let shown = if name.is_empty() { "no connection" } else { name };
        let connections = |of: &BTreeMap<&str, f64>| match of.get(&**name) {
            Some(count) => count.to_string(),
            None => "–".to_owned(),
        };
        let row = format!(
            "<tr><td>{}</td><td>{}</td><td class=\"{}\">{share:.1} %</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td></tr>",
            escaped(shown),
            host.total,
            if share >= 5.0 { "bad" } else { "good" },
            seconds(quantile(&host.buckets, 0.5)),
            seconds(quantile(&host.buckets, 0.99)),
            connections(&open),
            connections(&idle)
        );
        (host.total as f64, row)
    });
    let rows = rows.collect();
    table(
        "Backends, since the start",
        &["Host", "Requests", "Failed", "p50", "p99", "Open", "Idle"],
        rows,
        out,
    );
}

fn attribute(series: &Series, name: &str) -> Option<String> {
    let found = series.attributes.iter().find(|(known, _)| known == name);
    found.map(|(_, value)| crate::telemetry::mask::masked(&value.label()).into_owned())
}

fn add(host: &mut Host, series: &Series) {
    match &series.numbers {
        Numbers::Counter(counter) => {
            if let Some(status) = attribute(series, "status") {
                host.total += counter.get();
                if matches!(&*status, "none" | "5xx") {
                    host.failed += counter.get();
                }
            }
        }
        Numbers::Histogram(histogram) => {
            let mut below = 0;
            let counts = histogram.read().buckets.into_iter().map(|count| {
                below += count;
                below
            });
            let ends = histogram.bounds().iter().map(|end| *end as f64 / 1e9);
            let ends = ends.chain([f64::INFINITY]);
            let pairs: Vec<(f64, u64)> = ends.zip(counts).collect();
            host.buckets = if host.buckets.is_empty() {
                pairs
            } else {
                let both = host.buckets.iter().zip(pairs);
                both.map(|((end, a), (_, b))| (*end, a + b)).collect()
            };
        }
    }
}

pub(super) fn key_sets(families: &[MetricFamily], out: &mut String) {
    let find = |name: &str, source: &str| {
        let mut all = metrics_of(families, name).iter();
        let found = all.rfind(|metric| label(metric, "source") == source);
        found.map(|metric| metric.get_gauge().get_value())
    };
    let rows = metrics_of(families, "portcullis_jwks_keys")
        .iter()
        .map(|metric| {
            let source = label(metric, "source");
            let keys = metric.get_gauge().get_value();
            let age = find("portcullis_jwks_age_seconds", source).filter(|age| age.is_finite());
            let stale = find("portcullis_jwks_stale", source) == Some(1.0);
            let row = format!(
                "<tr><td>{}</td><td class=\"{}\">{keys}</td><td class=\"{}\">{}</td></tr>",
                escaped(&crate::telemetry::mask::masked(source)),
                if keys > 0.0 { "good" } else { "bad" },
                if stale { "bad" } else { "" },
                age.map_or_else(
                    || "never".to_owned(),
                    |age| duration(Duration::from_secs_f64(age))
                )
            );
            (keys, row)
        });
    table("Key sets", &["Source", "Keys", "Age"], rows.collect(), out);
}

pub(super) fn certificates(families: &[MetricFamily], out: &mut String) {
    let name = "portcullis_certificate_expiry_timestamp_seconds";
    let rows = metrics_of(families, name).iter().map(|metric| {
        let left = metric.get_gauge().get_value() - now();
        let days = left / 86_400.0;
        let row = format!(
            "<tr><td>{}</td><td>{}</td><td class=\"{}\">{days:.0} days</td></tr>",
            escaped(label(metric, "subject")),
            escaped(label(metric, "use")),
            if days < 7.0 { "bad" } else { "good" }
        );
        (-left, row)
    });
    table(
        "Certificates",
        &["Subject", "Use", "Expires in"],
        rows.collect(),
        out,
    );
}
