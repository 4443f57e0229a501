//! Revocations that all gateways of a fleet share through Redis.
//!
//! What one gateway revokes is sent at once; the others ask twice a second. A gateway that starts reads the whole list,
//! so that revocations outlive restarts. While Redis is away, each gateway keeps what it knows and sends the rest later.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use tokio::sync::Notify;
use tokio::time::timeout;

use super::ledger::Desk;
use crate::ext::redis::{LIST_PAGE, ListAsk, Shared};

/// How often the list is read.
const LOOK: Duration = Duration::from_millis(500);

/// How far back the list is read again, in milliseconds: the clock of Redis may be set back a little.
const OVERLAP: u64 = 5_000;

/// How many revocations wait for Redis. The oldest are given up first.
const MAX_WAITING: usize = 100_000;

/// How many of them are sent at once.
const BATCH: usize = 1_000;

/// The shared list.
pub struct Fleet {
    store: Arc<dyn Shared>,
    key: String,
    /// How long an element is kept.
    keep: Duration,
    waiting: Mutex<VecDeque<String>>,
    wake: Notify,
}

impl Fleet {
    pub(super) fn new(store: Arc<dyn Shared>, key: String, keep: Duration) -> Fleet {
        Fleet {
            store,
            key,
            keep,
            waiting: Mutex::default(),
            wake: Notify::new(),
        }
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
        waiting.push_back(URL_SAFE_NO_PAD.encode(element));
        self.wake.notify_one();
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<String>> {
        // Every change is a single call, so a panic leaves no partial change.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what waits and reads what is new since `since`. Returns the time for the next call, or `None` after a
    /// failure, which loses nothing.
    async fn exchange(&self, since: u64, desk: &Desk) -> Option<u64> {
        let mut add: Vec<String> = {
            let mut waiting = self.waiting();
            let most = BATCH.min(waiting.len());
            waiting.drain(..most).collect()
        };
        let (mut skip, mut next) = (0, None);
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
            for element in &listed.elements {
                if let Ok(element) = URL_SAFE_NO_PAD.decode(element) {
                    desk.learn(&element);
                }
            }
            if listed.elements.len() < LIST_PAGE {
                return next;
            }
            skip += LIST_PAGE;
        }
    }
}

impl fmt::Debug for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fleet").finish_non_exhaustive()
    }
}

/// Keeps the list and the desk equal, for as long as the fleet is in use.
pub(super) async fn share(fleet: Weak<Fleet>, desk: Weak<Desk>) {
    let (mut since, mut well) = (0, true);
    while let (Some(fleet), Some(desk)) = (fleet.upgrade(), desk.upgrade()) {
        let next = fleet.exchange(since, &desk).await;
        if next.is_some() != well {
            well = next.is_some();
            if well {
                log::warn!("[SERVICE: Revoker] revocations are shared again");
            } else {
                log::error!(
                    "[SERVICE: Revoker] revocations cannot be shared: Redis does not answer"
                );
            }
        }
        since = next.unwrap_or(since);
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
    use crate::ext::redis::Listed;
    use crate::ext::redis::{Ask, Taken};
    use crate::jose::bloom::{BloomHash, BloomShape, RevokedTokens};
    use crate::runtime::clock::Clock;

    /// A list in memory, which may be away.
    #[derive(Debug, Default)]
    struct Memory(Mutex<(Vec<String>, bool)>);

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
            let elements = inner
                .0
                .iter()
                .skip(ask.skip)
                .take(LIST_PAGE)
                .cloned()
                .collect();
            Box::pin(std::future::ready(Some(Listed {
                now: 10_000,
                elements,
            })))
        }
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
    async fn what_one_gateway_revokes_all_learn_and_nothing_is_lost_while_redis_is_away() {
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
