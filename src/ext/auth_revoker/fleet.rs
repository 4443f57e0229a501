//! Revocations that all gateways of a fleet share through Redis.
//!
//! A gateway sends a revocation at once, and reads the list twice a second. At its start it reads the whole list, so
//! revocations survive restarts. While Redis is unreachable, each gateway keeps its own list and sends new entries
//! later. If Redis loses its data, each gateway sends all valid entries that it knows again.

use std::collections::{HashMap, HashSet, VecDeque};
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use tokio::time::{Instant, timeout};

use super::ledger::Desk;
use crate::ext::redis::{ListAsk, Shared};

/// How often the list is read.
const LOOK: Duration = Duration::from_millis(500);

/// How far back the list is read again, in milliseconds: the clock of Redis may be set back a little.
const OVERLAP: u64 = 5_000;

/// How many revocations wait for Redis. The oldest are given up first.
const MAX_WAITING: usize = 100_000;

/// How often the whole list is compared with the entries that this gateway knows.
const COMPARE: Duration = Duration::from_secs(60);

/// An element that expires within this time is not sent again, because the clocks of gateways and Redis differ.
const MARGIN: Duration = Duration::from_secs(10);

/// How many of them are sent at once.
const BATCH: usize = 1_000;

/// The shared list.
pub struct Fleet {
    store: Arc<dyn Shared>,
    key: String,
    /// How long an element is kept.
    keep: Duration,
    waiting: Mutex<VecDeque<String>>,
    /// Elements that were revoked while this gateway ran, and when they end, by the monotonic clock.
    heard: Mutex<HashMap<String, Instant>>,
    /// Whether the list was ever read.
    arrived: AtomicBool,
    wake: Notify,
}

