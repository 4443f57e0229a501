//! A page for people: what the gateway does now, in one look. Read only, made on the server, of what the metrics know.
//!
//! Everything that is shown is escaped. There are no paths of clients, no tokens and no credentials among the metrics,
//! so there are none here.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::proto::{Metric, MetricFamily};

use crate::telemetry::metrics::Metrics;
use crate::telemetry::observe::Native;
use crate::telemetry::series::{Numbers, Series};

/// Between two looks at the counters.
pub const PERIOD: Duration = Duration::from_secs(15);
/// Looks that are kept: five minutes.
const KEPT: usize = 20;
/// Rows of one table.
const MOST_ROWS: usize = 200;

/// Counters of one route and method.
#[derive(Debug, Clone, Default)]
struct Counts {
    /// By class of status.
    classes: [f64; 5],
    /// Upper ends and counts, summed up.
    buckets: Vec<(f64, u64)>,
}

type Look = BTreeMap<(String, String), Counts>;

/// The last minutes of the counters.
#[derive(Debug, Default)]
pub struct History(Mutex<VecDeque<(Instant, Look)>>);

/// What the page says besides metrics.
#[derive(Debug, Clone)]
pub struct Facts {
    pub version: &'static str,
    pub file: String,
    pub started: Instant,
}

impl History {
    /// Looks at the counters; to be called every [`PERIOD`].
    pub fn look(&self, metrics: &Metrics) {
        let look = look(&metrics.families());
        let mut history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history.push_back((Instant::now(), look));
        if history.len() > KEPT {
            history.pop_front();
        }
    }

    /// The oldest look and how long ago it was.
    fn oldest(&self) -> Option<(Duration, Look)> {
        let history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history
            .front()
            .map(|(at, look)| (at.elapsed(), look.clone()))
    }
}

fn look(families: &[MetricFamily]) -> Look {
    let mut look = Look::new();
    for metric in metrics_of(families, "portcullis_http_requests_total") {
        let counts = look.entry(place(metric)).or_default();
        let class = label(metric, "status").bytes().next().unwrap_or(b'1');
        if let Some(slot) = counts
            .classes
            .get_mut(usize::from(class.saturating_sub(b'1')))
        {
            *slot += metric.get_counter().get_value();
        }
    }
    for metric in metrics_of(families, "portcullis_http_request_duration_seconds") {
        let buckets = metric.get_histogram().get_bucket().iter();
        let buckets = buckets.map(|bucket| (bucket.upper_bound(), bucket.cumulative_count()));
        look.entry(place(metric)).or_default().buckets = buckets.collect();
    }
    // A route that nobody asked for needs no memory.
    look.retain(|_, counts| counts.classes.iter().sum::<f64>() > 0.0);
    look
}

fn metrics_of<'f>(families: &'f [MetricFamily], name: &str) -> &'f [Metric] {
    let family = families.iter().find(|family| family.name() == name);
    family.map(MetricFamily::get_metric).unwrap_or_default()
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    let pair = metric.get_label().iter().find(|pair| pair.name() == name);
    pair.map(|pair| pair.value()).unwrap_or_default()
}

fn place(metric: &Metric) -> (String, String) {
    (
        label(metric, "route").to_owned(),
        label(metric, "method").to_owned(),
    )
}

/// The value that a part of the observations does not exceed; `None` without any.
fn quantile(buckets: &[(f64, u64)], part: f64) -> Option<f64> {
    let total = buckets.last()?.1;
    if total == 0 {
        return None;
    }
    let rank = part * total as f64;
    let (mut below, mut start) = (0, 0.0);
    for (end, count) in buckets {
        if *count as f64 >= rank {
            if end.is_infinite() {
                return Some(start);
            }
            let within = (rank - below as f64) / (count - below).max(1) as f64;
            return Some(start + (end - start) * within);
        }
        (below, start) = (*count, *end);
    }
    Some(start)
}

impl Counts {
    /// What came since an earlier look.
    fn since(&self, earlier: Option<&Counts>) -> Counts {
        let Some(earlier) = earlier else {
            return self.clone();
        };
        let mut classes = self.classes;
        for (now, then) in classes.iter_mut().zip(earlier.classes) {
            *now = (*now - then).max(0.0);
        }
        let then = |at: usize| earlier.buckets.get(at).map_or(0, |(_, count)| *count);
        let buckets = self.buckets.iter().enumerate();
        Counts {
            classes,
            buckets: buckets
                .map(|(at, (end, count))| (*end, count.saturating_sub(then(at))))
                .collect(),
        }
    }

    fn total(&self) -> f64 {
        self.classes.iter().sum()
    }
}

/// The page.
pub fn html(
    metrics: &Metrics,
    native: Option<&Native>,
    history: &History,
    facts: &Facts,
) -> String {
    let families = metrics.families();
    let mut out = String::with_capacity(16 * 1024);
    out.push_str(HEAD);
    let up = facts.started.elapsed();
    let _ = write!(
        out,
        "<header><h1>Portcullis</h1><p>Version {} · {} · up {}</p></header><main>",
        escaped(facts.version),
        escaped(&facts.file),
        duration(up)
    );
    summary(&families, &mut out);
    routes(&families, history, &mut out);
    rejections(&families, &mut out);
    if let Some(native) = native {
        hosts(native, &mut out);
    }
    key_sets(&families, &mut out);
    certificates(&families, &mut out);
    out.push_str("</main><script>setTimeout(()=>location.reload(),15000)</script></body></html>\n");
    out
}

