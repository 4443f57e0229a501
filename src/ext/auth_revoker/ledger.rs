//! The list of revoked tokens, and the desk through which it is read and written.

use std::fmt;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use arc_swap::ArcSwapOption;
use aws_lc_rs::constant_time::verify_slices_are_equal;
use serde_json::Value;
use smallvec::SmallVec;

use crate::ext::identity::Revocation;
use crate::jose::Claims;
use crate::jose::bloom::RevokedTokens;
use crate::runtime::clock::Clock;

/// The revoked tokens, and the clock by which they expire.
#[derive(Debug)]
pub struct Ledger {
    pub tokens: RevokedTokens,
    pub clock: Clock,
}

impl Ledger {
    fn add(&self, element: &[u8]) {
        self.tokens.add(element, self.clock.now());
    }

    /// Whether an element such as `jti-J1` is in the list.
    pub fn contains(&self, element: &[u8]) -> bool {
        self.tokens.contains(element, self.clock.now())
    }
}

/// The access to the lists for all interfaces. Lives as long as the configuration has a revoker.
#[derive(Default)]
pub struct Desk {
    /// The lists in use, the newest last: during a reload the old service still uses the old one.
    ledgers: Mutex<Vec<Weak<Ledger>>>,
    secret: ArcSwapOption<Vec<u8>>,
}

impl Desk {
    /// Adds a list and sets the secret. With an empty secret, no client that must present one is accepted.
    pub fn open(&self, ledger: &Arc<Ledger>, secret: &str) {
        let secret = (!secret.is_empty()).then(|| Arc::new(secret.as_bytes().to_vec()));
        self.secret.store(secret);
        let mut ledgers = self.ledgers();
        ledgers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(ledger)));
        ledgers.push(Arc::downgrade(ledger));
    }

    /// Whether this is the secret. The comparison takes constant time.
    pub fn trusts(&self, secret: &[u8]) -> bool {
        let known = self.secret.load();
        known
            .as_ref()
            .is_some_and(|known| verify_slices_are_equal(known, secret).is_ok())
    }

    /// Revokes the tokens that `element` identifies.
    pub fn add(&self, element: &[u8]) {
        for ledger in self.in_use() {
            ledger.add(element);
        }
    }

    /// Whether an element is in the newest list.
    pub fn contains(&self, element: &[u8]) -> bool {
        let newest = self.in_use().pop();
        newest.is_some_and(|ledger| ledger.contains(element))
    }

    fn in_use(&self) -> Vec<Arc<Ledger>> {
        self.ledgers().iter().filter_map(Weak::upgrade).collect()
    }

    fn ledgers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Ledger>>> {
        // Every change is a single call, so a panic leaves no partial change.
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// The interface for validators.
#[derive(Debug)]
pub struct TokenRevocation {
    ledger: Arc<Ledger>,
    claims: Box<[Box<str>]>,
}

impl TokenRevocation {
    /// Looks up these claims in this list.
    pub fn new(ledger: Arc<Ledger>, claims: &[String]) -> TokenRevocation {
        let claims = claims.iter().map(|claim| claim.as_str().into());
        TokenRevocation {
            ledger,
            claims: claims.collect(),
        }
    }
}

impl Revocation for TokenRevocation {
    /// As in KrakenD, only claims that are strings are looked up.
    fn is_revoked(&self, claims: &Claims) -> bool {
        self.claims.iter().any(|name| {
            let Some(Value::String(value)) = claims.claim(name) else {
                return false;
            };
            self.ledger.contains(&element(name, value))
        })
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
