//! A histogram of one period: exact count, minimum, maximum, mean and deviation, and percentiles of a sample.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::influx::{Figures, PARTS};

/// The size of the sample for percentiles, as in KrakenD.
const SAMPLE: usize = 1028;

/// The values of one period. It uses almost no memory until the first value is added.
#[derive(Debug, Default)]
pub(super) struct Histogram(Mutex<Values>);

#[derive(Debug, Default, Clone)]
struct Values {
    count: u64,
    min: u64,
    max: u64,
    sum: f64,
    sum_of_squares: f64,
    sample: Vec<u64>,
    /// The state of the random generator for the sample.
    random: u64,
}

impl Histogram {
    /// Adds one value.
    pub(super) fn add(&self, value: u64) {
        let mut values = self.locked();
        values.min = if values.count == 0 {
            value
        } else {
            values.min.min(value)
        };
        values.max = values.max.max(value);
        values.count += 1;
        let float = value as f64;
        values.sum += float;
        values.sum_of_squares += float * float;
        values.keep(value);
    }

    /// Starts a new period.
    pub(super) fn clear(&self) {
        *self.locked() = Values::default();
    }

    /// Adds its figures to the page, with names that begin with `name`.
    pub(super) fn add_to(&self, page: &mut BTreeMap<String, String>, name: &str) {
        let mut values = self.locked().clone();
        values.sample.sort_unstable();
        let count = values.count.max(1) as f64;
        let mean = values.sum / count;
        let deviation = (values.sum_of_squares / count - mean * mean)
            .max(0.0)
            .sqrt();
        let mut put = |suffix: &str, value: String| {
            page.insert(format!("{name}.{suffix}"), value);
        };
        put("count", values.count.to_string());
        put("min", values.min.to_string());
        put("max", values.max.to_string());
        put("mean", float(mean));
        put("std-dev", float(deviation));
        for (suffix, part) in [
            ("50-percentile", 0.5),
            ("75-percentile", 0.75),
            ("95-percentile", 0.95),
            ("99-percentile", 0.99),
            ("999-percentile", 0.999),
        ] {
            put(suffix, float(percentile(&values.sample, part)));
        }
    }

    /// Its figures; `None` without a value.
    pub(super) fn figures(&self) -> Option<Figures> {
        let mut values = self.locked().clone();
        if values.count == 0 {
            return None;
        }
        values.sample.sort_unstable();
        let count = values.count as f64;
        let mean = values.sum / count;
        Some(Figures {
            min: values.min,
            max: values.max,
            mean,
            variance: (values.sum_of_squares / count - mean * mean).max(0.0),
            percentiles: PARTS.map(|part| percentile(&values.sample, part)),
        })
    }

    fn locked(&self) -> MutexGuard<'_, Values> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Values {
    /// Each value of the period has the same probability to be in the sample (Vitter's algorithm R).
    fn keep(&mut self, value: u64) {
        if self.sample.len() < SAMPLE {
            self.sample.push(value);
            return;
        }
        // Xorshift: random enough for statistics, but not for secrets.
        let mut x = self.random | 1;
        x ^= x << 13;
        x ^= x >> 7;
        x ^= x << 17;
        self.random = x;
        let place = usize::try_from(x % self.count).unwrap_or(usize::MAX);
        if let Some(kept) = self.sample.get_mut(place) {
            *kept = value;
        }
    }
}

/// Interpolates between two values of the sample, as KrakenD's library does.
fn percentile(sorted: &[u64], part: f64) -> f64 {
    let at = |index: usize| sorted.get(index).copied().unwrap_or(0) as f64;
    let position = part * (sorted.len() + 1) as f64;
    if sorted.is_empty() {
        0.0
    } else if position < 1.0 {
        at(0)
    } else if position >= sorted.len() as f64 {
        at(sorted.len() - 1)
    } else {
        let lower = position.floor();
        let index = lower as usize;
        at(index - 1) + (position - lower) * (at(index) - at(index - 1))
    }
}

/// As Go formats a float: without a decimal point if it is not needed.
fn float(value: f64) -> String {
    if value.is_finite() {
        value.to_string()
    } else {
        "0".to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_match_the_values() {
        let histogram = Histogram::default();
        (1..=100).for_each(|value| histogram.add(value));
        let mut page = BTreeMap::new();
        histogram.add_to(&mut page, "x");
        assert_eq!(page["x.count"], "100");
        assert_eq!(page["x.mean"], "50.5");
        assert_eq!(page["x.50-percentile"], "50.5");
        assert_eq!(page["x.99-percentile"], "99.99");
        assert!(page["x.std-dev"].starts_with("28.866"));
    }

    #[test]
    fn the_sample_is_limited() {
        let histogram = Histogram::default();
        (0..10_000).for_each(|value| histogram.add(value));
        let values = histogram.locked();
        assert_eq!(values.sample.len(), SAMPLE);
        assert!(values.sample.iter().any(|value| *value > 5_000));
    }
}
