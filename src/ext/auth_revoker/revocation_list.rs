//! The list of revoked tokens, and the interface through which it is read and written.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde_json::Value;
use smallvec::SmallVec;

use super::earlier::{Added, Earlier};
use super::fleet::Fleet;
use super::logout::{self, Logouts, Noted};
use super::passed_on;
use crate::ext::identity::Revocation;
use crate::jose::Claims;
use crate::jose::bloom::{BloomError, BloomShape, RevokedTokens};
use crate::runtime::clock::Clock;
use crate::runtime::upgrade_state::{NotTold, tell_successor};

/// The revoked tokens, and the clock by which they expire.
#[derive(Debug)]
pub struct RevocationList {
    /// What the list is made for. An upgrade passes it to a list of the same shape.
    pub shape: Box<str>,
    pub tokens: RevokedTokens,
    /// What was revoked before the shape changed.
    pub earlier: Earlier,
    /// The number of elements for which the list is made (`N`).
    pub elements: u64,
    /// Users who have logged out at their provider.
    pub logouts: Arc<Logouts>,
    /// How long a logout is remembered.
    pub keep: Duration,
    pub clock: Clock,
    /// The other lists in use.
    access: Arc<RevocationAccess>,
}

impl RevocationList {
    /// An empty list for so many elements in one `period`.
    ///
    /// # Errors
    /// The list is too large, or the period too short.
    pub fn new(
        name: &str,
        (shape, elements): (BloomShape, u64),
        period: Duration,
        access: &Arc<RevocationAccess>,
    ) -> Result<RevocationList, BloomError> {
        let clock = access.clock.clone();
        Ok(RevocationList {
            shape: name.into(),
            tokens: RevokedTokens::new(shape, period, clock.now())?,
            earlier: Earlier::default(),
            elements,
            logouts: Arc::clone(&access.logouts),
            // Saturating: the longest `TTL` has no limit.
            keep: period.saturating_mul(2),
            clock,
            access: Arc::clone(access),
        })
    }

    /// Whether the list has the element now.
    fn add(&self, element: &[u8]) -> bool {
        let now = self.clock.now();
        match self.logouts.note(element, now, self.keep) {
            Noted::Yes => true,
            Noted::No => {
                if self.tokens.add(element, now, self.elements) {
                    log::warn!(
                        "[SERVICE: Revoker] more than {} tokens are revoked: valid tokens are rejected more often than \"P\" says. Increase \"N\"",
                        self.elements
                    );
                }
                true
            }
            Noted::Full => {
                log::error!(
                    "[SERVICE: Revoker] too many logouts are remembered: the tokens of one user are not revoked"
                );
                false
            }
        }
    }

    /// Whether an element such as `jti-J1` is in the list.
    pub fn contains(&self, element: &[u8]) -> bool {
        let now = self.clock.now();
        self.tokens.contains(element, now) || self.earlier.contains(element, now)
    }

    /// Adds an element that the process before this one has revoked, after it gave its list.
    pub(super) fn add_passed(&self, element: &[u8]) {
        self.add(element);
        // A reload may have replaced this list.
        self.access.learn(element);
        // The process before this one may end before it has told the others.
        self.access.tell_fleet(element);
        // The process that takes over from this one may have its state already.
        if self.access.tell_successor(element).is_err() {
            log::error!(
                "[SERVICE: Revoker] a revocation is lost, because it came from the process before this one, and the process that takes over was not told"
            );
        }
    }

    /// Reads what was revoked in the list that this one replaces.
    ///
    /// # Errors
    /// There are too many earlier lists.
    fn replace(&self, old: &RevocationList) -> Result<(), String> {
        let now = self.clock.now();
        let mut lists = old.earlier.current(now);
        let replaced = old.tokens.freeze(now);
        let life = replaced.as_ref().and_then(|list| list.life(now));
        lists.splice(..0, replaced.map(Arc::new));
        let Added { joined, lost } = self.earlier.add(lists, now);
        if lost > 0 {
            let lives = old.earlier.current(now).into_iter();
            let next = lives.filter_map(|list| list.life(now)).min().or(life);
            return Err(format!(
                "{CHANGED}, and there is no space for another earlier list of revoked tokens: keep the old values until one has expired, the next in {} s",
                next.unwrap_or_default().as_secs() + 1
            ));
        }
        if let Some(life) = life {
            log::info!(
                "[SERVICE: Revoker] {CHANGED}: what was revoked before stays revoked until its \"TTL\" is over, at most for {} s",
                life.as_secs() + 1
            );
        }
        log_joined(joined);
        Ok(())
    }
}

