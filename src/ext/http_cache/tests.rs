use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::entries::Entries;
use super::runtime::{Cache, Identities};
use crate::runtime::clock::Clock;
use crate::runtime::step::{Lookup, ResponseCache};
use crate::upstream::Incoming;

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

fn bench(identities: Identities, max_bytes: usize, max_items: usize) -> Bench {
    let clock = Clock::manual();
    let entries = Arc::new(Entries::new(max_bytes, max_items));
    Bench {
        cache: Cache::new(entries, identities, clock.clone()),
        clock,
    }
}

fn apart() -> Bench {
    bench(Identities::Apart(Box::default()), 1 << 20, 100)
}

impl Bench {
    fn answer(&self, body: &'static str, pairs: &[(&str, &str)]) -> Incoming {
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
        let answer = self.answer(body, pairs);
        self.cache.store(&Method::GET, URL, &headers(sent), &answer);
    }

    /// The stored body, or the word for why there is none.
    fn get(&self, sent: &[(&str, &str)]) -> String {
        match self.cache.lookup(&Method::GET, URL, &headers(sent)) {
            Lookup::Fresh(answer) => String::from_utf8(answer.body.to_vec()).unwrap(),
            Lookup::Stale(fields) => format!(
                "stale {}",
                fields
                    .iter()
                    .map(|f| f.0.as_str())
                    .collect::<Vec<_>>()
                    .join(",")
            ),
            Lookup::Miss => "miss".to_owned(),
            Lookup::Refused => "refused".to_owned(),
        }
    }
}

const A_MINUTE: &[(&str, &str)] = &[("cache-control", "max-age=60")];

