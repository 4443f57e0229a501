//! One source of keys and its current set.

use std::fmt::Display;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwapOption, Guard};
use aws_lc_rs::digest;
use bytes::Bytes;
use tokio::time::Instant;

use super::spec::{Document, FetchError, SourceSpec};
use super::store::Schedule;
use super::union;
use crate::jose::sealed::Passphrase;
use crate::upstream::client::ClientError;
use crate::upstream::shared_work::SharedWork;
use crate::upstream::side::{MAX_TIME, SideClient};

/// How long a request waits for keys that are being fetched. A slower provider may hang, and requests with invented key
/// ids would wait for it. The fetch continues, and later requests use its result.
const MAX_WAIT: Duration = Duration::from_millis(400);

/// The type that the document of a source is parsed into.
pub trait KeyDocument: Sized + Send + Sync + 'static {
    type Error: Display;

    /// Parses a document. Single unusable keys are skipped and are not an error.
    ///
    /// # Errors
    /// The document is not a key set, or contains no usable key.
    fn parse(document: &Bytes) -> Result<Self, Self::Error>;

    /// The keys of several sets as one set, as if they were in one document in this order.
    fn join(sets: &[Arc<Self>]) -> Self;

    /// The number of keys, for status tables.
    fn key_count(&self) -> usize;
}

/// A fetched key set.
#[derive(Debug)]
pub struct Snapshot<S> {
    pub set: Arc<S>,
    /// Changes whenever the document does, and is unique over all sources. A token that was verified under a
    /// generation need not be verified again under it.
    pub generation: u64,
    pub fetched_at: SystemTime,
    pub(super) fetched: Instant,
    digest: digest::Digest,
    /// What an upgrade passes to the new process. `None` if that one reads it from a file.
    pub(super) document: Option<Bytes>,
}

/// One source of keys. Reading its current set takes no lock and never waits.
#[derive(Debug)]
pub struct KeySource<S> {
    pub(super) spec: SourceSpec,
    pub(super) side: SideClient,
    pub(super) shared_work: SharedWork,
    pub(super) schedule: Mutex<Schedule>,
    /// The passphrase of an encrypted file, once its keeper has returned it.
    passphrase: OnceLock<Passphrase>,
    /// What the sets of a union consist of. A union makes no calls itself.
    pub(super) origins: Vec<Arc<KeySource<S>>>,
    pub(super) current: ArcSwapOption<Snapshot<S>>,
    generations: Arc<AtomicU64>,
    log: Mutex<Log>,
    pub(super) fetches: AtomicU64,
    pub(super) failures: AtomicU64,
    /// Whether a set was ever fetched.
    arrived: AtomicBool,
}

#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) last_error: Option<String>,
    last_failure: Option<Instant>,
    /// The provider does not want to be called before (`Retry-After`).
    not_before: Option<Instant>,
    /// The longest such time while there are no keys.
    pause_without_keys: Duration,
    /// When a request last triggered a refresh for an unknown key.
    last_forced: Option<Instant>,
    /// Such a refresh was requested and has not ended.
    forced: bool,
    /// How many such refreshes in a row found nothing new.
    in_vain: u32,
    pub(super) max_age: Option<Duration>,
    failed_in_a_row: u32,
    /// Whether the set is used beyond its intended life.
    pub(super) stale: bool,
}

impl Log {
    /// The time before which the provider is not called. Without keys every request is rejected, so a provider that
    /// asks for a long pause is then called after the longest usual one all the same.
    fn not_before(&self, has_keys: bool) -> Option<Instant> {
        let at = self.not_before?;
        match self.last_failure {
            Some(failure) if !has_keys => Some(at.min(failure + self.pause_without_keys)),
            _ => Some(at),
        }
    }
}

impl<S: KeyDocument> KeySource<S> {
    pub(super) fn new(
        spec: SourceSpec,
        side: SideClient,
        schedule: Schedule,
        generations: Arc<AtomicU64>,
    ) -> KeySource<S> {
        let origins = union::origins(&spec, &side, schedule, &generations);
        KeySource {
            spec,
            side,
            shared_work: SharedWork::default(),
            schedule: Mutex::new(schedule),
            passphrase: OnceLock::new(),
            origins,
            current: ArcSwapOption::empty(),
            generations,
            log: Mutex::default(),
            fetches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            arrived: AtomicBool::new(false),
        }
    }

