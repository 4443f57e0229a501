//! Revocations that all gateways of a fleet share through Redis.
//!
//! A gateway sends a revocation at once. It reads the list twice a second and continues where it stopped. At its start it
//! reads the whole list, so revocations survive restarts. While Redis is unreachable, each gateway keeps its own list and
//! sends new entries later. If Redis loses its data, each gateway sends all valid entries that it knows again. An upgrade
//! passes both on.

mod passed_on;
mod progress;
mod queue;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use self::progress::Progress;
use self::queue::{Heard, Waiting};
use super::revocation_list::RevocationAccess;
use crate::ext::redis::{ListAsk, ListPlace, Shared};
use crate::telemetry::revocations;

/// How often the list is read.
const LOOK: Duration = Duration::from_millis(500);

/// How often this gateway checks that the list has all entries that it knows.
const COMPARE: Duration = Duration::from_secs(60);

/// An element that expires within this time is not sent again, because the clocks of gateways and Redis differ.
const MARGIN: Duration = Duration::from_secs(10);

/// How many elements are sent at once, and how many bytes. A script that adds them takes Redis about a millisecond.
const BATCH: usize = 500;
const BATCH_BYTES: usize = 128 * 1024;

/// How many elements are learned before other tasks get their turn.
const TURN: usize = 250;

/// The shared list.
pub struct Fleet {
    store: Arc<dyn Shared>,
    key: String,
    /// How long an element is kept.
    keep: Duration,
    waiting: Mutex<Waiting>,
    /// How many elements are being sent, and do not wait meanwhile.
    sending: AtomicUsize,
    /// Elements that were revoked while this gateway ran, and when they end, by the monotonic clock.
    heard: Mutex<Heard>,
    /// Whether the list was ever read.
    arrived: AtomicBool,
    wake: Notify,
}

/// How far this gateway has read the list, and the state of the comparison.
#[derive(Debug, Default)]
struct Reader {
    place: Option<ListPlace>,
    /// Whether the list was read to its end since the start, or since it lost elements.
    is_read: bool,
    /// Elements that are sent again if they are missing.
    comparing: VecDeque<Arc<str>>,
    missing: usize,
}

/// The result of an exchange with Redis.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Exchanged {
    /// The list has more elements, or more of this gateway's wait.
    is_behind: bool,
    /// There is more to do without a pause.
    has_more: bool,
    /// The list has lost elements.
    lost: bool,
}

impl Fleet {
    pub(super) fn new(store: Arc<dyn Shared>, key: String, keep: Duration) -> Fleet {
        Fleet {
            store,
            key,
            keep,
            waiting: Mutex::default(),
            sending: AtomicUsize::new(0),
            heard: Mutex::default(),
            arrived: AtomicBool::new(false),
            wake: Notify::new(),
        }
    }