#[test]
fn an_answer_is_fresh_for_its_max_age() {
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
fn an_answer_without_date_or_freshness_is_stale_at_once() {
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
fn no_store_on_either_side_stores_nothing_and_drops_what_was_there() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    bench.put(&[], "2", &[("cache-control", "no-store")]);
    assert_eq!(bench.get(&[]), "miss");
    bench.put(&[("cache-control", "no-store")], "1", A_MINUTE);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn a_stale_answer_with_validators_is_asked_about() {
    let bench = apart();
    let given = [
        ("cache-control", "max-age=0"),
        ("etag", "\"v1\""),
        ("last-modified", "Fri, 10 Nov 2023 00:00:00 GMT"),
    ];
    bench.put(&[], "1", &given);
    assert_eq!(bench.get(&[]), "stale if-none-match,if-modified-since");
    assert_eq!(bench.get(&[("if-none-match", "\"v0\"")]), "stale ");
    let not_modified = Incoming {
        status: StatusCode::NOT_MODIFIED,
        ..bench.answer("", &[("cache-control", "max-age=9"), ("x-new", "1")])
    };
    let updated = bench
        .cache
        .revalidated(&Method::GET, URL, &HeaderMap::new(), &not_modified)
        .unwrap();
    assert_eq!(updated.body, "1");
    assert_eq!(updated.headers["x-new"], "1");
    assert_eq!(updated.headers["etag"], "\"v1\"");
    assert_eq!(bench.get(&[]), "1");
}

#[test]
fn a_client_may_ask_for_more_or_less_freshness() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    bench.clock.advance(Duration::from_secs(30));
    assert_eq!(bench.get(&[("cache-control", "no-cache")]), "miss");
    assert_eq!(bench.get(&[("pragma", "no-cache")]), "miss");
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
fn a_stale_answer_stands_in_for_a_failed_upstream_when_it_allows_that() {
    let bench = apart();
    let stand_in = |sent: &[(&str, &str)]| {
        let sent = headers(sent);
        bench.cache.on_error(&Method::GET, URL, &sent).is_some()
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
fn vary_keeps_one_variant_apart_from_others() {
    let bench = apart();
    let given = [("cache-control", "max-age=60"), ("vary", "X-T")];
    bench.put(&[("x-t", "1")], "1", &given);
    assert_eq!(bench.get(&[("x-t", "2")]), "miss");
    bench.put(&[("x-t", "2")], "2", &given);
    assert_eq!(bench.get(&[("x-t", "2")]), "2");
    assert_eq!(bench.get(&[("x-t", "1")]), "miss");
    bench.put(&[], "3", &[("cache-control", "max-age=60"), ("vary", "*")]);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn an_answer_to_credentials_is_stored_only_if_it_is_public() {
    for credentials in [("authorization", "Bearer x"), ("cookie", "sid=1")] {
        let bench = apart();
        bench.put(&[credentials], "1", A_MINUTE);
        assert_eq!(bench.get(&[credentials]), "miss");
        bench.put(
            &[credentials],
            "1",
            &[("cache-control", "public, max-age=60")],
        );
        assert_eq!(bench.get(&[credentials]), "1");
        assert_eq!(bench.get(&[]), "1");
    }
}

#[test]
fn an_answer_to_a_stranger_is_not_given_to_one_with_credentials_unless_public() {
    let bench = apart();
    bench.put(&[], "for all", A_MINUTE);
    assert_eq!(bench.get(&[("authorization", "Bearer x")]), "miss");
}

#[test]
fn private_answers_are_for_all_who_send_no_credentials() {
    let bench = apart();
    let given = [("cache-control", "private, max-age=60")];
    bench.put(&[], "1", &given);
    assert_eq!(bench.get(&[]), "1");
    assert_eq!(bench.get(&[("cookie", "a=b")]), "miss");
    let bench = apart();
    let given = [("cache-control", "private, public, max-age=60")];
    bench.put(&[("authorization", "Bearer x")], "1", &given);
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn answers_with_new_cookies_are_not_stored() {
    let bench = apart();
    bench.put(
        &[],
        "1",
        &[("cache-control", "max-age=60"), ("set-cookie", "a=b")],
    );
    assert_eq!(bench.get(&[]), "miss");
}

#[test]
fn propagated_claims_keep_identities_apart_unless_they_may_share() {
    let names = [HeaderName::from_static("x-user")];
    let bench_apart = bench(Identities::Apart(names.into()), 1 << 20, 100);
    bench_apart.put(&[("x-user", "a")], "of a", A_MINUTE);
    assert_eq!(bench_apart.get(&[("x-user", "a")]), "of a");
    assert_eq!(bench_apart.get(&[("x-user", "b")]), "miss");
    assert_eq!(bench_apart.get(&[]), "miss");
    let names = ["x-user", "x-tenant"].map(HeaderName::from_static);
    let bench_apart = bench(Identities::Apart(names.into()), 1 << 20, 100);
    bench_apart.put(&[("x-user", "a")], "of user a", A_MINUTE);
    assert_eq!(bench_apart.get(&[("x-tenant", "a")]), "miss");
    let shared = bench(Identities::Shared, 1 << 20, 100);
    shared.put(&[("x-user", "a")], "of a", A_MINUTE);
    assert_eq!(shared.get(&[("x-user", "b")]), "of a");
}

#[test]
fn an_unsafe_method_and_a_range_pass_by() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    assert_eq!(bench.get(&[("range", "bytes=0-1")]), "miss");
    assert_eq!(bench.get(&[]), "1");
    let post = bench.cache.lookup(&Method::POST, URL, &HeaderMap::new());
    assert!(matches!(post, Lookup::Miss));
    assert_eq!(bench.get(&[]), "1");
}

#[test]
fn age_is_counted_from_date_alone() {
    let bench = apart();
    bench.put(&[], "1", &[("cache-control", "max-age=60"), ("age", "100")]);
    assert_eq!(bench.get(&[]), "1");
}

#[test]
fn a_small_store_counts_what_an_answer_is_made_of() {
    let entries = Arc::new(Entries::new(200, 10));
    let cache = Cache::new(Arc::clone(&entries), Identities::Shared, Clock::manual());
    let answer = |size: usize| Incoming {
        status: StatusCode::OK,
        headers: headers(A_MINUTE),
        origin: None,
        body: vec![b'x'; size].into(),
    };
    let put = |size| cache.store(&Method::GET, URL, &HeaderMap::new(), &answer(size));
    put(7);
    let one = URL.len() + "cache-control: max-age=60\r\n".len() + 7;
    assert_eq!(entries.usage(), (one, 1));
    put(200);
    assert_eq!(entries.usage(), (0, 0));
}

#[test]
fn head_and_get_are_stored_apart() {
    let bench = apart();
    bench.put(&[], "1", A_MINUTE);
    let head = bench.cache.lookup(&Method::HEAD, URL, &HeaderMap::new());
    assert!(matches!(head, Lookup::Miss));
}

#[test]
fn the_store_never_holds_more_than_its_bounds() {
    let entries = Arc::new(Entries::new(10_000, 8));
    let cache = Cache::new(Arc::clone(&entries), Identities::Shared, Clock::manual());
    let answer = |size: usize| Incoming {
        status: StatusCode::OK,
        headers: headers(A_MINUTE),
        origin: None,
        body: vec![b'x'; size].into(),
    };
    for n in 0..100 {
        let url = format!("{URL}/{n}");
        cache.store(
            &Method::GET,
            &url,
            &HeaderMap::new(),
            &answer(100 * (n % 20)),
        );
        let (bytes, items) = entries.usage();
        assert!(bytes <= 10_000 && items <= 8, "{bytes} {items}");
    }
    cache.store(&Method::GET, URL, &HeaderMap::new(), &answer(20_000));
    let miss = cache.lookup(&Method::GET, URL, &HeaderMap::new());
    assert!(matches!(miss, Lookup::Miss));
}

#[test]
fn what_was_used_last_stays() {
    let entries = Arc::new(Entries::new(1 << 20, 2));
    let cache = Cache::new(entries, Identities::Shared, Clock::manual());
    let bench = apart();
    let put = |url: &str| {
        cache.store(
            &Method::GET,
            url,
            &HeaderMap::new(),
            &bench.answer("x", A_MINUTE),
        );
    };
    let has = |url: &str| {
        matches!(
            cache.lookup(&Method::GET, url, &HeaderMap::new()),
            Lookup::Fresh(_)
        )
    };
    put("a");
    put("b");
    assert!(has("a"));
    put("c");
    assert!(has("a") && has("c") && !has("b"));
}
