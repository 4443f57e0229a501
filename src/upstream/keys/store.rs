//! All sources of keys, and the task that refreshes them.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use aws_lc_rs::rand;
use futures::future::join_all;
use http::HeaderValue;
use tokio::sync::{AcquireError, Semaphore, SemaphorePermit, watch};
use tokio::time::{Instant, sleep_until};

use super::source::{KeyDocument, KeySource};
use super::spec::SourceSpec;
use super::status::SourceStatus;
use crate::backoff::Backoff;
use crate::upstream::client::ClientError;
use crate::upstream::registry::Registry;
use crate::upstream::shared_work::{SharedWork, Sources};

/// The first pause.
const FIRST: Duration = Duration::from_secs(1);
/// How often a source checks whether it is still in use.
const IDLE_LOOK: Duration = Duration::from_secs(60);
/// The number of concurrent fetches.
const MAX_FETCHES: usize = 32;
/// How many of them are reserved for sources that a request waits for.
const KEPT_FOR_WANTED: usize = 8;
/// How many of them sources may have whose last fetch failed. Most of these hang, and the others must not wait for them: a new
/// key is found and a new source is fetched at once although many providers hang.
const MOST_OF_FAILING: usize = 20;
/// How long a fetch may take while others wait, except by sources whose last fetch failed. They have a part of their own.
const SHORT: Duration = Duration::from_secs(1);
/// How many of them one host may have: a host that hangs leaves the others their part.
const MOST_OF_HOST: usize = 12;

/// When a source is refreshed, and how long its last set may be used if refreshes fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Schedule {
    /// The intended life of a set (`cache_duration`, 900 s).
    pub life: Duration,
    /// How much longer a set may be used if refreshes fail (24 h).
    pub stale: Duration,
    /// The longest interval between two refreshes for unknown keys (10 s).
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
    /// Requests wait for an attempt that comes within this time. It is shorter than requests wait for a first set.
    const NEAR: Duration = Duration::from_millis(250);
    /// The longest interval between two attempts while refreshes fail.
    pub(super) const MAX_RETRY: Duration = Duration::from_secs(60);
    /// A provider that sends `max-age=0` is not called more often than this.
    const MIN_LIFE: Duration = Duration::from_secs(10);

    /// 80 % of a set's life, varied by up to ten percent so that many gateways do not call at once. The provider's
    /// `max-age` can shorten the life but not prolong it.
    pub(super) fn refresh_after(&self, max_age: Option<Duration>) -> Duration {
        let life = match max_age {
            Some(age) => self.life.min(age.max(Schedule::MIN_LIFE)),
            None => self.life,
        };
        life.mul_f64(0.8).mul_f64(jitter())
    }

    /// How long a provider may ask for a pause while there are no keys, varied like the rest.
    pub(super) fn pause_without_keys() -> Duration {
        Schedule::MAX_RETRY.mul_f64(jitter())
    }

    /// One second, doubled with each consecutive failure.
    pub(super) fn retry(&self, failures: u32) -> Duration {
        let most = Schedule::MAX_RETRY.min(self.life.max(FIRST));
        let pauses = Backoff::doubling(FIRST, most);
        pauses.pause(failures.max(1)).mul_f64(jitter())
    }

    /// The interval between two refreshes for unknown keys, after this many in a row found nothing new: one second
    /// for the first three, then doubled each time, up to the cooldown.
    pub(super) fn between_forced(&self, in_vain: u32) -> Duration {
        let pauses = Backoff::doubling(FIRST, self.cooldown);
        pauses.pause(in_vain.saturating_sub(1).max(1))
    }

    /// The shortest interval between the last of so many consecutive failures and an attempt that a request triggers:
    /// one second, and longer with each further failure, up to the cooldown.
    pub(super) fn after_failures(&self, failures: u32) -> Duration {
        self.between_forced(failures)
    }

    /// The stricter of both schedules, for two endpoints that share a source.
    #[must_use]
    pub fn at_most(self, other: Schedule) -> Schedule {
        Schedule {
            life: self.life.min(other.life),
            stale: self.stale.min(other.stale),
            cooldown: self.cooldown.min(other.cooldown),
        }
    }
}

/// A factor between 0.9 and 1.1.
pub(in crate::upstream) fn jitter() -> f64 {
    let mut byte = [0_u8; 1];
    // Without random numbers, all gateways call at the same time, which is not a reason to fail.
    let _ = rand::fill(&mut byte);
    0.9 + 0.2 * f64::from(byte[0]) / 255.0
}

/// All sources of keys. Shared by all compiled configurations, so that a reload keeps the fetched sets.
#[derive(Debug)]
pub struct KeySetStore<S> {
    fetches: Arc<FetchLimiter>,
    pub(super) sources: Sources<SourceSpec, KeySource<S>>,
    generations: Arc<AtomicU64>,
    user_agent: HeaderValue,
}

