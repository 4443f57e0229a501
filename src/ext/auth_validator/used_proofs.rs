//! The proofs that were used.

use std::collections::HashSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest;

use super::binding::Now;
use crate::jose::dpop::Proof;

/// The proofs of the last minutes, by a hash of key and `jti`.
///
/// Two generations: the older one is dropped when the newer one has lasted as long as a proof may be used.
#[derive(Debug)]
pub(super) struct UsedProofs {
    seen: Mutex<Seen>,
    /// The maximum number of proofs in one generation.
    most: usize,
}

impl Default for UsedProofs {
    fn default() -> UsedProofs {
        UsedProofs {
            seen: Mutex::default(),
            most: MAX_PROOFS,
        }
    }
}

/// The longest age of proofs that any endpoint of a configuration accepts, in milliseconds. It is known when all
/// endpoints are compiled, before the first request.
#[derive(Debug, Default)]
pub(crate) struct LongestAge(AtomicU64);

impl LongestAge {
    pub(super) fn include(&self, age: Duration) {
        let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
        self.0.fetch_max(millis, Ordering::Relaxed);
    }

    pub(super) fn get(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }
}

#[derive(Debug, Default)]
struct Seen {
    young: HashSet<[u8; 16]>,
    old: HashSet<[u8; 16]>,
    turned: Duration,
    /// How long proofs are remembered: the longest time that any endpoint asked for.
    kept: Duration,
    /// Proofs from before this time may have been forgotten.
    complete_since: Duration,
}

/// The number of proofs in one generation. A proof needs about 32 bytes.
const MAX_PROOFS: usize = 500_000;

/// Whether a proof may be used.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    New,
    Seen,
    /// It may have been used at a time that is no longer remembered.
    Forgotten,
    /// The limit of remembered proofs is reached. A proof that cannot be remembered is rejected.
    Full,
}

/// A hash of the key and the `jti` of a proof.
pub(super) fn fingerprint(proof: &Proof) -> [u8; 16] {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(proof.thumbprint.as_bytes());
    context.update(proof.id().as_bytes());
    let (mut fingerprint, hash) = ([0; 16], context.finish());
    let first = hash.as_ref().iter().zip(&mut fingerprint);
    first.for_each(|(byte, to)| *to = *byte);
    fingerprint
}

impl UsedProofs {
    /// Remembers a proof for `kept`. One memory serves all endpoints and outlives reloads, so `kept` can be longer than
    /// before.
    pub(super) fn admit(&self, proof: &Proof, kept: Duration, now: Now) -> Admission {
        let issued = proof.issued_at().map(|date| date.since_epoch());
        self.enter(
            fingerprint(proof),
            issued.unwrap_or_default(),
            kept,
            now,
            self.most,
        )
    }

