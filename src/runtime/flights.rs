//! Equal calls at the same time: one is made, the others wait for its end.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// What tells calls apart: a digest of everything that goes out.
pub type Digest = [u8; 32];

/// Calls whose answers nobody can share, remembered at most; then all of them are forgotten.
const MAX_ALONE: usize = 10_000;

/// After a failure equal calls are made at once for so long: waiting for an upstream that fails helps nobody.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The calls under way. Bounded by the requests under way and by [`MAX_ALONE`].
#[derive(Debug, Default)]
pub struct Flights(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    under_way: HashMap<Digest, watch::Receiver<bool>>,
    /// Calls whose last answer could not be shared: until the time, or until an answer can be shared.
    alone: HashMap<Digest, Option<Instant>>,
}

/// What a request does about a call.
#[derive(Debug)]
pub enum Join<'f> {
    /// It makes the call, and equal ones wait for its end.
    Lead(Flight<'f>),
    /// It makes the call for itself.
    Alone,
    /// An equal call is under way.
    Wait(Landing),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// Its answer is kept, and fresh for whoever asks the same.
    Shared,
    /// Its answer is for nobody else.
    Unshared,
    /// There was no answer, or the upstream failed.
    Failed,
}

impl Flights {
    /// Joins the call `digest`, or begins it.
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
        if let Some(landing) = table.under_way.get(digest) {
            return Join::Wait(Landing(landing.clone()));
        }
        let (ended, landing) = watch::channel(false);
        table.under_way.insert(*digest, landing);
        Join::Lead(Flight {
            flights: self,
            digest: *digest,
            ended,
        })
    }

    /// Learns from the end of a call that was made alone.
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

    fn locked(&self) -> MutexGuard<'_, Table> {
        // Every change is one call on a map: a panic leaves none half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A call under way that others may wait for. Dropped without an end, it lets one of them make the call.
#[derive(Debug)]
pub struct Flight<'f> {
    flights: &'f Flights,
    digest: Digest,
    ended: watch::Sender<bool>,
}

impl Flight<'_> {
    /// Wakes those who wait.
    pub fn end(self, end: End) {
        self.flights.learn(&self.digest, end);
        self.ended.send_replace(true);
    }
}

impl Drop for Flight<'_> {
    fn drop(&mut self) {
        self.flights.locked().under_way.remove(&self.digest);
    }
}

/// The end of somebody else's call.
#[derive(Debug)]
pub struct Landing(watch::Receiver<bool>);

impl Landing {
    /// Waits for it, until `until` at the longest. `Some(false)` when its maker went away without an end.
    pub async fn wait(mut self, until: Instant) -> Option<bool> {
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
    async fn the_second_waits_for_the_end_of_the_first() {
        let flights = Flights::default();
        let Join::Lead(first) = flights.join(&A) else {
            panic!("nobody was there before")
        };
        let Join::Wait(landing) = flights.join(&A) else {
            panic!("the first is under way")
        };
        assert!(matches!(flights.join(&[2; 32]), Join::Lead(_)));
        first.end(End::Shared);
        assert_eq!(landing.wait(soon()).await, Some(true));
        assert!(matches!(flights.join(&A), Join::Lead(_)));
    }

    #[tokio::test]
    async fn a_call_that_was_given_up_is_made_by_the_next() {
        let flights = Flights::default();
        let first = flights.join(&A);
        let Join::Wait(landing) = flights.join(&A) else {
            panic!("the first is under way")
        };
        drop(first);
        assert_eq!(landing.wait(soon()).await, Some(false));
        assert!(matches!(flights.join(&A), Join::Lead(_)));
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_where_the_last_answer_could_not_be_shared() {
        let flights = Flights::default();
        let lead = |end| match flights.join(&A) {
            Join::Lead(flight) => flight.end(end),
            other => panic!("{other:?}"),
        };
        lead(End::Failed);
        assert!(matches!(flights.join(&A), Join::Alone));
        tokio::time::advance(AFTER_FAILURE).await;
        lead(End::Unshared);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(flights.join(&A), Join::Alone));
        flights.learn(&A, End::Shared);
        lead(End::Shared);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_has_an_end() {
        let flights = Flights::default();
        let _first = flights.join(&A);
        let Join::Wait(landing) = flights.join(&A) else {
            panic!("the first is under way")
        };
        assert_eq!(landing.wait(soon()).await, None);
    }

    #[test]
    fn what_cannot_be_shared_is_remembered_within_bounds() {
        let flights = Flights::default();
        for n in 0..3 * MAX_ALONE as u64 {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&n.to_le_bytes());
            flights.learn(&digest, End::Unshared);
        }
        assert!(flights.locked().alone.len() <= MAX_ALONE);
    }
}