    /// Whether a set was fetched at least once, even if it is no longer used. Of a union: that of each origin.
    pub fn has_arrived(&self) -> bool {
        if self.origins.is_empty() {
            return self.arrived.load(Ordering::Relaxed);
        }
        self.origins.iter().all(|origin| origin.has_arrived())
    }

    /// The set to verify with now. `None` if none was ever fetched, or the last one is past its stale limit.
    pub fn current(&self) -> Guard<Option<Arc<Snapshot<S>>>> {
        self.current.load()
    }

    /// Waits for a first set that `has_key`, at most `limit` and at most [`MAX_WAIT`], and no longer than the first fetch
    /// lasts. Of a union these are the fetches of all origins.
    ///
    /// Returns immediately if there is a set. The caller saw none, so a union may have come that lacks the last origins:
    /// these are awaited too.
    pub async fn ready(&self, limit: Duration, has_key: impl Fn(&S) -> bool) {
        let enough = || self.has(&has_key);
        if self.current.load().is_none() {
            let limit = limit.min(MAX_WAIT);
            self.shared_work
                .join_until(limit, || self.ask(), enough)
                .await;
        } else if !self.origins.is_empty() && !enough() {
            self.refresh_for_unknown(limit, has_key).await;
        }
    }

    fn has(&self, has_key: impl Fn(&S) -> bool) -> bool {
        let current = self.current.load();
        current
            .as_ref()
            .is_some_and(|snapshot| has_key(&snapshot.set))
    }

    /// Waits, at most `limit`, until a first fetch has ended, successful or not. For tools: the timeouts of requests
    /// are too short.
    pub async fn first_attempt(&self, limit: Duration) {
        if self.is_untried() {
            self.shared_work
                .join_until(limit, || self.ask(), || false)
                .await;
        }
    }

    fn is_untried(&self) -> bool {
        if self.origins.is_empty() {
            self.current.load().is_none() && self.log().last_error.is_none()
        } else {
            self.origins.iter().any(|origin| origin.is_untried())
        }
    }

    /// Whether a request waits for a fetch, or one is in progress.
    pub fn is_fetching(&self) -> bool {
        let waits = self.shared_work.is_pending();
        waits || self.origins.iter().any(|origin| origin.is_fetching())
    }

    fn ask(&self) -> bool {
        if self.origins.is_empty() {
            self.shared_work.ask();
        }
        for origin in &self.origins {
            origin.ask();
        }
        true
    }

    /// Requests a refresh because a token names a key that the set does not have, and waits until it has ended or a
    /// set `has_key`, at most `limit` and at most [`MAX_WAIT`]. Returns `false` if it is still unknown whether there is
    /// such a key.
    ///
    /// However many unknown keys are named, there is at most one such refresh per second, and fewer while they find
    /// nothing new (`Schedule::between_forced`): unknown keys come from attackers, but also from a provider that
    /// signs with a key shortly before it publishes it.
    pub async fn refresh_for_unknown(&self, limit: Duration, has_key: impl Fn(&S) -> bool) -> bool {
        let enough = || self.has(&has_key);
        let limit = limit.min(MAX_WAIT);
        self.shared_work
            .join_until(limit, || self.ask_for_unknown(), enough)
            .await
    }

    /// Requests a refresh, if one is allowed now or is in progress. Each origin of a union has its own times, so that
    /// one that hangs delays no other.
    fn ask_for_unknown(&self) -> bool {
        if self.origins.is_empty() {
            let may_ask = self.shared_work.is_pending() || self.may_force();
            if may_ask {
                self.shared_work.ask();
            }
            return may_ask;
        }
        // All of them are asked, because any may have the key.
        let origins = self.origins.iter();
        origins.filter(|origin| origin.ask_for_unknown()).count() > 0
    }

    /// Reads a file or an inline document, so that an error in it shows at start. An encrypted file whose passphrase
    /// is unknown is only checked for existence.
    pub(super) fn load_local(&self) -> Result<(), ClientError> {
        if let Some(document) = super::spec::local(&self.spec.location, &self.passphrase) {
            document
                .and_then(|document| self.keep(&document))
                .map_err(|error| ClientError::Side {
                    reason: error.to_string(),
                })
                .map(drop)?;
        }
        Ok(())
    }

