//! The metrics page: families, labels, and what is counted.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::{
    CLIENTS, CLIENTS_SPAN, CLIENTS_TRACE, Page, Rig, SERVER, a, both, e, find, labels, prometheus,
};
use crate::support::http::request;
use crate::support::{Gateway, Stub, eventually};

const T1_FAMILIES: [(&str, &str); 17] = [
    ("http_client_duration", "histogram"),
    ("http_client_request_dns_duration", "histogram"),
    ("http_client_request_get_conn_duration", "histogram"),
    ("http_client_request_tls_duration", "histogram"),
    ("http_client_request_size_total", "counter"),
    ("http_client_request_started_count_total", "counter"),
    ("http_client_response_read_size_hist", "histogram"),
    ("http_client_response_read_time_hist_seconds", "histogram"),
    ("http_client_response_read_size_total", "counter"),
    ("http_client_response_read_time_seconds_total", "counter"),
    ("http_client_response_size", "histogram"),
    ("http_server_duration", "histogram"),
    ("http_server_response_size", "histogram"),
    ("krakend_backend_duration", "histogram"),
    ("krakend_proxy_duration", "histogram"),
    ("otel_scope_info", "gauge"),
    ("target_info", "gauge"),
];

/// T1.
#[test]
fn the_page_has_krakends_families_and_labels() {
    let rig = Rig::of(prometheus(), json!([e()]));
    let empty = rig.scrape();
    assert_eq!(empty.families(), BTreeSet::from(["target_info"]));
    assert_eq!(rig.get("/o/5?q=1", &[("traceparent", CLIENTS)]), 200);
    let page = rig.page_when("the request", |page| page.has("http_server_duration_count"));
    let kinds: BTreeMap<&str, &str> = T1_FAMILIES.into_iter().collect();
    let found: BTreeMap<&str, &str> = page
        .kinds
        .iter()
        .map(|(name, kind)| (name.as_str(), kind.as_str()))
        .collect();
    assert_eq!(found, kinds);
    assert_eq!(
        *page.one("http_server_duration_count").0,
        labels(&[
            ("http_request_method", "GET"),
            ("http_response_status_code", "200"),
            ("http_route", "/o/:id"),
            ("url_scheme", "http"),
        ])
    );
    let ended = [
        ("canceled", "false"),
        ("complete", "true"),
        ("error", "false"),
    ];
    let own = [("http_request_method", "GET"), ("http_route", "/o/:id")];
    assert_eq!(
        *page.one("krakend_proxy_duration_count").0,
        labels(&[&ended[..], &own].concat())
    );
    let backend = [
        ("http_request_method", "GET"),
        ("http_route", "/x/:id"),
        ("krakend_endpoint_method", "GET"),
        ("krakend_endpoint_route", "/o/:id"),
    ];
    assert_eq!(
        *page.one("krakend_backend_duration_count").0,
        labels(&[&ended[..], &backend].concat())
    );
    let trip = [
        ("clientname", "/x/:id"),
        ("http_response_status_code", "200"),
        ("server_address", "127.0.0.1"),
        ("server_port", "80"),
    ];
    assert_eq!(
        *page.one("http_client_duration_count").0,
        labels(&[&trip[..], &backend].concat())
    );
    let (read, bytes) = page.one("http_client_response_read_size_total");
    assert_eq!((read, bytes), (&labels(&backend), 7.0));
    assert_eq!(page.one("http_server_response_size_sum").1, 7.0);
    assert_eq!(page.named("http_server_duration_bucket").len(), 21);
    assert_eq!(page.named("http_server_response_size_bucket").len(), 16);
    assert_eq!(
        *page.one("target_info").0,
        labels(&[
            ("service_name", "KrakenD"),
            ("service_version", env!("CARGO_PKG_VERSION")),
        ])
    );
    let sent = rig
        .one_seen()
        .header("traceparent")
        .unwrap_or_default()
        .to_owned();
    assert!(sent.starts_with(&format!("00-{CLIENTS_TRACE}-")), "{sent}");
    assert!(
        sent.ends_with("-00") && !sent.contains(CLIENTS_SPAN),
        "{sent}"
    );
}