    fn enter(
        &self,
        hash: [u8; 16],
        issued: Duration,
        kept: Duration,
        now: Now,
        most: usize,
    ) -> Admission {
        let Now { wall, steady: now } = now;
        // Every change is complete before the next line that could panic.
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if kept > seen.kept {
            if !seen.kept.is_zero() {
                seen.complete_since = wall.saturating_sub(seen.kept);
            }
            seen.kept = kept;
        }
        let kept = seen.kept;
        let since = now.saturating_sub(seen.turned);
        if since >= kept {
            let old = std::mem::take(&mut seen.young);
            seen.old = if since >= 2 * kept {
                HashSet::new()
            } else {
                old
            };
            seen.turned = now;
        }
        if issued < seen.complete_since {
            return Admission::Forgotten;
        }
        if seen.young.contains(&hash) || seen.old.contains(&hash) {
            return Admission::Seen;
        }
        if seen.young.len() >= most {
            return Admission::Full;
        }
        seen.young.insert(hash);
        Admission::New
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
    use http::{HeaderMap, HeaderName, HeaderValue, Method};
    use serde_json::json;

    use super::super::binding::{Binding, Dpop, Scheme};
    use super::*;
    use crate::ext::testing::head;
    use crate::jose::testing::{jwk, proof};
    use crate::jose::{Algorithm, Algorithms, Claims, Reason};

    const START: Duration = Duration::from_secs(1_700_000_000);

    fn at_second(second: u64) -> Now {
        let steady = Duration::from_secs(second);
        Now {
            wall: START + steady,
            steady,
        }
    }

    #[test]
    fn a_longer_lifetime_accepts_no_proof_that_may_be_forgotten() {
        let replays = UsedProofs::default();
        let enter = |number: u8, issued: u64, kept: u64, at: u64| {
            let (issued, kept) = (at_second(issued).wall, Duration::from_secs(kept));
            replays.enter([number; 16], issued, kept, at_second(at), 9)
        };
        assert_eq!(enter(1, 100, 60, 100), Admission::New);
        assert_eq!(enter(2, 300, 60, 300), Admission::New, "turns twice");
        assert_eq!(enter(1, 100, 600, 301), Admission::Forgotten);
        assert_eq!(enter(2, 300, 600, 301), Admission::Seen);
        assert_eq!(enter(3, 290, 600, 301), Admission::New);
        assert_eq!(
            enter(2, 300, 60, 380),
            Admission::Seen,
            "a shorter time changes nothing"
        );
    }

    #[test]
    fn a_proof_is_accepted_once_and_remembered_for_a_limited_time() {
        let (replays, kept) = (UsedProofs::default(), Duration::from_secs(60));
        let enter = |number: u8, at: u64| {
            replays.enter([number; 16], at_second(at).wall, kept, at_second(at), 3)
        };
        assert_eq!(enter(1, 100), Admission::New);
        assert_eq!(enter(1, 100), Admission::Seen);
        assert_eq!(enter(1, 159), Admission::Seen);
        assert_eq!(enter(2, 159), Admission::New);
        assert_eq!(enter(1, 161), Admission::Seen, "in the older generation");
        assert_eq!(enter(3, 161), Admission::New);
        assert_eq!(
            enter(2, 218),
            Admission::Seen,
            "remembered for its whole time"
        );
        assert_eq!(enter(4, 218), Admission::New);
        assert_eq!(enter(5, 218), Admission::New);
        assert_eq!(enter(6, 218), Admission::Full);
        assert_eq!(enter(3, 218), Admission::Seen);
        assert_eq!(enter(6, 500), Admission::New);
    }

    #[test]
    fn a_full_memory_is_not_the_fault_of_the_proof() {
        let (token, wall) = ("token", START);
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let key = jwk("ec256", false);
        let sign = |id: u8| {
            let claims = json!({"jti": id.to_string(), "htm": "GET", "htu": "https://a.test/x",
                "iat": wall.as_secs(), "ath": URL_SAFE_NO_PAD.encode(hash)});
            proof(Algorithm::Es256, &key, "dpop+jwt", &claims)
        };
        let algorithms = Algorithms::only(Algorithm::Es256);
        let thumbprint = Proof::verify(&sign(0), algorithms).unwrap().thumbprint;
        let claims = json!({"cnf": {"jkt": thumbprint}}).to_string();
        let claims = Claims::parse(claims.as_bytes()).unwrap();
        let binding = Binding {
            dpop: Some(Dpop {
                required: true,
                algorithms,
                max_age: Duration::from_secs(60),
                origins: ["https://a.test".into()].into(),
                nonce: None,
                replays: Arc::new(UsedProofs {
                    seen: Mutex::default(),
                    most: 1,
                }),
                shared: None,
                longest_age: Arc::default(),
            }),
            ..Binding::default()
        };
        let check = |id: u8| {
            let sent = HeaderValue::try_from(sign(id)).unwrap();
            let headers = HeaderMap::from_iter([(HeaderName::from_static("dpop"), sent)]);
            let head = head(&Method::GET, "/x", &headers);
            let checked = binding.check(&head, Scheme::Dpop, token, &claims, at_second(0));
            checked.map(drop).map_err(|rejection| rejection.reason)
        };
        assert_eq!(check(1), Ok(()));
        assert_eq!(check(1), Err(Reason::BadProof));
        assert_eq!(check(2), Err(Reason::ProofsUnavailable));
    }
}