    /// Fetches once, keeps the result, and calls `before_end`. Gives up when `is_needed` resolves. For the background task.
    pub(super) async fn refresh(
        &self,
        before_end: &impl Fn(),
        is_needed: impl Future<Output = ()>,
    ) {
        self.shared_work.begin();
        self.fetches.fetch_add(1, Ordering::Relaxed);
        // The side client limits each call. Discovery makes two of them.
        let fetch = super::spec::fetch(&self.spec, &self.side, &self.passphrase);
        let outcome = tokio::select! {
            fetched = tokio::time::timeout(2 * MAX_TIME, fetch) => match fetched {
                Ok(outcome) => outcome.and_then(|document| self.keep(&document)),
                Err(_) => Err(FetchError::Document("no response in time".to_owned())),
            },
            () = is_needed => {
                let why = "no response yet, and other key sets wait to be fetched";
                Err(FetchError::Document(why.to_owned()))
            }
        };
        let brought_news = match outcome {
            Ok(news) => news,
            Err(error) => {
                self.note_failure(&error);
                false
            }
        };
        self.note_forced(brought_news);
        before_end();
        self.shared_work.finish();
    }

    /// The time of the next fetch and, if a set is in use, the time when it must be dropped.
    pub(super) fn next_refresh(&self) -> (Instant, Option<Instant>) {
        let schedule = *self.schedule();
        let log = self.log();
        let current = self.current.load();
        let fetched = current.as_ref().map(|snapshot| snapshot.fetched);
        let limit = fetched.map(|at| at + schedule.life + schedule.stale);
        let due = match (log.last_failure, fetched) {
            (Some(at), _) if log.failed_in_a_row > 0 => at + schedule.retry(log.failed_in_a_row),
            (_, Some(at)) => at + schedule.refresh_after(log.max_age),
            _ => Instant::now(),
        };
        let not_before = log.not_before(current.is_some());
        (not_before.map_or(due, |at| at.max(due)), limit)
    }

    /// Drops a set that must no longer be trusted.
    pub(super) fn drop_stale(&self) {
        log::error!(
            "[SERVICE: JOSE] key set of {} is past its stale limit and no longer used",
            self.spec.location.label()
        );
        self.current.store(None);
    }

    /// Whether the last fetch failed.
    pub(super) fn is_failing(&self) -> bool {
        self.log().failed_in_a_row > 0
    }

    /// The earliest time of an attempt that a request triggers: now or, after failures, some seconds after the last one,
    /// so that an unreachable provider is not called for each request.
    pub(super) fn earliest_attempt(&self) -> Instant {
        let schedule = *self.schedule();
        let log = self.log();
        let pause = schedule.after_failures(log.failed_in_a_row);
        let last = log.last_failure;
        last.map_or_else(Instant::now, |at| at + pause)
    }

    /// Whether the provider has said that it does not want to be called yet.
    pub(super) fn has_to_wait(&self) -> bool {
        let has_keys = self.current.load().is_some();
        let not_before = self.log().not_before(has_keys);
        not_before.is_some_and(|at| Instant::now() < at)
    }

    /// Counts the refreshes for unknown keys that found nothing new.
    fn note_forced(&self, brought_news: bool) {
        let mut log = self.log();
        let forced = std::mem::take(&mut log.forced);
        if brought_news {
            log.in_vain = 0;
        } else if forced {
            log.in_vain = log.in_vain.saturating_add(1);
        }
    }

    /// Parses a document and makes it current. Returns whether it differs from the previous one.
    pub(super) fn keep(&self, document: &Document) -> Result<bool, FetchError> {
        self.keep_aged(document, Duration::ZERO)
    }

    /// The same for a document that was fetched some time ago.
    pub(super) fn keep_aged(&self, document: &Document, age: Duration) -> Result<bool, FetchError> {
        let digest = digest::digest(&digest::SHA256, &document.bytes);
        let parse = || {
            let parsed = S::parse(&document.bytes);
            parsed.map_err(|error| FetchError::Document(error.to_string()))
        };
        let is_remote = self.spec.location.is_remote();
        let passed_on = is_remote.then(|| document.bytes.clone());
        let is_news = self.replace(digest, parse, age, passed_on)?;
        self.note_success(document.max_age);
        Ok(is_news)
    }

