//! The spans of a request, and their attributes.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use super::{CLIENT, INTERNAL, Rig, SERVER, both, e, find, grpc, labels};
use crate::support::collector::Span;
use crate::support::eventually;

/// T3, over gRPC and over HTTP.
#[test]
fn a_request_is_a_trace_of_five_spans() {
    for over_http in [false, true] {
        let mut block = grpc();
        if over_http {
            block["exporters"]["otlp"][0]["use_http"] = json!(true);
            block["exporters"]["otlp"][0]["port"] = json!("{{OTLP_HTTP}}");
        }
        let rig = Rig::of(block, json!([e()]));
        assert_eq!(rig.get("/o/5?q=1", &[("User-Agent", "u")]), 200);
        let spans = rig.collector.wait_for_spans(5);
        assert_eq!(spans.len(), 5);
        let server = find(&spans, "/o/5", SERVER);
        let proxy = find(&spans, "/o/:id", INTERNAL);
        let backend = find(&spans, "/x/:id", INTERNAL);
        let client = find(&spans, "/x/:id", CLIENT);
        let read = find(&spans, "http.client.response.read.tracker", INTERNAL);
        assert_eq!(server.parent, "");
        for (child, parent) in [
            (proxy, server),
            (backend, proxy),
            (client, backend),
            (read, client),
        ] {
            assert_eq!(child.parent, parent.id, "{child:?}");
            assert_eq!(child.trace, server.trace);
        }
        assert_eq!((server.status, client.status, read.status), (1, 1, 1));
        for span in &spans {
            assert_eq!(span.scope, "io.krakend.krakend-otel");
            assert_eq!(span.resource["service.name"], "gw");
            assert_eq!(span.resource["service.version"], "1.2");
            assert_eq!(span.resource["deployment.environment"], "ci");
        }
        attributes_of_t3(&rig, server, proxy, backend, client, read);
        let head = &rig.collector.heads()[0];
        assert!(head["user-agent"].starts_with("Portcullis/"), "{head:?}");
    }
}

fn attributes_of_t3(
    rig: &Rig,
    server: &Span,
    proxy: &Span,
    backend: &Span,
    client: &Span,
    read: &Span,
) {
    let has = |span: &Span, wanted: Value| {
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(
                span.attributes.get(name),
                Some(value),
                "{name} of {}",
                span.name
            );
        }
    };
    has(
        server,
        json!({
            "url.full": "/o/5?q=1", "server.address": "127.0.0.1", "http.request.method": "GET",
            "http.request.body.size": 0, "user_agent.original": "u", "krakend.stage": "global",
            "http.route": "/o/:id", "http.response.status_code": 200, "http.response.body.size": 7,
        }),
    );
    has(
        proxy,
        json!({
            "http.request.method": "GET", "http.route": "/o/:id", "krakend.stage": "proxy", "complete": true,
        }),
    );
    let own = json!({
        "http.request.method": "GET", "http.route": "/x/:id", "krakend.endpoint.route": "/o/:id",
        "krakend.endpoint.method": "GET",
    });
    [backend, client, read]
        .into_iter()
        .for_each(|span| has(span, own.clone()));
    has(
        backend,
        json!({"krakend.stage": "backend", "complete": true}),
    );
    let address = rig.stub.url().replace("http://", "");
    has(
        client,
        json!({
            "krakend.stage": "backend-request", "url.full": format!("{}/x/5", rig.stub.url()),
            "server.address": address, "http.request.body.size": 0,
            "http.response.status_code": 200, "http.response.body.size": 7,
        }),
    );
    assert_eq!(client.events, ["first-byte-time"]);
    has(
        read,
        json!({"krakend.stage": "backend-request", "http.client.response.read.size": 7}),
    );
}

