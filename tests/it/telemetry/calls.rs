//! Calls to backends that cannot be reached, and what is told about each call.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::json;

use super::{CLIENT, Rig, both, find, grpc};
use crate::support::http::request;
use crate::support::{Client, Stub, eventually, ports};

fn get(port: u16, path: &str) -> String {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", path, &[])).unwrap();
    client.response("GET").unwrap().text()
}

/// The values of one label of a metric of the page of `portcullis/metrics`.
fn values(page: &str, metric: &str, label: &str) -> BTreeSet<String> {
    let start = format!("{metric}{{");
    let lines = page.lines().filter(|line| line.starts_with(&start));
    let value = |line: &str| {
        let (_, rest) = line.split_once(&format!("{label}=\""))?;
        Some(rest.split_once('"')?.0.to_owned())
    };
    lines.filter_map(value).collect()
}

fn own_page(port: u16) -> serde_json::Value {
    json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{port}"), "page": true}})
}

#[test]
fn a_host_without_a_connection_is_named() {
    let metrics = ports::free();
    let at = |path: &str, host: &str| json!({"endpoint": path, "timeout": "1s", "backend": [{"host": [host], "url_pattern": "/z"}]});
    // The stub speaks no TLS.
    let not_tls = Stub::start();
    let endpoints = json!([
        at("/closed", "{{CLOSED}}"),
        at("/unknown", "http://no-such-name.invalid:81"),
        // Nobody responds at an address of this network (RFC 5737).
        at("/silent", "http://192.0.2.1:82"),
        at("/tls", &format!("https://127.0.0.1:{}", not_tls.port())),
    ]);
    let rig = Rig::with(&[], both(), own_page(metrics), endpoints);
    for path in ["/closed", "/unknown", "/silent", "/tls"] {
        assert_eq!(rig.get(path, &[]), 500, "{path}");
    }
    eventually("four round trips", Duration::from_secs(30), || {
        let spans = rig.collector.spans();
        spans.iter().filter(|span| span.kind == CLIENT).count() == 4
    });
    let spans = rig.collector.spans();
    let shown: BTreeMap<String, String> = spans
        .iter()
        .filter(|span| span.kind == CLIENT)
        .map(|span| {
            let text = |name: &str| span.attributes[name].as_str().unwrap().to_owned();
            (text("url.full"), text("server.address"))
        })
        .collect();
    assert_eq!(shown.len(), 4, "{shown:?}");
    for (url, address) in &shown {
        assert!(url.ends_with(&format!("//{address}/z")), "{shown:?}");
    }
    assert!(shown.contains_key("http://no-such-name.invalid:81/z"));
    let page = rig.scrape();
    for name in ["duration", "request_started_count", "request_failed_count"] {
        let suffix = if name == "duration" {
            "_count"
        } else {
            "_total"
        };
        let series = page.named(&format!("http_client_{name}{suffix}"));
        assert_eq!(series.len(), 4, "{name}: {series:?}");
        for (labels, _) in series {
            assert!(!labels["server_address"].is_empty(), "{labels:?}");
            assert_eq!(labels["server_port"], "80");
        }
    }
    let hosts = values(
        &get(metrics, "/metrics"),
        "portcullis_upstream_requests_total",
        "host",
    );
    let urls: BTreeSet<String> = shown
        .keys()
        .map(|url| url.trim_end_matches("/z").to_owned())
        .collect();
    assert_eq!(hosts, urls);
    let people = get(metrics, "/");
    assert!(!people.contains("no connection"), "{people}");
    assert!(people.contains("no-such-name.invalid"), "{people}");
}

#[test]
fn each_host_that_did_not_accept_is_a_round_trip() {
    let metrics = ports::free();
    let mut extra = own_page(metrics);
    extra["portcullis/access-log"] =
        json!({"format": "json", "fields": ["path", "upstream", "upstream_status"]});
    let rig = Rig::with(
        &[],
        grpc(),
        extra,
        json!([
            {"endpoint": "/one", "backend": [{"host": ["{{CLOSED}}", "{{BACKEND}}"], "url_pattern": "/x/1"}]},
            {"endpoint": "/none", "backend": [{"host": ["{{CLOSED}}"], "url_pattern": "/z"}]},
        ]),
    );
    for _ in 0..4 {
        assert_eq!(rig.get("/one", &[]), 200);
    }
    assert_eq!(rig.get("/none", &[]), 500);
    let has = |page: &str, host: &str, status: &str| {
        let line = format!("host=\"{host}\",route=\"/one\",status=\"{status}\"}}");
        page.lines().any(|known| known.contains(&line))
    };
    eventually("both hosts", Duration::from_secs(30), || {
        let page = get(metrics, "/metrics");
        has(&page, &rig.stub.url(), "2xx")
            && values(&page, "portcullis_upstream_requests_total", "host").len() == 2
    });
    let page = get(metrics, "/metrics");
    assert!(!page.contains("host=\"\""), "{page}");
    let spans = rig.collector.wait_for_spans(1);
    let failed = spans
        .iter()
        .find(|span| span.kind == CLIENT && span.status == 2)
        .cloned();
    let failed = failed.unwrap_or_else(|| find(&rig.collector.spans(), "/z", CLIENT).clone());
    assert_eq!(failed.attributes["error.type"], "connect_refused");
    for path in ["/one", "/none"] {
        rig.gateway.tells(&format!("\"path\":\"{path}\""));
    }
    let output = rig.gateway.output();
    let line = |path: &str| {
        output
            .lines()
            .find(|line| line.contains(&format!("\"path\":\"{path}\"")))
            .unwrap_or_default()
            .to_owned()
    };
    let responded = format!(
        "\"upstream\":\"{}\",\"upstream_status\":200",
        rig.stub.url()
    );
    assert!(line("/one").contains(&responded), "{output}");
    assert!(
        line("/none").contains("\"upstream\":\"http://127.0.0.1:"),
        "{output}"
    );
}

