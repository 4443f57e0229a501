//! The settings of layers, endpoints and backends.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::{Value, json};

use super::{Rig, SERVER, a, both, e, prometheus};
use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, eventually, ports};

/// T11. Unlike in KrakenD, the context is passed on regardless of the spans.
#[test]
fn the_switches_of_a_backend_layer_switch() {
    let run = |metrics: Value, traces: Value| {
        let mut block = both();
        block["layers"] = json!({"backend": {"metrics": metrics, "traces": traces}});
        let rig = Rig::of(block, json!([a()]));
        assert_eq!(rig.get("/a", &[]), 200);
        let page = rig.page_when("the request", |page| page.has("http_server_duration_count"));
        eventually("spans", Duration::from_secs(30), || {
            rig.collector.spans().iter().any(|span| span.kind == SERVER)
        });
        let stages = rig.collector.spans();
        let stages = stages.iter().filter(|span| {
            matches!(
                span.attributes["krakend.stage"].as_str(),
                Some("backend" | "backend-request")
            )
        });
        assert!(rig.one_seen().header("traceparent").is_some());
        let families: Vec<String> = page.families().iter().map(|it| (*it).to_owned()).collect();
        (families, stages.count())
    };
    let has = |all: &[String], name: &str| all.iter().any(|it| it == name);
    let (families, spans) = run(json!({}), json!({}));
    assert!(
        has(&families, "krakend_backend_duration") && spans == 1,
        "{families:?} {spans}"
    );
    assert!(
        !families.iter().any(|it| it.starts_with("http_client_")),
        "{families:?}"
    );
    let (families, spans) = run(json!({"read_payload": true}), json!({"read_payload": true}));
    assert!(
        has(&families, "http_client_duration") && spans == 3,
        "{families:?} {spans}"
    );
    assert!(
        has(&families, "http_client_response_read_size_total"),
        "{families:?}"
    );
    assert!(
        !has(&families, "http_client_request_tls_duration"),
        "{families:?}"
    );
    let parts = json!({"disable_stage": true, "round_trip": true, "detailed_connection": true});
    let (families, spans) = run(parts, json!({"disable_stage": true, "round_trip": true}));
    assert!(
        !has(&families, "krakend_backend_duration") && spans == 1,
        "{families:?} {spans}"
    );
    assert!(has(&families, "http_client_duration"), "{families:?}");
    assert!(
        has(&families, "http_client_request_tls_duration"),
        "{families:?}"
    );
}

/// T12. Unlike in KrakenD, the endpoint's `backend` applies if the backend has no block.
#[test]
fn endpoints_and_backends_override_the_service() {
    let one = |key: &str| json!([{"key": key, "value": "1"}]);
    let mut block = prometheus();
    block["layers"] = json!({
        "global": {"metrics_static_attributes": one("svc")},
        "proxy": {"metrics_static_attributes": one("pm")},
    });
    let endpoint = json!({"endpoint": "/o", "extra_config": {"telemetry/opentelemetry": {
        "global": {"metrics_static_attributes": one("gm")},
        "proxy": {"metrics_static_attributes": one("po")},
        "backend": {"metrics": {"disable_stage": true}},
    }}, "backend": [{"url_pattern": "/x/1", "extra_config": {"telemetry/opentelemetry": {
        "backend": {"metrics": {"static_attributes": one("bo")}, "traces": {}}
    }}}]});
    let rig = Rig::of(block, json!([endpoint]));
    assert_eq!(rig.get("/o", &[]), 200);
    let page = rig.page_when("the request", |page| page.has("http_server_duration_count"));
    let (server, _) = page.one("http_server_duration_count");
    assert_eq!((&*server["svc"], &*server["gm"]), ("1", "1"));
    let (proxy, _) = page.one("krakend_proxy_duration_count");
    assert!(
        proxy.contains_key("po") && !proxy.contains_key("pm"),
        "{proxy:?}"
    );
    assert_eq!(page.one("krakend_backend_duration_count").0["bo"], "1");
    assert!(!page.has("http_client_duration_count"));
}

