//! All sources of keys, and the task that keeps them fresh.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::rand;
use futures::StreamExt;
use http::HeaderValue;
use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, sleep_until};

use super::source::{KeyDocument, KeySource, SourceStatus};
use super::spec::SourceSpec;
use crate::upstream::client::ClientError;
use crate::upstream::flight::Sources;

/// How often a source looks again whether anyone still uses it.
const IDLE_LOOK: Duration = Duration::from_secs(60);
/// Fetches under way at a time.
const MOST_FETCHES: usize = 32;
/// Of these, for sources that a request waits for.
const KEPT_FOR_WANTED: usize = 8;

/// When a source is refreshed, and how long its last set may be used when it cannot be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// How old a set should get (`cache_duration`, 900 s).
    pub life: Duration,
    /// How much older it may get when refreshing fails (24 h).
    pub stale: Duration,
    /// The longest time between two refreshes that unknown keys cause (10 s).
    pub cooldown: Duration,
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule {
            life: Duration::from_secs(900),
            stale: Duration::from_secs(24 * 3600),
            cooldown: Duration::from_secs(10),
        }
    }
}

impl Schedule {
    /// The shortest time between a failure and the next attempt: shorter than requests wait for a first set.
    pub(super) const GAP: Duration = Duration::from_millis(250);
    /// The longest time between two attempts while refreshing fails.
    const MOST_RETRY: Duration = Duration::from_secs(60);
    /// A provider that says `max-age=0` is not called more often than this.
    const LEAST_LIFE: Duration = Duration::from_secs(10);

    /// At 80 % of a set's life, ten percent more or less so that many gateways do not call at once. The provider's
    /// `max-age` can shorten the life, not prolong it.
    pub(super) fn refresh_after(&self, max_age: Option<Duration>) -> Duration {
        let life = match max_age {
            Some(age) => self.life.min(age.max(Schedule::LEAST_LIFE)),
            None => self.life,
        };
        life.mul_f64(0.8).mul_f64(jitter())
    }

    /// Doubles from one second with each failure in a row.
    pub(super) fn retry(&self, failures: u32) -> Duration {
        let seconds = 1_u64 << failures.saturating_sub(1).min(6);
        let most = Schedule::MOST_RETRY.min(self.life.max(Duration::from_secs(1)));
        Duration::from_secs(seconds).min(most).mul_f64(jitter())
    }

    /// The time between two refreshes that unknown keys cause, when so many of them in a row have brought nothing new: a
    /// second for the first three, then twice as long each time, up to the cool-down.
    pub(super) fn between_forced(&self, in_vain: u32) -> Duration {
        let doublings = in_vain.saturating_sub(2).min(16);
        Duration::from_secs(1_u64 << doublings).min(self.cooldown)
    }

    /// The more demanding of both, for two who share a source.
    #[must_use]
    pub fn at_most(self, other: Schedule) -> Schedule {
        Schedule {
            life: self.life.min(other.life),
            stale: self.stale.min(other.stale),
            cooldown: self.cooldown.min(other.cooldown),
        }
    }
}

/// Between 0.9 and 1.1.
fn jitter() -> f64 {
    let mut byte = [0_u8; 1];
    // Without randomness all call at the same time, which is no reason to fail.
    let _ = rand::fill(&mut byte);
    0.9 + 0.2 * f64::from(byte[0]) / 255.0
}

/// All sources of keys. Shared by every compiled configuration, so that a reload keeps what was fetched.
#[derive(Debug)]
pub struct KeySetStore<S> {
    turns: Turns,
    sources: Sources<SourceSpec, KeySource<S>>,
    generations: Arc<AtomicU64>,
    user_agent: HeaderValue,
}

impl<S: KeyDocument> KeySetStore<S> {
    /// An empty store; its fetches introduce themselves as `user_agent`.
    pub fn new(user_agent: HeaderValue) -> KeySetStore<S> {
        KeySetStore {
            turns: Turns::default(),
            sources: Sources::default(),
            generations: Arc::default(),
            user_agent,
        }
    }

    /// The source with this specification, shared by all who ask for it. A new one begins with `schedule`; one that is
    /// there keeps its own until [`KeySource::reschedule`], since whoever asks may be a file that is refused in the end.
    ///
    /// Nothing is fetched here: [`KeySetStore::run`] does that, soon after. What is local is read at once. Not for the
    /// request path.
    ///
    /// # Errors
    /// A CA file that cannot be used, no supported cipher suite, or a local key set that cannot be read.
    pub fn source(
        &self,
        spec: &SourceSpec,
        schedule: Schedule,
    ) -> Result<Arc<KeySource<S>>, ClientError> {
        // A file may have changed since, and whoever reloads wants to hear of a mistake in it now.
        let found = |source: &KeySource<S>| source.load_local();
        self.sources.get(spec, found, || {
            let side = spec.client(&self.user_agent)?;
            let generations = Arc::clone(&self.generations);
            let source = KeySource::new(spec.clone(), side, schedule, generations);
            source.load_local()?;
            Ok(source)
        })
    }

