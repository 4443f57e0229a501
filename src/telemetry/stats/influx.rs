//! The counters as lines for InfluxDB, in KrakenD's measurements.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::atomic::Ordering;

use super::{Layer, MEMORY, Stats, lock};
use crate::telemetry::process::{resident_bytes, threads};

/// Counters at the push before, by line.
pub(super) type Before = BTreeMap<String, u64>;

impl Stats {
    /// One push: lines with this time, in seconds since 1970.
    pub fn influx(&self, host: &str, seconds: u64, before: &mut Before) -> String {
        let mut out = Lines {
            host: escaped(host),
            seconds,
            text: String::new(),
        };
        if self.settings.router {
            self.router_lines(&mut out, before);
        }
        for ((layer, name), requests) in self.all_layers() {
            let (layer, name) = match layer {
                Layer::Pipe => ("pipe", crate::telemetry::observe::settings::route(&name)),
                Layer::Backend => ("backend", go_template(&name)),
            };
            for (index, end) in requests.ends.iter().enumerate() {
                let (complete, error) = (index & 1 > 0, index & 2 > 0);
                let tags = format!(
                    "requests,complete={complete},error={error},host={},layer={layer},name={}",
                    out.host,
                    escaped(&name)
                );
                let total = end.count.load(Ordering::Relaxed);
                out.counter(&tags, total, before);
                out.distribution(&tags, end.latency.figures());
            }
        }
        out.process();
        out.text
    }

    fn router_lines(&self, out: &mut Lines, before: &mut Before) {
        for (direction, gauge) in [("in", &self.connected), ("out", &self.disconnected)] {
            let load = |value: &std::sync::atomic::AtomicU64| value.load(Ordering::Relaxed);
            let tags = format!("router,direction={direction},host={}", out.host);
            let total = load(&gauge.total) + load(&gauge.now);
            out.line(&tags, &format!("current=0i,total={total}i"));
            out.line(&tags, &format!("gauge={}i", load(&gauge.last)));
        }
        for (endpoint, responses) in self.all_responses() {
            let name = escaped(&crate::telemetry::observe::settings::route(&endpoint));
            for (status, total) in lock(&responses.statuses).iter() {
                let tags = format!("responses,host={},name={name},status={status}", out.host);
                out.counter(&tags, *total, before);
            }
            for (measurement, histogram) in [
                ("router.response-size", &responses.size),
                ("router.response-time", &responses.time),
            ] {
                let tags = format!("{measurement},host={},name={name}", out.host);
                out.distribution(&tags, histogram.figures());
            }
        }
    }
}

/// What a histogram holds, if anything.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) min: u64,
    pub(super) max: u64,
    pub(super) mean: f64,
    pub(super) variance: f64,
    /// By part: 0.1, 0.25, ….
    pub(super) percentiles: [f64; 7],
}

/// The parts of [`Figures::percentiles`].
pub(super) const PARTS: [f64; 7] = [0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99];

struct Lines {
    host: String,
    seconds: u64,
    text: String,
}

impl Lines {
    fn line(&mut self, tags: &str, fields: &str) {
        let _ = writeln!(self.text, "{tags} {fields} {}", self.seconds);
    }

    fn counter(&mut self, tags: &str, total: u64, before: &mut Before) {
        let last = before.insert(tags.to_owned(), total).unwrap_or(0);
        let count = total.saturating_sub(last);
        self.line(tags, &format!("count={count}i,total={total}i"));
    }

    fn distribution(&mut self, tags: &str, figures: Option<Figures>) {
        let Some(figures) = figures else { return };
        let mut fields = format!(
            "max={}i,mean={}i,min={}i",
            figures.max, figures.mean as u64, figures.min
        );
        for (part, value) in PARTS.iter().zip(figures.percentiles) {
            let _ = write!(fields, ",p{part}={value}");
        }
        let deviation = figures.variance.sqrt() as u64;
        let _ = write!(
            fields,
            ",stddev={deviation}i,variance={}i",
            figures.variance as u64
        );
        self.line(tags, &fields);
    }

    /// Values of Go's runtime that do not exist here are 0.
    fn process(&mut self) {
        let tags = format!("debug,host={}", self.host);
        self.line(
            &tags,
            "GCStats.LastGC=0i,GCStats.NumGC=0i,GCStats.PauseTotal=0i",
        );
        let resident = resident_bytes();
        let mut fields = String::new();
        for name in MEMORY {
            let value = match *name {
                "Alloc" | "HeapAlloc" | "HeapInuse" | "HeapSys" | "Sys" => resident,
                _ => 0,
            };
            let _ = write!(fields, "MemStats.{name}={value}i,");
        }
        let _ = write!(
            fields,
            "NumCgoCall=0i,NumGoroutine=0i,NumThread={}i",
            threads()
        );
        self.line(&format!("runtime,host={}", self.host), &fields);
    }
}

/// The value of a tag.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ',' | ' ' | '=' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            c if c.is_control() => out.push('_'),
            c => out.push(c),
        }
    }
    out
}

/// `/x/{id}` as KrakenD writes it: `/x/{{.Id}}`.
fn go_template(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern;
    while let Some((before, after)) = rest.split_once('{') {
        let (name, behind) = after.split_once('}').unwrap_or((after, ""));
        let mut letters = name.chars();
        let first = letters.next().map(|c| c.to_uppercase().to_string());
        let _ = write!(
            out,
            "{before}{{{{.{}{}}}}}",
            first.unwrap_or_default(),
            letters.as_str()
        );
        rest = behind;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_escaped_and_patterns_are_those_of_krakend() {
        assert_eq!(escaped("a,b c=d"), "a\\,b\\ c\\=d");
        assert_eq!(go_template("/x/{id}/y/{b}"), "/x/{{.Id}}/y/{{.B}}");
        assert_eq!(go_template("/x"), "/x");
    }
}