impl<S: KeyDocument> KeySetStore<S> {
    /// An empty store, whose fetches send this `User-Agent`.
    pub fn new(user_agent: HeaderValue) -> KeySetStore<S> {
        KeySetStore {
            fetches: Arc::default(),
            sources: Sources::default(),
            generations: Arc::default(),
            user_agent,
        }
    }

    /// The source with this specification, shared by all users. A new source starts with `schedule`. An existing
    /// one keeps its own until [`KeySource::reschedule`], because the new configuration may still be rejected.
    ///
    /// Nothing is fetched here: [`KeySetStore::run`] does that soon after. Local documents are read immediately. Not
    /// for the request path.
    ///
    /// # Errors
    /// A CA file is not usable, no cipher suite is supported, or a local key set cannot be read.
    pub fn source(
        &self,
        spec: &SourceSpec,
        schedule: Schedule,
    ) -> Result<Arc<KeySource<S>>, ClientError> {
        // The file may have changed, and a reload should report an error in it now.
        let found = |source: &KeySource<S>| source.load_local();
        self.sources.get(spec, found, || {
            let side = spec.client(&self.user_agent)?;
            let generations = Arc::clone(&self.generations);
            let source = KeySource::new(spec.clone(), side, schedule, generations);
            source.load_local()?;
            Ok(source)
        })
    }

    /// Refreshes all sources until `shutdown` becomes true. One task runs for the whole process. A source that hangs
    /// does not delay others.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        let tend = |source: Weak<KeySource<S>>| async move {
            let origins = source.upgrade().map(|source| source.weak_origins());
            let fetches = &self.fetches;
            match origins.filter(|origins| !origins.is_empty()) {
                None => tend(source, fetches, &|| ()).await,
                Some(origins) => {
                    let merge = || {
                        if let Some(union) = source.upgrade() {
                            union.merge();
                        }
                    };
                    let each = origins
                        .into_iter()
                        .map(|origin| tend(origin, fetches, &merge));
                    join_all(each).await;
                }
            }
        };
        self.sources.tend_all(tend, shutdown).await;
    }

    /// The limit of fetches at a time, for those who fetch keys themselves.
    pub(crate) fn limiter(&self) -> &Arc<FetchLimiter> {
        &self.fetches
    }

    /// Whether every source has had a set at least once.
    pub fn have_arrived(&self) -> bool {
        self.sources
            .alive()
            .iter()
            .all(|source| source.has_arrived())
    }

    /// The state of each source, in no order. A union has that of each of its origins.
    pub fn status(&self) -> Vec<SourceStatus> {
        let alive = self.sources.alive();
        alive.iter().flat_map(|source| source.each()).collect()
    }
}

/// Limits the number of concurrent fetches. Some are reserved for sources that requests wait for, so that a start
/// with many hanging sources does not delay them.
#[derive(Debug)]
pub(crate) struct FetchLimiter {
    due: Semaphore,
    wanted: Semaphore,
    failing: Semaphore,
    /// The number of sources, none of which has failed, that wait for a slot.
    waiting: AtomicUsize,
    hosts: Mutex<Registry<Box<str>, Semaphore>>,
}

impl Default for FetchLimiter {
    fn default() -> FetchLimiter {
        FetchLimiter {
            due: Semaphore::new(MAX_FETCHES - KEPT_FOR_WANTED),
            wanted: Semaphore::new(KEPT_FOR_WANTED),
            failing: Semaphore::new(MOST_OF_FAILING),
            waiting: AtomicUsize::new(0),
            hosts: Mutex::default(),
        }
    }
}

/// A slot for one fetch. The semaphores are never closed, and even without a slot the fetch would proceed.
type Turn<'l> = Result<SemaphorePermit<'l>, AcquireError>;

impl FetchLimiter {
    /// Fetches when a slot is free for this source.
    async fn refresh<S: KeyDocument>(&self, source: &KeySource<S>, before_end: &impl Fn()) {
        let host = source.spec.location.host().map(|host| self.host(host));
        let _of_host = match &host {
            Some(host) => host.acquire().await.ok(),
            None => None,
        };
        if source.is_failing() {
            let _of_failing = self.failing.acquire().await;
            let _turn = self.turn(&source.shared_work).await;
            return source.refresh(before_end, std::future::pending()).await;
        }
        let waits = Waits::of(&self.waiting);
        let _turn = self.turn(&source.shared_work).await;
        drop(waits);
        source.refresh(before_end, self.is_short()).await;
    }

    /// Resolves when others wait for the slot of a fetch that has lasted for some time.
    async fn is_short(&self) {
        tokio::time::sleep(SHORT).await;
        while self.waiting.load(Ordering::Relaxed) == 0 {
            tokio::time::sleep(SHORT / 4).await;
        }
    }

