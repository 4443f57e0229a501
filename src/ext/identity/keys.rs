//! The process's key sets and its cache of verified tokens.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use bytes::Bytes;
use http::HeaderValue;
use tokio::sync::watch;

use crate::ext::context::Compile;
use crate::ext::identity::token_cache::{self, Bounds};
use crate::ext::{Task, identity::status::IdentityStatus};
use crate::jose::{KeyFault, KeySet, KeySetError, TokenCache};
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::ClientError;
use crate::upstream::keys::{
    KeyDocument, KeySetStore, KeySource, Schedule, SourceSpec, SourceStatus,
};

/// The most key ids in one line of the log.
const MAX_SHOWN: usize = 10;

/// In the form of KrakenD's `User-Agent`, with our own name.
const USER_AGENT: &str = concat!("Portcullis Version ", env!("CARGO_PKG_VERSION"));

/// Public keys, prepared for verification.
#[derive(Debug)]
pub struct PublicKeys(pub KeySet);

impl KeyDocument for PublicKeys {
    type Error = NoPublicKeys;

    fn parse(document: &Bytes) -> Result<PublicKeys, NoPublicKeys> {
        let parsed = KeySet::parse(document)?;
        for skipped in &parsed.skipped {
            log::warn!(
                "[SERVICE: JOSE] key {:?} of a key set is skipped: {}",
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

    fn join(sets: &[Arc<PublicKeys>]) -> PublicKeys {
        let sets = || sets.iter().map(|set| &set.0);
        let repeated = KeySet::repeated(sets());
        if !repeated.is_empty() {
            let shown: Vec<_> = repeated.iter().take(MAX_SHOWN).collect();
            log::warn!(
                "[SERVICE: JOSE] {} key ids are in several key sets of a `portcullis/jwk-aggregator`, for which only the key of the last one in the file is used: {shown:?}",
                repeated.len()
            );
        }
        PublicKeys(KeySet::join(sets()))
    }

    fn key_count(&self) -> usize {
        self.0.len()
    }
}

/// Why a document contains no usable keys.
#[derive(Debug, thiserror::Error)]
pub enum NoPublicKeys {
    #[error(transparent)]
    Document(#[from] KeySetError),
    /// The error of the first key.
    #[error("no key of the set can be used: {0}")]
    NoneUsable(KeyFault),
}

/// Key sets and verified tokens, one of each per process and kept across reloads, and the settings of one
/// configuration.
#[derive(Debug)]
pub(crate) struct Identity {
    pub keys: Arc<KeySetStore<PublicKeys>>,
    pub tokens: Arc<TokenCache>,
    /// The number of accepted tokens without an expiry.
    pub without_expiry: Arc<AtomicU64>,
    others: Arc<OtherKeys>,
    schedules: Arc<Schedules>,
}

/// A key that is fetched by somebody else: that of `auth/signer`. It counts like those of the store.
pub(crate) trait FetchedKey: fmt::Debug + Send + Sync {
    /// Whether it was fetched at least once.
    fn has_arrived(&self) -> bool;
    fn status(&self) -> SourceStatus;
}

/// Such keys, as long as they are in use.
#[derive(Debug, Default)]
struct OtherKeys(Mutex<Vec<Weak<dyn FetchedKey>>>);

impl OtherKeys {
    fn alive(&self) -> Vec<Arc<dyn FetchedKey>> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key| key.strong_count() > 0);
        all.iter().filter_map(Weak::upgrade).collect()
    }
}

/// The sources of a configuration, each with the strictest schedule that it sets.
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

/// An upgrade passes the fetched sets on, so that the new process does not depend on its providers.
impl UpgradeState for ManagedStore {
    fn give(&self) -> String {
        self.keys.give()
    }

    fn take(&self, given: &str) {
        self.keys.take(given);
    }
}

/// The store, and the sender that ends its task when it is dropped.
#[derive(Debug)]
struct ManagedStore {
    keys: Arc<KeySetStore<PublicKeys>>,
    without_expiry: Arc<AtomicU64>,
    others: Arc<OtherKeys>,
    _alive: watch::Sender<bool>,
}

impl Identity {
    /// Counts a key that is fetched elsewhere, until it is dropped.
    pub(crate) fn add<K: FetchedKey + 'static>(&self, key: &Arc<K>) {
        let key: Weak<K> = Arc::downgrade(key);
        let mut all = self.others.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|key| key.strong_count() > 0);
        all.push(key);
    }

    /// Every source of keys, ordered by label.
    pub(super) fn sources(&self) -> Vec<SourceStatus> {
        let mut all = self.keys.status();
        all.extend(self.others.alive().iter().map(|key| key.status()));
        SourceStatus::by_label(all)
    }

    /// Whether every source has had keys at least once.
    pub(super) fn have_arrived(&self) -> bool {
        let others = self.others.alive();
        self.keys.have_arrived() && others.iter().all(|key| key.has_arrived())
    }

    /// The source with this specification. The strictest schedule in the configuration applies once the configuration
    /// is used.
    ///
    /// # Errors
    /// As [`KeySetStore::source`].
    pub(crate) fn source(
        &self,
        spec: &SourceSpec,
        schedule: Schedule,
    ) -> Result<Arc<KeySource<PublicKeys>>, ClientError> {
        let source = self.keys.source(spec, schedule)?;
        self.schedules.add(&source, schedule);
        Ok(source)
    }

    /// The identity of this process, created by the first block that needs it. Passes an [`IdentityStatus`] to the
    /// server.
    pub(crate) fn of(cx: &mut Compile<'_>) -> Arc<Identity> {
        if let Some(identity) = cx.fact::<Identity>() {
            return identity;
        }
        let tended = cx.carry_over("portcullis/identity key sets", |tasks| {
            let keys = Arc::new(KeySetStore::new(HeaderValue::from_static(USER_AGENT)));
            let (alive, ended) = watch::channel(false);
            let tending = Arc::clone(&keys);
            tasks.push(Task::new("key sets", async move {
                tending.run(ended).await;
            }));
            Arc::new(ManagedStore {
                keys,
                without_expiry: Arc::default(),
                others: Arc::default(),
                _alive: alive,
            })
        });
        let upgrade_state = Arc::clone(&tended);
        cx.pass_on(upgrade_state);
        // Store and cache are created and dropped together: generations are unique only within one store, so a cache
        // must never see those of another store.
        let limits = cx
            .fact::<Bounds>()
            .map_or_else(token_cache::limits, |bounds| bounds.0);
        let tokens = cx.carry_over(format!("portcullis/identity tokens {limits:?}"), |_| {
            Arc::new(TokenCache::counted(limits, token_cache::count))
        });
        let keys = Arc::clone(&tended.keys);
        let schedules = Arc::<Schedules>::default();
        let wanted = Arc::clone(&schedules);
        // Runs once the configuration is used. A rejected one changes nothing.
        cx.push(Task::new("key set schedules", async move {
            wanted.put_to_use();
        }));
        let identity = Arc::new(Identity {
            keys,
            tokens,
            without_expiry: Arc::clone(&tended.without_expiry),
            others: Arc::clone(&tended.others),
            schedules,
        });
        cx.set_fact(Arc::clone(&identity));
        cx.set_fact(Arc::new(IdentityStatus::new(Arc::clone(&identity))));
        identity
    }
}