/// T8.
#[test]
fn a_rejected_request_has_only_its_server_span() {
    let keys = r#"{"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}]}"#;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys.json");
    std::fs::write(&path, keys).unwrap();
    let auth = json!({"endpoint": "/auth", "extra_config": {"auth/validator": {
        "alg": "HS256", "jwk_local_path": path.to_str().unwrap(), "disable_jwk_security": true
    }}, "backend": [{"url_pattern": "/x/1"}]});
    let limited = json!({"endpoint": "/rl", "extra_config": {"qos/ratelimit/router": {"max_rate": 0.001, "capacity": 1}},
        "backend": [{"url_pattern": "/x/1"}]});
    let rig = Rig::of(both(), json!([auth, limited]));
    let statuses = [
        rig.get("/auth", &[]),
        rig.get("/rl", &[]),
        rig.get("/rl", &[]),
    ];
    assert_eq!(statuses, [401, 200, 503]);
    let spans = rig.collector.wait_for_spans(7);
    assert_eq!(spans.len(), 7);
    let servers: BTreeSet<(String, i64, u64)> = spans
        .iter()
        .filter(|span| span.kind == SERVER)
        .map(|span| {
            let route = span.attributes["http.route"].as_str().unwrap().to_owned();
            (
                route,
                span.attributes["http.response.status_code"]
                    .as_i64()
                    .unwrap(),
                span.status,
            )
        })
        .collect();
    // A rejected client is not an error of the gateway; 503 is.
    let wanted = [("/auth", 401, 0), ("/rl", 200, 1), ("/rl", 503, 2)];
    assert_eq!(
        servers,
        BTreeSet::from(wanted.map(|(r, s, t)| (r.to_owned(), s, t)))
    );
    assert_eq!(rig.scrape().named("krakend_proxy_duration_count").len(), 1);
}

/// T9.
#[test]
fn a_failing_call_is_reported_with_its_reason() {
    let rig = Rig::of(
        both(),
        json!([
            {"endpoint": "/t", "timeout": "400ms", "backend": [{"url_pattern": "/slow"}]},
            {"endpoint": "/e", "backend": [{"url_pattern": "/s/500"}]},
            {"endpoint": "/d", "backend": [{"host": ["{{CLOSED}}"], "url_pattern": "/z"}]},
        ]),
    );
    for path in ["/t", "/e", "/d"] {
        assert_eq!(rig.get(path, &[]), 500, "{path}");
    }
    let spans = rig.collector.wait_for_spans(12);
    assert_eq!(spans.len(), 12, "{spans:#?}");
    let slow = find(&spans, "/slow", CLIENT);
    assert_eq!(
        (slow.status, slow.message.as_str()),
        (2, "context deadline exceeded")
    );
    assert_eq!(slow.events, ["exception"]);
    let bad = find(&spans, "/s/500", CLIENT);
    assert_eq!(bad.status, 2);
    assert_eq!(bad.attributes["error.type"], "500");
    assert_eq!(bad.events, ["first-byte-time"]);
    let closed = find(&spans, "/z", CLIENT);
    assert_eq!(
        (closed.status, &closed.attributes["error.type"]),
        (2, &json!("connect_refused"))
    );
    for path in ["/t", "/e", "/d"] {
        let proxy = find(&spans, path, INTERNAL);
        assert_eq!(proxy.attributes["http.response.status_code"], 500);
        assert!(proxy.attributes.contains_key("error"), "{proxy:?}");
        let error = match path {
            "/t" => "header_timeout",
            "/e" => "500",
            _ => "connect_refused",
        };
        assert_eq!(proxy.attributes["error.type"], error, "{proxy:?}");
    }
    let page = rig.scrape();
    let routes = |name: &str| -> BTreeSet<String> {
        page.named(name)
            .iter()
            .map(|(labels, _)| labels["http_route"].clone())
            .collect()
    };
    let set =
        |all: &[&str]| -> BTreeSet<String> { all.iter().map(|it| (*it).to_owned()).collect() };
    assert_eq!(
        routes("http_client_request_failed_count_total"),
        set(&["/slow", "/z"])
    );
    assert_eq!(
        routes("http_client_request_timedout_count_total"),
        set(&["/slow"])
    );
    let statuses: BTreeMap<String, String> = page
        .named("http_client_duration_count")
        .iter()
        .map(|(labels, _)| {
            (
                labels["http_route"].clone(),
                labels["http_response_status_code"].clone(),
            )
        })
        .collect();
    assert_eq!(
        statuses,
        labels(&[("/slow", "0"), ("/s/500", "500"), ("/z", "0")])
    );
    for (labels, _) in page.named("krakend_proxy_duration_count") {
        assert_eq!((&*labels["error"], &*labels["complete"]), ("true", "false"));
    }
}

