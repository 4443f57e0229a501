//! Collectors that are slow, away or busy.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{Rig, a, both, e, grpc};
use crate::support::eventually;

/// T17. Unlike in KrakenD, nothing is lost when the gateway stops.
#[test]
fn waiting_data_is_sent_at_shutdown() {
    let mut block = both();
    block["metric_reporting_period"] = json!(3600);
    let slow = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let rig = Rig::with(&slow, block, json!({}), json!([e()]));
    assert_eq!(rig.get("/o/5", &[]), 200);
    assert!(rig.collector.spans().is_empty());
    let began = Instant::now();
    rig.gateway.signal("TERM");
    let status = rig.gateway.wait(Duration::from_secs(30)).expect("it ends");
    assert!(status.success());
    assert!(began.elapsed() < Duration::from_secs(10));
    assert_eq!(rig.collector.wait_for_spans(5).len(), 5);
    let metrics = rig.collector.wait_for_metric("http.server.duration");
    let server = metrics
        .iter()
        .find(|it| it.name == "http.server.duration")
        .unwrap();
    assert_eq!((server.count, server.buckets), (1, 21));
    assert!(server.examples > 0);
    assert_eq!(server.labels["http.response.status_code"], 200);
}

#[test]
fn an_unreachable_or_hanging_collector_delays_neither_requests_nor_the_stop_for_long() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let block = json!({"exporters": {"otlp": [
        {"name": "away", "host": "127.0.0.1", "port": 1},
        {"name": "silent", "host": "127.0.0.1", "port": silent, "use_http": true},
    ]}});
    let rig = Rig::of(block, json!([a()]));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(rig.get("/a", &[]), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    eventually("a line", Duration::from_secs(30), || {
        rig.gateway
            .output()
            .contains("away: traces were not delivered")
    });
    let began = Instant::now();
    rig.gateway.signal("TERM");
    assert!(rig.gateway.wait(Duration::from_secs(30)).unwrap().success());
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_busy_collector_gets_the_batch_again() {
    let mut block = grpc();
    block["exporters"]["otlp"][0]["use_http"] = json!(true);
    block["exporters"]["otlp"][0]["port"] = json!("{{OTLP_HTTP}}");
    let rig = Rig::of(block, json!([a()]));
    rig.collector.response_with(&[503]);
    assert_eq!(rig.get("/a", &[]), 200);
    assert_eq!(rig.collector.wait_for_spans(5).len(), 5);
    eventually("recovery", Duration::from_secs(30), || {
        rig.gateway.output().contains("accepts data again")
    });
}

#[test]
fn credentials_of_a_collector_are_sent_and_never_shown() {
    let extra = json!({"telemetry/opentelemetry-security": {"otlp": [
        {"name": "t", "headers": {"x-own": "top-secret-1"}}
    ]}});
    let variables = [(
        "OTEL_EXPORTER_OTLP_HEADERS",
        "authorization=Bearer%20top-secret-2",
    )];
    let rig = Rig::with(&variables, grpc(), extra, json!([a()]));
    assert_eq!(rig.get("/a", &[]), 200);
    rig.collector.wait_for_spans(5);
    let head = &rig.collector.heads()[0];
    assert_eq!(
        (&*head["x-own"], &*head["authorization"]),
        ("top-secret-1", "Bearer top-secret-2")
    );
    assert!(
        !rig.gateway.output().contains("top-secret"),
        "{}",
        rig.gateway.output()
    );
}
