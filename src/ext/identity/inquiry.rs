//! Questions to a server about a credential: is this token active, what is it exchanged for, may this request pass?
//!
//! Answers are kept by a keyed hash within limits of bytes, entries and time. Equal questions at the same time are asked
//! once. A server that keeps failing is not asked for a while. Every wait ends at the deadline of its request.

use std::borrow::Cow;
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aws_lc_rs::{hmac, rand};
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout_at};

use crate::ext::circuit_breaker::{CircuitBreaker, Settings};
use crate::runtime::clock::Clock;
use crate::runtime::single_flights::{Digest, End, Join, SingleFlights};
use crate::runtime::step::{BackendStep, Outcome};

/// The maximum number of calls to one server at the same time. Further questions wait for one of them to end.
const MAX_CALLS: usize = 64;

/// Consecutive failures after which the server is not asked for a while.
const MAX_FAILURES: u64 = 5;
const PAUSE: Duration = Duration::from_secs(5);

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Room {
    pub entries: usize,
    pub bytes: usize,
}

impl Room {
    /// For answers that anyone can cause: nobody can evict the others with them.
    pub(crate) const REFUSALS: Room = Room {
        entries: 10_000,
        bytes: 4 << 20,
    };
}

/// An answer, and how it is kept.
#[derive(Debug)]
pub(crate) struct Told<A> {
    pub answer: A,
    /// Zero if it must not be kept.
    pub keep: Duration,
    /// Its approximate size.
    pub bytes: usize,
    /// A refusal is kept apart.
    pub refusal: bool,
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub(crate) struct NoAnswer(pub Cow<'static, str>);

impl NoAnswer {
    /// The deadline has passed.
    pub(crate) const LATE: NoAnswer = NoAnswer(Cow::Borrowed("no response in time"));

    pub(crate) fn new(why: impl Into<Cow<'static, str>>) -> NoAnswer {
        NoAnswer(why.into())
    }
}

/// One server, and what it answered.
pub(crate) struct Inquiry<A> {
    /// Questions are kept by a keyed hash, so that the memory of the process contains no list of credentials.
    key: hmac::Key,
    grants: Mutex<Kept<A>>,
    refusals: Mutex<Kept<A>>,
    flights: SingleFlights,
    breaker: CircuitBreaker,
    calls: Semaphore,
    clock: Clock,
    /// When the last call failed, in nanoseconds of the clock.
    failed: AtomicU64,
}

impl<A: Clone> Inquiry<A> {
    /// `name` is for the log.
    ///
    /// # Errors
    /// The system has no random numbers.
    pub(crate) fn new(name: String, grants: Room, clock: Clock) -> Result<Inquiry<A>, NoAnswer> {
        let mut key = [0; 32];
        rand::fill(&mut key).map_err(|_| NoAnswer::new("no random numbers"))?;
        let breaker = Settings {
            interval: None,
            timeout: PAUSE,
            max_errors: MAX_FAILURES - 1,
            name,
            log_status_change: true,
            stream_errors: false,
        };
        Ok(Inquiry {
            key: hmac::Key::new(hmac::HMAC_SHA256, &key),
            grants: Mutex::new(Kept::new(grants)),
            refusals: Mutex::new(Kept::new(Room::REFUSALS)),
            flights: SingleFlights::default(),
            breaker: CircuitBreaker::new(breaker, clock.clone()),
            calls: Semaphore::new(MAX_CALLS),
            failed: AtomicU64::new(0),
            clock,
        })
    }

    /// Identifies a question by its parts, each with its length, so that no two questions are confused.
    pub(crate) fn question<'p>(&self, parts: impl IntoIterator<Item = &'p [u8]>) -> Digest {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut digest = Digest::default();
        digest.copy_from_slice(context.sign().as_ref());
        digest
    }

    /// The answer that is kept, if any.
    pub(crate) fn known(&self, question: &Digest) -> Option<A> {
        let now = self.clock.now();
        let granted = lock(&self.grants).get(question, now);
        granted.or_else(|| lock(&self.refusals).get(question, now))
    }

    /// Drops an answer that turned out to be wrong.
    pub(crate) fn forget(&self, question: &Digest) {
        lock(&self.grants).remove(question);
        lock(&self.refusals).remove(question);
    }

    /// Asks by `call`, or waits for an equal question, for at most `limit`.
    ///
    /// # Errors
    /// There is no answer in time, or the call failed.
    pub(crate) async fn ask<F: Future<Output = Result<Told<A>, NoAnswer>>>(
        &self,
        question: &Digest,
        limit: Duration,
        call: impl FnOnce() -> F,
    ) -> Result<A, NoAnswer> {
        let (until, began) = (Instant::now() + limit, self.nanos());
        loop {
            match self.flights.join(question) {
                Join::Lead(flight) => {
                    let outcome = self.call(question, until, call).await;
                    flight.end(match &outcome {
                        Ok((_, true)) => End::Shared,
                        // Equal questions need not wait for an answer that only this one gets.
                        Ok((_, false)) => End::Unshared,
                        Err(_) => End::Failed,
                    });
                    return outcome.map(|(answer, _)| answer);
                }
                Join::Alone => {
                    let outcome = self.call(question, until, call).await;
                    if matches!(outcome, Ok((_, true))) {
                        self.flights.learn(question, End::Shared);
                    }
                    return outcome.map(|(answer, _)| answer);
                }
                Join::Wait(mut landing) => {
                    if landing.wait(until).await.is_none() {
                        return Err(NoAnswer::LATE);
                    }
                    if let Some(known) = self.known(question) {
                        return Ok(known);
                    }
                    if self.failed.load(Ordering::Acquire) > began {
                        return Err(NoAnswer::new("an equal call has failed"));
                    }
                }
            }
        }
    }

    async fn call<F: Future<Output = Result<Told<A>, NoAnswer>>>(
        &self,
        question: &Digest,
        until: Instant,
        call: impl FnOnce() -> F,
    ) -> Result<(A, bool), NoAnswer> {
        let Ok(Ok(_permit)) = timeout_at(until, self.calls.acquire()).await else {
            return Err(NoAnswer::new("too many calls at the same time"));
        };
        let ticket = self.breaker.before().map_err(|_| {
            NoAnswer::new("the server keeps failing, and is not called for a while")
        })?;
        let outcome = match timeout_at(until, call()).await {
            Ok(outcome) => outcome,
            Err(_) => Err(NoAnswer::LATE),
        };
        match outcome {
            Ok(told) => {
                self.breaker.after(ticket, Outcome::Success);
                Ok(self.keep(question, told))
            }
            Err(error) => {
                self.failed.store(self.nanos(), Ordering::Release);
                self.breaker.after(ticket, Outcome::Failure);
                Err(error)
            }
        }
    }

    /// Returns the answer, and whether it is kept.
    fn keep(&self, question: &Digest, told: Told<A>) -> (A, bool) {
        if told.keep.is_zero() {
            return (told.answer, false);
        }
        let answer = told.answer.clone();
        let dies = self.clock.now().saturating_add(told.keep);
        let store = if told.refusal {
            &self.refusals
        } else {
            &self.grants
        };
        lock(store).insert(*question, told.answer, dies, told.bytes);
        (answer, true)
    }

    fn nanos(&self) -> u64 {
        u64::try_from(self.clock.now().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl<A> fmt::Debug for Inquiry<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inquiry").finish_non_exhaustive()
    }
}

/// Answers in the order of their arrival: the oldest goes first.
struct Kept<A> {
    answers: HashMap<Digest, Answer<A>>,
    order: VecDeque<Digest>,
    bytes: usize,
    room: Room,
}

struct Answer<A> {
    answer: A,
    dies: Duration,
    bytes: usize,
}

/// What an entry needs besides its answer, approximately: twice the key, and the times.
const ENTRY_BYTES: usize = 128;

impl<A: Clone> Kept<A> {
    fn new(room: Room) -> Kept<A> {
        Kept {
            answers: HashMap::new(),
            order: VecDeque::new(),
            bytes: 0,
            room,
        }
    }

    fn get(&self, question: &Digest, now: Duration) -> Option<A> {
        let kept = self.answers.get(question)?;
        (now < kept.dies).then(|| kept.answer.clone())
    }

    fn insert(&mut self, question: Digest, answer: A, dies: Duration, bytes: usize) {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        self.remove(&question);
        if bytes > self.room.bytes || self.room.entries == 0 {
            return;
        }
        while self.bytes + bytes > self.room.bytes || self.order.len() >= self.room.entries {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.remove(&oldest);
        }
        self.bytes += bytes;
        self.order.push_back(question);
        self.answers.insert(
            question,
            Answer {
                answer,
                dies,
                bytes,
            },
        );
    }

    /// The place in the order stays, and is counted, until it is the oldest.
    fn remove(&mut self, question: &Digest) {
        if let Some(gone) = self.answers.remove(question) {
            self.bytes -= gone.bytes;
        }
    }
}

fn lock<A>(kept: &Mutex<Kept<A>>) -> MutexGuard<'_, Kept<A>> {
    // A panic while the lock was held leaves at worst a lost answer.
    kept.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn inquiry(entries: usize, bytes: usize) -> (Inquiry<u32>, Clock) {
        let clock = Clock::manual();
        let room = Room { entries, bytes };
        let made = Inquiry::new("test".to_owned(), room, clock.clone());
        (made.unwrap(), clock)
    }

    fn told(answer: u32, refusal: bool) -> Result<Told<u32>, NoAnswer> {
        Ok(Told {
            answer,
            keep: 10 * SECOND,
            bytes: 100,
            refusal,
        })
    }

    #[test]
    fn questions_are_told_apart_by_their_parts_and_by_the_process() {
        let (one, _) = inquiry(1, 1);
        let (other, _) = inquiry(1, 1);
        let ask = |inquiry: &Inquiry<u32>, parts: &[&str]| {
            inquiry.question(parts.iter().map(|part| part.as_bytes()))
        };
        assert_eq!(ask(&one, &["a", "bc"]), ask(&one, &["a", "bc"]));
        assert_ne!(ask(&one, &["a", "bc"]), ask(&one, &["ab", "c"]));
        assert_ne!(ask(&one, &["a"]), ask(&one, &["a", ""]));
        assert_ne!(ask(&one, &["a"]), ask(&other, &["a"]));
    }

    #[tokio::test]
    async fn an_answer_is_kept_for_its_time_and_within_the_limits() {
        let (one, clock) = inquiry(3, 10_000);
        for number in 0..5_u8 {
            let question = [number; 32];
            let asked = one.ask(&question, SECOND, || async { told(number.into(), false) });
            assert_eq!(asked.await, Ok(number.into()));
        }
        let known: Vec<_> = (0..5_u8).filter_map(|n| one.known(&[n; 32])).collect();
        assert_eq!(known, [2, 3, 4], "the oldest are gone");
        clock.advance(10 * SECOND);
        assert_eq!(one.known(&[4; 32]), None);
        let (small, _) = inquiry(100, 500);
        for number in 0..5_u8 {
            let question = [number; 32];
            let asked = small.ask(&question, SECOND, || async { told(1, false) });
            assert_eq!(asked.await, Ok(1));
        }
        let held = (0..5_u8).filter(|n| small.known(&[*n; 32]).is_some());
        assert_eq!(held.count(), 2);
        for _ in 0..50 {
            small.forget(&[4; 32]);
            let question = [4; 32];
            let asked = small.ask(&question, SECOND, || async { told(1, false) });
            assert_eq!(asked.await, Ok(1));
        }
        assert!(lock(&small.grants).order.len() <= 100);
        assert!(lock(&small.grants).bytes <= 500);
    }

    #[tokio::test]
    async fn refusals_evict_no_grants() {
        let (one, _) = inquiry(10, 10_000);
        assert_eq!(
            one.ask(&[0; 32], SECOND, || async { told(7, false) }).await,
            Ok(7)
        );
        for number in 0..20_000_u32 {
            let mut question = [1; 32];
            question[..4].copy_from_slice(&number.to_be_bytes());
            let asked = one.ask(&question, SECOND, || async { told(0, true) });
            assert_eq!(asked.await, Ok(0));
        }
        assert_eq!(one.known(&[0; 32]), Some(7));
        assert!(lock(&one.refusals).order.len() <= Room::REFUSALS.entries);
    }

    #[tokio::test]
    async fn equal_questions_are_asked_once() {
        let (one, _) = inquiry(10, 10_000);
        let asked = Arc::new(AtomicU64::new(0));
        let all = (0..20).map(|_| {
            one.ask(&[0; 32], SECOND, || async {
                asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(20)).await;
                told(7, false)
            })
        });
        let answers = futures::future::join_all(all).await;
        assert!(answers.iter().all(|answer| *answer == Ok(7)));
        assert_eq!(asked.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn a_server_that_fails_is_left_alone_and_every_wait_ends() {
        let (one, clock) = inquiry(10, 10_000);
        let calls = AtomicU64::new(0);
        for number in 0..20_u8 {
            let question = [number; 32];
            let asked = one.ask(&question, SECOND, || async {
                calls.fetch_add(1, Ordering::Relaxed);
                Err(NoAnswer::new("down"))
            });
            assert!(asked.await.is_err());
        }
        assert_eq!(calls.load(Ordering::Relaxed), MAX_FAILURES);
        clock.advance(PAUSE + SECOND);
        let never = one.ask(&[99; 32], Duration::from_millis(20), || {
            std::future::pending::<Result<Told<u32>, NoAnswer>>()
        });
        assert_eq!(never.await, Err(NoAnswer::LATE));
    }
}
