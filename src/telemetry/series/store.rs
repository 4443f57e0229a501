//! Series by instrument and labels. Handles are obtained once and kept by the code that counts.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use super::histogram::{Counter, Histogram, Measure};
use crate::telemetry::trace::Attribute;
use crate::telemetry::trace::attribute::Value;

/// Bucket limits of KrakenD's duration histograms, in seconds.
pub(crate) const TIME_BOUNDS: &[f64] = &[
    0.01, 0.02, 0.05, 0.075, 0.1, 0.125, 0.15, 0.175, 0.2, 0.25, 0.3, 0.35, 0.5, 0.75, 1.0, 1.5,
    2.0, 3.5, 5.0, 10.0,
];
/// Bucket limits of KrakenD's size histograms, in bytes.
pub(crate) const SIZE_BOUNDS: &[f64] = &[
    128.0,
    256.0,
    512.0,
    1024.0,
    4096.0,
    8192.0,
    16_384.0,
    32_768.0,
    65_536.0,
    262_144.0,
    524_288.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// The limits that the OpenTelemetry conventions recommend for durations of HTTP requests, in seconds.
pub(crate) const STABLE_TIME_BOUNDS: &[f64] = &[
    0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
];

/// The maximum number of series of one instrument. Further ones are counted together in one series.
pub(crate) const MAX_SERIES: usize = 2000;

/// The maximum number of time series of one store, as Prometheus counts them: each bucket is one. A page with so many has
/// about 25 MB.
pub(crate) const MAX_LINES: usize = 100_000;

/// A larger limit of time series also raises the limit of each instrument, in this proportion.
const LINES_PER_SERIES: usize = MAX_LINES / MAX_SERIES;

/// The label of the series that counts the excess.
const OVERFLOW: &str = "otel.metric.overflow";

/// A measured quantity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Instrument {
    /// In OpenTelemetry's notation: `http.server.duration`.
    pub name: &'static str,
    /// `s`, `By`, or none.
    pub unit: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    /// It details what another instrument shows. With many endpoints it gets only half of the series, so that the other
    /// half is there for durations of requests.
    pub is_detail: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Counter(Measure),
    Histogram(Measure),
    /// What there is of something at the moment. It is made for each page and each push, and not stored.
    Gauge,
}

/// The numbers of one instrument for one set of labels.
#[derive(Debug, Clone)]
pub enum Numbers {
    Counter(Arc<Counter>),
    Histogram(Arc<Histogram>),
    Gauge(i64),
}

#[derive(Debug)]
pub struct Series {
    pub attributes: Vec<Attribute>,
    /// `a="b",c="d"`, sorted by name.
    pub labels: String,
    pub numbers: Numbers,
}

/// Instruments, and their series.
pub(crate) type Families = Vec<(Instrument, Vec<Arc<Series>>)>;

impl Series {
    /// A gauge with this value.
    pub fn gauge(labels: &[Attribute], value: i64) -> Arc<Series> {
        Arc::new(Series {
            attributes: distinct(labels),
            labels: label_text(labels),
            numbers: Numbers::Gauge(value),
        })
    }
}

#[derive(Debug)]
pub(super) struct Family {
    pub instrument: Instrument,
    pub series: Vec<Arc<Series>>,
    known: HashMap<String, usize>,
}

#[derive(Debug, Default)]
struct Stored {
    by_name: BTreeMap<&'static str, Family>,
    /// The time series of all of them.
    lines: usize,
}

/// All series of a process.
#[derive(Debug)]
pub struct Store {
    families: Mutex<Stored>,
    most_lines: usize,
    time: Arc<[u64]>,
    size: Arc<[u64]>,
    overflowed: AtomicU64,
    pub since: SystemTime,
}

impl Store {
    /// An empty store with these upper limits of buckets, in seconds and bytes.
    pub fn new(time: &[f64], size: &[f64]) -> Store {
        Store {
            families: Mutex::default(),
            time: time
                .iter()
                .map(|bound| (bound * 1e9).round() as u64)
                .collect(),
            size: size.iter().map(|bound| bound.round() as u64).collect(),
            overflowed: AtomicU64::new(0),
            since: SystemTime::now(),
            most_lines: MAX_LINES,
        }
    }

    /// The same store for at most so many time series.
    pub fn with_most(self, most_lines: usize) -> Store {
        Store { most_lines, ..self }
    }

    /// The counter with these labels. Not for the request path.
    pub fn counter(&self, instrument: &Instrument, labels: &[Attribute]) -> Arc<Counter> {
        match self.numbers(instrument, labels) {
            Numbers::Counter(counter) => counter,
            // The kind depends on the name. A mismatch is a bug, which the tests of the tables would find.
            Numbers::Histogram(_) | Numbers::Gauge(_) => Arc::default(),
        }
    }

    /// The histogram with these labels. Not for the request path.
    pub fn histogram(&self, instrument: &Instrument, labels: &[Attribute]) -> Arc<Histogram> {
        match self.numbers(instrument, labels) {
            Numbers::Histogram(histogram) => histogram,
            Numbers::Counter(_) | Numbers::Gauge(_) => {
                Arc::new(Histogram::new(Arc::clone(&self.time)))
            }
        }
    }

