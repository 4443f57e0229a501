//! The order in which the hosts of a call are tried.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use smallvec::SmallVec;

use super::round_robin::WeightedRoundRobin;
use super::sticky::{AffinityKey, score};
use crate::upstream::failover::{Availability, Order};
use crate::upstream::host::Host;
use crate::upstream::message::Outgoing;

/// How many turns are passed over in search of a host that is available. Then the next one in the list is used.
const MAX_DRAWS: usize = 64;

/// Chooses hosts for calls. There is no lock.
#[derive(Debug)]
pub(in crate::upstream) struct Balance {
    /// Only for hosts with different weights.
    schedule: Option<WeightedRoundRobin>,
    next: AtomicUsize,
    /// The turns of attempts after the first. With two hosts, a retry that took the next turn would send all first
    /// attempts to the failing host.
    next_again: AtomicUsize,
    panic_threshold: usize,
}

/// What is known of a call before a host is chosen.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::upstream) struct Pick<'p> {
    /// Calls with the same key go to the same host.
    pub(in crate::upstream) affinity: Option<AffinityKey>,
    /// The hosts that were tried for this call before.
    pub(in crate::upstream) tried: Option<&'p Tried>,
    /// The host that was chosen before the call was built.
    pub(in crate::upstream) first: Option<usize>,
}

impl Pick<'_> {
    /// For the first attempt of a call.
    pub(in crate::upstream) fn of(out: &Outgoing) -> Pick<'static> {
        Pick {
            affinity: out.affinity,
            ..Pick::default()
        }
    }
}

/// The hosts that were tried for a call: the first 64 of the list.
#[derive(Debug, Default)]
pub(in crate::upstream) struct Tried(AtomicU64);

impl Tried {
    pub(in crate::upstream) fn add(&self, host: usize) {
        if host < 64 {
            self.0.fetch_or(1 << host, Ordering::Relaxed);
        }
    }

    fn is_empty(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }

    /// Whether all of so many hosts were tried.
    pub(super) fn has_all(&self, hosts: usize) -> bool {
        (0..hosts).all(|host| self.contains(host))
    }

    fn contains(&self, host: usize) -> bool {
        host < 64 && self.0.load(Ordering::Relaxed) & (1 << host) != 0
    }
}

/// Whether a host can be called, the best state first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// Its pause is over: one call may try it.
    Due,
    /// It was tried for this call.
    Again,
    /// Unhealthy, ejected, failing to connect, or without a weight.
    Bad,
}

impl Balance {
    /// Hosts of equal weight, beginning anywhere: several gateways that start together must not all call the first host.
    pub(super) fn new(panic_threshold: u32) -> Balance {
        Balance {
            schedule: None,
            next: AtomicUsize::new(anywhere()),
            next_again: AtomicUsize::new(anywhere()),
            panic_threshold: usize::try_from(panic_threshold).unwrap_or(100),
        }
    }

    /// Gives the hosts of a fixed list their weights.
    pub(in crate::upstream) fn weigh(&mut self, hosts: &[Host]) {
        let weights: Vec<u32> = hosts.iter().map(weight).collect();
        let first = weights.first().copied();
        if weights.iter().any(|weight| Some(*weight) != first) {
            self.schedule = Some(WeightedRoundRobin::new(&weights));
        }
    }

    /// Begins with this turn, for tests.
    #[cfg(test)]
    pub(super) fn begin_at(&mut self, hosts: &[Host], turn: usize) {
        let weights: Vec<u32> = hosts.iter().map(weight).collect();
        self.schedule = Some(WeightedRoundRobin::new(&weights));
        self.next = AtomicUsize::new(turn);
    }

    /// All hosts: the one whose turn it is, other good ones, those tried before, and those that are not available.
    pub(in crate::upstream) fn order(&self, hosts: &[Host], pick: Pick<'_>) -> Order {
        if hosts.len() <= 1 {
            return (0..hosts.len()).collect();
        }
        let view = View {
            hosts,
            panics: self.panics(hosts),
            tried: pick.tried,
        };
        let chosen = pick.first.filter(|first| {
            *first < hosts.len() && !pick.tried.is_some_and(|tried| tried.contains(*first))
        });
        match (chosen, pick.affinity) {
            (Some(first), _) => view.in_order(Some(first), first),
            (None, Some(key)) => view.ranked(key),
            (None, None) => {
                let (first, round) = self.draw(&view);
                // The hosts after it differ from round to round, so that no neighbour gets all failed calls.
                view.in_order(first, first.unwrap_or(0).wrapping_add(round))
            }
        }
    }

    /// Whether so few hosts are healthy that all are used.
    fn panics(&self, hosts: &[Host]) -> bool {
        let usable = |host: &&Host| {
            !host
                .health()
                .is_some_and(|it| it.is_down() || it.is_ejected())
        };
        let usable = hosts.iter().filter(usable).count();
        usable == 0 || usable * 100 < self.panic_threshold * hosts.len()
    }