/// T13. Unlike in KrakenD, the rest of the block applies; `--strict` stops the start.
#[test]
fn unreadable_keys_are_reported_and_the_rest_works() {
    let at = |text: &str| {
        format!(
            r#"{{"version": 3, "extra_config": {{"telemetry/opentelemetry": {text}}}, "endpoints": []}}"#
        )
    };
    for (block, reason) in [
        (r#"{"trace_sample_rate": "much"}"#, "trace_sample_rate"),
        (r#"{"trace_sample_rate": 2}"#, "0 to 1"),
        (
            r#"{"exporters": {"otlp": [{"name": "a"}, {"name": "a"}]}}"#,
            "another exporter",
        ),
        (
            r#"{"exporters": {"otlp": [{"name": "a", "host": "http://%zz"}]}}"#,
            "host",
        ),
        (
            r#"{"histograms": {"time_buckets": [2, 1]}}"#,
            "time_buckets",
        ),
        (r#"{"propagators": ["xray"]}"#, "propagators"),
    ] {
        let gateway = Gateway::start(&at(block));
        assert_eq!(gateway.get("/__health").status, 200);
        gateway.tells(reason);
        let strict = Gateway::spawn(ports::free(), &at(block), &[], &["--strict"]);
        let ended = strict.wait(Duration::from_secs(30)).expect("it starts");
        assert!(!ended.success());
    }
}

/// T14. Unlike in KrakenD, a skipped pattern is skipped everywhere.
#[test]
fn skipped_paths_are_not_reported() {
    let mut block = prometheus();
    block["skip_paths"] = json!(["/o/:id", "/q"]);
    let q = json!({"endpoint": "/q", "backend": [{"url_pattern": "/x/q"}]});
    let rig = Rig::of(block, json!([e(), q]));
    assert_eq!((rig.get("/o/5", &[]), rig.get("/q", &[])), (200, 200));
    assert_eq!(rig.get("/__health", &[]), 200);
    let page = rig.page_when("health", |page| page.has("http_server_duration_count"));
    let (labels, count) = page.one("http_server_duration_count");
    assert_eq!((&*labels["http_route"], count), ("200 OK", 1.0));
    let families: BTreeSet<&str> = page.families();
    let server = [
        "http_server_duration",
        "http_server_response_size",
        "otel_scope_info",
        "target_info",
    ];
    assert_eq!(families, BTreeSet::from(server));
}

/// T15. Names of series are those of `telemetry/opentelemetry`; B3 is the reference's.
#[test]
fn opencensus_is_mapped() {
    let stub = Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": "{}"}]"#);
    let page = ports::free();
    let file = json!({"version": 3, "host": [stub.url()], "endpoints": [e()], "extra_config": {
        "telemetry/opencensus": {"sample_rate": 100, "exporters": {
            "prometheus": {"port": page, "namespace": "krakend", "tag_path": true}, "zipkin": {"collector_url": "http://z:9411"}
        }}
    }});
    let gateway = Gateway::start(&file.to_string());
    let trace = "80f198ee56343ba864fe8b2a57d3eff7";
    let b3 = [
        ("X-B3-TraceId", trace),
        ("X-B3-SpanId", "e457b5a2e4d86bd1"),
        ("X-B3-Sampled", "1"),
    ];
    assert_eq!(gateway.get_with("/o/5", &b3).status, 200);
    let seen = stub.take_seen().remove(0);
    assert_eq!(seen.header("x-b3-traceid"), Some(trace));
    assert_eq!(seen.header("x-b3-sampled"), Some("1"));
    let span = seen.header("x-b3-spanid").unwrap();
    assert!(span.len() == 16 && span != "e457b5a2e4d86bd1", "{span}");
    assert_eq!(seen.header("traceparent"), None);
    let read = || {
        let mut client = Client::connect(page).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text()
    };
    eventually("the request", Duration::from_secs(30), || {
        read().contains("http_server_duration_count{")
    });
    gateway.tells("not supported: zipkin");
}
