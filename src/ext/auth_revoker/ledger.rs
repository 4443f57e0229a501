//! The list of revoked tokens, and the desk through which it is written to and read.

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

/// Revoked tokens and the clock by which they are forgotten.
#[derive(Debug)]
pub struct Ledger {
    pub tokens: RevokedTokens,
    pub clock: Clock,
}

impl Ledger {
    fn add(&self, element: &[u8]) {
        self.tokens.add(element, self.clock.now());
    }

    /// Whether an element such as `jti-J1` is on the list.
    pub fn contains(&self, element: &[u8]) -> bool {
        self.tokens.contains(element, self.clock.now())
    }
}

/// Where tokens are revoked, whatever the way they are named by. Lives as long as there is a revoker in the file.
#[derive(Default)]
pub struct Desk {
    /// The lists in use, the newest last: while a reload takes over, the old service still asks the old one.
    ledgers: Mutex<Vec<Weak<Ledger>>>,
    secret: ArcSwapOption<Vec<u8>>,
}

impl Desk {
    /// Puts a list and a secret to use. An empty secret lets nobody in who must show one.
    pub fn open(&self, ledger: &Arc<Ledger>, secret: &str) {
        let secret = (!secret.is_empty()).then(|| Arc::new(secret.as_bytes().to_vec()));
        self.secret.store(secret);
        let mut ledgers = self.ledgers();
        ledgers.retain(|known| known.strong_count() > 0 && !known.ptr_eq(&Arc::downgrade(ledger)));
        ledgers.push(Arc::downgrade(ledger));
    }

    /// Whether this is the secret; takes as long for a wrong one.
    pub fn trusts(&self, secret: &[u8]) -> bool {
        let known = self.secret.load();
        known
            .as_ref()
            .is_some_and(|known| verify_slices_are_equal(known, secret).is_ok())
    }

    /// Revokes what `element` stands for.
    pub fn add(&self, element: &[u8]) {
        for ledger in self.in_use() {
            ledger.add(element);
        }
    }

    /// Whether an element is on the newest list.
    pub fn contains(&self, element: &[u8]) -> bool {
        let newest = self.in_use().pop();
        newest.is_some_and(|ledger| ledger.contains(element))
    }

    fn in_use(&self) -> Vec<Arc<Ledger>> {
        self.ledgers().iter().filter_map(Weak::upgrade).collect()
    }

    fn ledgers(&self) -> std::sync::MutexGuard<'_, Vec<Weak<Ledger>>> {
        // A panic cannot leave it half changed: every change is one call.
        self.ledgers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Desk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Desk").finish_non_exhaustive()
    }
}

/// What validators ask.
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
    /// As KrakenD does: only claims that are strings are looked up.
    fn is_revoked(&self, claims: &Claims) -> bool {
        self.claims.iter().any(|name| {
            let Some(Value::String(value)) = claims.claim(name) else {
                return false;
            };
            self.ledger.contains(&element(name, value))
        })
    }
}

/// The bytes that stand for a token with this claim.
pub(super) fn element(claim: &str, value: &str) -> SmallVec<[u8; 128]> {
    let mut element = SmallVec::with_capacity(claim.len() + 1 + value.len());
    element.extend_from_slice(claim.as_bytes());
    element.push(b'-');
    element.extend_from_slice(value.as_bytes());
    element
}