    /// The host whose turn it is, and the number of the round.
    fn draw(&self, view: &View<'_>) -> (Option<usize>, usize) {
        let count = view.hosts.len();
        let mut round = 0;
        let is_first = view.tried.is_none_or(Tried::is_empty);
        let next = if is_first {
            &self.next
        } else {
            &self.next_again
        };
        for _ in 0..MAX_DRAWS {
            let ticket = next.fetch_add(1, Ordering::Relaxed);
            let index;
            (index, round) = match &self.schedule {
                Some(schedule) => (schedule.host(ticket), schedule.round(ticket)),
                None => (ticket % count, ticket / count),
            };
            let takes_turn = match view.state(index) {
                State::Good => view.takes_turn(index),
                State::Due => view.claim(index),
                State::Again | State::Bad => false,
            };
            if takes_turn {
                return (Some(index), round);
            }
        }
        let mut rotated = (0..count).map(|step| round.wrapping_add(step) % count);
        let good = rotated.find(|index| view.state(*index) == State::Good);
        (good, round)
    }
}

fn weight(host: &Host) -> u32 {
    host.resilience
        .as_ref()
        .map_or(1, |resilience| resilience.weight)
}

fn anywhere() -> usize {
    use std::hash::{BuildHasher, RandomState};
    // Far from the end, where a round would be cut off.
    usize::try_from(RandomState::new().hash_one(0) >> 16).unwrap_or(0)
}

/// The hosts as one call sees them.
struct View<'v> {
    hosts: &'v [Host],
    panics: bool,
    tried: Option<&'v Tried>,
}

impl View<'_> {
    fn state(&self, index: usize) -> State {
        let Some(host) = self.hosts.get(index) else {
            return State::Bad;
        };
        let connecting = host
            .place
            .as_ref()
            .map_or(Availability::Good, |place| place.failures.availability());
        let health = host.health().filter(|_| !self.panics);
        let responding = health.map_or(Availability::Good, |health| health.ejection());
        let is_down = health.is_some_and(|health| health.is_down());
        if connecting == Availability::Out
            || responding == Availability::Out
            || is_down
            || weight(host) == 0
        {
            State::Bad
        } else if self.tried.is_some_and(|tried| tried.contains(index)) {
            State::Again
        } else if connecting == Availability::Due || responding == Availability::Due {
            State::Due
        } else {
            State::Good
        }
    }

    /// Claims the attempt that is due.
    fn claim(&self, index: usize) -> bool {
        let Some(host) = self.hosts.get(index) else {
            return false;
        };
        let connects = host.place.as_ref().is_ok_and(|place| {
            place.failures.availability() == Availability::Good || place.failures.claim()
        });
        let responds =
            |health: &super::HostHealth| health.ejection() == Availability::Good || health.claim();
        connects && (self.panics || host.health().is_none_or(responds))
    }

    fn takes_turn(&self, index: usize) -> bool {
        let health = self.hosts.get(index).and_then(Host::health);
        health.is_none_or(|health| health.takes_turn())
    }

    /// `first`, and then the others from `start` on by their states.
    fn in_order(&self, first: Option<usize>, start: usize) -> Order {
        let count = self.hosts.len();
        let others = (1..=count).map(|step| start.wrapping_add(step) % count);
        let others: SmallVec<[usize; 8]> = others.filter(|index| Some(*index) != first).collect();
        first.into_iter().chain(self.sorted(&others)).collect()
    }

    /// By the scores of a key. The host that comes first may be one whose pause is over.
    fn ranked(&self, key: AffinityKey) -> Order {
        let scored = self.hosts.iter().enumerate().map(|(index, host)| {
            let hash = host
                .resilience
                .as_ref()
                .map_or(0, |resilience| resilience.hash);
            (score(key, hash, weight(host)), index)
        });
        let mut scored: SmallVec<[(f64, usize); 8]> = scored.collect();
        scored.sort_by(|a, b| b.0.total_cmp(&a.0));
        let ranked: SmallVec<[usize; 8]> = scored.into_iter().map(|(_, index)| index).collect();
        let mut first = None;
        for index in &ranked {
            match self.state(*index) {
                State::Good => first = Some(*index),
                State::Due if self.claim(*index) => first = Some(*index),
                _ => continue,
            }
            break;
        }
        let others: SmallVec<[usize; 8]> = ranked
            .into_iter()
            .filter(|index| Some(*index) != first)
            .collect();
        first.into_iter().chain(self.sorted(&others)).collect()
    }

    fn sorted(&self, indexes: &[usize]) -> Order {
        let states: SmallVec<[(usize, State); 8]> = indexes
            .iter()
            .map(|index| (*index, self.state(*index)))
            .collect();
        let of = |wanted: &'static [State]| {
            let matching = states.iter().filter(|(_, state)| wanted.contains(state));
            matching.map(|(index, _)| *index).collect::<Order>()
        };
        let mut order = of(&[State::Good]);
        order.extend(of(&[State::Again]));
        order.extend(of(&[State::Due, State::Bad]));
        order
    }
}

#[cfg(test)]
pub(super) mod tests;
