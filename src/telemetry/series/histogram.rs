//! Counters and histograms made of atomics. Recording takes no lock.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::telemetry::timestamp;
use crate::telemetry::trace::span::nanos;
use crate::telemetry::trace::{SpanId, TraceId};

/// The unit of a series.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Recorded in nanoseconds, shown in seconds.
    Seconds,
    /// Bytes or counts.
    Whole,
}

impl Measure {
    /// A recorded number in its displayed unit.
    pub fn shown(self, raw: u64) -> f64 {
        match self {
            Measure::Seconds => raw as f64 / 1e9,
            Measure::Whole => raw as f64,
        }
    }
}

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    pub fn add(&self, amount: u64) {
        self.0.fetch_add(amount, Ordering::Relaxed);
    }

    pub fn add_time(&self, time: Duration) {
        self.add(nanos(time));
    }

    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Observations by size.
#[derive(Debug)]
pub struct Histogram {
    /// The upper limits of the buckets, in the recorded unit. One more bucket has no limit.
    bounds: Arc<[u64]>,
    buckets: Box<[AtomicU64]>,
    sum: AtomicU64,
    least: AtomicU64,
    most: AtomicU64,
    examples: Examples,
}

/// The sampled requests that were last counted in the buckets of a histogram.
#[derive(Debug, Default)]
pub(crate) struct Examples(OnceLock<Box<[Slot]>>);

impl Examples {
    /// Replaces the example of a bucket, of this many.
    pub(crate) fn put(&self, bucket: usize, buckets: usize, span: (TraceId, SpanId), value: u64) {
        let slots = self
            .0
            .get_or_init(|| (0..buckets).map(|_| Slot::default()).collect());
        if let Some(slot) = slots.get(bucket) {
            slot.put(span.0, span.1, value);
        }
    }

    /// The example of a bucket.
    pub(crate) fn get(&self, bucket: usize) -> Option<Example> {
        self.0.get()?.get(bucket)?.get()
    }
}

/// The sampled request that was last counted in a bucket.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Example {
    pub trace: TraceId,
    pub span: SpanId,
    pub value: u64,
    /// Nanoseconds since the Unix epoch.
    pub at: u64,
}

/// The content of a histogram at one moment.
#[derive(Debug, Clone)]
pub struct Reading {
    /// Not cumulative.
    pub buckets: Vec<u64>,
    pub count: u64,
    pub sum: u64,
    /// Minimum and maximum. 0 without an observation.
    pub least: u64,
    pub most: u64,
    /// By bucket.
    pub examples: Vec<Option<Example>>,
}

impl Histogram {
    pub fn new(bounds: Arc<[u64]>) -> Histogram {
        Histogram {
            buckets: (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect(),
            bounds,
            sum: AtomicU64::new(0),
            least: AtomicU64::new(u64::MAX),
            most: AtomicU64::new(0),
            examples: Examples::default(),
        }
    }

    pub fn bounds(&self) -> &[u64] {
        &self.bounds
    }

    /// Records one observation. `example` is the sampled span that it belongs to.
    pub fn record(&self, value: u64, example: Option<(TraceId, SpanId)>) {
        let index = match self.bounds.first() {
            // Most durations of a connection, of names and of TLS.
            Some(first) if value <= *first => 0,
            _ => self.bounds.partition_point(|bound| *bound < value),
        };
        if let Some(bucket) = self.buckets.get(index) {
            bucket.fetch_add(1, Ordering::Relaxed);
        }
        self.sum.fetch_add(value, Ordering::Relaxed);
        if value < self.least.load(Ordering::Relaxed) {
            self.least.fetch_min(value, Ordering::Relaxed);
        }
        if value > self.most.load(Ordering::Relaxed) {
            self.most.fetch_max(value, Ordering::Relaxed);
        }
        if let Some(span) = example {
            self.examples.put(index, self.buckets.len(), span, value);
        }
    }

    pub fn record_time(&self, time: Duration, example: Option<(TraceId, SpanId)>) {
        self.record(nanos(time), example);
    }

    /// The observations in each bucket.
    pub fn counts(&self) -> impl Iterator<Item = u64> {
        let buckets = self.buckets.iter();
        buckets.map(|bucket| bucket.load(Ordering::Relaxed))
    }

    /// The current content. Requests that are counted concurrently may be included in part.
    pub fn read(&self) -> Reading {
        let buckets: Vec<u64> = self.counts().collect();
        let examples = 0..self.buckets.len();
        Reading {
            count: buckets.iter().sum(),
            buckets,
            sum: self.sum.load(Ordering::Relaxed),
            least: match self.least.load(Ordering::Relaxed) {
                u64::MAX => 0,
                least => least,
            },
            most: self.most.load(Ordering::Relaxed),
            examples: examples.map(|bucket| self.examples.get(bucket)).collect(),
        }
    }
}

/// A slot for one example. Writers overwrite each other, and a reader that meets a writer gets no example.
#[derive(Debug, Default)]
struct Slot {
    /// Odd while a thread writes.
    version: AtomicU64,
    parts: [AtomicU64; 5],
}

impl Slot {
    fn put(&self, trace: TraceId, span: SpanId, value: u64) {
        let version = self.version.load(Ordering::Relaxed);
        let claimed = version.is_multiple_of(2)
            && self
                .version
                .compare_exchange(version, version + 1, Ordering::Acquire, Ordering::Relaxed)
                .is_ok();
        if !claimed {
            return;
        }
        let whole = u128::from_be_bytes(trace.0);
        let values = [
            (whole >> 64) as u64,
            whole as u64,
            u64::from_be_bytes(span.0),
            value,
            nanos(timestamp::now()),
        ];
        for (part, value) in self.parts.iter().zip(values) {
            part.store(value, Ordering::Relaxed);
        }
        self.version.store(version + 2, Ordering::Release);
    }

    fn get(&self) -> Option<Example> {
        let before = self.version.load(Ordering::Acquire);
        let [high, low, span, value, at] =
            std::array::from_fn(|index| match self.parts.get(index) {
                Some(part) => part.load(Ordering::Acquire),
                None => 0,
            });
        let after = self.version.load(Ordering::Relaxed);
        let whole = u128::from(high) << 64 | u128::from(low);
        (before == after && before.is_multiple_of(2) && before > 0).then_some(Example {
            trace: TraceId(whole.to_be_bytes()),
            span: SpanId(span.to_be_bytes()),
            value,
            at,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_observation_is_in_the_first_bucket_that_includes_it() {
        let histogram = Histogram::new([10, 20].into());
        for value in [0, 10, 11, 20, 21] {
            histogram.record(value, None);
        }
        let reading = histogram.read();
        assert_eq!(reading.buckets, [2, 2, 1]);
        assert_eq!((reading.count, reading.sum), (5, 62));
        assert_eq!((reading.least, reading.most), (0, 21));
        assert!(reading.examples.iter().all(Option::is_none));
    }

    #[test]
    fn each_bucket_keeps_the_last_sampled_request() {
        let histogram = Histogram::new([10].into());
        let (trace, span) = (TraceId::random(), SpanId::random());
        histogram.record(3, Some((TraceId::random(), span)));
        histogram.record(4, Some((trace, span)));
        let examples = histogram.read().examples;
        let first = examples[0].unwrap();
        assert_eq!((first.trace, first.span, first.value), (trace, span, 4));
        assert_eq!(examples[1], None);
    }
}