/// T2.
#[test]
fn a_semantic_convention_renames_the_families() {
    let mut block = prometheus();
    block["layers"] = json!({"global": {"semantic_convention": "1.27"}});
    let chunked = json!({"endpoint": "/c", "backend": [{"url_pattern": "/chunk"}]});
    let rig = Rig::of(block, json!([e(), chunked]));
    assert_eq!((rig.get("/o/5", &[]), rig.get("/c", &[])), (200, 200));
    let name = "http_server_request_duration_seconds_count";
    let page = rig.page_when("both requests", |page| page.named(name).len() == 2);
    assert_eq!(
        page.families(),
        BTreeSet::from([
            "http_client_request_body_size_bytes",
            "http_client_request_dns_duration_seconds",
            "http_client_request_duration_seconds",
            "http_client_request_get_conn_duration_seconds",
            "http_client_request_tls_duration_seconds",
            "http_client_request_started_count_total",
            "http_client_response_body_size_bytes",
            "http_client_response_no_content_length_bytes_total",
            "http_client_response_read_size_hist",
            "http_client_response_read_time_hist_seconds",
            "http_client_response_read_size_total",
            "http_client_response_read_time_seconds_total",
            "http_server_request_duration_seconds",
            "http_server_response_body_size_bytes",
            "krakend_backend_duration",
            "krakend_proxy_duration",
            "otel_scope_info",
            "target_info",
        ])
    );
}

/// T7.
#[test]
fn requests_without_an_endpoint_are_counted_by_status() {
    let cors = json!({"security/cors": {"allow_origins": ["http://o"], "allow_methods": ["GET"]}});
    let rig = Rig::with(&[], prometheus(), cors, json!([a()]));
    let preflight = [
        ("Origin", "http://o"),
        ("Access-Control-Request-Method", "GET"),
    ];
    assert_eq!(rig.get("/nope", &[]), 404);
    assert_eq!(rig.send("FOO", "/a", &[]), 405);
    assert_eq!(rig.send("OPTIONS", "/a", &preflight), 204);
    assert_eq!(rig.get("/a/", &[]), 301);
    assert_eq!(rig.get("/__health", &[]), 200);
    let page = rig.page_when("four requests", |page| {
        page.named("http_server_duration_count").len() == 4
    });
    let found: BTreeSet<(String, String, String)> = page
        .named("http_server_duration_count")
        .iter()
        .map(|(labels, count)| {
            assert_eq!(*count, 1.0);
            let get = |name: &str| labels[name].clone();
            (
                get("http_request_method"),
                get("http_response_status_code"),
                get("http_route"),
            )
        })
        .collect();
    let wanted = [
        ("GET", "404", "404 Not Found"),
        ("_OTHER", "405", "405 Method Not Allowed"),
        ("OPTIONS", "204", "204 No Content"),
        ("GET", "301", "301 Moved Permanently"),
    ];
    let wanted = wanted.map(|(m, s, r)| (m.to_owned(), s.to_owned(), r.to_owned()));
    assert_eq!(found, BTreeSet::from(wanted));
    let others = page.families();
    assert!(
        !others
            .iter()
            .any(|name| name.starts_with("krakend_") || name.starts_with("http_client_"))
    );
}

#[test]
fn the_stable_convention_has_its_own_names() {
    let mut block = both();
    block["layers"] = json!({"global": {"semantic_convention": "stable"}});
    let rig = Rig::of(
        block,
        json!([e(), {"endpoint": "/bad", "backend": [{"url_pattern": "/s/500"}]}]),
    );
    assert_eq!(
        (rig.get("/o/5?token=abc&x=1", &[]), rig.get("/bad", &[])),
        (200, 500)
    );
    assert_eq!(rig.get("/nowhere", &[]), 404);
    eventually("spans", Duration::from_secs(30), || {
        rig.collector.spans().len() >= 10
    });
    rig.collector.check();
    let spans = rig.collector.spans();
    let server = find(&spans, "GET /o/{id}", SERVER);
    assert_eq!(server.attributes["url.path"], "/o/5");
    assert_eq!(server.attributes["url.query"], "token=***&x=1");
    assert_eq!(server.attributes["http.route"], "/o/{id}");
    let unmatched = find(&spans, "GET", SERVER);
    assert!(!unmatched.attributes.contains_key("http.route"));
    let page = rig.scrape();
    let name = "http_server_request_duration_seconds_count";
    let failed = page
        .named(name)
        .into_iter()
        .find(|(labels, _)| labels.contains_key("error_type"));
    assert_eq!(failed.unwrap().0["error_type"], "500");
    let trips = page.named("http_client_request_duration_seconds_count");
    let port = rig.stub.port().to_string();
    assert!(
        trips
            .iter()
            .all(|(labels, _)| labels["server_port"] == port),
        "{trips:?}"
    );
}

#[test]
fn a_client_cannot_make_series() {
    let rig = Rig::of(prometheus(), json!([e()]));
    for n in 0..50 {
        rig.get(&format!("/o/{n}"), &[("traceparent", CLIENTS)]);
        rig.get(&format!("/nowhere/{n}"), &[]);
        rig.send(&format!("M{n}"), "/o/1", &[]);
    }
    let page = rig.page_when("all", |page| {
        page.named("http_server_duration_count")
            .iter()
            .map(|(_, count)| count)
            .sum::<f64>()
            == 150.0
    });
    assert_eq!(page.named("http_server_duration_count").len(), 3);
}

