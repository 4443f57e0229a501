//! The status page: a read-only HTML page with the current state of the gateway, rendered from the metrics.
//!
//! Everything that is shown is escaped. There are no paths of clients, no tokens and no credentials among the metrics,
//! so there are none here.
//!
//! A table has at most [`MAX_ROWS`] rows, and only these are written: the others cost a comparison each.

mod filter;
mod history;
mod tables;
mod write;

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use prometheus::proto::{Metric, MetricFamily};

use crate::telemetry::observe::Native;
use tables::Tables;
use write::{duration, escaped};

pub(crate) use filter::Filter;
pub(crate) use history::History;

/// The interval between two samples of the counters.
pub(crate) const PERIOD: Duration = Duration::from_secs(15);
/// The number of samples that are kept: five minutes.
const KEPT: usize = 20;
/// Rows of one table.
const MAX_ROWS: usize = 200;

/// What the page says besides metrics.
#[derive(Debug, Clone)]
pub(crate) struct Facts {
    pub version: &'static str,
    pub file: String,
    pub started: Instant,
}

fn metrics_of<'f>(families: &'f [MetricFamily], name: &str) -> &'f [Metric] {
    let family = families.iter().find(|family| family.name() == name);
    family.map(MetricFamily::get_metric).unwrap_or_default()
}

fn label<'m>(metric: &'m Metric, name: &str) -> &'m str {
    let pair = metric.get_label().iter().find(|pair| pair.name() == name);
    pair.map(|pair| pair.value()).unwrap_or_default()
}

/// The page.
pub(crate) fn html(
    families: &[MetricFamily],
    native: Option<&Native>,
    history: &History,
    facts: &Facts,
    filter: &Filter,
) -> String {
    let mut out = String::with_capacity(64 * 1024);
    out.push_str(HEAD);
    let up = facts.started.elapsed();
    let _ = write!(
        out,
        "<header><h1>Portcullis</h1><p>Version {} · {} · up {}</p>",
        escaped(facts.version),
        escaped(&facts.file),
        duration(up)
    );
    filter.form(&mut out);
    out.push_str("</header><main>");
    summary(families, &mut out);
    let mut page = Tables { filter, out };
    page.routes(families, history);
    page.rejections(families);
    if let Some(native) = native {
        page.hosts(native, families);
    }
    page.breakers(families);
    page.health(families);
    page.names(families);
    page.key_sets(families);
    page.certificates(families);
    let mut out = page.out;
    out.push_str(END);
    out
}

/// The page is loaded again unless somebody types into it.
const END: &str = "</main><script>setInterval(()=>document.activeElement.matches(\"input\")||location.reload(),15000)\
</script></body></html>\n";

fn summary(families: &[MetricFamily], out: &mut String) {
    let gauge = |name| {
        metrics_of(families, name)
            .first()
            .map_or(0.0, |m| m.get_gauge().get_value())
    };
    let good = gauge("portcullis_config_last_reload_successful") > 0.0;
    let since = gauge("portcullis_config_last_reload_success_timestamp_seconds");
    let ago = Duration::from_secs_f64((now() - since).clamp(0.0, 1e10));
    let hash = metrics_of(families, "portcullis_config_info").first();
    let hash = hash.map_or("", |metric| label(metric, "hash"));
    let _ = write!(
        out,
        "<section><h2>Configuration {}</h2><p class=\"{}\">{} Applied {} ago.</p><p>{} requests in flight, {} client connections open, {} workers.</p></section>",
        escaped(hash),
        if good { "good" } else { "bad" },
        if good {
            "In use."
        } else {
            "The last reload was rejected: the old configuration is in use."
        },
        duration(ago),
        gauge("portcullis_http_requests_in_flight"),
        gauge("portcullis_connections_open"),
        gauge("portcullis_workers")
    );
}

fn now() -> f64 {
    crate::telemetry::timestamp::now().as_secs_f64()
}

const HEAD: &str = "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\">\
<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>Portcullis</title><style>\
:root{color-scheme:light dark;--bg:#fff;--fg:#1b1f24;--soft:#57606a;--line:#d0d7de;--good:#1a7f37;--bad:#cf222e;--row:#f6f8fa}\
@media(prefers-color-scheme:dark){:root{--bg:#0d1117;--fg:#e6edf3;--soft:#8b949e;--line:#30363d;--good:#3fb950;--bad:#f85149;--row:#161b22}}\
body{margin:0 auto;max-width:70rem;padding:1rem;background:var(--bg);color:var(--fg);font:15px/1.5 system-ui,sans-serif}\
header p,label{color:var(--soft)}input{font:inherit;color:inherit;background:var(--row);border:1px solid var(--line)}h1{margin:0}h2{font-size:1.1rem;margin:1.5rem 0 .5rem}\
table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}\
th,td{text-align:right;padding:.3rem .6rem;border-bottom:1px solid var(--line)}\
th:first-child,td:first-child{text-align:left;word-break:break-all}\
tbody tr:nth-child(odd){background:var(--row)}.good{color:var(--good)}.bad{color:var(--bad);font-weight:600}\
</style></head><body>";

#[cfg(test)]
mod tests;