/// Why there is an earlier list.
pub(super) const CHANGED: &str = "\"N\", \"P\", \"TTL\" or \"hash_name\" changed";

/// Logs that so many lists were joined, if there are any.
pub(super) fn log_joined(joined: usize) {
    if joined > 0 {
        log::info!(
            "[SERVICE: Revoker] earlier lists of revoked tokens were joined {joined} times, because there are many: their entries expire together, with the last"
        );
    }
}

/// Sends a line to the process that takes over from this one, if there is one.
type Tell = Box<dyn Fn(&str) -> Result<(), NotTold> + Send + Sync>;

/// The access to the lists for all interfaces. Lives as long as the configuration has a revoker.
pub struct RevocationAccess {
    /// The lists in use, the newest last: during a reload the old service still uses the old one. A list that is used for
    /// the first time copies the newest one, so an element is added to all of them in one step.
    ledgers: Mutex<Vec<Weak<RevocationList>>>,
    secret: ArcSwapOption<Vec<u8>>,
    /// The other gateways. The configuration in use owns it.
    fleet: ArcSwap<Weak<Fleet>>,
    /// Shared by all lists.
    logouts: Arc<Logouts>,
    clock: Clock,
    tell: Tell,
}

impl Default for RevocationAccess {
    fn default() -> RevocationAccess {
        RevocationAccess::new(Clock::system(), Box::new(tell_successor))
    }
}

impl RevocationAccess {
    pub(super) fn new(clock: Clock, tell: Tell) -> RevocationAccess {
        RevocationAccess {
            ledgers: Mutex::default(),
            secret: ArcSwapOption::default(),
            fleet: ArcSwap::default(),
            logouts: Arc::default(),
            clock,
            tell,
        }
    }

