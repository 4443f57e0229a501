//! Requests that wait for an equal call of `qos/http-cache`.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{cacheable, with_time};
use crate::support::http::request;
use crate::support::{Gateway, Upstream, eventually, pause};

/// The limit for a broken build. It is long enough for a slow machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Sends `count` requests for `path` at once and returns the response bodies.
fn at_once(gateway: &Gateway, path: &str, count: usize) -> Vec<String> {
    at_once_with(gateway, path, &[], count)
}

fn at_once_with(
    gateway: &Gateway,
    path: &str,
    headers: &[(&str, &str)],
    count: usize,
) -> Vec<String> {
    std::thread::scope(|scope| {
        let asked: Vec<_> = (0..count)
            .map(|_| scope.spawn(|| gateway.get_with(path, headers).text()))
            .collect();
        asked.into_iter().map(|one| one.join().unwrap()).collect()
    })
}

/// `/N` responds with the number of the call, after `open` calls are in flight together.
fn numbered(needed: usize, response: fn(&str) -> String) -> Upstream {
    let (begun, open) = (AtomicUsize::new(0), AtomicUsize::new(0));
    Upstream::start(move |mut call| {
        let number = begun.fetch_add(1, Ordering::SeqCst) + 1;
        open.fetch_add(1, Ordering::SeqCst);
        if number > 1 {
            eventually(
                "equal calls are not made one after the other",
                LIMIT,
                || open.load(Ordering::SeqCst) > needed,
            );
        } else {
            // Long enough for the others to arrive.
            pause(Duration::from_millis(300));
        }
        call.send(response(&json!({ "n": number }).to_string()))
    })
}

