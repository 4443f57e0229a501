//! The limits of the store.

use super::*;

#[test]
fn the_size_of_a_response_includes_all_its_parts() {
    let entries = Arc::new(Entries::new(200, 10));
    let cache = Cache::new(Arc::clone(&entries), KeyRules::default(), Clock::manual());
    let response = |size: usize| Incoming {
        status: StatusCode::OK,
        headers: headers(A_MINUTE),
        origin: None,
        body: vec![b'x'; size].into(),
    };
    let put = |size| cache.keep(&call(Method::GET, "/u", &[]), &response(size));
    put(7);
    let one = URL.len() + "cache-control: max-age=60\r\n".len() + 7;
    assert_eq!(entries.usage(), (one, 1));
    put(200);
    assert_eq!(entries.usage(), (0, 0));
}

#[test]
fn the_limit_includes_stored_vary_data_but_not_sent_values() {
    let entries = Arc::new(Entries::new(1 << 20, 1000));
    let cache = Cache::new(Arc::clone(&entries), KeyRules::default(), Clock::manual());
    let large = "x".repeat(100_000);
    let response = |vary: &str| Incoming {
        status: StatusCode::OK,
        headers: headers(&[("cache-control", "max-age=60"), ("vary", vary)]),
        origin: None,
        body: Bytes::new(),
    };
    let sent = [("x-forwarded-for", large.as_str())];
    cache.keep(
        &call(Method::GET, "/u", &sent),
        &response("X-Forwarded-For"),
    );
    let (bytes, _) = entries.usage();
    assert!((100..400).contains(&bytes), "{bytes}");
    let names: Vec<String> = (0..1000).map(|n| format!("x-{n}")).collect();
    cache.keep(
        &call(Method::GET, "/u", &sent),
        &response(&names.join(", ")),
    );
    let (bytes, _) = entries.usage();
    assert!(bytes > 1000 * 32, "{bytes}");
}

#[test]
fn the_store_never_exceeds_its_limits() {
    let entries = Arc::new(Entries::new(10_000, 8));
    let cache = Cache::new(Arc::clone(&entries), KeyRules::default(), Clock::manual());
    let response = |size: usize| Incoming {
        status: StatusCode::OK,
        headers: headers(A_MINUTE),
        origin: None,
        body: vec![b'x'; size].into(),
    };
    for n in 0..100 {
        let out = call(Method::GET, &format!("/u/{n}"), &[]);
        cache.keep(&out, &response(100 * (n % 20)));
        let (bytes, items) = entries.usage();
        assert!(bytes <= 10_000 && items <= 8, "{bytes} {items}");
    }
    let out = call(Method::GET, "/u", &[]);
    cache.keep(&out, &response(20_000));
    assert_eq!(cache.found(&out), None);
}

#[test]
fn recently_used_responses_are_kept() {
    let entries = Arc::new(Entries::new(1 << 20, 2));
    let cache = Cache::new(entries, KeyRules::default(), Clock::manual());
    let bench = apart();
    let put = |target: &str| {
        let response = bench.response("x", A_MINUTE);
        cache.keep(&call(Method::GET, target, &[]), &response);
    };
    let has = |target: &str| cache.found(&call(Method::GET, target, &[])).is_some();
    put("a");
    put("b");
    assert!(has("a"));
    put("c");
    assert!(has("a") && has("c") && !has("b"));
}
