//! `portcullis/upstream` over real sockets: health checks, ejection, weights, retries, hedged requests, sticky hosts.

mod checks;
mod repeats;

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, Json, Stub, eventually, ports};

const LIMIT: Duration = Duration::from_secs(30);

/// A backend that says its name, and its health at `/health`.
fn named(name: &str) -> Stub {
    Stub::with(&routes(name, 200, 200))
}

fn routes(name: &str, health: u16, status: u16) -> String {
    json!([
        { "path": "/health", "infra": true, "status": health, "body": "" },
        { "status": status, "headers": { "Content-Type": "text/plain" }, "body": name },
    ])
    .to_string()
}

fn become_(stub: &Stub, name: &str, health: u16, status: u16) {
    let routes = Json::parse(&routes(name, health, status)).unwrap();
    stub.load(routes.items().to_vec(), std::sync::Arc::new(str::to_owned));
}

/// A file with one streamed endpoint at `/a` and a composed one at `/json`, for these hosts.
fn file(hosts: &[&Stub], upstream: Value) -> Value {
    let hosts: Vec<String> = hosts.iter().map(|stub| stub.url()).collect();
    let endpoint = |path: &str, method: &str, encoding: &str| {
        json!({ "endpoint": path, "method": method, "output_encoding": encoding, "timeout": "10s",
            "backend": [{ "host": hosts, "url_pattern": "/x", "encoding": encoding,
                "extra_config": { "portcullis/upstream": upstream } }] })
    };
    json!({ "version": 3, "endpoints": [
        endpoint("/a", "GET", "no-op"), endpoint("/a", "POST", "no-op"), endpoint("/text", "GET", "string"),
    ] })
}

fn start(hosts: &[&Stub], upstream: Value) -> Gateway {
    Gateway::start(&file(hosts, upstream).to_string())
}

/// The names of the backends that answer so many requests.
fn answers(gateway: &Gateway, times: usize) -> Vec<String> {
    (0..times).map(|_| gateway.get("/a").text()).collect()
}

fn count(answers: &[String], name: &str) -> usize {
    answers.iter().filter(|answer| *answer == name).count()
}

fn checked(config: &Value) -> (bool, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, config.to_string()).unwrap();
    let output = command().arg("check").arg(&path).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (
        output.status.success(),
        String::from_utf8_lossy(&text).into_owned(),
    )
}

#[test]
fn hosts_get_calls_by_their_weights() {
    let (a, b) = (named("a"), named("b"));
    let gateway = start(&[&a, &b], json!({ "weights": { a.url(): 3 } }));
    let answers = answers(&gateway, 40);
    assert_eq!((count(&answers, "a"), count(&answers, "b")), (30, 10));
}

#[test]
fn a_host_without_weight_is_the_last_resort() {
    let (a, b) = (named("a"), named("b"));
    let gateway = start(&[&a, &b], json!({ "weights": { b.url(): 0 } }));
    assert_eq!(count(&answers(&gateway, 10), "a"), 10);
    let mut text = file(&[&b], json!({ "weights": { b.url(): 0 } }));
    let nobody = "http://127.0.0.1:1";
    text["endpoints"] = json!([text["endpoints"][0]]);
    text["endpoints"][0]["backend"][0]["host"] = json!([nobody, b.url()]);
    let gateway = Gateway::start(&text.to_string());
    assert_eq!(count(&answers(&gateway, 4), "b"), 4);
}

#[test]
fn a_host_with_errors_in_a_row_is_ejected() {
    let (a, b) = (named("a"), named("b"));
    become_(&a, "a", 200, 503);
    let ejection = json!({ "consecutive_5xx": 3, "base_time": "1h", "max_time": "1h" });
    let gateway = start(&[&a, &b], json!({ "ejection": ejection }));
    let first = answers(&gateway, 20);
    assert_eq!(count(&first, "a"), 3, "{first:?}");
    become_(&a, "a", 200, 200);
    assert_eq!(count(&answers(&gateway, 10), "a"), 0);
    assert!(
        gateway
            .output()
            .contains("Ejected: too many errors in a row, the last one is 503")
    );
}

#[test]
fn the_same_key_has_the_same_host_and_a_lost_host_moves_only_its_own() {
    let stubs = [named("a"), named("b"), named("c")];
    let hosts = stubs.each_ref();
    let upstream = json!({ "sticky": { "header": "X-Tenant" },
        "health_check": { "path": "/health", "interval": "50ms", "timeout": "20s", "unhealthy_threshold": 1, "healthy_threshold": 1 } });
    let gateway = start(&hosts, upstream);
    let ask = |key: usize| {
        gateway
            .get_with("/a", &[("X-Tenant", &format!("tenant {key}"))])
            .text()
    };
    let all = || (0..30).map(ask).collect::<Vec<_>>();
    let before = all();
    assert_eq!(before, all(), "the header need not be in input_headers");
    for name in ["a", "b", "c"] {
        assert!(before.iter().any(|answer| answer == name), "{before:?}");
    }
    become_(&stubs[1], "b", 503, 200);
    eventually("the loss", LIMIT, || {
        gateway.output().contains("Unhealthy: status 503")
    });
    for (before, after) in before.iter().zip(all()) {
        assert!(after == *before || before == "b", "{before} {after}");
        assert_ne!(after, "b");
    }
}

