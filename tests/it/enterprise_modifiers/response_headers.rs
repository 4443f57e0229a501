//! `modifier/response-headers`.

use serde_json::json;

use crate::support::http::request;
use crate::support::{Gateway, Upstream};

#[test]
fn every_response_is_changed_but_preflights_and_health() {
    let backend = Upstream::raw(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nServer: b\r\nX-Old: 1\r\nX-Old: 2\r\nX-New: 0\r\nContent-Length: 2\r\n\r\n{}",
    );
    let endpoint = |path: &str, encoding: &str, extra: serde_json::Value| {
        json!({
            "endpoint": path, "output_encoding": encoding, "extra_config": extra,
            "backend": [{ "host": [backend.url()], "url_pattern": "/x", "encoding": encoding }]
        })
    };
    let key =
        json!({ "auth/api-keys": { "strategy": "header", "identifier": "X-Key", "roles": ["a"] } });
    let own = json!({ "modifier/response-headers": { "replace": { "X-Added": ["endpoint"] } } });
    let file = json!({ "version": 3,
        "extra_config": {
            "modifier/response-headers": {
                "delete": ["X-Krakend", "X-Krakend-Completed"],
                "rename": { "X-Old": "X-New", "X-None": "X-Other" },
                "replace": { "Server": ["mine"] },
                "add": { "X-Added": ["a", "b"] }
            },
            "security/cors": { "allow_origins": ["https://a.example"] },
            "auth/api-keys": { "keys": [{ "key": "k", "roles": ["a"] }] }
        },
        "endpoints": [
            endpoint("/stream", "no-op", json!({})), endpoint("/compose", "json", json!({})),
            endpoint("/key", "json", key), endpoint("/own", "no-op", own),
        ]
    });
    let gateway = Gateway::start(&file.to_string());
    let all = |path: &str| {
        let response = gateway.get(path);
        let values = |name: &str| -> Vec<String> {
            let named = response.headers.iter().filter(|(n, _)| n == name);
            named.map(|(_, v)| v.clone()).collect()
        };
        assert!(values("x-krakend").is_empty() && values("x-krakend-completed").is_empty());
        assert_eq!(values("server"), ["mine"], "{path}");
        (response.status, values("x-new"), values("x-added"))
    };
    let (none, added) = (Vec::<String>::new(), ["a", "b"].map(String::from).to_vec());
    let moved = ["1", "2"].map(String::from).to_vec();
    assert_eq!(all("/stream"), (200, moved.clone(), added.clone()));
    assert_eq!(all("/compose"), (200, none.clone(), added.clone()));
    assert_eq!(all("/key"), (401, none.clone(), added.clone()));
    assert_eq!(all("/nowhere"), (404, none.clone(), added.clone()));
    assert_eq!(all("/stream/"), (301, none, added));
    assert_eq!(all("/own"), (200, moved, vec!["endpoint".to_owned()]));
    assert_eq!(gateway.get("/__health").header("x-added"), None);
    let preflight = request(
        "OPTIONS",
        "/stream",
        &[
            ("Origin", "https://a.example"),
            ("Access-Control-Request-Method", "GET"),
        ],
    );
    assert_eq!(gateway.send("OPTIONS", preflight).header("x-added"), None);
}

#[test]
fn health_is_changed_on_request() {
    let file = json!({ "version": 3, "endpoints": [], "extra_config": {
        "modifier/response-headers": { "add": { "X-Added": ["a"] }, "health": true }
    }});
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/__health").header("x-added"), Some("a"));
}