fn summary(families: &[MetricFamily], out: &mut String) {
    let gauge = |name| {
        metrics_of(families, name)
            .first()
            .map_or(0.0, |m| m.get_gauge().get_value())
    };
    let good = gauge("portcullis_config_last_reload_successful") > 0.0;
    let since = gauge("portcullis_config_last_reload_success_timestamp_seconds");
    let ago = Duration::from_secs_f64((now() - since).clamp(0.0, 1e10));
    let _ = write!(
        out,
        "<section><h2>Configuration</h2><p class=\"{}\">{} Applied {} ago.</p><p>{} requests in flight, {} client connections open.</p></section>",
        if good { "good" } else { "bad" },
        if good {
            "In use."
        } else {
            "The last reload was rejected: the old configuration is in use."
        },
        duration(ago),
        gauge("portcullis_http_requests_in_flight"),
        gauge("portcullis_connections_open")
    );
}

fn routes(families: &[MetricFamily], history: &History, out: &mut String) {
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

fn rejections(families: &[MetricFamily], out: &mut String) {
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
    buckets: Vec<(f64, u64)>,
}

fn hosts(native: &Native, out: &mut String) {
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
        let row = format!(
            "<tr><td>{}</td><td>{}</td><td class=\"{}\">{share:.1} %</td><td>{}</td><td>{}</td></tr>",
            escaped(shown),
            host.total,
            if share >= 5.0 { "bad" } else { "good" },
            seconds(quantile(&host.buckets, 0.5)),
            seconds(quantile(&host.buckets, 0.99))
        );
        (host.total as f64, row)
    });
    let rows = rows.collect();
    table(
        "Backends, since the start",
        &["Host", "Requests", "Failed", "p50", "p99"],
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
            host.buckets = match host.buckets.is_empty() {
                true => pairs,
                false => {
                    let both = host.buckets.iter().zip(pairs);
                    both.map(|((end, a), (_, b))| (*end, a + b)).collect()
                }
            };
        }
    }
}

fn key_sets(families: &[MetricFamily], out: &mut String) {
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

fn certificates(families: &[MetricFamily], out: &mut String) {
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

fn table(title: &str, columns: &[&str], rows: Vec<(f64, String)>, out: &mut String) {
    if rows.is_empty() {
        return;
    }
    let _ = write!(
        out,
        "<section><h2>{}</h2><table><thead><tr>",
        escaped(title)
    );
    for column in columns {
        let _ = write!(out, "<th>{}</th>", escaped(column));
    }
    out.push_str("</tr></thead><tbody>");
    let more = rows.len().saturating_sub(MOST_ROWS);
    rows.iter()
        .take(MOST_ROWS)
        .for_each(|(_, row)| out.push_str(row));
    out.push_str("</tbody></table>");
    if more > 0 {
        let _ = write!(out, "<p>and {more} more</p>");
    }
    out.push_str("</section>");
}

fn now() -> f64 {
    crate::telemetry::moment::now().as_secs_f64()
}

fn seconds(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(value) if value < 1.0 => format!("{:.1} ms", value * 1000.0),
        Some(value) => format!("{value:.2} s"),
    }
}

fn duration(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds @ 7200..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} days", seconds / 86_400),
    }
}

/// A text within HTML, in an element or an attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Portcullis</title><style>\
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--line:#d0d7de;--good:#1a7f37;--bad:#cf222e;--row:#f6f8fa}\
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--soft:#8b949e;--line:#30363d;--good:#3fb950;--bad:#f85149;--row:#161b22}}\
body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\
header p{color:var(--soft)}h1{margin:0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left;word-break:break-all}\
tbody tr:nth-child(odd){background:var(--row)}.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}\
</style></head><body>";

#[cfg(test)]
mod tests {
    use super::*;

    fn facts(file: &str) -> Facts {
        Facts {
            version: "1",
            file: file.to_owned(),
            started: Instant::now(),
        }
    }

    #[test]
    fn what_is_shown_is_escaped() {
        let metrics = Metrics::new();
        metrics
            .route("/<script>alert('x')</script>\"&", "GET")
            .record(200, Duration::from_millis(1));
        let page = html(&metrics, None, &History::default(), &facts("<b>.json"));
        assert!(
            !page.contains("<script>alert") && !page.contains("<b>"),
            "{page}"
        );
        assert!(page.contains("/&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&quot;&amp;"));
    }

    #[test]
    fn rates_and_quantiles_are_those_of_the_last_minutes() {
        let metrics = Metrics::new();
        let route = metrics.route("/a", "GET");
        (0..100).for_each(|_| route.record(500, Duration::from_secs(9)));
        let history = History::default();
        history.look(&metrics);
        (0..10).for_each(|_| route.record(200, Duration::from_millis(3)));
        let page = html(&metrics, None, &history, &facts("f"));
        let row = page
            .split("<tr>")
            .find(|row| row.contains("GET /a"))
            .unwrap();
        assert!(
            row.contains("0.0 %") && row.contains("ms") && !row.contains("9."),
            "{row}"
        );
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let buckets = [(1.0, 0), (2.0, 10), (f64::INFINITY, 10)];
        let half = quantile(&buckets, 0.5).unwrap();
        assert!((1.0..=2.0).contains(&half), "{half}");
        assert_eq!(quantile(&[(1.0, 0)], 0.5), None);
    }

    #[test]
    fn a_history_is_bounded() {
        let (metrics, history) = (Metrics::new(), History::default());
        (0..100).for_each(|_| history.look(&metrics));
        assert_eq!(history.0.lock().unwrap().len(), KEPT);
    }
}