#[test]
fn a_cookie_of_the_gateway_keeps_a_client_at_its_host() {
    let stubs = [named("a"), named("b"), named("c")];
    let sticky = json!({ "cookie": "gw", "set": true, "max_age": "1h", "secure": false, "same_site": "Strict" });
    let gateway = start(&stubs.each_ref(), json!({ "sticky": sticky }));
    let mut seen = Vec::new();
    for _ in 0..12 {
        let first = gateway.get("/a");
        let cookie = first.header("set-cookie").unwrap().to_owned();
        let (pair, attributes) = cookie.split_once(';').unwrap();
        assert_eq!(
            attributes,
            " Path=/; Max-Age=3600; HttpOnly; SameSite=Strict"
        );
        let value = pair.strip_prefix("gw=").unwrap();
        assert!(
            value.len() == 32 && value.bytes().all(|byte| byte.is_ascii_hexdigit()),
            "{value}"
        );
        for path in ["/a", "/a"] {
            let again = gateway.get_with(path, &[("Cookie", pair)]);
            assert_eq!(again.header("set-cookie"), None);
            assert_eq!(again.text(), first.text());
        }
        seen.push(first.text());
    }
    assert!(seen.iter().any(|name| *name != seen[0]), "{seen:?}");
}

#[test]
fn cookies_of_the_gateway_do_not_replace_those_of_a_backend() {
    let stub = Stub::with(r#"[{ "headers": { "Set-Cookie": "theirs=1" }, "body": "x" }]"#);
    let gateway = start(
        &[&stub],
        json!({ "sticky": { "cookie": "gw", "set": true } }),
    );
    let response = gateway.get("/a");
    let cookies: Vec<&str> = response
        .headers
        .iter()
        .filter(|(name, _)| name == "set-cookie")
        .map(|(_, value)| &value[..4])
        .collect();
    assert_eq!(cookies.len(), 2, "{cookies:?}");
    assert!(cookies.contains(&"thei") && cookies.iter().any(|it| it.starts_with("gw=")));
}

#[test]
fn errors_stop_the_start_with_their_place_and_a_hint() {
    let stub = named("a");
    for (upstream, words) in [
        (
            json!({ "health_check": { "path": "health" } }),
            "is not a path",
        ),
        (
            json!({ "health_check": { "interval": "1ms" } }),
            "at least 10ms",
        ),
        (
            json!({ "health_check": { "expected_statuses": ["ok"] } }),
            "is not a status",
        ),
        (
            json!({ "health_check": { "protocol": "tcp" } }),
            "is none of http, grpc",
        ),
        (
            json!({ "health_check": { "service": "x" } }),
            "is for checks over grpc only",
        ),
        (
            json!({ "health_check": { "healthy_threshold": 0 } }),
            "1 to 1000",
        ),
        (json!({ "panic_threshold": 101 }), "0 to 100"),
        (
            json!({ "ejection": { "base_time": "10s", "max_time": "1s" } }),
            "is shorter than",
        ),
        (
            json!({ "weights": { "http://other:1": 2 } }),
            "is not a host of this backend",
        ),
        (json!({ "weights": { stub.url(): -1 } }), "0 to 1000"),
        (
            json!({ "weights": { stub.url(): 0 } }),
            "needs a weight above 0",
        ),
        (
            json!({ "retries": { "on": ["503", "200"] } }),
            "is not a failure",
        ),
        (json!({ "retries": { "attempts": 11 } }), "0 to 10"),
        (json!({ "hedge": { "max": 1 } }), "after"),
        (json!({ "sticky": {} }), "one of \"header\" and \"cookie\""),
        (
            json!({ "sticky": { "cookie": "a b" } }),
            "is not the name of a cookie",
        ),
        (
            json!({ "sticky": { "header": "X", "set": true } }),
            "is for cookies only",
        ),
        (
            json!({ "sticky": { "cookie": "c", "set": true, "same_site": "None", "secure": false } }),
            "browsers reject",
        ),
        (json!({ "retries": true }), "an object is expected"),
    ] {
        let (passes, text) = checked(&file(&[&stub], upstream.clone()));
        assert!(!passes && text.contains(words), "{upstream}: {text}");
    }
}

#[test]
fn a_backend_replaces_and_disables_keys_of_the_service() {
    let (a, b) = (named("a"), named("b"));
    become_(&a, "a", 503, 200);
    let check = json!({ "path": "/health", "interval": "50ms", "timeout": "20s" });
    let mut text = file(&[&a, &b], json!({ "health_check": { "enabled": false } }));
    text["extra_config"] = json!({ "portcullis/upstream": { "health_check": check } });
    let mut checked = text["endpoints"][0].clone();
    checked["endpoint"] = json!("/checked");
    checked["backend"][0]["extra_config"] = json!({});
    text["endpoints"].as_array_mut().unwrap().push(checked);
    let gateway = Gateway::start(&text.to_string());
    eventually("the check", LIMIT, || {
        gateway.output().contains("Unhealthy: status 503")
    });
    assert_eq!(count(&answers(&gateway, 10), "a"), 5, "not checked");
    let checked: Vec<String> = (0..10).map(|_| gateway.get("/checked").text()).collect();
    assert_eq!(count(&checked, "a"), 0);
}