    /// Makes a set current, or keeps the current one if it is of the same content. Returns whether it differs.
    pub(super) fn replace<E>(
        &self,
        digest: digest::Digest,
        make: impl FnOnce() -> Result<S, E>,
        age: Duration,
        document: Option<Bytes>,
    ) -> Result<bool, E> {
        let old = self.current.load();
        let same = old
            .as_ref()
            .filter(|old| old.digest.as_ref() == digest.as_ref());
        let is_news = same.is_none();
        let (set, generation) = match same {
            Some(old) => (Arc::clone(&old.set), old.generation),
            None => {
                let set = make()?;
                let generation = self.generations.fetch_add(1, Ordering::Relaxed) + 1;
                (Arc::new(set), generation)
            }
        };
        self.current.store(Some(Arc::new(Snapshot {
            set,
            generation,
            // A machine that started later than the fetch has no such instant.
            fetched_at: SystemTime::now()
                .checked_sub(age)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            fetched: Instant::now().checked_sub(age).unwrap_or_else(Instant::now),
            digest,
            document,
        })));
        self.arrived.store(true, Ordering::Relaxed);
        Ok(is_news)
    }

    fn note_success(&self, max_age: Option<Duration>) {
        let mut log = self.log();
        log.last_error = None;
        log.last_failure = None;
        log.not_before = None;
        let failures = std::mem::take(&mut log.failed_in_a_row);
        log.max_age = max_age;
        log.stale = false;
        if failures > 0 {
            let label = self.spec.location.label();
            let current = self.current.load();
            let count = current.as_ref().map_or(0, |now| now.set.key_count());
            log::info!(
                "[SERVICE: JOSE] key set of {label} is available again: {count} keys, after {failures} failed attempts"
            );
        }
    }

    pub(super) fn note_failure(&self, error: &FetchError) {
        self.failures.fetch_add(1, Ordering::Relaxed);
        let (now, life) = (Instant::now(), self.schedule().life);
        let current = self.current.load();
        let aged = current
            .as_ref()
            .is_some_and(|snapshot| snapshot.fetched.elapsed() >= life);
        let label = self.spec.location.label();
        let mut log = self.log();
        log.failed_in_a_row = log.failed_in_a_row.saturating_add(1);
        log.last_failure = Some(now);
        log.not_before = error
            .retry_after()
            .map(|after| now + after.min(life.max(Schedule::MAX_RETRY)));
        log.pause_without_keys = Schedule::pause_without_keys();
        log.last_error = Some(error.to_string());
        log.stale = aged;
        if current.is_some() {
            log::warn!(
                "[SERVICE: JOSE] key set of {label} not refreshed, the last one stays in use: {error}"
            );
        } else {
            log::error!("[SERVICE: JOSE] no key set from {label}: {error}");
        }
    }

    fn may_force(&self) -> bool {
        let schedule = *self.schedule();
        let now = Instant::now();
        let mut log = self.log();
        let gap = schedule.between_forced(log.in_vain);
        let not_before = log.not_before(self.current.load().is_some());
        if not_before.is_some_and(|at| now < at) {
            return false;
        }
        if log.last_forced.is_some_and(|at| now < at + gap) {
            return false;
        }
        log.last_forced = Some(now);
        log.forced = true;
        true
    }

    /// Sets the schedule of future refreshes.
    pub fn reschedule(&self, schedule: Schedule) {
        *self.schedule() = schedule;
        self.shared_work.nudge();
        for origin in &self.origins {
            origin.reschedule(schedule);
        }
    }

    pub(super) fn schedule(&self) -> std::sync::MutexGuard<'_, Schedule> {
        self.schedule.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn log(&self) -> std::sync::MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_keys_a_provider_cannot_ask_for_a_long_pause() {
        let (now, minute, hour) = (
            Instant::now(),
            Duration::from_secs(60),
            Duration::from_secs(3600),
        );
        let log = |after: Duration| Log {
            not_before: Some(now + after),
            last_failure: Some(now),
            pause_without_keys: minute,
            ..Log::default()
        };
        assert_eq!(log(hour).not_before(true), Some(now + hour));
        assert_eq!(log(hour).not_before(false), Some(now + minute));
        let second = Duration::from_secs(1);
        assert_eq!(log(second).not_before(false), Some(now + second));
        assert_eq!(Log::default().not_before(false), None);
    }
}
