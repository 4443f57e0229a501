//! The process's key sets and its cache of verified tokens.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;

use crate::ext::context::Compile;
use crate::ext::identity::token_cache::Bounds;
use crate::ext::{Task, identity::status::IdentityStatus};
use crate::jose::{CacheLimits, KeyFault, KeySet, KeySetError, TokenCache};
use crate::upstream::ClientError;
use crate::upstream::keys::{KeyDocument, KeySetStore, KeySource, Schedule, SourceSpec};

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
        if parsed.set.is_empty() {
            Err(match parsed.skipped.first() {
                Some(skipped) => NoPublicKeys::NoneUsable(skipped.why.clone()),
                None => NoPublicKeys::Document(KeySetError::NoKeys),
            })
        } else {
            Ok(PublicKeys(parsed.set))
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
    /// What is wrong with the first.
    #[error("no key of the set can be used: {0}")]
    NoneUsable(KeyFault),
}

/// Key sets and verified tokens, one of each in a process, kept over reloads; and what one file asks of them.
#[derive(Debug)]
pub struct Identity {
    pub keys: Arc<KeySetStore<PublicKeys>>,
    pub tokens: Arc<TokenCache>,
    /// How often a token that never expires was let in.
    pub without_expiry: Arc<AtomicU64>,
    schedules: Arc<Schedules>,
}

/// The sources that a file uses, each with the most demanding schedule that it gives them.
#[derive(Debug, Default)]
struct Schedules(Mutex<Vec<(Arc<KeySource<PublicKeys>>, Schedule)>>);

impl Schedules {
    fn add(&self, source: &Arc<KeySource<PublicKeys>>, schedule: Schedule) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.iter_mut().find(|(known, _)| Arc::ptr_eq(known, source)) {
            Some((_, known)) => *known = known.at_most(schedule),
            None => all.push((Arc::clone(source), schedule)),
        }
    }

    fn put_to_use(&self) {
        let all = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (source, schedule) in all {
            source.reschedule(schedule);
        }
    }
}

/// The store, and what ends its task once nobody has it any more.
#[derive(Debug)]
struct Tended {
    keys: Arc<KeySetStore<PublicKeys>>,
    without_expiry: Arc<AtomicU64>,
    _alive: watch::Sender<bool>,
}

impl Identity {
    /// The source with this specification. The most demanding schedule of the file holds once the file is in use.
    ///
    /// # Errors
    /// As [`KeySetStore::source`].
    pub fn source(
        &self,
        spec: &SourceSpec,
        schedule: Schedule,
    ) -> Result<Arc<KeySource<PublicKeys>>, ClientError> {
        let source = self.keys.source(spec, schedule)?;
        self.schedules.add(&source, schedule);
        Ok(source)
    }

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
                without_expiry: Arc::default(),
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
        let schedules = Arc::<Schedules>::default();
        let wanted = Arc::clone(&schedules);
        // Runs once the file is in use: one that is refused changes nothing.
        cx.push(Task::new("key set schedules", async move {
            wanted.put_to_use();
        }));
        let identity = Arc::new(Identity {
            keys,
            tokens,
            without_expiry: Arc::clone(&tended.without_expiry),
            schedules,
        });
        cx.leave(Arc::clone(&identity));
        cx.leave(Arc::new(IdentityStatus::new(Arc::clone(&identity))));
        identity
    }
}