    /// Whether the list was read at least once.
    pub(super) fn has_arrived(&self) -> bool {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Tells the other gateways.
    pub(super) fn tell(&self, element: &[u8]) {
        let element: Arc<str> = URL_SAFE_NO_PAD.encode(element).into();
        self.hear([Arc::clone(&element)]);
        self.waiting().push(element);
        self.report();
        self.wake.notify_one();
    }

    /// Reports how many elements Redis does not have yet, and returns their number.
    fn report(&self) -> usize {
        let unsent = self.waiting().len() + self.sending.load(Ordering::Relaxed);
        revocations::unsent(unsent);
        unsent
    }

    /// Continues the work of the one that the configuration in use before had: sends what waits there, and remembers what
    /// it knows.
    pub(super) fn replace(&self, old: &Fleet) {
        if std::ptr::eq(self, old) {
            return;
        }
        let (waiting, heard) = (old.waiting().all(), old.heard().all(Instant::now()));
        for (ends, element) in heard {
            self.heard().push(element, ends);
        }
        for element in waiting {
            self.waiting().push(element);
        }
        self.wake.notify_one();
    }

    /// Remembers elements that were revoked now. The first time counts.
    fn hear(&self, elements: impl IntoIterator<Item = Arc<str>>) {
        let mut heard = self.heard();
        let ends = Instant::now() + self.keep.saturating_sub(MARGIN);
        for element in elements {
            heard.push(element, ends);
        }
    }

    fn heard(&self) -> MutexGuard<'_, Heard> {
        // A panic leaves at most one element that is counted or remembered twice.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // As above.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts to compare the list with the elements that this gateway knows.
    fn compare(&self, reader: &mut Reader) {
        reader.comparing = self.heard().current(Instant::now());
        reader.missing = 0;
    }

    /// What is sent next: new revocations first, then those to compare. True for the latter.
    fn batch(&self, reader: &mut Reader) -> (Vec<Arc<str>>, bool) {
        let new = self.waiting().take(BATCH, BATCH_BYTES);
        if !new.is_empty() || reader.comparing.is_empty() {
            return (new, false);
        }
        let mut bytes = 0;
        let fits = |element: &&Arc<str>| {
            bytes += element.len();
            bytes <= BATCH_BYTES
        };
        let fitting = reader.comparing.iter().take(BATCH).take_while(fits).count();
        (reader.comparing.drain(..fitting.max(1)).collect(), true)
    }

    /// Sends waiting elements, and reads one page of new ones.
    ///
    /// # Errors
    /// Redis has failed, with the reason. Nothing is lost.
    async fn exchange(
        &self,
        reader: &mut Reader,
        revocations: &RevocationAccess,
    ) -> Result<Exchanged, String> {
        let (add, only_missing) = self.batch(reader);
        let ask = ListAsk {
            key: self.key.clone(),
            add: add.clone(),
            only_missing,
            after: reader.place.clone(),
            keep: self.keep,
        };
        let sending = if only_missing { 0 } else { add.len() };
        self.sending.store(sending, Ordering::Relaxed);
        let listed = self.store.list(ask).await;
        self.sending.store(0, Ordering::Relaxed);
        let listed = listed.inspect_err(|_| {
            // After a failure everything is compared.
            if !only_missing {
                self.waiting().put_back(add);
            }
        })?;
        if only_missing {
            reader.compared(listed.added);
        }
        reader.is_read &= !listed.lost;
        self.learn(listed.elements, !reader.is_read, revocations)
            .await;
        reader.place = listed
            .place
            .or(reader.place.take().filter(|_| !listed.lost));
        if !listed.has_more {
            reader.is_read = true;
            self.arrived.store(true, Ordering::Relaxed);
        }
        let is_behind = listed.has_more || !self.waiting().is_empty();
        Ok(Exchanged {
            is_behind,
            has_more: is_behind || !reader.comparing.is_empty(),
            lost: listed.lost,
        })
    }

    /// Revokes the elements. When the whole list is read, the age of an element is unknown, so it is not remembered.
    async fn learn(&self, elements: Vec<String>, is_whole: bool, revocations: &RevocationAccess) {
        for some in elements.chunks(TURN) {
            for text in some {
                if let Ok(element) = URL_SAFE_NO_PAD.decode(text)
                    && !(is_whole && revocations.contains(&element))
                {
                    revocations.learn(&element);
                }
            }
            if !is_whole {
                self.hear(some.iter().map(|text| text.as_str().into()));
            }
            tokio::task::yield_now().await;
        }
    }
}

impl Reader {
    /// Records a batch of the comparison. `missing` of its elements were not in the list.
    fn compared(&mut self, missing: usize) {
        self.missing += missing;
        if self.comparing.is_empty() && self.missing > 0 {
            log::warn!(
                "[SERVICE: Revoker] Redis has lost {} revocations: they were sent again",
                self.missing
            );
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

/// Synchronizes the list in Redis with the local list until the fleet is dropped.
pub(super) async fn share(fleet: Weak<Fleet>, revocations: Weak<RevocationAccess>) {
    let (mut reader, mut progress) = (Reader::default(), Progress::new(Instant::now()));
    revocations::begun();
    let mut compared = Instant::now();
    while let (Some(fleet), Some(revocations)) = (fleet.upgrade(), revocations.upgrade()) {
        let was_well = progress.is_well();
        let exchanged = fleet.exchange(&mut reader, &revocations).await;
        let unsent = fleet.report();
        let dropped = fleet.waiting().dropped();
        revocations::dropped(dropped);
        progress.dropped(dropped);
        let has_arrived = fleet.has_arrived();
        progress.note(exchanged.as_ref(), unsent, has_arrived, Instant::now());
        let mut has_more = false;
        if let Ok(exchanged) = exchanged {
            // It is unknown what happened while Redis did not respond.
            if !was_well || exchanged.lost || compared.elapsed() >= COMPARE {
                compared = Instant::now();
                fleet.compare(&mut reader);
            }
            has_more = exchanged.has_more;
        }
        drop(revocations);
        if !has_more {
            // A timeout and a new revocation have the same effect: the list is read.
            let _ = timeout(LOOK, fleet.wake.notified()).await;
        }
    }
}