#[test]
fn without_the_block_nothing_is_added() {
    let stub = Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": "{}"}]"#);
    let file = json!({"version": 3, "host": [stub.url()], "endpoints": [a()]});
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(
        gateway.get_with("/a", &[("traceparent", CLIENTS)]).status,
        200
    );
    let seen = stub.take_seen().remove(0);
    assert_eq!(seen.header("traceparent"), None);
}

#[test]
fn a_reload_keeps_counts_and_drops_series_of_removed_endpoints() {
    let rig = Rig::of(prometheus(), json!([e(), a()]));
    assert_eq!((rig.get("/o/5", &[]), rig.get("/a", &[])), (200, 200));
    rig.page_when("both", |page| {
        page.named("http_server_duration_count").len() == 2
    });
    let path = rig.gateway.config_path();
    let text = std::fs::read_to_string(&path).unwrap();
    let mut file: Value = serde_json::from_str(&text).unwrap();
    file["endpoints"].as_array_mut().unwrap().pop();
    std::fs::write(&path, file.to_string()).unwrap();
    rig.gateway.signal("HUP");
    let page = rig.page_when("the reload", |page| {
        page.named("http_server_duration_count").len() == 1
    });
    assert_eq!(page.one("http_server_duration_count").1, 1.0);
    assert_eq!(rig.get("/o/6", &[]), 200);
    rig.page_when("the same series", |page| {
        page.one("http_server_duration_count").1 == 2.0
    });
}

/// The gauges of the conventions: they exist only under `stable`, because KrakenD has none.
#[test]
fn requests_in_progress_and_open_connections_are_gauges_of_the_stable_convention() {
    let mut block = both();
    block["layers"] = json!({"global": {"semantic_convention": "stable"}});
    block["metric_reporting_period"] = json!(1);
    let slow =
        json!({"endpoint": "/slow", "timeout": "20s", "backend": [{"url_pattern": "/slow"}]});
    let post = json!({"endpoint": "/p", "method": "POST", "backend": [{"url_pattern": "/x/p"}]});
    let rig = Rig::of(block, json!([e(), slow, post]));
    let mut client = rig.gateway.client();
    client.send(request("GET", "/slow", &[])).unwrap();
    let active = |page: &Page, method: &str| {
        let all = page.named("http_server_active_requests");
        let mut ours = all
            .iter()
            .filter(|(labels, _)| labels["http_request_method"] == method);
        ours.next()
            .map(|(labels, value)| (labels["url_scheme"].clone(), *value))
    };
    let page = rig.page_when("the request in progress", |page| {
        active(page, "GET").is_some_and(|(_, count)| count == 1.0)
    });
    assert_eq!(page.kinds["http_server_active_requests"], "gauge");
    assert_eq!(active(&page, "GET"), Some(("http".to_owned(), 1.0)));
    assert_eq!(active(&page, "POST"), Some(("http".to_owned(), 0.0)));
    assert_eq!(client.response("GET").unwrap().status, 200);
    assert_eq!(rig.get("/o/5", &[]), 200);
    let connections = |page: &Page, state: &str| {
        let all = page.named("http_client_open_connections");
        let ours = all
            .iter()
            .filter(|(labels, _)| labels["http_connection_state"] == state);
        ours.map(|(labels, value)| {
            assert_eq!(labels["server_address"], "127.0.0.1");
            assert_eq!(labels["server_port"], rig.stub.port().to_string());
            value
        })
        .sum::<f64>()
    };
    let page = rig.page_when("the end of the requests", |page| {
        active(page, "GET").is_some_and(|(_, count)| count == 0.0)
            && connections(page, "used") == 0.0
    });
    assert_eq!(page.kinds["http_client_open_connections"], "gauge");
    for name in [
        "http.server.active_requests",
        "http.client.open_connections",
    ] {
        assert!(!rig.collector.wait_for_metric(name).is_empty(), "{name}");
    }
    rig.collector.check();
    let mut block = prometheus();
    block["layers"] = json!({"global": {"semantic_convention": "1.27"}});
    let rig = Rig::of(block, json!([e()]));
    assert_eq!(rig.get("/o/5", &[]), 200);
    let page = rig.page_when("the request", |page| {
        page.has("krakend_proxy_duration_count")
    });
    assert!(!page.has("http_server_active_requests") && !page.has("http_client_open_connections"));
}