    fn numbers(&self, instrument: &Instrument, labels: &[Attribute]) -> Numbers {
        let mut families = self.lock();
        let Stored { by_name, lines } = &mut *families;
        let family = by_name.entry(instrument.name).or_insert_with(|| Family {
            instrument: *instrument,
            series: Vec::new(),
            known: HashMap::new(),
        });
        let text = label_text(labels);
        let cost = self.lines(instrument.kind);
        let most = MAX_SERIES.max(self.most_lines / LINES_PER_SERIES);
        let is_full = family.series.len() >= most || *lines + cost > self.most_for(instrument);
        let over = is_full && !family.known.contains_key(&text);
        let (text, attributes) = if over {
            self.overflowed.fetch_add(1, Ordering::Relaxed);
            let labels = vec![(OVERFLOW.into(), Value::Bool(true))];
            (label_text(&labels), labels)
        } else {
            (text, distinct(labels))
        };
        if let Some(series) = family
            .known
            .get(&text)
            .and_then(|at| family.series.get(*at))
        {
            return series.numbers.clone();
        }
        let numbers = match instrument.kind {
            Kind::Counter(_) => Numbers::Counter(Arc::default()),
            Kind::Gauge => Numbers::Gauge(0),
            Kind::Histogram(measure) => {
                Numbers::Histogram(Arc::new(Histogram::new(Arc::clone(match measure {
                    Measure::Seconds => &self.time,
                    Measure::Whole => &self.size,
                }))))
            }
        };
        *lines += cost;
        family.known.insert(text.clone(), family.series.len());
        family.series.push(Arc::new(Series {
            attributes,
            labels: text,
            numbers: numbers.clone(),
        }));
        numbers
    }

    /// How many time series are there when this instrument gets no more.
    fn most_for(&self, instrument: &Instrument) -> usize {
        if instrument.is_detail {
            self.most_lines / 2
        } else {
            self.most_lines
        }
    }

    /// The time series that Prometheus makes of one series: the buckets, `+Inf`, the sum and the count of a histogram.
    fn lines(&self, kind: Kind) -> usize {
        match kind {
            Kind::Counter(_) | Kind::Gauge => 1,
            Kind::Histogram(Measure::Seconds) => self.time.len() + 3,
            Kind::Histogram(Measure::Whole) => self.size.len() + 3,
        }
    }

    /// How often a series was requested beyond the limit.
    pub fn overflowed(&self) -> u64 {
        self.overflowed.load(Ordering::Relaxed)
    }

    /// Removes the series of endpoints that are not in `routes`.
    pub fn keep_routes(&self, routes: &HashSet<&str>) {
        let mut families = self.lock();
        let Stored { by_name, lines } = &mut *families;
        *lines = 0;
        for family in by_name.values_mut() {
            family.series.retain(|series| is_kept(series, routes));
            let series = family.series.iter().enumerate();
            family.known = series
                .map(|(at, series)| (series.labels.clone(), at))
                .collect();
            *lines += family.series.len() * self.lines(family.instrument.kind);
        }
    }

    /// A copy of the current state: instruments, with handles of their series.
    pub fn families(&self) -> Families {
        let families = self.lock();
        families
            .by_name
            .values()
            .map(|family| (family.instrument, family.series.clone()))
            .collect()
    }

    fn lock(&self) -> MutexGuard<'_, Stored> {
        self.families.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether the endpoint of a series exists, or the series has none.
fn is_kept(series: &Series, routes: &HashSet<&str>) -> bool {
    // Our own metrics call it `route`.
    let find = |name: &str| {
        let mut all = series.attributes.iter();
        all.find(|(known, _)| known == name)
            .map(|(_, value)| value.label())
    };
    let own = find("krakend.endpoint.route").or_else(|| find("route"));
    match own.or_else(|| find("http.route")) {
        None => true,
        Some(route) => !route.starts_with('/') || routes.contains(&*route),
    }
}

/// The first of several equal keys counts: values of a request come before configured ones.
fn distinct(labels: &[Attribute]) -> Vec<Attribute> {
    let mut seen: Vec<Attribute> = Vec::with_capacity(labels.len());
    for label in labels {
        if !seen.iter().any(|(name, _)| *name == label.0) {
            seen.push(label.clone());
        }
    }
    seen
}

/// The labels for Prometheus: sorted, with names without dots. Values of names that become equal are joined.
fn label_text(labels: &[Attribute]) -> String {
    let mut sorted: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in distinct(labels) {
        let values = sorted.entry(label_name(&name)).or_default();
        values.push(value.label().into_owned());
    }
    let mut text = String::new();
    for (name, values) in sorted {
        if !text.is_empty() {
            text.push(',');
        }
        text.push_str(&name);
        text.push_str("=\"");
        push_label(&values.join(";"), &mut text);
        text.push('"');
    }
    text
}

/// A name with `_` for every character that Prometheus does not allow.
pub(super) fn plain_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut plain: String = name
        .chars()
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    if plain.starts_with(|c: char| c.is_ascii_digit()) {
        plain.replace_range(..1, "_");
    }
    plain
}

