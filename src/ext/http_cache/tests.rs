mod limits;
mod sharing;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::entries::Entries;
use super::key::KeyRules;
use super::runtime::Cache;
use crate::ext::testing::File;
use crate::runtime::clock::Clock;
use crate::runtime::step::{CacheKey, Lookup, ResponseCache};
use crate::upstream::{Incoming, Outgoing};

const ORIGIN: &str = "http://upstream";

const URL: &str = "http://upstream/u";

fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
    pairs
        .iter()
        .map(|(name, value)| {
            (
                HeaderName::try_from(*name).unwrap(),
                HeaderValue::try_from(*value).unwrap(),
            )
        })
        .collect()
}

struct Bench {
    cache: Cache,
    clock: Clock,
}

fn leaving_out(names: &[&'static str]) -> Bench {
    let clock = Clock::manual();
    let entries = Arc::new(Entries::new(1 << 20, 100));
    let rules = KeyRules {
        left_out: names.iter().map(|n| HeaderName::from_static(n)).collect(),
    };
    Bench {
        cache: Cache::new(entries, rules, clock.clone()),
        clock,
    }
}

fn apart() -> Bench {
    leaving_out(&[])
}

fn call(method: Method, target: &str, sent: &[(&str, &str)]) -> Outgoing {
    Outgoing {
        method,
        target: target.into(),
        headers: headers(sent),
        body: Bytes::new(),
        subject: None,
        affinity: None,
    }
}

impl Cache {
    fn key_of(&self, sent: &[(&str, &str)]) -> CacheKey {
        let out = call(Method::GET, "/u", sent);
        ResponseCache::key(self, ORIGIN, &out).unwrap()
    }

    /// The stored body of this call.
    fn found(&self, out: &Outgoing) -> Option<String> {
        let key = self.key(ORIGIN, out)?;
        match self.lookup(&key, &out.headers) {
            Lookup::Fresh(response) => Some(String::from_utf8(response.body.to_vec()).unwrap()),
            _ => None,
        }
    }

    fn keep(&self, out: &Outgoing, response: &Incoming) {
        let key = self.key(ORIGIN, out).unwrap();
        self.store(&key, &out.headers, response, Duration::from_millis(800));
    }
}

impl Bench {
    fn response(&self, body: &'static str, pairs: &[(&str, &str)]) -> Incoming {
        let mut headers = headers(pairs);
        if !headers.contains_key("date") {
            let date = httpdate::fmt_http_date(UNIX_EPOCH + self.clock.wall());
            headers.insert("date", date.try_into().unwrap());
        }
        Incoming {
            status: StatusCode::OK,
            headers,
            origin: None,
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn put(&self, sent: &[(&str, &str)], body: &'static str, pairs: &[(&str, &str)]) {
        let response = self.response(body, pairs);
        self.cache.keep(&call(Method::GET, "/u", sent), &response);
    }

    /// The stored body, or a word for the reason why there is none.
    fn get(&self, sent: &[(&str, &str)]) -> String {
        let out = call(Method::GET, "/u", sent);
        let Some(key) = self.cache.key(ORIGIN, &out) else {
            return "no key".to_owned();
        };
        match self.cache.lookup(&key, &out.headers) {
            Lookup::Fresh(response) => String::from_utf8(response.body.to_vec()).unwrap(),
            Lookup::Stale(fields) => format!(
                "stale {}",
                fields
                    .iter()
                    .map(|f| f.0.as_str())
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Lookup::Miss => "miss".to_owned(),
            Lookup::Bypass => "bypass".to_owned(),
            Lookup::Rejected => "refused".to_owned(),
        }
    }
}

const A_MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[test]
fn a_response_is_fresh_for_its_max_age() {
    let bench = apart();
    assert_eq!(bench.get(&[]), "miss");
    bench.put(&[], "1", A_MINUTE);
    assert_eq!(bench.get(&[]), "1");
    bench.clock.advance(Duration::from_secs(59));
    assert_eq!(bench.get(&[]), "1");
    bench.clock.advance(Duration::from_secs(1));
    assert_eq!(bench.get(&[]), "stale ");
}

#[test]
fn without_max_age_expires_counts_from_date() {
    let bench = apart();
    let expires = httpdate::fmt_http_date(UNIX_EPOCH + bench.clock.wall() + Duration::from_secs(5));
    bench.put(&[], "1", &[("expires", &expires)]);
    assert_eq!(bench.get(&[]), "1");
    bench.clock.advance(Duration::from_secs(5));
    assert_eq!(bench.get(&[]), "stale ");
}

#[test]
fn a_response_without_date_or_freshness_is_stale_immediately() {
    let bench = apart();
    bench.put(&[], "1", &[]);
    assert_eq!(bench.get(&[]), "stale ");
    bench.put(
        &[],
        "1",
        &[("date", "junk"), ("cache-control", "max-age=60")],
    );
    assert_eq!(bench.get(&[]), "stale ");
    bench.put(&[], "1", &[("cache-control", "max-age=60, no-cache")]);
    assert_eq!(bench.get(&[]), "stale ");
}

#[test]
fn no_store_on_either_side_stores_nothing_and_removes_the_old_response() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    bench.put(&[], "2", &[("cache-control", "no-store")]);
    assert_eq!(bench.get(&[]), "miss");
    bench.put(&[("cache-control", "no-store")], "1", A_MINUTE);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn a_stale_response_with_validators_is_revalidated() {
    let bench = apart();
    let given = [
        ("cache-control", "max-age=0"),
        ("etag", "\"v1\""),
        ("last-modified", "Fri, 10 Nov 2023 00:00:00 GMT"),
    ];
    bench.put(&[], "1", &given);
    assert_eq!(bench.get(&[]), "stale if-none-match,if-modified-since");
    // Whatever the client has, the stored response is validated.
    let own = [("if-none-match", "\"v0\"")];
    assert_eq!(bench.get(&own), "stale if-none-match,if-modified-since");
    let not_modified = Incoming {
        status: StatusCode::NOT_MODIFIED,
        ..bench.response("", &[("cache-control", "max-age=9"), ("x-new", "1")])
    };
    let updated = bench
        .cache
        .revalidated(
            &bench.cache.key_of(&[]),
            &HeaderMap::new(),
            &not_modified,
            Duration::ZERO,
        )
        .unwrap();
    assert_eq!(updated.body, "1");
    assert_eq!(updated.headers["x-new"], "1");
    assert_eq!(updated.headers["etag"], "\"v1\"");
    assert_eq!(bench.get(&[]), "1");
}

#[test]
fn a_client_may_require_more_or_less_freshness() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(bench.get(&[("cache-control", "no-cache")]), "bypass");
    assert_eq!(bench.get(&[("pragma", "no-cache")]), "bypass");
    // Nor does such a client wait for an equal call, when nothing is stored.
    assert_eq!(apart().get(&[("cache-control", "no-cache")]), "bypass");
    assert_eq!(apart().get(&[("pragma", "no-cache")]), "bypass");
    assert_eq!(bench.get(&[("cache-control", "max-age=10")]), "stale ");
    assert_eq!(bench.get(&[("cache-control", "min-fresh=40")]), "stale ");
    assert_eq!(bench.get(&[("cache-control", "min-fresh=20")]), "1");
    bench.clock.advance(Duration::from_secs(100));
    assert_eq!(bench.get(&[("cache-control", "max-stale=10")]), "stale ");
    assert_eq!(bench.get(&[("cache-control", "max-stale=100")]), "1");
    assert_eq!(bench.get(&[("cache-control", "max-stale")]), "1");
    assert_eq!(bench.get(&[("cache-control", "only-if-cached")]), "1");
    assert_eq!(
        apart().get(&[("cache-control", "only-if-cached")]),
        "refused"
    );
}

#[test]
fn a_stale_response_replaces_that_of_a_failed_upstream_if_allowed() {
    let bench = apart();
    let stand_in = |sent: &[(&str, &str)]| {
        let key = bench.cache.key_of(sent);
        bench.cache.on_error(&key, &headers(sent)).is_some()
    };
    bench.put(&[], "1", A_MINUTE);
    assert!(!stand_in(&[]));
    assert!(stand_in(&[("cache-control", "stale-if-error")]));
    bench.put(
        &[],
        "1",
        &[("cache-control", "max-age=1, stale-if-error=100")],
    );
    bench.clock.advance(Duration::from_secs(99));
    assert!(stand_in(&[]));
    bench.clock.advance(Duration::from_secs(1));
    assert!(!stand_in(&[]));
}

#[test]
fn vary_separates_variants() {
    // A header that by itself is not part of the key.
    let bench = leaving_out(&["x-t"]);
    let given = [("cache-control", "max-age=60"), ("vary", "X-T")];
    bench.put(&[("x-t", "1")], "1", &given);
    assert_eq!(bench.get(&[("x-t", "2")]), "miss");
    assert_eq!(bench.get(&[("x-t", "1"), ("x-t", "2")]), "miss");
    assert_eq!(bench.get(&[]), "miss");
    bench.put(&[("x-t", "2")], "2", &given);
    assert_eq!(bench.get(&[("x-t", "2")]), "2");
    assert_eq!(bench.get(&[("x-t", "1")]), "miss");
    bench.put(&[], "3", &[("cache-control", "max-age=60"), ("vary", "*")]);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn everything_that_is_sent_to_the_backend_is_part_of_the_key() {
    let bench = apart();
    let all = [
        ("x-forwarded-host", "shop"),
        ("authorization", "Bearer x"),
        ("accept-language", "de"),
        ("forwarded", "for=192.0.2.1;host=shop;proto=https"),
    ];
    bench.put(&all, "for one", &[("cache-control", "public, max-age=60")]);
    assert_eq!(bench.get(&all), "for one");
    for (name, _) in all {
        let without: Vec<_> = all
            .into_iter()
            .filter(|(known, _)| *known != name)
            .collect();
        assert_eq!(bench.get(&without), "miss", "without {name}");
        let mut other = without.clone();
        other.push((name, "other"));
        assert_eq!(bench.get(&other), "miss", "another {name}");
    }
    let mut twice = all.to_vec();
    twice.push(("accept-language", "de"));
    assert_eq!(bench.get(&twice), "miss");
    // The order does not matter.
    let mut turned = all;
    turned.reverse();
    assert_eq!(bench.get(&turned), "for one");
}

#[test]
fn values_that_differ_in_every_request_are_not_part_of_the_key() {
    let bench = apart();
    let sent = |n: &'static str| {
        [
            ("x-forwarded-for", n),
            ("traceparent", n),
            ("cache-control", "max-age=50"),
        ]
    };
    bench.put(&sent("1"), "for all", A_MINUTE);
    assert_eq!(bench.get(&sent("2")), "for all");
    let forwarded = |client: &'static str| [("forwarded", client)];
    let (one, two) = (
        "for=192.0.2.1;host=shop, for=\"[2001:db8::1]\"",
        "For=192.0.2.2;host=shop, for=10.0.0.1",
    );
    bench.put(&forwarded(one), "for all", A_MINUTE);
    assert_eq!(bench.get(&forwarded(two)), "for all");
}

#[test]
fn the_body_and_the_origin_are_part_of_the_key() {
    let bench = apart();
    let with_body = |body: &'static str| Outgoing {
        body: Bytes::from_static(body.as_bytes()),
        ..call(Method::GET, "/u", &[])
    };
    let response = bench.response("for a", A_MINUTE);
    bench.cache.keep(&with_body("a"), &response);
    assert_eq!(bench.cache.found(&with_body("a")).as_deref(), Some("for a"));
    assert_eq!(bench.cache.found(&with_body("b")), None);
    assert_eq!(bench.cache.found(&with_body("")), None);
    let elsewhere = bench.cache.key("http://other", &with_body("a"));
    assert_ne!(elsewhere, bench.cache.key(ORIGIN, &with_body("a")));
}

#[test]
fn unsafe_methods_and_ranges_bypass_the_cache() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    assert_eq!(bench.get(&[("range", "bytes=0-1")]), "no key");
    assert_eq!(bench.get(&[]), "1");
    let post = call(Method::POST, "/u", &[]);
    assert!(bench.cache.key(ORIGIN, &post).is_none());
    assert_eq!(bench.get(&[]), "1");
}

#[test]
fn age_is_computed_only_from_date() {
    let bench = apart();
    bench.put(&[], "1", &[("cache-control", "max-age=60"), ("age", "100")]);
    assert_eq!(bench.get(&[]), "1");
}

#[test]
fn head_and_get_are_stored_separately() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    assert_eq!(bench.cache.found(&call(Method::HEAD, "/u", &[])), None);
}

