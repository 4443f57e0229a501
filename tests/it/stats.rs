//! `/__stats` of `telemetry/metrics`: what is counted for a request, and what is not.

use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, ports};

struct Counted {
    gateway: Gateway,
    port: u16,
    _stub: Stub,
}

fn start() -> Counted {
    let stub = Stub::with(
        r#"[{"path": "/bad", "status": 500, "headers": {"Content-Type": "application/json"}, "body": {"x": 1}},
        {"headers": {"Content-Type": "application/json"}, "body": {"a": 1}}]"#,
    );
    let port = ports::free();
    let details = json!({"backend/http": {"return_error_details": "x"}});
    let file = json!({
        "version": 3,
        "host": [stub.url()],
        "extra_config": {"telemetry/metrics": {"listen_address": format!("127.0.0.1:{port}")}},
        "endpoints": [
            {"endpoint": "/good", "backend": [{"url_pattern": "/good"}]},
            {"endpoint": "/bad", "backend": [{"url_pattern": "/bad"}]},
            {"endpoint": "/part", "backend": [{"url_pattern": "/one"}, {"url_pattern": "/bad"}]},
            {"endpoint": "/details", "backend": [{"url_pattern": "/bad#", "extra_config": details}]},
            {"endpoint": "/noop", "output_encoding": "no-op", "backend": [{"url_pattern": "/bad"}]},
            {"endpoint": "/few", "backend": [{"url_pattern": "/few"}],
                "extra_config": {"qos/ratelimit/router": {"client_max_rate": 0.001, "strategy": "ip"}}},
            {"endpoint": "/bot", "backend": [{"url_pattern": "/bot"}],
                "extra_config": {"security/bot-detector": {"deny": ["bot"]}}},
        ]
    });
    Counted {
        gateway: Gateway::start(&file.to_string()),
        port,
        _stub: stub,
    }
}

impl Counted {
    fn page(&self) -> Map<String, Value> {
        let mut client = Client::connect(self.port).unwrap();
        client.send(request("GET", "/__stats", &[])).unwrap();
        match client.response("GET").unwrap().json() {
            Value::Object(page) => page,
            other => panic!("{other}"),
        }
    }

    /// The counts of `name` at `layer`, as (complete, error, number of calls).
    fn ends(&self, layer: &str, name: &str) -> Vec<(bool, bool, u64)> {
        let page = self.page();
        let mut ends = Vec::new();
        for (complete, error) in [(false, false), (false, true), (true, false), (true, true)] {
            let label = format!(
                "krakend.proxy.requests.layer.{layer}.name.{name}.complete.{complete}.error.{error}"
            );
            match page[&label].as_u64().unwrap() {
                0 => {}
                count => ends.push((complete, error, count)),
            }
        }
        ends
    }

    /// Counters are incremented after the response is sent.
    fn becomes(&self, layer: &str, name: &str, expected: &[(bool, bool, u64)]) {
        let what = format!("{layer} of {name} is {expected:?}");
        eventually(&what, Duration::from_secs(30), || {
            self.ends(layer, name) == expected
        });
    }
}

#[test]
fn the_pipe_tells_whether_it_was_complete_and_failed() {
    let counted = start();
    for (path, status) in [
        ("/good", 200),
        ("/bad", 500),
        ("/part", 200),
        ("/details", 200),
        ("/noop", 500),
    ] {
        assert_eq!(counted.gateway.get(path).status, status, "{path}");
    }
    counted.becomes("pipe", "/good", &[(true, false, 1)]);
    counted.becomes("pipe", "/bad", &[(false, true, 1)]);
    counted.becomes("pipe", "/part", &[(false, true, 1)]);
    counted.becomes("pipe", "/details", &[(false, false, 1)]);
    counted.becomes("pipe", "/noop", &[(true, false, 1)]);
    counted.becomes("backend", "/good", &[(true, false, 1)]);
    counted.becomes("backend", "/bad#", &[(false, false, 1)]);
}

#[test]
fn a_request_that_is_rejected_before_the_pipe_is_not_counted_there() {
    let counted = start();
    assert_eq!(counted.gateway.get("/few").status, 200);
    assert_eq!(counted.gateway.get("/few").status, 429);
    counted.becomes("pipe", "/few", &[(true, false, 1)]);
    let responses = "krakend.router.response./few.status.429.count";
    eventually("429 is counted", Duration::from_secs(30), || {
        counted.page().get(responses) == Some(&json!(1))
    });
    counted.becomes("pipe", "/few", &[(true, false, 1)]);
}

#[test]
fn rejections_of_the_bot_detector_are_not_counted() {
    let counted = start();
    let bot = [("User-Agent", "bot")];
    assert_eq!(counted.gateway.get_with("/bot", &bot).status, 403);
    assert_eq!(counted.gateway.get("/nowhere").status, 404);
    assert_eq!(counted.gateway.get("/bot").status, 200);
    counted.becomes("pipe", "/bot", &[(true, false, 1)]);
    let page = counted.page();
    let base = "krakend.router.response./bot.status";
    assert_eq!(page.get(&format!("{base}.200.count")), Some(&json!(1)));
    assert_eq!(page.get(&format!("{base}.403.count")), None);
    assert_eq!(page["krakend.router.connected"], 1);
    assert_eq!(page["krakend.router.disconnected"], 1);
}
