use std::sync::atomic::AtomicUsize;

use super::*;
use crate::jose::algorithm::{Algorithm, Algorithms};
use crate::jose::key_set::{KeyIdStrategy, KeySet};
use crate::jose::reason::Reason;
use crate::jose::rules::Rules;
use crate::jose::testing::{jwk, public_document, public_set, set, token};

const NOW: Duration = Duration::from_secs(1_700_000_000);
const LEEWAY: Duration = Duration::from_secs(1);
const ORIGIN: Origin = Origin(1);
const HS256: Verifier = Verifier::new(Algorithm::Hs256, KeyIdStrategy::Kid);

fn limits(entries: usize) -> CacheLimits {
    CacheLimits {
        entries,
        ..CacheLimits::default()
    }
}

fn scope(origin: Origin) -> Scope {
    Scope {
        origin,
        verifier: HS256,
    }
}

fn claims(json: &str) -> Arc<Claims> {
    Arc::new(Claims::parse(json.as_bytes()).unwrap())
}

fn verify(
    cache: &TokenCache,
    text: &str,
    keys: &KeySet,
    origin: Origin,
) -> Result<Arc<Claims>, Reason> {
    HS256
        .verify_cached(text, keys, origin, cache, NOW, LEEWAY)
        .verdict
        .map_err(|rejection| rejection.reason)
}

