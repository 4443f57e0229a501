//! Retries and hedged requests.

use std::time::Instant;

use super::*;
use crate::support::Upstream;
use crate::support::http::request;

fn post(gateway: &Gateway) -> u16 {
    gateway
        .send("POST", request("POST", "/a", &[("Content-Length", "0")]))
        .status
}

#[test]
fn a_failed_call_is_made_again_on_another_host() {
    let (a, b) = (named("a"), named("b"));
    become_(&a, "a", 200, 503);
    let retries = json!({ "attempts": 1, "on": ["503"], "budget_percent": 100 });
    let gateway = start(&[&a, &b], json!({ "retries": retries }));
    for path in ["/a", "/text"] {
        for _ in 0..6 {
            let response = gateway.get(path);
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, "b"),
                "{path}"
            );
        }
    }
    assert_eq!(
        a.take_seen().len() + b.take_seen().len(),
        18,
        "half of the calls went to both"
    );
    let posts: Vec<u16> = (0..4).map(|_| post(&gateway)).collect();
    assert_eq!(
        posts.iter().filter(|status| **status == 503).count(),
        2,
        "{posts:?}"
    );
}

#[test]
fn the_file_may_repeat_methods_that_are_not_idempotent() {
    let (a, b) = (named("a"), named("b"));
    become_(&a, "a", 200, 503);
    let retries = json!({ "on": ["503"], "non_idempotent": true, "budget_percent": 100 });
    let gateway = start(&[&a, &b], json!({ "retries": retries }));
    assert_eq!((0..6).map(|_| post(&gateway)).collect::<Vec<_>>(), [200; 6]);
}

#[test]
fn a_budget_limits_retries_and_the_last_response_is_passed_on() {
    let a = named("a");
    become_(&a, "busy", 200, 503);
    let retries = json!({ "attempts": 3, "budget_percent": 0, "budget_min_per_second": 1 });
    let port = ports::free();
    let mut text = file(&[&a], json!({ "retries": retries }));
    text["extra_config"] =
        json!({ "portcullis/metrics": { "listen": format!("127.0.0.1:{port}") } });
    let gateway = Gateway::start(&text.to_string());
    let since = Instant::now();
    for _ in 0..20 {
        let response = gateway.get("/a");
        assert_eq!((response.status, response.text().as_str()), (503, "busy"));
    }
    // One at the start, and one for each second since the gateway was started.
    let most = 20 + 2 + since.elapsed().as_secs() as usize + 20;
    let seen = a.take_seen().len();
    assert!((21..=most).contains(&seen), "{seen}");
    let mut client = crate::support::Client::connect(port).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let over = format!(
        "portcullis_upstream_repeats_total{{host=\"{}\",kind=\"over_budget\"}}",
        a.url()
    );
    let line = page.lines().find(|line| line.starts_with(&over)).unwrap();
    assert!(!line.ends_with(" 0"), "{line}");
}

#[test]
fn a_connection_that_ends_before_the_response_is_a_failure() {
    let broken = Upstream::start(|_| Ok(()));
    let good = named("good");
    let text = json!({ "version": 3, "endpoints": [{ "endpoint": "/a", "output_encoding": "no-op", "timeout": "10s",
        "backend": [{ "host": [broken.url(), good.url()], "url_pattern": "/x", "extra_config": { "portcullis/upstream":
            { "retries": { "on": ["reset"], "budget_percent": 100 } } } }] }] });
    let gateway = Gateway::start(&text.to_string());
    for _ in 0..6 {
        assert_eq!(gateway.get("/a").text(), "good");
    }
}

#[test]
fn an_attempt_has_its_own_time_and_the_endpoint_limits_all() {
    let slow = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(60));
        Ok(())
    });
    let good = named("good");
    let endpoint = |path: &str, hosts: Value, timeout: &str, attempts: u8, each: &str| {
        json!({ "endpoint": path, "output_encoding": "no-op", "timeout": timeout, "backend": [{ "host": hosts, "url_pattern": "/x",
            "extra_config": { "portcullis/upstream": { "retries":
                { "attempts": attempts, "per_try_timeout": each, "budget_percent": 100, "budget_min_per_second": 100 } } } }] })
    };
    let text = json!({ "version": 3, "endpoints": [
        endpoint("/both", json!([slow.url(), good.url()]), "60s", 1, "3s"),
        endpoint("/slow", json!([slow.url()]), "400ms", 10, "100ms"),
    ] });
    let gateway = Gateway::start(&text.to_string());
    let since = Instant::now();
    for _ in 0..2 {
        assert_eq!(gateway.get("/both").text(), "good");
    }
    assert!(
        since.elapsed() < Duration::from_secs(30),
        "{:?}",
        since.elapsed()
    );
    let since = Instant::now();
    assert_eq!(gateway.get("/slow").status, 500);
    assert!(
        since.elapsed() < Duration::from_secs(20),
        "{:?}",
        since.elapsed()
    );
}

#[test]
fn a_hedged_request_wins_and_the_slow_one_is_cancelled() {
    let (tell, told) = std::sync::mpsc::channel();
    let slow = Upstream::start(move |mut call| {
        let _ = tell.send(call.sees_hang_up(Duration::from_secs(60)));
        Ok(())
    });
    let good = named("good");
    let text = json!({ "version": 3, "endpoints": [{ "endpoint": "/text", "output_encoding": "string", "timeout": "60s",
        "backend": [{ "host": [slow.url(), good.url()], "url_pattern": "/x", "encoding": "string", "extra_config": { "portcullis/upstream":
            { "hedge": { "after": "50ms" } } } }] }] });
    let gateway = Gateway::start(&text.to_string());
    let since = Instant::now();
    for _ in 0..2 {
        assert_eq!(gateway.get("/text").text(), "good");
    }
    assert!(
        since.elapsed() < Duration::from_secs(30),
        "{:?}",
        since.elapsed()
    );
    assert!(
        told.recv_timeout(LIMIT).unwrap(),
        "the connection of the loser is closed"
    );
}
