//! Requests per route, now and some minutes ago.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::proto::{Metric, MetricFamily};

use super::{KEPT, label, metrics_of};
use crate::telemetry::metrics::Metrics;

/// Counters of one route and method.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By class of status.
    pub(super) classes: [f64; 5],
    /// Upper ends and counts, summed up.
    pub(super) buckets: Vec<(f64, u64)>,
}

type Look = BTreeMap<(String, String), Counts>;

/// The last minutes of the counters.
#[derive(Debug, Default)]
pub(crate) struct History(pub(super) Mutex<VecDeque<(Instant, Look)>>);

impl History {
    /// Takes a sample of the counters. Must be called every `PERIOD`.
    pub(crate) fn look(&self, metrics: &Metrics) {
        let look = look(&metrics.families());
        let mut history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history.push_back((Instant::now(), look));
        if history.len() > KEPT {
            history.pop_front();
        }
    }

    /// The oldest look and how long ago it was.
    pub(super) fn oldest(&self) -> Option<(Duration, Look)> {
        let history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history
            .front()
            .map(|(at, look)| (at.elapsed(), look.clone()))
    }
}

pub(super) fn look(families: &[MetricFamily]) -> Look {
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
    // A route without requests needs no memory.
    look.retain(|_, counts| counts.classes.iter().sum::<f64>() > 0.0);
    look
}

fn place(metric: &Metric) -> (String, String) {
    (
        label(metric, "route").to_owned(),
        label(metric, "method").to_owned(),
    )
}

/// The value that a part of the observations does not exceed; `None` without any.
pub(super) fn quantile(buckets: &[(f64, u64)], part: f64) -> Option<f64> {
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
    /// The difference to an earlier sample.
    pub(super) fn since(&self, earlier: Option<&Counts>) -> Counts {
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

    pub(super) fn total(&self) -> f64 {
        self.classes.iter().sum()
    }
}