/// A name of a label. It may not contain a colon, and `__` at the start is reserved
/// (<https://prometheus.io/docs/concepts/data_model/>).
pub(crate) fn label_name(name: &str) -> String {
    let plain = plain_name(name).replace(':', "_");
    if plain.starts_with("__") {
        format!("exported{plain}")
    } else {
        plain
    }
}

/// The value of a label (<https://prometheus.io/docs/instrumenting/exposition_formats/>).
pub(crate) fn push_label(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const COUNTED: Instrument = Instrument {
        name: "a.b",
        unit: "",
        help: "",
        kind: Kind::Counter(Measure::Whole),
        is_detail: false,
    };
    const TIMED: Instrument = Instrument {
        name: "a.time",
        kind: Kind::Histogram(Measure::Seconds),
        ..COUNTED
    };
    const DETAIL: Instrument = Instrument {
        name: "a.detail",
        is_detail: true,
        ..TIMED
    };

    fn label(name: &'static str, value: &'static str) -> Attribute {
        (name.into(), value.into())
    }

    #[test]
    fn equal_labels_are_one_series() {
        let store = Store::new(TIME_BOUNDS, SIZE_BOUNDS);
        store.counter(&COUNTED, &[label("x", "1")]).add(1);
        store
            .counter(&COUNTED, &[label("x", "1"), label("x", "2")])
            .add(1);
        let families = store.families();
        assert_eq!(families[0].1.len(), 1);
        assert_eq!(families[0].1[0].labels, "x=\"1\"");
    }

    #[test]
    fn labels_are_written_in_the_format_of_prometheus() {
        let labels = [
            label("b", "q\"\\\n"),
            label("a.b", "1"),
            label("a_b", "2"),
            label("9x-é", "3"),
            label("c:d", "4"),
            label("__name__", "5"),
        ];
        let text = r#"_x__="3",a_b="1;2",b="q\"\\\n",c_d="4",exported__name__="5""#;
        assert_eq!(label_text(&labels), text);
    }

    #[test]
    fn series_beyond_the_limit_are_counted_together() {
        let store = Store::new(TIME_BOUNDS, SIZE_BOUNDS);
        for n in 0..MAX_SERIES + 10 {
            let labels = [("n".into(), Value::from(n.to_string()))];
            store.counter(&COUNTED, &labels).add(1);
        }
        let families = store.families();
        let series = &families[0].1;
        assert_eq!(series.len(), MAX_SERIES + 1);
        let last = series.last().unwrap();
        assert_eq!(last.labels, "otel_metric_overflow=\"true\"");
        let Numbers::Counter(counter) = &last.numbers else {
            panic!("no counter")
        };
        assert_eq!(counter.get(), 10);
        assert_eq!(store.overflowed(), 10);
    }

    /// The number of time series on a page.
    fn lines(store: &Store) -> usize {
        let mut page = String::new();
        super::super::page::render_plain(store, super::super::page::Form::Text, &mut page).unwrap();
        page.lines().filter(|line| !line.starts_with('#')).count()
    }

    #[test]
    fn all_series_together_are_limited_and_details_end_first() {
        let store = Store::new(TIME_BOUNDS, SIZE_BOUNDS).with_most(1000);
        for route in 0..100 {
            let labels = [("http.route".into(), Value::from(format!("/{route}")))];
            for instrument in [&DETAIL, &TIMED] {
                store.histogram(instrument, &labels).record(1, None);
            }
            store.counter(&COUNTED, &labels).add(1);
        }
        let counts: Vec<usize> = store.families().iter().map(|(_, all)| all.len()).collect();
        // In the order of their names: counters, details, durations. The excess is in one series for each of them.
        let per_route = 1 + 2 * 23;
        let (details, durations) = (counts[1], counts[2]);
        assert!(details > 500 / per_route && details < 15, "{counts:?}");
        assert!(durations > 2 * details, "{counts:?}");
        assert!(lines(&store) <= 1000 + 23 + 1, "{}", lines(&store));
        assert!(store.overflowed() > 100);
        store.keep_routes(&HashSet::from(["/0"]));
        let before = store.overflowed();
        store.histogram(&TIMED, &[label("http.route", "/1")]);
        assert_eq!(store.overflowed(), before, "there is room again");
    }

    #[test]
    fn series_of_removed_endpoints_are_removed() {
        let store = Store::new(TIME_BOUNDS, SIZE_BOUNDS);
        for labels in [
            vec![label("http.route", "/old")],
            vec![label("http.route", "/new")],
            vec![label("http.route", "404 Not Found")],
            vec![
                label("http.route", "/x"),
                label("krakend.endpoint.route", "/new"),
            ],
            vec![
                label("http.route", "/new"),
                label("krakend.endpoint.route", "/old"),
            ],
        ] {
            store.counter(&COUNTED, &labels).add(1);
        }
        store.keep_routes(&HashSet::from(["/new"]));
        assert_eq!(store.families()[0].1.len(), 3);
        store
            .counter(&COUNTED, &[label("http.route", "/new")])
            .add(1);
        assert_eq!(store.families()[0].1.len(), 3);
    }
}
