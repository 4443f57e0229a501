//! Requests per route, now and some minutes ago.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use prometheus::proto::{Metric, MetricFamily};

use super::{KEPT, label, metrics_of};
use crate::telemetry::metrics::Metrics;

/// Counters of one route and method.
#[derive(Debug, Clone, Default)]
pub(super) struct Counts {
    /// By class of status.
    pub(super) classes: [f64; 5],
    /// By bucket, summed up.
    pub(super) buckets: Box<[u64]>,
}

/// The counters of all routes at one moment.
#[derive(Debug, Default)]
pub(super) struct Look {
    /// By method and route, as the page shows them.
    pub(super) routes: HashMap<String, Counts>,
    /// The upper ends of all buckets.
    pub(super) ends: Vec<f64>,
}

/// The last minutes of the counters.
#[derive(Debug, Default)]
pub(crate) struct History(pub(super) Mutex<VecDeque<(Instant, Arc<Look>)>>);

impl History {
    /// Takes a sample of the counters. Must be called every `PERIOD`.
    pub(crate) fn look(&self, metrics: &Metrics) {
        let look = Arc::new(look(&metrics.families()));
        let mut history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history.push_back((Instant::now(), look));
        if history.len() > KEPT {
            history.pop_front();
        }
    }

    /// The oldest look and how long ago it was.
    pub(super) fn oldest(&self) -> Option<(Duration, Arc<Look>)> {
        let history = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        history
            .front()
            .map(|(at, look)| (at.elapsed(), Arc::clone(look)))
    }
}

pub(super) fn look(families: &[MetricFamily]) -> Look {
    let mut look = Look::default();
    let mut place = String::new();
    for metric in metrics_of(families, "portcullis_http_requests_total") {
        let count = metric.get_counter().get_value();
        // A route without requests needs no memory.
        if count == 0.0 {
            continue;
        }
        set_place(metric, &mut place);
        let class = label(metric, "status").bytes().next().unwrap_or(b'1');
        let class = usize::from(class.saturating_sub(b'1'));
        let counts = match look.routes.get_mut(&place) {
            Some(counts) => counts,
            None => look.routes.entry(place.clone()).or_default(),
        };
        if let Some(slot) = counts.classes.get_mut(class) {
            *slot += count;
        }
    }
    for metric in metrics_of(families, "portcullis_http_request_duration_seconds") {
        set_place(metric, &mut place);
        let buckets = metric.get_histogram().get_bucket().iter();
        if look.ends.is_empty() {
            look.ends = buckets.clone().map(|it| it.upper_bound()).collect();
        }
        if let Some(counts) = look.routes.get_mut(&place) {
            counts.buckets = buckets.map(|it| it.cumulative_count()).collect();
        }
    }
    look
}

fn set_place(metric: &Metric, place: &mut String) {
    place.clear();
    place.push_str(label(metric, "method"));
    place.push(' ');
    match label(metric, "route") {
        "" => place.push_str("no endpoint"),
        route => place.push_str(route),
    }
}

/// The value that a part of the observations does not exceed; `None` without any. `buckets` are upper ends and counts,
/// summed up.
pub(super) fn quantile(
    buckets: impl DoubleEndedIterator<Item = (f64, u64)> + Clone,
    part: f64,
) -> Option<f64> {
    let total = buckets.clone().next_back()?.1;
    if total == 0 {
        return None;
    }
    let rank = part * total as f64;
    let (mut below, mut start) = (0, 0.0);
    for (end, count) in buckets {
        if count as f64 >= rank {
            if end.is_infinite() {
                return Some(start);
            }
            let within = (rank - below as f64) / count.saturating_sub(below).max(1) as f64;
            return Some(start + (end - start) * within);
        }
        (below, start) = (count, end);
    }
    Some(start)
}

impl Counts {
    /// The classes of status since an earlier sample.
    pub(super) fn classes_since(&self, earlier: Option<&Counts>) -> [f64; 5] {
        let mut classes = self.classes;
        if let Some(earlier) = earlier {
            for (now, then) in classes.iter_mut().zip(earlier.classes) {
                *now = (*now - then).max(0.0);
            }
        }
        classes
    }

    /// The buckets since an earlier sample.
    pub(super) fn buckets_since(&self, earlier: Option<&Counts>) -> Vec<u64> {
        let then = |at: usize| earlier.and_then(|it| it.buckets.get(at)).copied();
        let buckets = self.buckets.iter().enumerate();
        buckets
            .map(|(at, count)| count.saturating_sub(then(at).unwrap_or_default()))
            .collect()
    }
}
