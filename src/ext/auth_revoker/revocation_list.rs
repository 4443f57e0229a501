//! The list of revoked tokens, and the interface through which it is read and written.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde_json::Value;
use smallvec::SmallVec;

use super::fleet::Fleet;
use super::logout::{self, Logouts, Noted};
use crate::ext::identity::Revocation;
use crate::jose::Claims;
use crate::jose::bloom::RevokedTokens;
use crate::runtime::clock::Clock;

/// The revoked tokens, and the clock by which they expire.
#[derive(Debug)]
pub struct RevocationList {
    /// What the list is made for. An upgrade passes it to a list of the same shape.
    pub shape: Box<str>,
    pub tokens: RevokedTokens,
    /// The number of elements for which the list is made (`N`).
    pub elements: u64,
    /// Users who have logged out at their provider.
    pub logouts: Logouts,
    /// How long a logout is remembered.
    pub keep: Duration,
    pub clock: Clock,
}

impl RevocationList {
    fn add(&self, element: &[u8]) {
        let now = self.clock.now();
        match self.logouts.note(element, now, self.keep) {
            Noted::Yes => {}
            Noted::No => {
                if self.tokens.add(element, now, self.elements) {
                    log::warn!(
                        "[SERVICE: Revoker] more than {} tokens are revoked: valid tokens are rejected more often than \"P\" says. Increase \"N\"",
                        self.elements
                    );
                }
            }
            Noted::Full => log::error!(
                "[SERVICE: Revoker] too many logouts are remembered: the tokens of one user are not revoked"
            ),
        }
    }

    /// Whether an element such as `jti-J1` is in the list.
    pub fn contains(&self, element: &[u8]) -> bool {
        self.tokens.contains(element, self.clock.now())
    }
}

/// The access to the lists for all interfaces. Lives as long as the configuration has a revoker.
#[derive(Default)]
pub struct RevocationAccess {
    /// The lists in use, the newest last: during a reload the old service still uses the old one.
    ledgers: Mutex<Vec<Weak<RevocationList>>>,
    secret: ArcSwapOption<Vec<u8>>,
    /// The other gateways. The configuration in use owns it.
    fleet: ArcSwap<Weak<Fleet>>,
}

impl RevocationAccess {
    /// Adds a list, and sets the secret and the fleet that shares it. With an empty secret, no client that must present
    /// one is accepted.
    pub fn open(&self, list: &Arc<RevocationList>, secret: &str, fleet: Option<&Arc<Fleet>>) {
        self.fleet
            .store(Arc::new(fleet.map_or_else(Weak::new, Arc::downgrade)));
        let secret = (!secret.is_empty()).then(|| Arc::new(secret.as_bytes().to_vec()));
        self.secret.store(secret);
        let mut ledgers = self.ledgers();
        ledgers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(list)));
        ledgers.push(Arc::downgrade(list));
    }

    /// Compares the secret in constant time.
    pub fn trusts(&self, secret: &[u8]) -> bool {
        let known = self.secret.load();
        known
            .as_ref()
            .is_some_and(|known| verify_slices_are_equal(known, secret).is_ok())
    }

    /// Revokes the tokens that `element` identifies.
    pub fn add(&self, element: &[u8]) {
        self.learn(element);
        if let Some(fleet) = self.fleet.load().upgrade() {
            fleet.tell(element);
        }
    }

    /// Revokes the tokens that `element` identifies. Another gateway has reported them.
    pub fn learn(&self, element: &[u8]) {
        for list in self.in_use() {
            list.add(element);
        }
    }

    /// Whether an element is in the newest list.
    pub fn contains(&self, element: &[u8]) -> bool {
        let newest = self.in_use().pop();
        newest.is_some_and(|list| list.contains(element))
    }

    fn in_use(&self) -> Vec<Arc<RevocationList>> {
        self.ledgers().iter().filter_map(Weak::upgrade).collect()
    }

    fn ledgers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<RevocationList>>> {
        // Every change is a single call, so a panic leaves no partial change.
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
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