impl Bench {
    /// How long a call with these headers waits for an equal one.
    fn wait(&self, sent: &[(&str, &str)]) -> Option<Duration> {
        let (key, sent) = (self.cache.key_of(sent), headers(sent));
        let found = self.cache.lookup(&key, &sent);
        let patience = self.cache.wait(&key, &sent, &found, Duration::from_secs(2));
        patience.map(|patience| patience.most)
    }

    fn learn(&self, sent: &[(&str, &str)], is_shared: bool) {
        let took = Duration::from_millis(1700);
        self.cache.learn(&headers(sent), took, is_shared);
    }
}

#[test]
fn calls_wait_for_what_others_may_use() {
    let ms = |number| Some(Duration::from_millis(number));
    let mut bench = apart();
    assert_eq!(bench.wait(&[]), ms(350));
    assert_eq!(bench.wait(&[("cache-control", "no-cache")]), None);
    // The expired response took 0.8 s.
    bench.put(&[], "1", &[("cache-control", "max-age=0")]);
    assert_eq!(bench.wait(&[]), ms(1125));
    bench.cache = bench.cache.waiting(Some(Duration::ZERO), Arc::default());
    assert_eq!(bench.wait(&[]), None);
}

#[test]
fn what_a_client_chooses_says_nothing_about_responses_to_others() {
    let bench = apart();
    for sent in [
        ("cache-control", "no-store"),
        ("authorization", "Bearer x"),
        ("cookie", "a=b"),
    ] {
        for _ in 0..3 {
            bench.learn(&[sent], false);
        }
    }
    assert_eq!(bench.wait(&[]), Some(Duration::from_millis(350)));
    assert_eq!(bench.wait(&[("cookie", "a=b")]), Some(Duration::ZERO));
    bench.learn(&[], false);
    assert_eq!(bench.wait(&[]), Some(Duration::from_micros(168_750)));
}