    /// Keeps all sources fresh until `shutdown` turns true. One task for the whole process; a source that hangs holds
    /// up no other.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        let tend = |source| tend(source, &self.turns);
        self.sources.tend_all(tend, shutdown).await;
    }

    /// Fetches every source once, many at the same time; for a command that only wants to look.
    pub async fn refresh_all(&self) {
        futures::stream::iter(self.sources.alive())
            .for_each_concurrent(MOST_FETCHES, |source| async move { source.refresh().await })
            .await;
    }

    /// Whether every source has had a set at least once.
    pub fn have_arrived(&self) -> bool {
        self.sources
            .alive()
            .iter()
            .all(|source| source.has_arrived())
    }

    /// What is known of each source, in the order of their labels.
    pub fn status(&self) -> Vec<SourceStatus> {
        let alive = self.sources.alive();
        let mut status: Vec<SourceStatus> = alive.iter().map(|source| source.status()).collect();
        status.sort_by(|a, b| a.label.cmp(&b.label));
        status
    }
}

/// Bounds how many fetches are under way. Some turns are kept for sources that requests wait for: a start with many
/// sources, of which some hang, does not stand before them.
#[derive(Debug)]
struct Turns {
    due: Semaphore,
    wanted: Semaphore,
}

impl Default for Turns {
    fn default() -> Turns {
        Turns {
            due: Semaphore::new(MOST_FETCHES - KEPT_FOR_WANTED),
            wanted: Semaphore::new(KEPT_FOR_WANTED),
        }
    }
}

impl Turns {
    /// Fetches when it is this source's turn.
    async fn refresh<S: KeyDocument>(&self, source: &KeySource<S>) {
        let wanted = async {
            while !source.flight.is_pending() {
                source.flight.wanted().await;
            }
            self.wanted.acquire().await
        };
        // The semaphores are never closed; without a turn it would be fetched all the same.
        let _turn = tokio::select! {
            biased;
            turn = self.due.acquire() => turn,
            turn = wanted => turn,
        };
        source.refresh().await;
    }
}

/// Refreshes one source when it is due or wanted, until nobody uses it.
async fn tend<S: KeyDocument>(source: Weak<KeySource<S>>, turns: &Turns) {
    while let Some(source) = source.upgrade() {
        let (due, limit) = source.next_refresh();
        let now = Instant::now();
        if limit.is_some_and(|limit| limit <= now) {
            source.drop_stale();
        }
        let wake = due
            .min(now + IDLE_LOOK)
            .min(limit.filter(|limit| *limit > now).unwrap_or(due));
        if due <= now {
            turns.refresh(&source).await;
            continue;
        }
        tokio::select! {
            () = sleep_until(wake) => {}
            () = source.flight.wanted() => {
                if source.flight.is_pending() {
                    sleep_until(source.earliest_attempt()).await;
                    turns.refresh(&source).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshes_come_at_four_fifths_of_a_life() {
        let schedule = Schedule::default();
        let after = schedule.refresh_after(None).as_secs();
        assert!((640..=800).contains(&after), "{after}");
        let hinted = schedule.refresh_after(Some(Duration::from_secs(60)));
        assert!(hinted < Duration::from_secs(60));
        assert!(schedule.refresh_after(Some(Duration::ZERO)) > Duration::from_secs(5));
    }

    #[test]
    fn forced_fetches_back_off_while_they_are_in_vain() {
        let schedule = Schedule::default();
        let gaps: Vec<u64> = (0..8)
            .map(|in_vain| schedule.between_forced(in_vain).as_secs())
            .collect();
        assert_eq!(gaps, [1, 1, 1, 2, 4, 8, 10, 10]);
        assert_eq!(schedule.between_forced(u32::MAX), schedule.cooldown);
    }

    #[test]
    fn retries_back_off_to_a_minute() {
        let schedule = Schedule::default();
        assert!(schedule.retry(1) < Duration::from_secs(2));
        assert!(schedule.retry(3) > schedule.retry(1));
        assert!(schedule.retry(u32::MAX) <= Duration::from_secs(66));
    }
}