    /// Adds a list, and sets the secret and the fleet that shares it. With an empty secret, no client that must present
    /// one is accepted.
    ///
    /// # Errors
    /// The list cannot replace the one in use without losing revocations.
    pub fn open(
        &self,
        list: &Arc<RevocationList>,
        secret: &str,
        fleet: Option<&Arc<Fleet>>,
    ) -> Result<(), String> {
        let mut ledgers = self.ledgers();
        let is_known = ledgers
            .iter()
            .any(|known| known.ptr_eq(&Arc::downgrade(list)));
        let newest = ledgers.iter().rev().find_map(Weak::upgrade);
        if let Some(newest) = newest.filter(|_| !is_known) {
            list.replace(&newest)?;
        }
        ledgers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(list)));
        ledgers.push(Arc::downgrade(list));
        if let (Some(new), Some(old)) = (fleet, self.fleet.load().upgrade()) {
            new.replace(&old);
        }
        self.fleet
            .store(Arc::new(fleet.map_or_else(Weak::new, Arc::downgrade)));
        let secret = (!secret.is_empty()).then(|| Arc::new(secret.as_bytes().to_vec()));
        self.secret.store(secret);
        Ok(())
    }

    /// Compares the secret in constant time.
    pub fn trusts(&self, secret: &[u8]) -> bool {
        let known = self.secret.load();
        known
            .as_ref()
            .is_some_and(|known| verify_slices_are_equal(known, secret).is_ok())
    }

    /// Revokes the tokens that `element` identifies.
    ///
    /// # Errors
    /// They are not revoked, or only here and not in the process that takes over: the sender must repeat it.
    pub(crate) fn add(&self, element: &[u8]) -> Result<(), NotRevoked> {
        let added = {
            let ledgers = self.ledgers();
            let added = add_to(&ledgers, element);
            self.tell_fleet(element);
            added
        };
        // The new process requests the list after it is known here as successor. So either this element is in what it
        // gets, or it gets this line.
        let told = self.tell_successor(element).map_err(NotRevoked::from);
        added.and(told).inspect_err(|error| {
            log::warn!("[SERVICE: Revoker] a revocation is answered with an error, and must be repeated: {error}");
        })
    }

    fn tell_fleet(&self, element: &[u8]) {
        if let Some(fleet) = self.fleet.load().upgrade() {
            fleet.tell(element);
        }
    }

    /// Revokes the tokens that `element` identifies. Another gateway has reported them.
    pub fn learn(&self, element: &[u8]) {
        // A failure is in the log.
        let _ = add_to(&self.ledgers(), element);
    }

    /// Whether revocations have an effect: some list is in use.
    pub(super) fn is_open(&self) -> bool {
        let ledgers = self.ledgers();
        ledgers.iter().any(|list| list.strong_count() > 0)
    }

    /// Whether an element is in the newest list.
    pub fn contains(&self, element: &[u8]) -> bool {
        let newest = self.ledgers().iter().rev().find_map(Weak::upgrade);
        newest.is_some_and(|list| list.contains(element))
    }

    fn tell_successor(&self, element: &[u8]) -> Result<(), NotTold> {
        let line = passed_on::late_line(element).ok_or(NotTold)?;
        (self.tell)(&line)
    }

    fn ledgers(&self) -> MutexGuard<'_, Vec<Weak<RevocationList>>> {
        // Every change is a single call, so a panic leaves no partial change.
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why a revocation must be repeated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum NotRevoked {
    #[error("no list of revoked tokens is in use")]
    NoList,
    #[error("too many logouts are remembered")]
    Full,
    #[error(transparent)]
    NotTold(#[from] NotTold),
}

/// Adds the element to all lists.
///
/// # Errors
/// A list has no space for it, or there is none.
fn add_to(ledgers: &[Weak<RevocationList>], element: &[u8]) -> Result<(), NotRevoked> {
    let mut added = Err(NotRevoked::NoList);
    for list in ledgers.iter().filter_map(Weak::upgrade) {
        let has = list.add(element);
        if !has {
            added = Err(NotRevoked::Full);
        } else if added == Err(NotRevoked::NoList) {
            added = Ok(());
        }
    }
    added
}

impl fmt::Debug for RevocationAccess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationAccess").finish_non_exhaustive()
    }
}

/// The interface for validators.
#[derive(Debug)]
pub(crate) struct TokenRevocation {
    list: Arc<RevocationList>,
    claims: Box<[Box<str>]>,
    /// Whether providers send logout tokens.
    logout: bool,
    fleet: Option<Arc<Fleet>>,
}

impl TokenRevocation {
    /// Looks up these claims in this list.
    pub(crate) fn new(
        list: Arc<RevocationList>,
        claims: &[String],
        logout: bool,
        fleet: Option<Arc<Fleet>>,
    ) -> TokenRevocation {
        let claims = claims.iter().map(|claim| claim.as_str().into());
        TokenRevocation {
            list,
            claims: claims.collect(),
            logout,
            fleet,
        }
    }
}

impl TokenRevocation {
    fn has_logged_out(&self, claims: &Claims) -> bool {
        let sid = claims.claim("sid").and_then(Value::as_str);
        let ended = claims.issuer().zip(sid).is_some_and(|(issuer, sid)| {
            self.list.contains(logout::session(issuer, sid).as_bytes())
        });
        ended || self.list.logouts.concern(claims, self.list.clock.now())
    }
}

impl Revocation for TokenRevocation {
    /// As in KrakenD, only claims that are strings are looked up.
    fn is_revoked(&self, claims: &Claims) -> bool {
        let listed = self.claims.iter().any(|name| {
            let Some(Value::String(value)) = claims.claim(name) else {
                return false;
            };
            self.list.contains(&element(name, value))
        });
        listed || self.logout && self.has_logged_out(claims)
    }

    fn has_arrived(&self) -> bool {
        self.fleet.as_ref().is_none_or(|fleet| fleet.has_arrived())
    }
}

/// The element for a token with this claim.
pub(super) fn element(claim: &str, value: &str) -> SmallVec<[u8; 128]> {
    let mut element = SmallVec::with_capacity(claim.len() + 1 + value.len());
    element.extend_from_slice(claim.as_bytes());
    element.push(b'-');
    element.extend_from_slice(value.as_bytes());
    element
}