#[test]
fn the_second_lookup_of_a_token_is_a_hit() {
    let cache = TokenCache::new(limits(10));
    let (text, keys) = (token(Algorithm::Hs256, r#"{"sub":"u1"}"#), public_set());
    let look = |text: &str| HS256.verify_cached(text, &keys, ORIGIN, &cache, NOW, LEEWAY);
    let (first, second) = (look(&text), look(&text));
    assert!(first.computed && !second.computed);
    assert!(Arc::ptr_eq(
        &first.verdict.unwrap(),
        &second.verdict.unwrap()
    ));
    let stats = cache.stats();
    assert_eq!((stats.hits, stats.misses, stats.entries), (1, 1, 1));
    assert!(stats.bytes > text.len());
}

#[test]
fn a_cached_token_is_still_checked_against_the_rules_of_each_endpoint() {
    let cache = TokenCache::new(limits(10));
    let (text, keys) = (
        token(Algorithm::Hs256, r#"{"iss":"a","exp":1700000010}"#),
        public_set(),
    );
    let lenient = Rules::default();
    let strict = Rules {
        issuer: Some("b".into()),
        ..Rules::default()
    };
    for _ in 0..2 {
        let claims = verify(&cache, &text, &keys, ORIGIN).unwrap();
        assert_eq!(lenient.check(&claims, NOW), Ok(()));
        assert_eq!(
            strict.check(&claims, NOW).unwrap_err().reason,
            Reason::WrongIssuer
        );
        assert_eq!(
            lenient
                .check(&claims, NOW + Duration::from_secs(12))
                .unwrap_err()
                .reason,
            Reason::Expired
        );
    }
    assert_eq!(cache.stats().hits, 1);
}

#[test]
fn an_entry_is_not_found_under_another_document_algorithm_or_strategy() {
    let cache = TokenCache::new(limits(10));
    let text = token(Algorithm::Hs256, "{}");
    cache.insert(&text, scope(ORIGIN), &claims("{}"), NOW, LEEWAY);
    assert!(cache.get(&text, scope(ORIGIN), NOW).is_some());
    assert!(cache.get(&text, scope(Origin(2)), NOW).is_none());
    for verifier in [
        Verifier {
            algorithms: Algorithms::only(Algorithm::Hs384),
            ..HS256
        },
        Verifier {
            strategy: KeyIdStrategy::X5t,
            ..HS256
        },
    ] {
        assert!(
            cache
                .get(
                    &text,
                    Scope {
                        origin: ORIGIN,
                        verifier
                    },
                    NOW
                )
                .is_none()
        );
    }
    // Also through the public interface: a cached HS256 token does not become an HS512 one.
    let other = Verifier {
        algorithms: Algorithms::only(Algorithm::Hs512),
        ..HS256
    };
    let rejection = other
        .verify_cached(&text, &public_set(), ORIGIN, &cache, NOW, LEEWAY)
        .verdict
        .unwrap_err();
    assert_eq!(rejection.reason, Reason::AlgNotAllowed);
}

#[test]
fn a_token_is_not_found_after_its_key_was_removed() {
    let cache = TokenCache::new(limits(10));
    let text = token(Algorithm::Hs256, "{}");
    verify(&cache, &text, &public_set(), ORIGIN).unwrap();
    let without = KeySet::parse(&set(&[jwk("rsa", false)])).unwrap().set;
    let next = Origin(2);
    assert_eq!(
        verify(&cache, &text, &without, next),
        Err(Reason::UnknownKey)
    );
}

#[test]
fn tokens_with_the_same_prefix_or_suffix_are_distinct() {
    let cache = TokenCache::new(limits(10));
    let (text, keys) = (token(Algorithm::Hs256, r#"{"sub":"u1"}"#), public_set());
    verify(&cache, &text, &keys, ORIGIN).unwrap();
    let forged_end = format!("{}AAAA", &text[..text.len() - 4]);
    assert_eq!(
        verify(&cache, &forged_end, &keys, ORIGIN),
        Err(Reason::BadSignature)
    );
    let (head, rest) = text.split_once('.').unwrap();
    let (_, signature) = rest.split_once('.').unwrap();
    let forged_middle = format!("{head}.eyJzdWIiOiJyb290In0.{signature}");
    assert_eq!(
        verify(&cache, &forged_middle, &keys, ORIGIN),
        Err(Reason::BadSignature)
    );
    for cut in 1..text.len() {
        assert!(cache.get(&text[..cut], scope(ORIGIN), NOW).is_none());
    }
}

#[test]
fn tokens_with_the_same_hash_are_distinct() {
    let cache = TokenCache::new(limits(10));
    let hash = cache.hash(b"good", scope(ORIGIN));
    cache.insert("good", scope(ORIGIN), &claims("{}"), NOW, LEEWAY);
    let shard = &cache.shards[0];
    assert!(
        shard
            .read(|held| held.get(hash, b"good", scope(ORIGIN), NOW))
            .is_some()
    );
    assert!(
        shard
            .read(|held| held.get(hash, b"evil", scope(ORIGIN), NOW))
            .is_none()
    );
}

#[test]
fn rejected_tokens_do_not_evict_entries() {
    let cache = TokenCache::new(limits(100));
    let keys = public_set();
    let good: Vec<_> = (0..100)
        .map(|n| token(Algorithm::Hs256, &format!("{{\"n\":{n}}}")))
        .collect();
    for text in &good {
        verify(&cache, text, &keys, ORIGIN).unwrap();
    }
    let (head, _) = good[0].rsplit_once('.').unwrap();
    for n in 0..100_000_u32 {
        let forged = format!("{head}.{n:043}");
        assert!(verify(&cache, &forged, &keys, ORIGIN).is_err());
    }
    let before = cache.stats();
    assert_eq!((before.entries, before.evictions), (100, 0));
    for text in &good {
        verify(&cache, text, &keys, ORIGIN).unwrap();
    }
    assert_eq!(cache.stats().hits, before.hits + 100);
}

#[test]
fn recently_used_entries_survive_an_eviction() {
    let cache = TokenCache::new(limits(10));
    for n in 0..10 {
        cache.insert(
            &format!("old-{n}"),
            scope(ORIGIN),
            &claims("{}"),
            NOW,
            LEEWAY,
        );
    }
    for n in 0..200 {
        for hot in 0..5 {
            assert!(
                cache
                    .get(&format!("old-{hot}"), scope(ORIGIN), NOW)
                    .is_some(),
                "{hot} after {n}"
            );
        }
        cache.insert(
            &format!("once-{n}"),
            scope(ORIGIN),
            &claims("{}"),
            NOW,
            LEEWAY,
        );
    }
    let stats = cache.stats();
    assert_eq!((stats.entries, stats.evictions), (10, 200));
}

#[test]
fn entries_and_bytes_are_bounded() {
    let many = TokenCache::new(limits(2000));
    for n in 0..10_000 {
        many.insert(&format!("t{n}"), scope(ORIGIN), &claims("{}"), NOW, LEEWAY);
    }
    assert!(many.stats().entries <= 2000 + SHARDS);
    let small = TokenCache::new(CacheLimits {
        entries: 100,
        bytes: 4000,
        ..CacheLimits::default()
    });
    for n in 0..100 {
        small.insert(
            &format!("{n:0500}"),
            scope(ORIGIN),
            &claims("{}"),
            NOW,
            LEEWAY,
        );
        assert!(small.stats().bytes <= 4000);
    }
    assert!(small.stats().entries > 0);
    small.insert(&"x".repeat(5000), scope(ORIGIN), &claims("{}"), NOW, LEEWAY);
    assert!(
        small.get(&"x".repeat(5000), scope(ORIGIN), NOW).is_none(),
        "larger than all of it"
    );
}

#[test]
fn an_expired_token_is_not_found() {
    let cache = TokenCache::new(limits(10));
    cache.insert(
        "a",
        scope(ORIGIN),
        &claims(r#"{"exp":1700000010}"#),
        NOW,
        LEEWAY,
    );
    assert!(
        cache
            .get("a", scope(ORIGIN), NOW + Duration::from_secs(10))
            .is_some()
    );
    assert!(
        cache
            .get("a", scope(ORIGIN), NOW + Duration::from_secs(11))
            .is_none()
    );
    cache.insert("b", scope(ORIGIN), &claims(r#"{"exp":1}"#), NOW, LEEWAY);
    assert!(
        cache.get("b", scope(ORIGIN), Duration::ZERO).is_none(),
        "was dead on arrival"
    );
    cache.insert("c", scope(ORIGIN), &claims(r#"{"exp":1e300}"#), NOW, LEEWAY);
    assert!(
        cache
            .get("c", scope(ORIGIN), NOW + Duration::from_secs(3599))
            .is_some()
    );
    assert!(
        cache
            .get("c", scope(ORIGIN), NOW + Duration::from_secs(3600))
            .is_none(),
        "older than max_age"
    );
}

#[test]
fn a_cache_of_size_zero_is_disabled() {
    for limits in [
        limits(0),
        CacheLimits {
            bytes: 0,
            ..limits(10)
        },
    ] {
        let cache = TokenCache::new(limits);
        let text = token(Algorithm::Hs256, "{}");
        for _ in 0..2 {
            verify(&cache, &text, &public_set(), ORIGIN).unwrap();
        }
        assert_eq!(cache.stats(), CacheStats::default());
    }
}

#[test]
fn debug_output_shows_no_token() {
    let cache = TokenCache::new(limits(10));
    cache.insert(
        "secret",
        scope(ORIGIN),
        &claims(r#"{"sub":"secret"}"#),
        NOW,
        LEEWAY,
    );
    assert!(!format!("{cache:?}").contains("secret"));
}

#[test]
fn concurrent_use_is_consistent() {
    let cache = TokenCache::new(limits(50));
    let keys = KeySet::parse(&public_document()).unwrap().set;
    let tokens: Vec<_> = (0..80)
        .map(|n| token(Algorithm::Hs256, &format!("{{\"n\":{n}}}")))
        .collect();
    std::thread::scope(|threads| {
        for start in 0..4 {
            let (cache, keys, tokens) = (&cache, &keys, &tokens);
            threads.spawn(move || {
                for round in 0..500 {
                    let n = (start * 7 + round * 13) % tokens.len();
                    let claims = verify(cache, &tokens[n], keys, ORIGIN).unwrap();
                    assert_eq!(claims.claim("n").unwrap(), n);
                }
            });
        }
    });
    assert!(cache.stats().entries <= 50);
}

#[test]
fn a_crowded_cache_inserts_a_token_when_it_is_seen_again() {
    let cache = TokenCache::new(CacheLimits::default());
    let who = claims(r#"{"sub":"u"}"#);
    let flood = |from: u32, to: u32| {
        for number in from..to {
            cache.insert(&format!("once-{number}"), scope(ORIGIN), &who, NOW, LEEWAY);
        }
    };
    flood(0, 40_000);
    let crowded = cache.stats().entries;
    flood(40_000, 80_000);
    assert!(cache.stats().entries - crowded < 200, "strangers were kept");
    assert_eq!(cache.stats().evictions, 0);
    for _ in 0..2 {
        cache.insert("regular", scope(ORIGIN), &who, NOW, LEEWAY);
    }
    assert!(cache.get("regular", scope(ORIGIN), NOW).is_some());
}

#[test]
fn what_it_holds_is_counted() {
    static HELD: AtomicUsize = AtomicUsize::new(0);
    let counted = |more: usize, fewer: usize| {
        HELD.fetch_add(more, Ordering::SeqCst);
        HELD.fetch_sub(fewer, Ordering::SeqCst);
    };
    let cache = TokenCache::counted(limits(10), counted);
    for n in 0..100 {
        let long = "x".repeat(n * 37 % 500);
        cache.insert(
            &format!("t{n}{long}"),
            scope(ORIGIN),
            &claims("{}"),
            NOW,
            LEEWAY,
        );
        assert_eq!(HELD.load(Ordering::SeqCst), cache.stats().bytes);
    }
    assert!(cache.stats().evictions > 0);
    drop(cache);
    assert_eq!(HELD.load(Ordering::SeqCst), 0);
}
