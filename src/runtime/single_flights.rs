//! Single-flight for equal concurrent calls: one is made, and the others wait for its end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Identifies equal calls: a digest of everything that is sent.
pub(crate) type Digest = [u8; 32];

/// The maximum number of remembered calls whose responses cannot be shared. Beyond it all of them are dropped.
const MAX_ALONE: usize = 10_000;

/// How long equal calls do not wait after a failure: waiting for a failing upstream is useless.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The calls in progress. Limited by the requests in progress and by `MAX_ALONE`.
#[derive(Debug, Default)]
pub struct SingleFlights(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    under_way: HashMap<Digest, watch::Receiver<bool>>,
    /// Calls whose last response could not be shared: until the given time, or until a response can be shared.
    alone: HashMap<Digest, Option<Instant>>,
}

/// How a request proceeds with a call.
#[derive(Debug)]
pub enum Join<'f> {
    /// It makes the call, and equal calls wait for its end.
    Lead(SingleFlight<'f>),
    /// It makes the call only for itself.
    Alone,
    /// An equal call is in progress.
    Wait(Pending),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its response is stored and fresh for equal calls.
    Shared,
    /// Its response must not be shared.
    Unshared,
    /// There was no response, or the upstream failed.
    Failed,
}

impl SingleFlights {
    /// Joins the call `digest`, or starts it.
    pub fn join(&self, digest: &Digest) -> Join<'_> {
        let mut table = self.locked();
        match table.alone.get(digest) {
            Some(None) => return Join::Alone,
            Some(Some(until)) if Instant::now() < *until => return Join::Alone,
            Some(Some(_)) => {
                table.alone.remove(digest);
            }
            None => {}
        }
        if let Some(pending) = table.under_way.get(digest) {
            return Join::Wait(Pending(pending.clone()));
        }
        let (ended, pending) = watch::channel(false);
        table.under_way.insert(*digest, pending);
        Join::Lead(SingleFlight {
            single_flights: self,
            digest: *digest,
            ended,
        })
    }

    /// Records the end of a call that was made alone.
    pub fn learn(&self, digest: &Digest, end: End) {
        let mut table = self.locked();
        let until = match end {
            End::Shared => {
                table.alone.remove(digest);
                return;
            }
            End::Unshared => None,
            End::Failed => Some(Instant::now() + AFTER_FAILURE),
        };
        if table.alone.len() >= MAX_ALONE && !table.alone.contains_key(digest) {
            table.alone.clear();
        }
        table.alone.insert(*digest, until);
    }

    /// Whether the last such call has failed a moment ago.
    pub(crate) fn failed_lately(&self, digest: &Digest) -> bool {
        let until = self.locked().alone.get(digest).copied().flatten();
        until.is_some_and(|until| Instant::now() < until)
    }

    fn locked(&self) -> MutexGuard<'_, Table> {
        // Every change is a single map operation, so a panic leaves no partial change.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call in progress that others may wait for. If it is dropped without an end, one of the waiting calls is made
/// instead.
#[derive(Debug)]
pub struct SingleFlight<'f> {
    single_flights: &'f SingleFlights,
    digest: Digest,
    ended: watch::Sender<bool>,
}

impl SingleFlight<'_> {
    /// Wakes the waiting calls.
    pub fn end(self, end: End) {
        self.single_flights.learn(&self.digest, end);
        self.ended.send_replace(true);
    }
}

impl Drop for SingleFlight<'_> {
    fn drop(&mut self) {
        self.single_flights.locked().under_way.remove(&self.digest);
    }
}

/// The end of an equal call.
#[derive(Debug)]
pub struct Pending(watch::Receiver<bool>);

impl Pending {
    /// Waits for the end, at most until `until`. `Some(false)` if the call was dropped without an end.
    pub async fn wait(&mut self, until: Instant) -> Option<bool> {
        let ended = tokio::time::timeout_at(until, self.0.changed()).await;
        ended.ok().map(|ended| ended.is_ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = [1; 32];

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    #[tokio::test]
    async fn the_second_call_waits_for_the_end_of_the_first() {
        let single_flights = SingleFlights::default();
        let Join::Lead(first) = single_flights.join(&A) else {
            panic!("nobody was there before")
        };
        let Join::Wait(mut pending) = single_flights.join(&A) else {
            panic!("the first is under way")
        };
        assert!(matches!(single_flights.join(&[2; 32]), Join::Lead(_)));
        first.end(End::Shared);
        assert_eq!(pending.wait(soon()).await, Some(true));
        assert!(matches!(single_flights.join(&A), Join::Lead(_)));
    }

    #[tokio::test]
    async fn a_dropped_call_is_made_by_the_next_request() {
        let single_flights = SingleFlights::default();
        let first = single_flights.join(&A);
        let Join::Wait(mut pending) = single_flights.join(&A) else {
            panic!("the first is under way")
        };
        drop(first);
        assert_eq!(pending.wait(soon()).await, Some(false));
        assert!(matches!(single_flights.join(&A), Join::Lead(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn calls_do_not_wait_if_the_last_response_could_not_be_shared() {
        let single_flights = SingleFlights::default();
        let lead = |end| match single_flights.join(&A) {
            Join::Lead(single_flight) => single_flight.end(end),
            other => panic!("{other:?}"),
        };
        lead(End::Failed);
        assert!(matches!(single_flights.join(&A), Join::Alone));
        tokio::time::advance(AFTER_FAILURE).await;
        lead(End::Unshared);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(single_flights.join(&A), Join::Alone));
        single_flights.learn(&A, End::Shared);
        lead(End::Shared);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline() {
        let single_flights = SingleFlights::default();
        let _first = single_flights.join(&A);
        let Join::Wait(mut pending) = single_flights.join(&A) else {
            panic!("the first is under way")
        };
        assert_eq!(pending.wait(soon()).await, None);
    }

    #[test]
    fn the_memory_of_unshared_calls_is_limited() {
        let single_flights = SingleFlights::default();
        for n in 0..3 * MAX_ALONE as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            single_flights.learn(&digest, End::Unshared);
        }
        assert!(single_flights.locked().alone.len() <= MAX_ALONE);
    }
}
