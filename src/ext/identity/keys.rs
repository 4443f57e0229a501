//! The process's key sets and its cache of verified tokens.

use std::sync::Arc;

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;

use crate::ext::context::Compile;
use crate::ext::identity::token_cache::Bounds;
use crate::ext::{Task, identity::status::IdentityStatus};
use crate::jose::{CacheLimits, KeySet, KeySetError, TokenCache};
use crate::upstream::keys::{KeyDocument, KeySetStore};

/// As the reference introduces itself, with our own name.
const USER_AGENT: &str = concat!("Portcullis Version ", env!("CARGO_PKG_VERSION"));

/// Public keys ready to verify.
#[derive(Debug)]
pub struct PublicKeys(pub KeySet);

impl KeyDocument for PublicKeys {
    type Error = NoPublicKeys;

    fn parse(document: &Bytes) -> Result<PublicKeys, NoPublicKeys> {
        let parsed = KeySet::parse(document)?;
        for skipped in &parsed.skipped {
            log::warn!(
                "[SERVICE: JOSE] key {:?} of a key set is left out: {}",
                skipped.kid,
                skipped.why
            );
        }
        match parsed.set.is_empty() {
            true => Err(NoPublicKeys::NoneUsable),
            false => Ok(PublicKeys(parsed.set)),
        }
    }

    fn key_count(&self) -> usize {
        self.0.len()
    }
}

/// Why a document gave no keys.
#[derive(Debug, thiserror::Error)]
pub enum NoPublicKeys {
    #[error(transparent)]
    Document(#[from] KeySetError),
    #[error("no key of the set can be used")]
    NoneUsable,
}

/// Key sets and verified tokens, one of each in a process, kept over reloads.
#[derive(Debug)]
pub struct Identity {
    pub keys: Arc<KeySetStore<PublicKeys>>,
    pub tokens: Arc<TokenCache>,
}

/// The store, and what ends its task once nobody has it any more.
#[derive(Debug)]
struct Tended {
    keys: Arc<KeySetStore<PublicKeys>>,
    _alive: watch::Sender<bool>,
}

impl Identity {
    /// The identity of this process, made by the first block that asks. Leaves an [`IdentityStatus`] for the server.
    pub fn of(cx: &mut Compile<'_>) -> Arc<Identity> {
        if let Some(identity) = cx.left::<Identity>() {
            return identity;
        }
        let tended = cx.carry("portcullis/identity key sets", |tasks| {
            let keys = Arc::new(KeySetStore::new(HeaderValue::from_static(USER_AGENT)));
            let (alive, ended) = watch::channel(false);
            let tending = Arc::clone(&keys);
            tasks.push(Task::new("key sets", async move {
                tending.run(ended).await;
            }));
            Arc::new(Tended {
                keys,
                _alive: alive,
            })
        });
        // Store and cache are made and dropped by the same files: generations, which only one store keeps apart, never
        // meet a cache that knows another store's.
        let limits = cx
            .left::<Bounds>()
            .map_or_else(CacheLimits::default, |bounds| bounds.0);
        let tokens = cx.carry(format!("portcullis/identity tokens {limits:?}"), |_| {
            Arc::new(TokenCache::new(limits))
        });
        let keys = Arc::clone(&tended.keys);
        let identity = Arc::new(Identity { keys, tokens });
        cx.leave(Arc::clone(&identity));
        cx.leave(Arc::new(IdentityStatus::new(Arc::clone(&identity))));
        identity
    }
}