impl Fleet {
    pub(super) fn new(store: Arc<dyn Shared>, key: String, keep: Duration) -> Fleet {
        Fleet {
            store,
            key,
            keep,
            waiting: Mutex::default(),
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
        let mut waiting = self.waiting();
        if waiting.len() >= MAX_WAITING {
            log::error!(
                "[SERVICE: Revoker] too many revocations wait for Redis: one is lost for the other gateways"
            );
            waiting.pop_front();
        }
        let element = URL_SAFE_NO_PAD.encode(element);
        self.hear(&element);
        waiting.push_back(element);
        self.wake.notify_one();
    }

    /// Remembers an element that was revoked now. The first time counts.
    fn hear(&self, element: &str) {
        let now = Instant::now();
        let mut heard = self.heard();
        if heard.len() >= MAX_WAITING {
            heard.retain(|_, ends| now < *ends);
        }
        if heard.len() < MAX_WAITING && !heard.contains_key(element) {
            let ends = now + self.keep.saturating_sub(MARGIN);
            heard.insert(element.to_owned(), ends);
        }
    }

    /// Sends again the entries that are in force and not in the list.
    fn tell_missing(&self, listed: &HashSet<String>) {
        let now = Instant::now();
        let mut waiting = self.waiting();
        let mut heard = self.heard();
        heard.retain(|_, ends| now < *ends);
        let sent: HashSet<&String> = waiting.iter().collect();
        let missing = heard
            .keys()
            .filter(|element| !listed.contains(*element) && !sent.contains(element));
        let missing: Vec<String> = missing.cloned().collect();
        if !missing.is_empty() {
            log::warn!(
                "[SERVICE: Revoker] Redis has lost {} revocations: they are sent again",
                missing.len()
            );
        }
        waiting.extend(missing);
    }

    fn heard(&self) -> std::sync::MutexGuard<'_, HashMap<String, Instant>> {
        // Every change is a single call, so a panic leaves no partial change.
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        // Every change is a single call, so a panic leaves no partial change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends waiting entries and reads new ones since `since`; with zero, the whole list, and compares it with what this
    /// gateway has heard of. Returns the time for the next call, or `None` after a
    /// failure, which loses nothing.
    async fn exchange(&self, since: u64, desk: &Desk) -> Option<u64> {
        let mut add: Vec<String> = {
            let mut waiting = self.waiting();
            let most = BATCH.min(waiting.len());
            waiting.drain(..most).collect()
        };
        let (mut skip, mut next) = (0, None);
        let mut whole = (since == 0).then(HashSet::new);
        loop {
            let ask = ListAsk {
                key: self.key.clone(),
                add: add.clone(),
                since,
                keep: self.keep,
                skip,
            };
            let Some(listed) = self.store.list(ask).await else {
                let mut waiting = self.waiting();
                for element in add.into_iter().rev() {
                    waiting.push_front(element);
                }
                return None;
            };
            add.clear();
            next = next.or(Some(listed.now.saturating_sub(OVERLAP)));
            let (has_more, count) = (listed.has_more, listed.elements.len());
            for text in listed.elements {
                if let Ok(element) = URL_SAFE_NO_PAD.decode(&text)
                    && !desk.contains(&element)
                {
                    desk.learn(&element);
                }
                match &mut whole {
                    Some(whole) => {
                        whole.insert(text);
                    }
                    // The age of an element in the whole list is unknown.
                    None => self.hear(&text),
                }
            }
            if !has_more || count == 0 {
                if let Some(whole) = &whole {
                    self.tell_missing(whole);
                    self.arrived.store(true, Ordering::Relaxed);
                }
                return next;
            }
            skip += count;
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

/// Synchronizes the list in Redis with the local list until the fleet is dropped.
pub(super) async fn share(fleet: Weak<Fleet>, desk: Weak<Desk>) {
    let (mut since, mut well) = (0, true);
    let mut compared = Instant::now();
    while let (Some(fleet), Some(desk)) = (fleet.upgrade(), desk.upgrade()) {
        let next = fleet.exchange(since, &desk).await;
        if next.is_some() != well {
            well = next.is_some();
            if well {
                log::warn!("[SERVICE: Revoker] revocations are shared again");
            } else if fleet.has_arrived() {
                log::error!(
                    "[SERVICE: Revoker] revocations cannot be shared: Redis does not respond"
                );
            } else {
                log::error!(
                    "[SERVICE: Revoker] revocations cannot be read: Redis does not respond. Until it does, tokens that were revoked before the start are accepted"
                );
            }
        }
        if since == 0 && well {
            compared = Instant::now();
        }
        // It is unknown what happened while Redis did not respond.
        let compares = !well || compared.elapsed() >= COMPARE;
        since = next.filter(|_| !compares).unwrap_or(0);
        let more = well && !fleet.waiting().is_empty();
        drop(desk);
        if !more {
            // Either way it is time to look.
            let _ = timeout(LOOK, fleet.wake.notified()).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future;
    use std::pin::Pin;

    use smallvec::SmallVec;

    use super::*;
    use crate::ext::auth_revoker::ledger::Ledger;
    use crate::ext::redis::{Ask, Taken};
    use crate::ext::redis::{LIST_PAGE, Listed};
    use crate::jose::bloom::{BloomHash, BloomShape, RevokedTokens};
    use crate::runtime::clock::Clock;

    /// A list in memory that can be unavailable and can return fewer elements per call.
    #[derive(Debug, Default)]
    struct Memory(Mutex<(Vec<String>, bool, Option<usize>)>);

    impl Shared for Memory {
        fn is_ready(&self) -> bool {
            true
        }

        fn take(&self, _: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
            Box::pin(std::future::ready(Taken::Failed))
        }

        fn list(&self, ask: ListAsk) -> Pin<Box<dyn Future<Output = Option<Listed>> + Send + '_>> {
            let mut inner = self.0.lock().unwrap();
            if inner.1 {
                return Box::pin(std::future::ready(None));
            }
            inner.0.extend(ask.add);
            let (most, wanted) = (inner.2.unwrap_or(LIST_PAGE), inner.0.iter().skip(ask.skip));
            let has_more = wanted.len() > most;
            let elements = wanted.take(most).cloned().collect();
            Box::pin(std::future::ready(Some(Listed {
                now: 10_000,
                elements,
                has_more,
            })))
        }
    }

    #[tokio::test]
    async fn revocations_that_redis_has_lost_are_sent_again_until_they_expire() {
        let store = Arc::new(Memory::default());
        let (desk, ledger) = (Arc::new(Desk::default()), ledger());
        let shared = Arc::clone(&store) as Arc<dyn Shared>;
        let keep = Duration::from_secs(60);
        let fleet = Arc::new(Fleet::new(shared, "k".to_owned(), keep));
        desk.open(&ledger, "", Some(&fleet));
        desk.add(b"jti-J1");
        assert!(fleet.exchange(5, &desk).await.is_some());
        store
            .0
            .lock()
            .unwrap()
            .0
            .push(URL_SAFE_NO_PAD.encode("jti-J2"));
        assert!(fleet.exchange(5, &desk).await.is_some());
        assert!(desk.contains(b"jti-J2"));
        store.0.lock().unwrap().0.clear();
        assert!(fleet.exchange(5, &desk).await.is_some());
        assert!(store.0.lock().unwrap().0.is_empty(), "not compared");
        assert!(fleet.exchange(0, &desk).await.is_some());
        assert!(fleet.exchange(5, &desk).await.is_some());
        let mut listed = store.0.lock().unwrap().0.clone();
        listed.sort();
        let expected = ["jti-J1", "jti-J2"].map(|element| URL_SAFE_NO_PAD.encode(element));
        assert_eq!(listed, expected);
        assert!(fleet.exchange(0, &desk).await.is_some());
        assert!(fleet.waiting().is_empty(), "it is there");
        store.0.lock().unwrap().0.clear();
        for ends in fleet.heard().values_mut() {
            *ends = Instant::now();
        }
        assert!(fleet.exchange(0, &desk).await.is_some());
        assert!(fleet.waiting().is_empty(), "it has ended");
    }

    fn ledger() -> Arc<Ledger> {
        let clock = Clock::manual();
        let shape = BloomShape::new(100_000, 1e-6, BloomHash::Optimal).unwrap();
        let tokens = RevokedTokens::new(shape, Duration::from_secs(60), clock.now()).unwrap();
        Arc::new(Ledger {
            tokens,
            logouts: crate::ext::auth_revoker::logout::Logouts::default(),
            keep: Duration::from_secs(120),
            clock,
        })
    }

    #[tokio::test]
    async fn revocations_are_shared_and_survive_an_outage_of_redis() {
        let store = Arc::new(Memory::default());
        let gateway = || {
            let (desk, ledger) = (Arc::new(Desk::default()), ledger());
            let shared = Arc::clone(&store) as Arc<dyn Shared>;
            let fleet = Arc::new(Fleet::new(shared, "k".to_owned(), Duration::from_secs(60)));
            desk.open(&ledger, "", Some(&fleet));
            (desk, ledger, fleet)
        };
        let ((one, _a, fleet), (two, _b, other)) = (gateway(), gateway());
        store.0.lock().unwrap().1 = true;
        one.add(b"jti-J1");
        assert!(one.contains(b"jti-J1"), "at once where it was revoked");
        assert_eq!(fleet.exchange(0, &one).await, None);
        store.0.lock().unwrap().1 = false;
        assert_eq!(fleet.exchange(0, &one).await, Some(5_000));
        assert!(!two.contains(b"jti-J1"));
        assert!(other.exchange(0, &two).await.is_some());
        assert!(two.contains(b"jti-J1"));
        assert_eq!(
            other.waiting().len(),
            0,
            "what was learned is not told again"
        );
        for number in 0..7_000 {
            one.add(format!("jti-{number}").as_bytes());
        }
        while !fleet.waiting().is_empty() {
            assert!(fleet.exchange(0, &one).await.is_some());
        }
        assert!(other.exchange(0, &two).await.is_some());
        assert!(
            two.contains(b"jti-6999") && two.contains(b"jti-0"),
            "over several pages"
        );
    }
}
