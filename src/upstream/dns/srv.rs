//! An SRV name and its targets.

use std::time::Duration;

use arc_swap::ArcSwapOption;
use tokio::time::Instant;

use super::table::{MAX_TTL, NEGATIVE_TTL};
use crate::upstream::usage::NameState;

/// An SRV name and the targets of its last successful lookup.
#[derive(Debug)]
pub(in crate::upstream) struct Service {
    pub(super) name: Box<str>,
    /// Unique within a table.
    pub(super) id: u64,
    refresh: Duration,
    pub(in crate::upstream) targets: ArcSwapOption<Vec<SrvTarget>>,
    pub(super) asked: ArcSwapOption<Instant>,
    /// When a lookup last succeeded.
    pub(super) found: ArcSwapOption<Instant>,
    pub(super) single_flight: tokio::sync::Mutex<()>,
}

/// The target of one share of the calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::upstream) struct SrvTarget {
    pub(in crate::upstream) host: Box<str>,
    pub(in crate::upstream) port: u16,
}

impl Service {
    pub(super) fn new(name: &str, refresh: Duration, id: u64) -> Service {
        Service {
            name: name.into(),
            id,
            // As in KrakenD: shorter intervals would put too much load on the server.
            refresh: if refresh < Duration::from_secs(1) {
                MAX_TTL
            } else {
                refresh
            },
            targets: ArcSwapOption::empty(),
            asked: ArcSwapOption::empty(),
            found: ArcSwapOption::empty(),
            single_flight: tokio::sync::Mutex::default(),
        }
    }

    /// Whether the last lookup failed.
    pub(super) fn is_failing(&self) -> bool {
        let (asked, found) = (self.asked.load(), self.found.load());
        asked
            .as_deref()
            .is_some_and(|asked| found.as_deref().is_none_or(|found| found < asked))
    }

    /// For metrics.
    pub(in crate::upstream) fn state(&self) -> NameState {
        NameState {
            age: self.found.load().as_deref().map(Instant::elapsed),
            found: self.targets.load().as_deref().map_or(0, Vec::len),
        }
    }

    pub(in crate::upstream) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn failed_recently(&self) -> bool {
        let asked = self.asked.load();
        asked
            .as_deref()
            .is_some_and(|at| at.elapsed() < NEGATIVE_TTL)
    }

    pub(super) fn due_at(&self) -> Instant {
        match self.asked.load().as_deref() {
            Some(at) => *at + self.refresh,
            None => Instant::now(),
        }
    }
}

/// The used fields of an SRV record (RFC 2782).
pub(super) struct SrvRecord {
    pub(super) priority: u16,
    pub(super) weight: u16,
    pub(super) port: u16,
    pub(super) target: Box<str>,
}

/// The list of targets, built as in KrakenD: only those with the best priority, each repeated according to its
/// weight. Weights are scaled to a sum of at most 100 and divided by their greatest common divisor. If all weights
/// are 0, each counts as one.
pub(super) fn expand(mut records: Vec<SrvRecord>) -> Vec<SrvTarget> {
    let Some(best) = records.iter().map(|record| record.priority).min() else {
        return Vec::new();
    };
    records.retain(|record| record.priority == best);
    records.sort_by(|a, b| (&a.target, a.port).cmp(&(&b.target, b.port)));
    let sum: usize = records
        .iter()
        .map(|record| usize::from(record.weight))
        .sum();
    let most = records.len().max(100);
    let mut weights: Vec<usize> = records
        .iter()
        .map(|record| match usize::from(record.weight) {
            _ if sum == 0 => 1,
            weight if sum <= most => weight,
            weight => weight * most / sum,
        })
        .collect();
    let shared = weights.iter().fold(0, |a, b| gcd(a, *b));
    weights
        .iter_mut()
        .for_each(|weight| *weight /= shared.max(1));
    interleave(&records, &weights)
}

/// Interleaves the targets, so that one with a large weight does not get all its calls in a row.
fn interleave(records: &[SrvRecord], weights: &[usize]) -> Vec<SrvTarget> {
    let rounds = weights.iter().copied().max().unwrap_or(0);
    (0..rounds)
        .flat_map(|round| {
            let left = records.iter().zip(weights);
            left.filter(move |(_, weight)| **weight > round)
                .map(|(record, _)| SrvTarget {
                    host: record.target.clone(),
                    port: record.port,
                })
        })
        .collect()
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, target: &str) -> SrvRecord {
        SrvRecord {
            priority,
            weight,
            port: 80,
            target: target.into(),
        }
    }

    fn hosts(records: Vec<SrvRecord>) -> Vec<String> {
        expand(records)
            .into_iter()
            .map(|target| target.host.into())
            .collect()
    }

    #[test]
    fn only_the_best_priority_is_called() {
        let list = hosts(vec![
            record(2, 1, "b"),
            record(1, 1, "a"),
            record(2, 9, "c"),
        ]);
        assert_eq!(list, ["a"]);
    }

    #[test]
    fn weights_repeat_a_target_and_are_divided_by_their_common_divisor() {
        assert_eq!(
            hosts(vec![record(1, 20, "a"), record(1, 10, "b")]),
            ["a", "b", "a"]
        );
        assert_eq!(hosts(vec![record(1, 0, "a"), record(1, 5, "b")]), ["b"]);
    }

    #[test]
    fn if_all_weights_are_zero_each_counts_as_one() {
        assert_eq!(
            hosts(vec![record(1, 0, "a"), record(1, 0, "b")]),
            ["a", "b"]
        );
    }

    #[test]
    fn huge_weights_give_a_short_list() {
        let list = hosts(vec![record(1, 65535, "a"), record(1, 32767, "b")]);
        assert!(list.len() <= 100, "{}", list.len());
    }
}
