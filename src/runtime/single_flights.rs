//! Single-flight for equal concurrent calls: one is made, and the others wait for its end. If it is late or fails, a
//! second one is made.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;

/// Identifies equal calls: a digest of everything that is sent.
pub(crate) type Digest = [u8; 32];

/// The maximum number of remembered calls whose responses cannot be shared. Beyond it all of them are dropped.
const MAX_ALONE: usize = 10_000;

/// So many equal calls are in progress at most as long as the others wait for their responses.
const AT_ONCE: usize = 2;

/// How long equal calls do not wait after a failure: waiting for a failing upstream is useless.
const AFTER_FAILURE: Duration = Duration::from_secs(1);

/// The calls in progress. Limited by the requests in progress and by `MAX_ALONE`.
#[derive(Debug, Default)]
pub struct SingleFlights(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    under_way: HashMap<Digest, watch::Sender<Flight>>,
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

/// Equal calls at the same time: the leading one and those that no longer wait for it.
#[derive(Debug, Clone, Copy)]
struct Flight {
    /// The calls in progress.
    calls: usize,
    lead: Lead,
    /// One of the responses is stored and fresh for equal calls.
    is_shared: bool,
}

/// The state of the leading call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lead {
    InProgress,
    Ended(End),
    /// The task that made it was dropped.
    Dropped,
}

/// What a waiting call does next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    UseShared,
    /// It makes its own call.
    Call,
    /// It makes its own call if fewer than `AT_ONCE` are in progress.
    Follow,
    JoinAgain,
}

impl Flight {
    /// `None` if the call waits on. `may_follow`: there is time for an own call, and the end of the leading call is news.
    fn next(&self, may_follow: bool) -> Option<Next> {
        match self.lead {
            _ if self.is_shared => Some(Next::UseShared),
            // Other responses probably cannot be shared either.
            Lead::Ended(End::Unshared) => Some(Next::Call),
            Lead::Dropped if self.calls == 0 => Some(Next::JoinAgain),
            Lead::Ended(End::Failed) | Lead::Dropped if may_follow => Some(Next::Follow),
            _ => (self.calls == 0).then_some(Next::Call),
        }
    }
}

/// How long a call waits for an equal one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    /// Then it makes its own call, unless enough equal calls are in progress.
    pub own: Duration,
    /// Then it makes its own call in any case. At least `own`.
    pub most: Duration,
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
        if let Some(flight) = table.under_way.get(digest) {
            return Join::Wait(Pending {
                flight: flight.clone(),
                news: flight.subscribe(),
            });
        }
        let flight = watch::Sender::new(Flight {
            calls: 1,
            lead: Lead::InProgress,
            is_shared: false,
        });
        table.under_way.insert(*digest, flight.clone());
        Join::Lead(SingleFlight {
            single_flights: self,
            digest: *digest,
            flight,
            lead: Lead::Dropped,
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
    flight: watch::Sender<Flight>,
    /// How it ended.
    lead: Lead,
}

impl SingleFlight<'_> {
    /// Wakes the waiting calls.
    pub fn end(mut self, end: End) {
        self.single_flights.learn(&self.digest, end);
        self.lead = Lead::Ended(end);
    }
}

impl Drop for SingleFlight<'_> {
    fn drop(&mut self) {
        // First, because one of the waiting calls may lead now.
        self.single_flights.locked().under_way.remove(&self.digest);
        self.flight.send_modify(|flight| {
            flight.calls = flight.calls.saturating_sub(1);
            flight.lead = self.lead;
            flight.is_shared |= self.lead == Lead::Ended(End::Shared);
        });
    }
}

/// The end of an equal call.
#[derive(Debug)]
pub struct Pending {
    flight: watch::Sender<Flight>,
    news: watch::Receiver<Flight>,
}

/// The result of waiting for an equal call.
#[derive(Debug)]
pub enum Awaited {
    /// A response is stored.
    Shared,
    /// The call was dropped without an end, and no other is in progress.
    Dropped,
    /// It is time for an own call.
    Call(Late),
}

