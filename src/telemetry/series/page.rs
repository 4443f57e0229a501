//! Shows series as a page for Prometheus: its text format, and OpenMetrics with exemplars.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::histogram::{Example, Histogram, Measure};
pub(crate) use super::store::push_label;
use super::store::{Instrument, Kind, Numbers, Series, Store, plain_name};
use crate::telemetry::trace::Attribute;

/// The instrumentation scope of KrakenD's series.
pub(crate) const SCOPE: &str = "io.krakend.krakend-otel";

const SCOPE_LABELS: &str = "otel_scope_name=\"io.krakend.krakend-otel\",otel_scope_version=\"\"";

/// The requested format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// `text/plain; version=0.0.4`.
    Text,
    /// `application/openmetrics-text; version=1.0.0`.
    OpenMetrics,
}

impl Form {
    /// The format that a scraper accepts.
    pub(crate) fn accepted(accept: Option<&str>) -> Form {
        match accept {
            Some(accept) if accept.contains("application/openmetrics-text") => Form::OpenMetrics,
            _ => Form::Text,
        }
    }

    /// A page in the text format in this format. OpenMetrics names a counter without `_total` where its type is told.
    pub(crate) fn converted(self, page: String) -> String {
        if self == Form::Text {
            return page;
        }
        let lines = page.lines().map(|line| match line.strip_prefix("# ") {
            Some(rest) => {
                let (about, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let (name, rest) = rest.split_once(' ').unwrap_or((rest, ""));
                let name = name.strip_suffix("_total").unwrap_or(name);
                format!("# {about} {name} {rest}\n")
            }
            None => format!("{line}\n"),
        });
        lines.collect()
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// The page: the series of `store`, and the resource that they belong to.
pub(crate) fn render(store: &Store, resource: &[Attribute], form: Form) -> String {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    for (instrument, series) in store.families() {
        let name = metric_name(&instrument);
        let mut text = String::new();
        family(&name, &instrument, &series, (form, true), &mut text);
        families.insert(name, text);
    }
    let mut scope = String::new();
    info(
        "otel_scope_info",
        "Instrumentation Scope metadata",
        SCOPE_LABELS,
        form,
        &mut scope,
    );
    if !families.is_empty() {
        families.insert("otel_scope_info".to_owned(), scope);
    }
    let mut target = String::new();
    info(
        "target_info",
        "Target metadata",
        &labels(resource),
        form,
        &mut target,
    );
    families.insert("target_info".to_owned(), target);
    let mut page = String::with_capacity(families.values().map(String::len).sum::<usize>() + 8);
    families.values().for_each(|text| page.push_str(text));
    if form == Form::OpenMetrics {
        page.push_str("# EOF\n");
    }
    page
}

/// Only the series, without a scope, for our own page.
pub(crate) fn render_plain(store: &Store) -> String {
    let mut families: BTreeMap<String, String> = BTreeMap::new();
    for (instrument, series) in store.families() {
        let name = metric_name(&instrument);
        let mut text = String::new();
        family(&name, &instrument, &series, (Form::Text, false), &mut text);
        families.insert(name, text);
    }
    families.into_values().collect()
}

fn labels(attributes: &[Attribute]) -> String {
    let sorted: BTreeMap<String, String> = attributes
        .iter()
        .map(|(name, value)| (plain_name(name), value.label().into_owned()))
        .collect();
    let mut text = String::new();
    for (name, value) in sorted {
        let comma = if text.is_empty() { "" } else { "," };
        let _ = write!(text, "{comma}{name}=\"");
        push_label(&value, &mut text);
        text.push('"');
    }
    text
}

fn info(name: &str, help: &str, labels: &str, form: Form, out: &mut String) {
    // Names that end with `_info` are a separate type in OpenMetrics, named without that suffix.
    let (family, kind) = match form {
        Form::Text => (name, "gauge"),
        Form::OpenMetrics => (name.strip_suffix("_info").unwrap_or(name), "info"),
    };
    let _ = writeln!(
        out,
        "# HELP {family} {help}\n# TYPE {family} {kind}\n{name}{{{labels}}} 1"
    );
}

/// As KrakenD's exporter does: appends the unit, and `_total` for a counter.
pub(crate) fn metric_name(instrument: &Instrument) -> String {
    let mut name = plain_name(instrument.name);
    let unit = match instrument.unit {
        "s" => "_seconds",
        "By" => "_bytes",
        _ => "",
    };
    if !name.ends_with(unit) {
        name.push_str(unit);
    }
    if matches!(instrument.kind, Kind::Counter(_)) {
        name.push_str("_total");
    }
    name
}

fn family(
    name: &str,
    instrument: &Instrument,
    series: &[std::sync::Arc<Series>],
    (form, scoped): (Form, bool),
    out: &mut String,
) {
    let (kind, measure) = match instrument.kind {
        Kind::Counter(measure) => ("counter", measure),
        Kind::Histogram(measure) => ("histogram", measure),
    };
    let shown = match (form, instrument.kind) {
        (Form::OpenMetrics, Kind::Counter(_)) => name.strip_suffix("_total").unwrap_or(name),
        _ => name,
    };
    let _ = writeln!(
        out,
        "# HELP {shown} {}\n# TYPE {shown} {kind}",
        instrument.help
    );
    let mut sorted: Vec<&Series> = series.iter().map(|series| &**series).collect();
    sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
    for series in sorted {
        let labels = if scoped {
            with_scope(&series.labels)
        } else {
            series.labels.clone()
        };
        match &series.numbers {
            Numbers::Counter(counter) => {
                let value = go_float(measure.shown(counter.get()));
                let _ = writeln!(out, "{name}{{{labels}}} {value}");
            }
            Numbers::Histogram(histogram) => buckets(name, &labels, histogram, measure, form, out),
        }
    }
}

/// Inserts the labels of the scope, sorted by name.
fn with_scope(labels: &str) -> String {
    let mut all: Vec<&str> = split_labels(labels);
    all.extend(split_labels(SCOPE_LABELS));
    all.sort_unstable();
    all.join(",")
}

/// Splits a text of labels at the commas between them.
fn split_labels(text: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut start, mut quoted, mut escaped) = (0, false, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted => {
                parts.extend(text.get(start..at));
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.extend(text.get(start..).filter(|rest| !rest.is_empty()));
    parts
}

fn buckets(
    name: &str,
    labels: &str,
    histogram: &Histogram,
    measure: Measure,
    form: Form,
    out: &mut String,
) {
    let reading = histogram.read();
    let ends = histogram
        .bounds()
        .iter()
        .map(|bound| go_float(measure.shown(*bound)));
    let ends = ends.chain(std::iter::once("+Inf".to_owned()));
    let mut below = 0;
    for ((end, count), example) in ends.zip(&reading.buckets).zip(&reading.examples) {
        below += count;
        let _ = write!(out, "{name}_bucket{{{labels},le=\"{end}\"}} {below}");
        if let (Form::OpenMetrics, Some(example)) = (form, example) {
            push_example(example, measure, out);
        }
        out.push('\n');
    }
    let sum = go_float(measure.shown(reading.sum));
    let _ = writeln!(
        out,
        "{name}_sum{{{labels}}} {sum}\n{name}_count{{{labels}}} {below}"
    );
}

fn push_example(example: &Example, measure: Measure, out: &mut String) {
    let value = go_float(measure.shown(example.value));
    let at = example.at as f64 / 1e9;
    let _ = write!(
        out,
        " # {{trace_id=\"{}\",span_id=\"{}\"}} {value} {at:.3}",
        example.trace, example.span
    );
}

/// As Go formats the shortest form of a number (`%g`).
pub(crate) fn go_float(value: f64) -> String {
    let short = format!("{value:e}");
    let Some((digits, exponent)) = short.split_once('e') else {
        return short;
    };
    match exponent.parse::<i32>() {
        // Go uses a precision of six digits for the shortest form.
        Ok(exponent) if !(-4..6).contains(&exponent) => {
            let sign = if exponent < 0 { '-' } else { '+' };
            format!("{digits}e{sign}{:02}", exponent.abs())
        }
        _ => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::store::{SIZE_BOUNDS, TIME_BOUNDS};
    use super::*;
    use crate::telemetry::trace::{SpanId, TraceId};

    const TIME: Instrument = Instrument {
        name: "http.server.duration",
        unit: "",
        help: "",
        kind: Kind::Histogram(Measure::Seconds),
    };

    #[test]
    fn numbers_are_formatted_as_in_go() {
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1"),
            (0.01, "0.01"),
            (0.0625, "0.0625"),
            (524_288.0, "524288"),
            (1_048_576.0, "1.048576e+06"),
            (67_108_864.0, "6.7108864e+07"),
            (0.00001, "1e-05"),
        ] {
            assert_eq!(go_float(value), text);
        }
    }

    #[test]
    fn a_histogram_is_written_with_its_scope() {
        let store = Store::new(TIME_BOUNDS, SIZE_BOUNDS);
        let labels = [
            ("http.route".into(), "/a".into()),
            ("url.scheme".into(), "http".into()),
        ];
        store
            .histogram(&TIME, &labels)
            .record_time(Duration::from_millis(15), None);
        let page = render(&store, &[("service.name".into(), "gw".into())], Form::Text);
        let scope = "otel_scope_name=\"io.krakend.krakend-otel\",otel_scope_version=\"\"";
        for line in [
            "# TYPE http_server_duration histogram".to_owned(),
            format!(
                r#"http_server_duration_bucket{{http_route="/a",{scope},url_scheme="http",le="0.01"}} 0"#
            ),
            format!(
                r#"http_server_duration_bucket{{http_route="/a",{scope},url_scheme="http",le="+Inf"}} 1"#
            ),
            format!(
                r#"http_server_duration_sum{{http_route="/a",{scope},url_scheme="http"}} 0.015"#
            ),
            format!("otel_scope_info{{{scope}}} 1"),
            r#"target_info{service_name="gw"} 1"#.to_owned(),
        ] {
            assert!(page.lines().any(|found| found == line), "{line}\n{page}");
        }
    }

    #[test]
    fn openmetrics_shows_a_sampled_request() {
        let store = Store::new(TIME_BOUNDS, SIZE_BOUNDS);
        let (trace, span) = (TraceId::random(), SpanId::random());
        let histogram = store.histogram(&TIME, &[]);
        histogram.record_time(Duration::from_millis(15), Some((trace, span)));
        let page = render(&store, &[], Form::OpenMetrics);
        assert!(page.contains(&format!(
            "# {{trace_id=\"{trace}\",span_id=\"{span}\"}} 0.015 "
        )));
        assert!(page.ends_with("# EOF\n"));
        assert!(!render(&store, &[], Form::Text).contains("trace_id"));
    }

    #[test]
    fn counters_of_another_page_are_renamed_for_openmetrics() {
        let page = "# HELP a_total A b.\n# TYPE a_total counter\na_total 1\n# TYPE g gauge\ng 2\n";
        assert_eq!(Form::Text.converted(page.to_owned()), page);
        let converted = "# HELP a A b.\n# TYPE a counter\na_total 1\n# TYPE g gauge\ng 2\n";
        assert_eq!(Form::OpenMetrics.converted(page.to_owned()), converted);
    }

    #[test]
    fn names_get_their_units() {
        let named = |name, unit, kind| {
            metric_name(&Instrument {
                name,
                unit,
                help: "",
                kind,
            })
        };
        let whole = Kind::Counter(Measure::Whole);
        assert_eq!(named("a.read.size", "b", whole), "a_read_size_total");
        assert_eq!(
            named("a.no-content-length", "By", whole),
            "a_no_content_length_bytes_total"
        );
        assert_eq!(named("a.time-hist", "s", TIME.kind), "a_time_hist_seconds");
    }
}