/// T10.
#[test]
fn each_call_of_a_request_has_a_span_below_its_work() {
    let rig = Rig::of(
        grpc(),
        json!([
            {"endpoint": "/p", "timeout": "20s", "backend": [{"url_pattern": "/w/1"}, {"url_pattern": "/w/404"}]},
            {"endpoint": "/n", "output_encoding": "no-op", "backend": [{"url_pattern": "/s/418"}]},
            {"endpoint": "/sh", "backend": [{"url_pattern": "/x/m"},
                {"url_pattern": "/x/s", "extra_config": {"proxy": {"shadow": true}}}]},
            {"endpoint": "/sq", "extra_config": {"proxy": {"sequential": true}},
                "backend": [{"url_pattern": "/x/1"}, {"url_pattern": "/y/{resp0_a}"}]},
        ]),
    );
    let statuses = ["/p", "/n", "/sh", "/sq"].map(|path| rig.get(path, &[]));
    assert_eq!(statuses, [200, 418, 200, 200]);
    let stage = |name: &str| -> Vec<Span> {
        let spans = rig.collector.spans();
        spans
            .into_iter()
            .filter(|span| span.attributes["krakend.stage"] == name)
            .collect()
    };
    eventually("all calls", Duration::from_secs(30), || {
        stage("backend").len() == 7 && stage("proxy").len() == 4
    });
    let proxies = stage("proxy");
    let proxy = |route: &str| proxies.iter().find(|span| span.name == route).unwrap();
    assert_eq!(proxy("/p").attributes["complete"], false);
    assert_eq!(proxy("/p").attributes["error"], "status");
    assert_eq!(proxy("/n").attributes["complete"], true);
    assert_eq!(proxy("/n").attributes["http.response.status_code"], 418);
    let backends = stage("backend");
    let found: BTreeSet<(String, String)> = backends
        .iter()
        .map(|span| {
            let route = span.attributes["krakend.endpoint.route"].as_str().unwrap();
            assert_eq!(span.parent, proxy(route).id);
            (route.to_owned(), span.name.clone())
        })
        .collect();
    let wanted = [
        ("/n", "/s/418"),
        ("/p", "/w/404"),
        ("/p", "/w/1"),
        ("/sh", "/x/m"),
        ("/sh", "/x/s"),
        ("/sq", "/x/1"),
        ("/sq", "/y/:resp0_a"),
    ];
    assert_eq!(
        found,
        BTreeSet::from(wanted.map(|(r, n)| (r.to_owned(), n.to_owned())))
    );
    let of = |name: &str| {
        let mut of_p = backends.iter().filter(|span| span.parent == proxy("/p").id);
        of_p.find(|span| span.name == name).unwrap()
    };
    assert!(of("/w/1").start <= of("/w/404").end && of("/w/404").start <= of("/w/1").end);
}

#[test]
fn a_cache_hit_is_a_call_without_a_round_trip() {
    let cached = json!({"endpoint": "/c", "backend": [{"url_pattern": "/cached",
        "extra_config": {"qos/http-cache": {"shared": true}}}]});
    let rig = Rig::of(both(), json!([cached]));
    rig.stub.load(
        crate::support::Json::parse(
            r#"[{"headers": {"Content-Type": "application/json", "Cache-Control": "max-age=60"}, "body": "{}"}]"#,
        )
        .unwrap()
        .items()
        .to_vec(),
        std::sync::Arc::new(str::to_owned),
    );
    assert_eq!((rig.get("/c", &[]), rig.get("/c", &[])), (200, 200));
    let spans = rig.collector.wait_for_spans(8);
    assert_eq!(spans.len(), 8);
    let hits = spans
        .iter()
        .filter(|span| span.attributes.contains_key("krakend.cache"));
    assert_eq!(hits.count(), 1);
    assert_eq!(rig.scrape().one("http_client_duration_count").1, 1.0);
}
