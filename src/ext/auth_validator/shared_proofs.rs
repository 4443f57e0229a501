//! Used proofs that several gateways share through Redis (RFC 9449 §11.1).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use super::used_proofs::fingerprint;
use crate::ext::redis::SharedStore;
use crate::jose::dpop::Proof;
use crate::jose::{Reason, Rejection};

/// The used proofs of all gateways, and what happens if Redis does not respond.
pub(super) struct SharedProofs {
    redis: Arc<SharedStore>,
    /// Whether proofs are rejected while Redis does not respond.
    is_closed: bool,
    /// Whether Redis responded last time, for the log.
    is_well: AtomicBool,
}

/// A proof that was used here, and that no other gateway may have seen.
#[derive(Debug)]
pub(super) struct Use {
    shared: Arc<SharedProofs>,
    key: String,
    keep: Duration,
}

impl SharedProofs {
    pub(super) fn new(redis: Arc<SharedStore>, is_closed: bool) -> SharedProofs {
        SharedProofs {
            redis,
            is_closed,
            is_well: AtomicBool::new(true),
        }
    }

    /// The use of this proof, which can be used for `keep`.
    pub(super) fn of(self: &Arc<SharedProofs>, proof: &Proof, keep: Duration) -> Use {
        let hash = hex::encode(fingerprint(proof));
        Use {
            shared: Arc::clone(self),
            key: self.redis.keys("dpop", &hash),
            keep,
        }
    }
}

impl Use {
    /// Records the proof for all gateways, and checks that none has seen it. Waits for at most `timeout`.
    ///
    /// # Errors
    /// Another gateway has seen the proof, or it is unknown whether one has.
    pub(super) async fn ask(self, timeout: Duration) -> Result<(), Rejection> {
        let Use { shared, key, keep } = self;
        let asking = shared.redis.store.is_first(key, keep);
        let answer = tokio::time::timeout(timeout, asking).await;
        let answer = answer.unwrap_or_else(|_| Err("no response in time".to_owned()));
        let was_well = shared.is_well.swap(answer.is_ok(), Ordering::Relaxed);
        match answer {
            Ok(is_first) => {
                if !was_well {
                    log::warn!("[SERVICE: JOSE] DPoP proofs are shared through Redis again");
                }
                if is_first {
                    return Ok(());
                }
                let why = "the proof was used before, at another gateway";
                Err(Rejection::new(Reason::BadProof, why))
            }
            Err(why) => {
                if was_well {
                    log::error!(
                        "[SERVICE: JOSE] DPoP proofs cannot be shared through Redis: {why}"
                    );
                }
                if shared.is_closed {
                    Err(unshared())
                } else {
                    Ok(())
                }
            }
        }
    }
}

/// The rejection if it is unknown whether another gateway has seen a proof.
pub(super) fn unshared() -> Rejection {
    Rejection::new(
        Reason::ProofsUnavailable,
        "it is unknown whether another gateway has seen the proof",
    )
}

impl fmt::Debug for SharedProofs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedProofs").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Mutex;

    use smallvec::SmallVec;

    use super::*;
    use crate::ext::redis::{Ask, OnFailure, Shared, Taken};

    /// Keys in memory. `None` if it does not respond.
    #[derive(Debug)]
    struct Memory(Mutex<Option<HashSet<String>>>);

    impl Shared for Memory {
        fn is_ready(&self) -> bool {
            true
        }

        fn take(&self, _: SmallVec<[Ask; 2]>) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
            Box::pin(std::future::ready(Taken::Failed))
        }

        fn is_first(
            &self,
            key: String,
            _: Duration,
        ) -> Pin<Box<dyn Future<Output = Result<bool, String>> + Send + '_>> {
            match &mut *self.0.lock().unwrap() {
                Some(keys) => Box::pin(std::future::ready(Ok(keys.insert(key)))),
                None => Box::pin(std::future::pending()),
            }
        }
    }

    async fn ask(shared: &Arc<SharedProofs>, key: &str) -> Result<(), Reason> {
        let asked = Use {
            shared: Arc::clone(shared),
            key: key.to_owned(),
            keep: Duration::from_secs(60),
        };
        let answer = asked.ask(Duration::from_millis(1)).await;
        answer.map_err(|rejection| rejection.reason)
    }

    #[tokio::test]
    async fn a_proof_of_another_gateway_is_rejected_and_the_wait_is_bounded() {
        let memory = Arc::new(Memory(Mutex::new(Some(HashSet::new()))));
        let proofs = |is_closed| {
            let store = Arc::clone(&memory) as Arc<dyn Shared>;
            let redis = SharedStore::new(store, OnFailure::Local);
            Arc::new(SharedProofs::new(Arc::new(redis), is_closed))
        };
        let (closed, local) = (proofs(true), proofs(false));
        assert_eq!(ask(&closed, "a").await, Ok(()));
        assert_eq!(ask(&local, "a").await, Err(Reason::BadProof));
        assert_eq!(ask(&local, "b").await, Ok(()));
        *memory.0.lock().unwrap() = None;
        assert_eq!(ask(&closed, "c").await, Err(Reason::ProofsUnavailable));
        assert_eq!(ask(&local, "c").await, Ok(()));
    }
}