#[test]
fn equal_misses_at_once_make_one_call() {
    let backend = numbered(0, cacheable);
    let gateway = with_time(&backend, &json!({}), "60s");
    let bodies = at_once(&gateway, "/a", 50);
    assert!(bodies.iter().all(|body| body == r#"{"n":1}"#), "{bodies:?}");
    assert_eq!(backend.calls(), 1);
}

#[test]
fn no_request_waits_for_a_response_that_cannot_be_cached() {
    let backend = numbered(10, |body| {
        cacheable(body).replace("public, max-age=60", "no-store")
    });
    let gateway = with_time(&backend, &json!({}), "60s");
    assert_eq!(gateway.get("/a").text(), r#"{"n":1}"#);
    // All ten are at the backend at the same time, otherwise they would never get a response.
    let bodies: HashSet<_> = at_once(&gateway, "/a", 10).into_iter().collect();
    assert_eq!(bodies.len(), 10);
}

#[test]
fn no_request_waits_longer_than_max_wait() {
    // The first response comes only when there is a second call.
    let calls = Arc::new(AtomicUsize::new(0));
    let begun = Arc::clone(&calls);
    let backend = Upstream::start(move |mut call| {
        begun.fetch_add(1, Ordering::SeqCst);
        eventually("another call", LIMIT, || begun.load(Ordering::SeqCst) > 1);
        call.send(cacheable("{}"))
    });
    let gateway = with_time(&backend, &json!({ "max_wait": "0s" }), "60s");
    at_once(&gateway, "/a", 5);
    assert!(calls.load(Ordering::SeqCst) > 1);
}

#[test]
fn a_call_that_waited_in_vain_has_time_for_its_own_response() {
    // Nothing is known about the backend, and each response takes more than three quarters of the time of a request.
    let backend = Upstream::start(|mut call| {
        pause(Duration::from_millis(7700));
        call.send(private())
    });
    let gateway = with_time(&backend, &json!({}), "10s");
    assert_eq!(at_once(&gateway, "/a", 5), ["{}"; 5]);
}

#[test]
fn a_shared_response_does_not_make_calls_wait_too_long_for_another_one() {
    // Every response takes more than half of the time of a request.
    let backend = Upstream::start(|mut call| {
        pause(Duration::from_secs(3));
        let is_shared = call.head.to_lowercase().contains("x-key: shared");
        call.send(if is_shared {
            cacheable("{}")
        } else {
            private()
        })
    });
    let gateway = with_time(&backend, &json!({}), "5s");
    let shared = gateway.get_with("/a", &[("X-Key", "shared")]);
    assert_eq!(shared.status, 200);
    assert_eq!(at_once(&gateway, "/a", 5), ["{}"; 5]);
}

#[test]
fn how_long_calls_take_is_known_after_a_reload() {
    // If the backend was unknown, calls would wait for 0.95 s and then have too little time.
    let backend = Upstream::start(|mut call| {
        pause(Duration::from_millis(4300));
        call.send(private())
    });
    let gateway = with_time(&backend, &json!({}), "5s");
    let other = gateway.get_with("/a", &[("X-Key", "other")]);
    assert_eq!(other.status, 200);
    gateway.signal("HUP");
    eventually("the reload", LIMIT, || {
        gateway.output().contains("Configuration reloaded")
    });
    assert_eq!(at_once(&gateway, "/a", 5), ["{}"; 5]);
}

/// A response that cannot be shared.
fn private() -> String {
    cacheable("{}").replace("public, max-age=60", "no-store")
}

#[test]
fn a_slow_first_call_is_cached_for_requests_that_stopped_waiting() {
    // The first call gets its response when the others no longer wait for it. Their own calls get none.
    let calls = Arc::new(AtomicUsize::new(0));
    let backend = Upstream::start(move |mut call| {
        if calls.fetch_add(1, Ordering::SeqCst) > 0 {
            call.sees_hang_up(LIMIT);
            return Ok(());
        }
        eventually("another call", LIMIT, || calls.load(Ordering::SeqCst) > 1);
        call.send(cacheable(r#"{"n":1}"#))
    });
    let gateway = with_time(&backend, &json!({ "max_wait": "1s" }), "60s");
    let bodies = at_once(&gateway, "/a", 10);
    assert!(bodies.iter().all(|body| body == r#"{"n":1}"#), "{bodies:?}");
}

#[test]
fn the_call_of_a_disconnected_client_is_made_for_the_next_one() {
    let first = AtomicBool::new(true);
    let backend = Upstream::start(move |mut call| {
        if first.swap(false, Ordering::SeqCst) {
            call.sees_hang_up(LIMIT);
            return Ok(());
        }
        call.send(cacheable(r#"{"n":1}"#))
    });
    let gateway = with_time(&backend, &json!({}), "60s");
    let mut first = gateway.client();
    first.send(request("GET", "/a", &[])).unwrap();
    eventually("the first call", LIMIT, || backend.calls() == 1);
    std::thread::scope(|scope| {
        let others = scope.spawn(|| at_once(&gateway, "/a", 5));
        pause(Duration::from_millis(300));
        drop(first);
        let bodies = others.join().unwrap();
        assert!(bodies.iter().all(|body| body == r#"{"n":1}"#), "{bodies:?}");
    });
    assert_eq!(backend.calls(), 2);
}

#[test]
fn one_slow_response_does_not_stop_the_sharing_of_others() {
    let backend = Upstream::start(|mut call| {
        let is_slow = call.head.to_lowercase().contains("x-key: slow");
        pause(Duration::from_millis(if is_slow { 9000 } else { 300 }));
        call.send(cacheable("{}"))
    });
    let gateway = with_time(&backend, &json!({}), "10s");
    for key in ["one", "slow"] {
        assert_eq!(gateway.get_with("/a", &[("X-Key", key)]).status, 200);
    }
    for (number, key) in ["two", "three", "four"].iter().enumerate() {
        at_once_with(&gateway, "/a", &[("X-Key", key)], 30);
        assert_eq!(backend.calls(), 3 + number, "{key}");
    }
}

#[test]
fn no_request_is_lost_when_fast_public_responses_become_slow_and_private() {
    let is_slow = Arc::new(AtomicBool::new(false));
    let slow = Arc::clone(&is_slow);
    let backend = Upstream::start(move |mut call| {
        if slow.load(Ordering::SeqCst) {
            pause(Duration::from_millis(8200));
            return call.send(private());
        }
        call.send(cacheable("{}").replace("max-age=60", "max-age=1"))
    });
    let gateway = with_time(&backend, &json!({}), "10s");
    assert_eq!(gateway.get("/a").status, 200);
    pause(Duration::from_secs(2));
    is_slow.store(true, Ordering::SeqCst);
    // An expired response is in the store. For the other key there is none.
    std::thread::scope(|scope| {
        let known = scope.spawn(|| at_once(&gateway, "/a", 5));
        assert_eq!(
            at_once_with(&gateway, "/a", &[("X-Key", "other")], 5),
            ["{}"; 5]
        );
        assert_eq!(known.join().unwrap(), ["{}"; 5]);
    });
}

/// A response that takes more than half of the five seconds that a request has.
const SLOW: Duration = Duration::from_secs(3);

#[test]
fn slow_responses_are_shared_after_three_of_them() {
    let backend = Upstream::start(|mut call| {
        pause(SLOW);
        call.send(cacheable("{}"))
    });
    let gateway = with_time(&backend, &json!({}), "5s");
    std::thread::scope(|scope| {
        for key in ["one", "two", "three"] {
            let get = || gateway.get_with("/a", &[("X-Key", key)]).status;
            scope.spawn(move || assert_eq!(get(), 200));
        }
    });
    let bodies = at_once_with(&gateway, "/a", &[("X-Key", "new")], 30);
    assert!(bodies.iter().all(|body| body == "{}"), "{bodies:?}");
    // The second call is made when the first one is late enough to be a risk.
    let calls = backend.calls() - 3;
    assert!((1..=2).contains(&calls), "{calls}");
}

/// The first of thirty equal calls gets `first` in `SLOW`, or nothing at all, and the others a response that can be
/// shared. Returns the number of requests without a response, and of the calls.
fn with_a_bad_first_call(first: Option<String>) -> (usize, usize) {
    let is_bad = Arc::new(AtomicBool::new(false));
    let bad = Arc::clone(&is_bad);
    let seen = AtomicUsize::new(0);
    let backend = Upstream::start(move |mut call| {
        let is_first = bad.swap(false, Ordering::SeqCst);
        let is_learned_from = seen.fetch_add(1, Ordering::SeqCst) == 0;
        if is_first && first.is_none() {
            call.sees_hang_up(LIMIT);
            return Ok(());
        }
        // Later calls are quicker than expected, so that a busy machine has a second more.
        let is_slow = is_first || is_learned_from;
        pause(if is_slow { SLOW } else { SLOW - SLOW / 3 });
        match &first {
            Some(response) if is_first => call.send(response),
            _ => call.send(cacheable("{}").replace("max-age=60", "max-age=1")),
        }
    });
    let gateway = with_time(&backend, &json!({}), "5s");
    assert_eq!(gateway.get("/a").status, 200);
    pause(Duration::from_secs(2));
    is_bad.store(true, Ordering::SeqCst);
    let bodies = at_once(&gateway, "/a", 30);
    let lost = bodies.iter().filter(|body| *body != "{}").count();
    (lost, backend.calls() - 1)
}

#[test]
fn one_failure_of_a_slow_backend_loses_one_request() {
    let failed = "HTTP/1.1 500 X\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    std::thread::scope(|scope| {
        for first in [Some(failed.to_owned()), Some(String::new()), None] {
            scope.spawn(|| {
                let (lost, calls) = with_a_bad_first_call(first);
                assert!(lost <= 1 && calls <= 3, "{lost} {calls}");
            });
        }
        // The others make their calls, as they have no reason to wait. But they use the second response.
        let private = scope.spawn(|| with_a_bad_first_call(Some(private())));
        assert_eq!(private.join().unwrap().0, 0);
    });
}

#[test]
fn behind_a_client_that_does_not_read_one_more_call_is_made() {
    let backend = Upstream::start(|mut call| call.send(cacheable(&"x".repeat(12 << 20))));
    let endpoint = json!({ "endpoint": "/a", "output_encoding": "no-op", "timeout": "60s",
        "backend": [{ "host": [backend.url()], "url_pattern": "/", "encoding": "no-op",
            "extra_config": { "qos/http-cache": { "shared": true } } }] });
    let gateway = Gateway::start(&json!({ "version": 3, "endpoints": [endpoint] }).to_string());
    let mut idle = gateway.client();
    idle.send(request("GET", "/a", &[])).unwrap();
    eventually("the first call is made", LIMIT, || backend.calls() == 1);
    let lengths = at_once(&gateway, "/a", 20);
    assert!(lengths.iter().all(|text| text.len() == 12 << 20));
    assert_eq!(backend.calls(), 2);
    // The slow client did no harm to later ones either.
    assert_eq!(gateway.get("/a").text().len(), 12 << 20);
    assert_eq!(backend.calls(), 2);
}