    /// The slots of a host, which its sources share as long as one of them waits or fetches.
    fn host(&self, host: &str) -> Arc<Semaphore> {
        let mut hosts = self.hosts.lock().unwrap_or_else(PoisonError::into_inner);
        let make = || Semaphore::new(MOST_OF_HOST);
        hosts.shared(host.into(), make).0
    }

    /// Waits for a slot. Those that are reserved are available as soon as a request waits for the work.
    async fn turn(&self, work: &SharedWork) -> Turn<'_> {
        let wanted = async {
            while !work.is_pending() {
                work.wanted().await;
            }
            self.wanted.acquire().await
        };
        tokio::select! {
            biased;
            turn = self.due.acquire() => turn,
            turn = wanted => turn,
        }
    }

    /// Waits for a slot that is not reserved.
    pub(crate) async fn due(&self) -> Turn<'_> {
        self.due.acquire().await
    }
}

/// A source that waits.
struct Waits<'l>(&'l AtomicUsize);

impl<'l> Waits<'l> {
    fn of(waiting: &'l AtomicUsize) -> Waits<'l> {
        waiting.fetch_add(1, Ordering::Relaxed);
        Waits(waiting)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Refreshes one source when it is due or requested, as long as it is in use, and calls `after` each time that its keys
/// may have changed or a request need not wait longer. It is also called before a fetch ends: who then sees that no
/// fetch is in progress sees its keys too.
async fn tend<S: KeyDocument>(
    source: Weak<KeySource<S>>,
    fetches: &FetchLimiter,
    after: &impl Fn(),
) {
    while let Some(source) = source.upgrade() {
        let (due, limit) = source.next_refresh();
        let now = Instant::now();
        if limit.is_some_and(|limit| limit <= now) {
            source.drop_stale();
            after();
        }
        let wake = due
            .min(now + IDLE_LOOK)
            .min(limit.filter(|limit| *limit > now).unwrap_or(due));
        if due <= now {
            // Boxed, because its state has kilobytes, and thousands of sources wait here.
            Box::pin(fetches.refresh(&source, after)).await;
            after();
            continue;
        }
        tokio::select! {
            () = sleep_until(wake) => {}
            () = source.shared_work.wanted() => {
                let earliest = source.earliest_attempt();
                if source.has_to_wait() || earliest > Instant::now() + Schedule::NEAR {
                    // Waiting requests are notified at once.
                    source.shared_work.finish();
                    after();
                } else if source.shared_work.is_pending() {
                    sleep_until(earliest).await;
                    Box::pin(fetches.refresh(&source, after)).await;
                    after();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refreshes_happen_after_80_percent_of_the_life() {
        let schedule = Schedule::default();
        let after = schedule.refresh_after(None).as_secs();
        assert!((640..=800).contains(&after), "{after}");
        let hinted = schedule.refresh_after(Some(Duration::from_secs(60)));
        assert!(hinted < Duration::from_secs(60));
        assert!(schedule.refresh_after(Some(Duration::ZERO)) > Duration::from_secs(5));
    }

    #[test]
    fn forced_fetches_back_off_while_they_find_no_new_key() {
        let schedule = Schedule::default();
        let gaps: Vec<u64> = (0..8)
            .map(|in_vain| schedule.between_forced(in_vain).as_secs())
            .collect();
        assert_eq!(gaps, [1, 1, 1, 2, 4, 8, 10, 10]);
        assert_eq!(schedule.between_forced(u32::MAX), schedule.cooldown);
    }

    #[test]
    fn requests_trigger_fewer_attempts_the_longer_a_provider_fails() {
        let schedule = Schedule::default();
        let gaps: Vec<u64> = (1..8)
            .map(|failures| schedule.after_failures(failures).as_secs())
            .collect();
        assert_eq!(gaps, [1, 1, 2, 4, 8, 10, 10]);
    }

    #[test]
    fn retries_back_off_up_to_a_minute() {
        let schedule = Schedule::default();
        assert!(schedule.retry(1) < Duration::from_secs(2));
        assert!(schedule.retry(3) > schedule.retry(1));
        assert!(schedule.retry(u32::MAX) <= Duration::from_secs(66));
    }

    struct NoKeys;

    impl KeyDocument for NoKeys {
        type Error = &'static str;

        fn parse(_: &bytes::Bytes) -> Result<NoKeys, &'static str> {
            Err("no keys")
        }

        fn join(_: &[Arc<NoKeys>]) -> NoKeys {
            NoKeys
        }

        fn key_count(&self) -> usize {
            0
        }
    }

    #[test]
    fn a_source_that_waits_is_small() {
        let limiter = FetchLimiter::default();
        let waiting = size_of_val(&tend(Weak::<KeySource<NoKeys>>::new(), &limiter, &|| ()));
        assert!(waiting <= 512, "{waiting}");
        let source = size_of::<KeySource<NoKeys>>();
        assert!(source <= 1280, "{source}");
    }
}