/// T3: the list of the span of a round trip is complete.
#[test]
fn a_round_trip_shows_the_user_agent_that_is_sent() {
    let through = json!({"endpoint": "/own", "input_headers": ["User-Agent"], "backend": [{"url_pattern": "/x/own"}]});
    let usual = json!({"endpoint": "/usual", "backend": [{"url_pattern": "/x/usual"}]});
    let posted =
        json!({"endpoint": "/posted", "method": "POST", "backend": [{"url_pattern": "/x/posted"}]});
    let rig = Rig::of(grpc(), json!([through, usual, posted]));
    let agent = [("User-Agent", "u/1")];
    assert_eq!(
        (rig.get("/own", &agent), rig.get("/usual", &agent)),
        (200, 200)
    );
    assert_eq!(rig.send("POST", "/posted", &agent), 200);
    let spans = rig.collector.wait_for_spans(15);
    for seen in rig.stub.take_seen() {
        let span = find(&spans, &seen.path, CLIENT);
        let sent = seen.header("user-agent").unwrap();
        assert_eq!(
            span.attributes["user_agent.original"], sent,
            "{}",
            seen.path
        );
    }
}

/// Credentials in headers are masked in all layers that report headers.
#[test]
fn no_layer_shows_a_credential() {
    let reports = json!({"report_headers": true});
    let mut block = grpc();
    block["layers"] = json!({
        "global": reports, "proxy": reports,
        "backend": {"metrics": {}, "traces": {"round_trip": true, "report_headers": true}},
    });
    let endpoint =
        json!({"endpoint": "/a", "input_headers": ["*"], "backend": [{"url_pattern": "/x/a"}]});
    let rig = Rig::of(block, json!([endpoint]));
    let secret = "SECRET";
    let names = [
        "Authorization",
        "Proxy-Authorization",
        "X-Forwarded-Authorization",
        "X-Original-Authorization",
        "Cookie",
        "X-Original-Cookie",
        "X-Api-Key",
        "Apikey",
        "X-Auth-Token",
        "X-Amz-Security-Token",
        "X-Auth",
    ];
    let mut headers: Vec<(&str, &str)> = names.iter().map(|name| (*name, secret)).collect();
    headers.push(("X-Shown", "shown"));
    assert_eq!(rig.get("/a", &headers), 200);
    rig.collector.wait_for_spans(4);
    let shown = format!("{:?}", rig.collector.spans());
    assert!(!shown.contains(secret), "{shown}");
    // In the spans of the request, of the endpoint, of the backend and of the round trip.
    assert_eq!(
        shown.matches("http.request.header.x-shown").count(),
        4,
        "{shown}"
    );
}

/// A layer shows the headers that it works with: the endpoint what `input_headers` lets through, the backend what its own
/// list leaves of that. Only a streamed response keeps its headers.
#[test]
fn the_spans_of_the_endpoint_and_of_the_backend_show_their_headers() {
    let mut block = grpc();
    block["layers"] = json!({
        "proxy": {"report_headers": true, "skip_headers": ["X-Skipped"]},
        "backend": {"metrics": {}, "traces": {"round_trip": true, "report_headers": true}},
    });
    let listed = json!(["X-Both", "X-Proxy", "X-Skipped"]);
    let backend = json!({"url_pattern": "/x/a", "input_headers": ["X-Both"]});
    let mut streamed = backend.clone();
    streamed["encoding"] = json!("no-op");
    let rig = Rig::of(
        block,
        json!([
            {"endpoint": "/c", "input_headers": listed, "backend": [backend]},
            {"endpoint": "/n", "input_headers": listed, "output_encoding": "no-op", "backend": [streamed]},
        ]),
    );
    for (path, has_response) in [("/c", false), ("/n", true)] {
        let headers = ["X-Both", "X-Proxy", "X-Skipped", "X-Other"].map(|name| (name, "1"));
        assert_eq!(rig.get(path, &headers), 200);
        let spans = rig.collector.wait_for_spans(4);
        let stage = |name: &str| {
            let of_stage =
                |span: &&crate::support::collector::Span| span.attributes["krakend.stage"] == name;
            let found = spans.iter().find(of_stage).unwrap();
            let names = found.attributes.keys();
            names.cloned().collect::<BTreeSet<String>>()
        };
        let (proxy, called) = (stage("proxy"), stage("backend"));
        let has = |names: &BTreeSet<String>, header: &str| {
            names.contains(&format!("http.request.header.{header}"))
        };
        assert!(has(&proxy, "x-both") && has(&proxy, "x-proxy"), "{proxy:?}");
        assert!(
            !has(&proxy, "x-skipped") && !has(&proxy, "x-other"),
            "{proxy:?}"
        );
        assert!(
            has(&called, "x-both") && !has(&called, "x-proxy"),
            "{called:?}"
        );
        for names in [&proxy, &called] {
            let answered = names.contains("http.response.header.content-type");
            assert_eq!(answered, has_response, "{path} {names:?}");
        }
        rig.collector.forget();
    }
}