impl Pending {
    /// Waits for the end of the leading call, at most until `until`. `false` if it did not end.
    pub async fn ended(&mut self, until: Instant) -> bool {
        let ended = self.news.wait_for(|flight| flight.lead != Lead::InProgress);
        tokio::time::timeout_at(until, ended).await.is_ok()
    }

    /// Waits for a response that can be shared, or until it is time for an own call, as a [`Patience`] says.
    pub async fn wait(mut self, (own, most): (Instant, Instant)) -> Awaited {
        let (mut until, mut may_follow) = (own.min(most), true);
        loop {
            let news = self
                .news
                .wait_for(|flight| flight.next(may_follow).is_some());
            let next = match tokio::time::timeout_at(until, news).await {
                Ok(Ok(flight)) => flight.next(may_follow),
                Err(_) if until < most => {
                    until = most;
                    Some(Next::Follow)
                }
                Ok(Err(_)) | Err(_) => Some(Next::Call),
            };
            match next {
                Some(Next::UseShared) => return Awaited::Shared,
                Some(Next::JoinAgain) => return Awaited::Dropped,
                Some(Next::Call) => return Awaited::Call(self.call()),
                Some(Next::Follow) if self.follows() => return Awaited::Call(self.late()),
                Some(Next::Follow) => may_follow = false,
                None => {}
            }
        }
    }

    fn call(self) -> Late {
        self.flight.send_if_modified(|flight| {
            flight.calls += 1;
            false
        });
        self.late()
    }

    /// Counts this call among those in progress if they are not too many.
    fn follows(&self) -> bool {
        let mut is_counted = false;
        self.flight.send_if_modified(|flight| {
            is_counted = flight.calls < AT_ONCE;
            flight.calls += usize::from(is_counted);
            false
        });
        is_counted
    }

    fn late(self) -> Late {
        Late {
            flight: self.flight,
            news: self.news,
        }
    }
}

/// A call in progress that has waited for an equal one before. The response that arrives first is used.
#[derive(Debug)]
pub struct Late {
    flight: watch::Sender<Flight>,
    news: watch::Receiver<Flight>,
}

impl Late {
    /// Waits until the response to an equal call is stored.
    pub async fn shared(&mut self) {
        // There is an error only if no sender is left.
        let _ = self.news.wait_for(|flight| flight.is_shared).await;
    }

    /// Wakes the other calls if they can use the response.
    pub fn end(self, end: End) {
        self.flight.send_if_modified(|flight| {
            let is_news = end == End::Shared && !flight.is_shared;
            flight.is_shared |= is_news;
            is_news
        });
    }
}

