//! Shows series as a page for Prometheus: its text format, and OpenMetrics with exemplars.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::sync::Arc;

use super::histogram::{Example, Histogram, Measure};
pub(crate) use super::store::push_label;
use super::store::{Families, Instrument, Kind, Numbers, Series, Store, label_name, plain_name};
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
    /// The format that a scraper prefers (RFC 9110 §12.5.1), from its `Accept` headers.
    pub(crate) fn accepted<'a>(accept: impl Iterator<Item = &'a str>) -> Form {
        let (mut open, mut text) = (0.0_f32, 0.0_f32);
        for item in accept.flat_map(|value| value.split(',')) {
            let mut parts = item.split(';').map(str::trim);
            let kind = parts.next().unwrap_or_default();
            let mut weights = parts.filter_map(|part| part.strip_prefix("q="));
            let weight = weights.next().map_or(Ok(1.0), str::parse);
            let weight = weight.unwrap_or_default();
            if kind.eq_ignore_ascii_case("application/openmetrics-text") {
                open = open.max(weight);
            } else if kind.eq_ignore_ascii_case("text/plain") {
                text = text.max(weight);
            }
        }
        if open > 0.0 && open >= text {
            Form::OpenMetrics
        } else {
            Form::Text
        }
    }

    /// The name of a family in its `# TYPE` line, and its type. In OpenMetrics, that of a counter has no `_total`, and
    /// names that end with `_info` are a separate type, named without that suffix.
    pub(crate) fn family<'n>(self, name: &'n str, kind: &'static str) -> (&'n str, &'static str) {
        match (self, kind, name.strip_suffix("_info")) {
            (Form::OpenMetrics, "counter", _) => {
                (name.strip_suffix("_total").unwrap_or(name), kind)
            }
            (Form::OpenMetrics, "gauge", Some(bare)) => (bare, "info"),
            _ => (name, kind),
        }
    }

    /// The last line of a page.
    pub(crate) fn end(self) -> &'static str {
        match self {
            Form::Text => "",
            Form::OpenMetrics => "# EOF\n",
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Form::Text => "text/plain; version=0.0.4; charset=utf-8; escaping=underscores",
            Form::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// Writes the page: the series of `store`, the gauges of the moment, and the resource that they belong to.
///
/// It comes in pieces of some kilobytes: a page with many endpoints has many megabytes, which should exist only compressed.
///
/// # Errors
/// Those of `out`.
pub(crate) fn render(
    store: &Store,
    gauges: Families,
    resource: &[Attribute],
    form: Form,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let mut families = named(store.families());
    families.extend(named(gauges));
    let scope = "otel_scope_info".to_owned();
    let target = "target_info".to_owned();
    if !families.is_empty() {
        families.insert(
            scope,
            Family::Info("Instrumentation Scope metadata", SCOPE_LABELS.to_owned()),
        );
    }
    families.insert(target, Family::Info("Target metadata", labels(resource)));
    for (name, family) in families {
        match family {
            Family::Series(instrument, series) => {
                write_family(&name, &instrument, &series, (form, true), out)?;
            }
            Family::Info(help, labels) => info(&name, help, &labels, form, out)?,
        }
    }
    out.write_str(form.end())
}

/// Writes only the series, without a scope, for our own page.
///
/// # Errors
/// Those of `out`.
pub(crate) fn render_plain(store: &Store, form: Form, out: &mut impl fmt::Write) -> fmt::Result {
    for (name, family) in named(store.families()) {
        if let Family::Series(instrument, series) = family {
            write_family(&name, &instrument, &series, (form, false), out)?;
        }
    }
    Ok(())
}

/// What has one name on a page.
enum Family {
    Series(Instrument, Vec<Arc<Series>>),
    /// Its help text and its labels.
    Info(&'static str, String),
}

/// Series by their names on a page.
fn named(families: Families) -> BTreeMap<String, Family> {
    let named = families.into_iter().map(|(instrument, series)| {
        let name = metric_name(&instrument);
        (name, Family::Series(instrument, series))
    });
    named.collect()
}

fn labels(attributes: &[Attribute]) -> String {
    let sorted: BTreeMap<String, String> = attributes
        .iter()
        .map(|(name, value)| (label_name(name), value.label().into_owned()))
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

fn info(
    name: &str,
    help: &str,
    labels: &str,
    form: Form,
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let (family, kind) = form.family(name, "gauge");
    writeln!(
        out,
        "# HELP {family} {help}\n# TYPE {family} {kind}\n{name}{{{labels}}} 1"
    )
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

fn write_family(
    name: &str,
    instrument: &Instrument,
    series: &[Arc<Series>],
    (form, scoped): (Form, bool),
    out: &mut impl fmt::Write,
) -> fmt::Result {
    let (kind, measure) = match instrument.kind {
        Kind::Counter(measure) => ("counter", measure),
        Kind::Histogram(measure) => ("histogram", measure),
        Kind::Gauge => ("gauge", Measure::Whole),
    };
    let (shown, kind) = form.family(name, kind);
    let help = instrument.help;
    writeln!(out, "# HELP {shown} {help}\n# TYPE {shown} {kind}")?;
    let mut sorted: Vec<&Series> = series.iter().map(|series| &**series).collect();
    sorted.sort_by(|a, b| a.labels.cmp(&b.labels));
    let ends = sorted.iter().find_map(|series| ends(series, measure));
    let ends = ends.unwrap_or_default();
    let mut text = String::new();
    for series in sorted {
        let labels = if scoped {
            Cow::Owned(with_scope(&series.labels))
        } else {
            Cow::Borrowed(&*series.labels)
        };
        text.clear();
        match &series.numbers {
            Numbers::Counter(counter) => {
                let value = go_float(measure.shown(counter.get()));
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
            Numbers::Gauge(value) => {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
            Numbers::Histogram(histogram) => {
                let place = Place {
                    name,
                    labels: &labels,
                    ends: &ends,
                    measure,
                    form,
                };
                place.buckets(histogram, &mut text);
            }
        }
        out.write_str(&text)?;
    }
    Ok(())
}

/// The upper limits of the buckets as texts. All histograms of a family have the same.
fn ends(series: &Series, measure: Measure) -> Option<Vec<String>> {
    let Numbers::Histogram(histogram) = &series.numbers else {
        return None;
    };
    let bounds = histogram.bounds().iter();
    let ends = bounds.map(|bound| go_float(measure.shown(*bound)));
    Some(ends.chain(["+Inf".to_owned()]).collect())
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

/// The position of a histogram on the page, and its format.
struct Place<'a> {
    name: &'a str,
    labels: &'a str,
    ends: &'a [String],
    measure: Measure,
    form: Form,
}

impl Place<'_> {
    /// Most bytes of a page are these lines.
    fn buckets(&self, histogram: &Histogram, out: &mut String) {
        let Place {
            name,
            labels,
            measure,
            ..
        } = *self;
        let comma = if labels.is_empty() { "" } else { "," };
        let start = format!("{name}_bucket{{{labels}{comma}le=\"");
        let reading = histogram.read();
        let mut number = itoa::Buffer::new();
        let mut below = 0;
        let counts = reading.buckets.iter().zip(&reading.examples);
        for (end, (count, example)) in self.ends.iter().zip(counts) {
            below += count;
            for part in [&start, end, "\"} ", number.format(below)] {
                out.push_str(part);
            }
            if let (Form::OpenMetrics, Some(example)) = (self.form, example) {
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
}

/// The example of a bucket, at the end of its line.
pub(crate) fn push_example(example: &Example, measure: Measure, out: &mut String) {
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

    fn page(store: &Store, resource: &[Attribute], form: Form) -> String {
        let mut page = String::new();
        render(store, Vec::new(), resource, form, &mut page).unwrap();
        page
    }

    const TIME: Instrument = Instrument {
        name: "http.server.duration",
        unit: "",
        help: "",
        kind: Kind::Histogram(Measure::Seconds),
        is_detail: false,
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
        let page = page(&store, &[("service.name".into(), "gw".into())], Form::Text);
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
        let open = page(&store, &[], Form::OpenMetrics);
        assert!(open.contains(&format!(
            "# {{trace_id=\"{trace}\",span_id=\"{span}\"}} 0.015 "
        )));
        assert!(open.ends_with("# EOF\n"));
        assert!(!page(&store, &[], Form::Text).contains("trace_id"));
    }

    #[test]
    fn the_format_is_the_one_that_the_scraper_prefers() {
        let open = "application/openmetrics-text";
        for (accept, form) in [
            ("", Form::Text),
            ("*/*", Form::Text),
            (open, Form::OpenMetrics),
            (
                "Application/OpenMetrics-Text; version=1.0.0",
                Form::OpenMetrics,
            ),
            ("application/openmetrics-text;q=0", Form::Text),
            ("application/openmetrics-text;q=0.5, text/plain", Form::Text),
            ("application/openmetrics-text;q=x", Form::Text),
            ("application/openmetrics-textual", Form::Text),
            // Prometheus.
            (
                "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
                Form::OpenMetrics,
            ),
        ] {
            assert_eq!(Form::accepted([accept].into_iter()), form, "{accept}");
        }
        assert_eq!(
            Form::accepted(["text/html", open].into_iter()),
            Form::OpenMetrics
        );
    }

    #[test]
    fn names_get_their_units() {
        let named = |name, unit, kind| {
            metric_name(&Instrument {
                name,
                unit,
                help: "",
                kind,
                is_detail: false,
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
