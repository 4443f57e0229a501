//! Session ticket keys that all gateways of a Redis agree on: one for every six hours, created by the first gateway
//! that needs it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand;

use super::compile::SharedStore;
use super::runtime::Shared;
use crate::ext::context::Compile;
use crate::ext::reload_state::Task;
use crate::runtime::listen::{SharedSecret, SharedSecrets};

/// How long one key is used for encryption, in seconds.
const TURN: u64 = 6 * 3600;
/// How long before its use the next key is available, because the clocks of several gateways differ.
const EARLY: u64 = 600;
/// Tickets are valid for twelve hours, so those of the last two periods are still accepted.
const PAST: u64 = 2;
/// How long Redis keeps a key: longer than any gateway uses it.
const KEEP: Duration = Duration::from_secs(30 * 3600);
/// The maximum number of keys. There are more than four only after Redis has lost its data.
const MAX_KEYS: usize = 16;
/// The interval between two updates.
const LOOK: Duration = Duration::from_secs(30);
/// The interval after Redis did not respond.
const RETRY: Duration = Duration::from_secs(1);

/// The keys in the configured Redis, updated in the background. `None` without `portcullis/redis`.
pub(crate) fn session_ticket_keys(cx: &mut Compile<'_>) -> Option<SharedSecrets> {
    let shared = cx.fact::<SharedStore>()?;
    let prefix = shared.tickets();
    let kept = cx.carry_over(format!("portcullis/redis {prefix}"), |tasks| {
        let secrets = Arc::new(SharedSecrets::default());
        let store = Arc::clone(&shared.store);
        let filled = (*secrets).clone();
        tasks.push(Task::new("session ticket keys", async move {
            tend(&*store, &prefix, &filled).await;
        }));
        secrets
    });
    Some((*kept).clone())
}

async fn tend(store: &dyn Shared, prefix: &str, secrets: &SharedSecrets) {
    let mut is_well = true;
    // There are two references: the configuration and this task. When only the task has one, the keys are no longer
    // needed.
    while secrets.is_used() {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.as_secs());
        let pause = match agreed(store, prefix, now, &secrets.current()).await {
            Ok(keys) => {
                if !std::mem::replace(&mut is_well, true) {
                    log::warn!("[SERVICE: Redis] keys of session tickets are shared again");
                }
                secrets.set(keys);
                LOOK
            }
            Err(why) => {
                if std::mem::replace(&mut is_well, false) {
                    log::error!(
                        "[SERVICE: Redis] keys of session tickets cannot be shared, so other gateways do not resume TLS sessions of this one: {why}"
                    );
                }
                RETRY
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// The key of this period first, followed by older ones, and the next one shortly before its period.
///
/// A Redis that has lost its data gets the `known` keys back. If another gateway was faster with new ones, the known ones
/// are kept at the end: this gateway still accepts its own tickets.
async fn agreed(
    store: &dyn Shared,
    prefix: &str,
    now: u64,
    known: &[SharedSecret],
) -> Result<Vec<SharedSecret>, String> {
    let turn = now / TURN;
    let mut turns: Vec<u64> = (turn.saturating_sub(PAST)..=turn).rev().collect();
    if (now + EARLY) / TURN > turn {
        turns.push(turn + 1);
    }
    let oldest = turn.saturating_sub(PAST) * TURN;
    let mut keys = Vec::with_capacity(turns.len());
    for turn in turns {
        let made = turn * TURN;
        let ours = known.iter().find(|key| key.made == made);
        let offered = ours.map_or_else(offer, |key| Ok(key.text.clone()))?;
        let text = store
            .agree(format!("{prefix}{turn}"), offered, KEEP)
            .await?;
        keys.push(SharedSecret { made, text });
    }
    for key in known {
        if key.made >= oldest && keys.len() < MAX_KEYS && !keys.contains(key) {
            keys.push(key.clone());
        }
    }
    Ok(keys)
}

/// 32 random bytes in hexadecimal.
fn offer() -> Result<String, String> {
    let mut bytes = [0_u8; 32];
    rand::fill(&mut bytes).map_err(|_| "the system has no random numbers".to_owned())?;
    Ok(hex::encode(bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::future::Future;
    use std::pin::Pin;
    use std::sync::Mutex;

    use smallvec::SmallVec;

    use super::super::runtime::{Ask, Taken};
    use super::*;

    #[derive(Debug, Default)]
    struct Memory(Mutex<HashMap<String, String>>);

    impl Shared for Memory {
        fn is_ready(&self) -> bool {
            true
        }

        fn take(
            &self,
            _asks: SmallVec<[Ask; 2]>,
        ) -> Pin<Box<dyn Future<Output = Taken> + Send + '_>> {
            Box::pin(std::future::ready(Taken::Failed))
        }

        fn agree(
            &self,
            key: String,
            offer: String,
            _keep: Duration,
        ) -> Pin<Box<dyn Future<Output = Result<String, String>> + Send + '_>> {
            let mut known = self.0.lock().unwrap();
            let agreed = known.entry(key).or_insert(offer).clone();
            Box::pin(std::future::ready(Ok(agreed)))
        }
    }

    #[tokio::test]
    async fn two_gateways_agree_and_switch_to_the_next_key_together() {
        let redis = Memory::default();
        let start = 1000 * TURN;
        let here = agreed(&redis, "p", start + 1, &[]).await.unwrap();
        let there = agreed(&redis, "p", start + 2, &[]).await.unwrap();
        assert_eq!(here, there);
        assert_eq!(here.len(), 3);
        assert_eq!(here[0].made, start);
        let late = agreed(&redis, "p", start + TURN - 1, &here).await.unwrap();
        assert_eq!(late[..3], here[..]);
        let next = agreed(&redis, "p", start + TURN, &late).await.unwrap();
        assert_eq!(next[0], late[3], "it was there before its turn");
        assert_eq!(next[1..], here[..2]);
    }

    #[tokio::test]
    async fn a_redis_that_lost_its_data_gets_the_keys_back() {
        let start = 1000 * TURN;
        let here = agreed(&Memory::default(), "p", start, &[]).await.unwrap();
        let empty = Memory::default();
        assert_eq!(agreed(&empty, "p", start, &here).await.unwrap(), here);
        assert_eq!(agreed(&empty, "p", start, &[]).await.unwrap(), here);
        // A new gateway was faster.
        let empty = Memory::default();
        let new = agreed(&empty, "p", start, &[]).await.unwrap();
        let both = agreed(&empty, "p", start, &here).await.unwrap();
        assert_eq!(both, [&new[..], &here[..]].concat());
        // Once more after a further loss, which must not fill the memory.
        assert_eq!(agreed(&empty, "p", start, &both).await.unwrap(), both);
        let later = agreed(&empty, "p", start + 3 * TURN, &both).await.unwrap();
        assert_eq!(later.len(), 3, "those of the past have gone");
    }
}