impl Drop for Late {
    fn drop(&mut self) {
        self.flight.send_if_modified(|flight| {
            flight.calls = flight.calls.saturating_sub(1);
            flight.calls == 0
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Digest = [1; 32];

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(5)
    }

    /// A time at which the usual call still fits, and the latest time.
    fn patience() -> (Instant, Instant) {
        let now = Instant::now();
        (now + Duration::from_secs(1), now + Duration::from_secs(5))
    }

    fn leading(single_flights: &SingleFlights) -> SingleFlight<'_> {
        match single_flights.join(&A) {
            Join::Lead(single_flight) => single_flight,
            other => panic!("{other:?}"),
        }
    }

    fn waiting(single_flights: &SingleFlights) -> Pending {
        match single_flights.join(&A) {
            Join::Wait(pending) => pending,
            other => panic!("{other:?}"),
        }
    }

    fn own_call(awaited: Awaited) -> Late {
        match awaited {
            Awaited::Call(late) => late,
            other => panic!("{other:?}"),
        }
    }

    #[tokio::test]
    async fn the_second_call_waits_for_the_end_of_the_first() {
        let single_flights = SingleFlights::default();
        let first = leading(&single_flights);
        let pending = waiting(&single_flights);
        assert!(matches!(single_flights.join(&[2; 32]), Join::Lead(_)));
        first.end(End::Shared);
        let awaited = pending.wait((soon(), soon())).await;
        assert!(matches!(awaited, Awaited::Shared));
        leading(&single_flights);
    }

    #[tokio::test]
    async fn a_dropped_call_is_made_by_the_next_request() {
        let single_flights = SingleFlights::default();
        let first = leading(&single_flights);
        let pending = waiting(&single_flights);
        drop(first);
        let awaited = pending.wait((soon(), soon())).await;
        assert!(matches!(awaited, Awaited::Dropped));
        leading(&single_flights);
    }

    #[tokio::test(start_paused = true)]
    async fn calls_do_not_wait_if_the_last_response_could_not_be_shared() {
        let single_flights = SingleFlights::default();
        leading(&single_flights).end(End::Failed);
        assert!(matches!(single_flights.join(&A), Join::Alone));
        tokio::time::advance(AFTER_FAILURE).await;
        leading(&single_flights).end(End::Unshared);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert!(matches!(single_flights.join(&A), Join::Alone));
        single_flights.learn(&A, End::Shared);
        leading(&single_flights).end(End::Shared);
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_at_its_deadline() {
        let single_flights = SingleFlights::default();
        let _first = leading(&single_flights);
        for _ in 0..5 {
            let (now, until) = (Instant::now(), soon());
            let awaited = waiting(&single_flights).wait((until, until)).await;
            let _late = own_call(awaited);
            assert_eq!(Instant::now(), until);
            assert!(now < until);
        }
        assert!(!waiting(&single_flights).ended(soon()).await);
    }

    #[tokio::test(start_paused = true)]
    async fn one_call_is_made_beside_a_slow_one_and_all_use_its_response() {
        let single_flights = SingleFlights::default();
        let _hanging = leading(&single_flights);
        let (one, two) = (waiting(&single_flights), waiting(&single_flights));
        let (patience, start) = (patience(), Instant::now());
        let late = own_call(one.wait(patience).await);
        assert_eq!(start.elapsed(), Duration::from_secs(1));
        let (awaited, ()) = tokio::join!(two.wait(patience), async {
            tokio::time::sleep(Duration::from_secs(2)).await;
            late.end(End::Shared);
        });
        assert!(matches!(awaited, Awaited::Shared));
        assert_eq!(start.elapsed(), Duration::from_secs(3));
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_failure_two_calls_are_made_at_once_while_the_others_wait() {
        for end in [End::Shared, End::Failed, End::Unshared] {
            let single_flights = SingleFlights::default();
            let first = leading(&single_flights);
            let [one, two, three] = [(); 3].map(|()| waiting(&single_flights));
            let (patience, start) = (patience(), Instant::now());
            first.end(End::Failed);
            let one = own_call(one.wait(patience).await);
            let two = own_call(two.wait(patience).await);
            let (awaited, ()) = tokio::join!(three.wait(patience), async {
                tokio::time::sleep(Duration::from_millis(500)).await;
                drop(one);
                two.end(end);
            });
            // If both failed too, the third call is made at once.
            assert_eq!(matches!(awaited, Awaited::Shared), end == End::Shared);
            assert_eq!(start.elapsed(), Duration::from_millis(500), "{end:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_failure_that_leaves_too_little_time_makes_the_others_use_the_second_call() {
        for is_dropped in [false, true] {
            let single_flights = SingleFlights::default();
            let first = leading(&single_flights);
            let (one, two) = (waiting(&single_flights), waiting(&single_flights));
            let patience = patience();
            let late = own_call(one.wait(patience).await);
            let (awaited, ()) = tokio::join!(two.wait(patience), async {
                tokio::time::sleep(Duration::from_secs(1)).await;
                if is_dropped {
                    drop(first);
                } else {
                    first.end(End::Failed);
                }
                tokio::time::sleep(Duration::from_secs(1)).await;
                late.end(End::Shared);
            });
            assert!(matches!(awaited, Awaited::Shared), "{awaited:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn after_a_response_that_cannot_be_shared_all_calls_are_made() {
        let single_flights = SingleFlights::default();
        let first = leading(&single_flights);
        let waiting = [(); 5].map(|()| waiting(&single_flights));
        let start = Instant::now();
        first.end(End::Unshared);
        let mut late = Vec::new();
        for pending in waiting {
            late.push(own_call(pending.wait(patience()).await));
        }
        assert_eq!(start.elapsed(), Duration::ZERO);
        // The first of them that can be shared serves the others.
        let (first, mut other) = (late.remove(0), late.remove(0));
        first.end(End::Shared);
        other.shared().await;
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
