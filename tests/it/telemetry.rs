//! `telemetry/opentelemetry`: traces, series with KrakenD's names, and what collectors get.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::collector::Span;
use crate::support::http::request;
use crate::support::stub::Seen;
use crate::support::{Client, Collector, Gateway, Stub, eventually, ports};

const CLIENTS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const CLIENTS_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CLIENTS_SPAN: &str = "b7ad6b7169203331";

/// Spans are sent immediately, not after five seconds.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");

struct Rig {
    gateway: Gateway,
    stub: Stub,
    collector: Collector,
    page: u16,
}

impl Rig {
    /// `service` is the block, `extra` more of the service's `extra_config`. `{{…}}` are ports and the backend.
    fn with(variables: &[(&str, &str)], service: Value, extra: Value, endpoints: Value) -> Rig {
        let good = json!({"Content-Type": "application/json"});
        let ok = "{\"a\":1}";
        let mut routes = vec![
            json!({"path": "/slow", "delay_ms": 2000, "headers": good, "body": ok}),
            json!({"path": "/chunk", "chunked": true, "headers": good, "body": ok}),
        ];
        for status in [404, 418, 500] {
            routes.push(json!({"path": format!("/s/{status}"), "status": status, "body": "no"}));
        }
        routes.push(json!({"headers": good, "body": ok}));
        let stub = Stub::with(&Value::Array(routes).to_string());
        let collector = Collector::start();
        let page = ports::free();
        let mut all = extra.as_object().cloned().unwrap_or_default();
        all.insert("telemetry/opentelemetry".to_owned(), service);
        let file = json!({
            "version": 3, "host": ["{{BACKEND}}"], "extra_config": all, "endpoints": endpoints
        });
        let closed = ports::free();
        let text = file
            .to_string()
            .replace("{{BACKEND}}", &stub.url())
            .replace("{{CLOSED}}", &format!("http://127.0.0.1:{closed}"))
            .replace("\"{{OTLP_GRPC}}\"", &collector.grpc().to_string())
            .replace("\"{{OTLP_HTTP}}\"", &collector.http().to_string())
            .replace("\"{{PROM}}\"", &page.to_string());
        let variables = [&[SOON], variables].concat();
        Rig {
            gateway: Gateway::start_in(&variables, &text),
            stub,
            collector,
            page,
        }
    }

    fn of(service: Value, endpoints: Value) -> Rig {
        Rig::with(&[], service, json!({}), endpoints)
    }

    fn get(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.gateway.get_with(path, headers).status
    }

    fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.gateway
            .send(method, request(method, path, headers))
            .status
    }

    fn one_seen(&self) -> Seen {
        let mut seen = self.stub.take_seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    fn scrape(&self) -> Page {
        let mut client = Client::connect(self.page).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let response = client.response("GET").unwrap();
        let kind = response.header("content-type").unwrap_or("").to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Page::read(&response.text())
    }

    /// The page once `done` is true for it: the series of a request appear shortly after its response.
    fn page_when(&self, what: &str, done: impl Fn(&Page) -> bool) -> Page {
        eventually(what, Duration::from_secs(10), || done(&self.scrape()));
        self.scrape()
    }
}

/// A Prometheus page, parsed.
#[derive(Debug, Default)]
struct Page {
    kinds: BTreeMap<String, String>,
    /// Name, labels without those of the scope, value.
    series: Vec<(String, BTreeMap<String, String>, f64)>,
}

impl Page {
    fn read(text: &str) -> Page {
        let mut page = Page::default();
        for line in text.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                page.kinds.insert(name.to_owned(), kind.to_owned());
            } else if !line.starts_with('#') {
                let (series, value) = line.rsplit_once(' ').unwrap();
                let (name, labels) = series.split_once('{').unwrap_or((series, ""));
                let labels = labels.trim_end_matches('}').split("\",");
                let labels = labels.filter_map(|pair| {
                    let (name, value) = pair.split_once("=\"")?;
                    Some((name.to_owned(), value.trim_end_matches('"').to_owned()))
                });
                let labels = labels.filter(|(name, _)| !name.starts_with("otel_scope_"));
                let value = value.parse().unwrap();
                page.series.push((name.to_owned(), labels.collect(), value));
            }
        }
        page
    }

    fn families(&self) -> BTreeSet<&str> {
        self.kinds.keys().map(String::as_str).collect()
    }

    fn named(&self, name: &str) -> Vec<(&BTreeMap<String, String>, f64)> {
        let found = self.series.iter().filter(|(known, ..)| known == name);
        found.map(|(_, labels, value)| (labels, *value)).collect()
    }

    /// Labels and value of the only series of this name.
    fn one(&self, name: &str) -> (&BTreeMap<String, String>, f64) {
        let found = self.named(name);
        assert_eq!(found.len(), 1, "{name}: {found:?}");
        found[0]
    }

    fn has(&self, name: &str) -> bool {
        !self.named(name).is_empty()
    }
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
        .collect()
}

fn prometheus() -> Value {
    json!({"exporters": {"prometheus": [{"name": "p", "port": "{{PROM}}"}]}})
}

fn grpc() -> Value {
    json!({
        "service_name": "gw", "service_version": "1.2", "deploy_env": "ci",
        "exporters": {"otlp": [{"name": "t", "host": "127.0.0.1", "port": "{{OTLP_GRPC}}"}]}
    })
}

fn both() -> Value {
    let mut block = grpc();
    block["exporters"]["prometheus"] = json!([{"name": "p", "port": "{{PROM}}"}]);
    block
}

/// E of the case table.
fn e() -> Value {
    json!({"endpoint": "/o/{id}", "backend": [{"url_pattern": "/x/{id}"}]})
}

fn a() -> Value {
    json!({"endpoint": "/a", "backend": [{"url_pattern": "/x/a"}]})
}

fn find<'s>(spans: &'s [Span], name: &str, kind: u64) -> &'s Span {
    spans
        .iter()
        .find(|span| span.name == name && span.kind == kind)
        .unwrap_or_else(|| panic!("no span {name} of kind {kind}: {spans:#?}"))
}

const INTERNAL: u64 = 1;
const SERVER: u64 = 2;
const CLIENT: u64 = 3;

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

/// T4. Unlike in KrakenD, an unsampled parent is respected, and `baggage` is not passed on by default.
#[test]
fn the_context_of_a_client_goes_on_to_backends() {
    let rig = Rig::of(grpc(), json!([a()]));
    let sampled = [
        ("traceparent", CLIENTS),
        ("tracestate", "a=1,b=2"),
        ("baggage", "u=1"),
    ];
    assert_eq!(rig.get("/a", &sampled), 200);
    let spans = rig.collector.wait_for_spans(5);
    let client = find(&spans, "/x/a", CLIENT);
    let server = find(&spans, "/a", SERVER);
    assert_eq!(
        (server.parent.as_str(), server.trace.as_str()),
        (CLIENTS_SPAN, CLIENTS_TRACE)
    );
    let seen = rig.one_seen();
    let sent = format!("00-{CLIENTS_TRACE}-{}-01", client.id);
    assert_eq!(seen.header("traceparent"), Some(&*sent));
    assert_eq!(seen.header("tracestate"), Some("a=1,b=2"));
    assert_eq!(seen.header("baggage"), None);

    let unsampled = CLIENTS.replace("-01", "-00");
    assert_eq!(rig.get("/a", &[("traceparent", &unsampled)]), 200);
    let sent = rig.one_seen().header("traceparent").unwrap().to_owned();
    assert!(
        sent.starts_with(&format!("00-{CLIENTS_TRACE}-")) && sent.ends_with("-00"),
        "{sent}"
    );

    assert_eq!(
        rig.get("/a", &[("traceparent", "garbage"), ("tracestate", "a=1")]),
        200
    );
    let seen = rig.one_seen();
    let sent = seen.header("traceparent").unwrap();
    assert!(
        !sent.contains(CLIENTS_TRACE) && sent.ends_with("-01"),
        "{sent}"
    );
    assert_eq!(seen.header("tracestate"), None);
    assert_eq!(rig.collector.wait_for_spans(10).len(), 10);
}

/// T4 with `propagate_baggage`.
#[test]
fn baggage_goes_on_where_the_file_says_so() {
    let mut block = grpc();
    block["propagate_baggage"] = json!(true);
    let rig = Rig::of(block, json!([a()]));
    let two = [("baggage", "u=1"), ("baggage", "k=v;p=1")];
    assert_eq!(rig.get("/a", &two), 200);
    assert_eq!(rig.one_seen().header("baggage"), Some("u=1,k=v;p=1"));
}

/// T5.
#[test]
fn an_unsampled_request_keeps_its_trace_and_gets_no_spans() {
    let mut block = grpc();
    block["trace_sample_rate"] = json!(0.999999);
    let listed = json!({"endpoint": "/l", "input_headers": ["traceparent"], "backend": [{"url_pattern": "/x/l"}]});
    let rig = Rig::of(block, json!([a(), listed]));
    let unsampled = CLIENTS.replace("-01", "-00");
    for path in ["/a", "/l"] {
        assert_eq!(rig.get(path, &[("traceparent", &unsampled)]), 200);
        let seen = rig.one_seen();
        assert_eq!(seen.headers["traceparent"].len(), 1);
        let sent = seen.header("traceparent").unwrap();
        assert!(sent.starts_with(&format!("00-{CLIENTS_TRACE}-")), "{sent}");
        assert!(
            sent.ends_with("-00") && !sent.contains(CLIENTS_SPAN),
            "{sent}"
        );
    }
    assert_eq!(rig.get("/a", &[("traceparent", CLIENTS)]), 200);
    assert_eq!(rig.collector.wait_for_spans(5).len(), 5);
}

/// T6. Unlike KrakenD, a rate of 0 records nothing.
#[test]
fn a_client_is_not_listened_to_where_the_file_says_so() {
    let mut block = grpc();
    block["layers"] = json!({"global": {"disable_propagation": true}});
    let rig = Rig::of(block, json!([a()]));
    assert_eq!(rig.get("/a", &[("traceparent", CLIENTS)]), 200);
    let spans = rig.collector.wait_for_spans(5);
    assert!(spans.iter().all(|span| span.trace != CLIENTS_TRACE));
    let sent = rig.one_seen().header("traceparent").unwrap().to_owned();
    assert!(sent.contains(&spans[0].trace), "{sent}");

    let mut block = both();
    block["trace_sample_rate"] = json!(0);
    let rig = Rig::of(block, json!([a()]));
    assert_eq!(rig.get("/a", &[]), 200);
    rig.page_when("the request", |page| page.has("http_server_duration_count"));
    assert!(
        rig.one_seen()
            .header("traceparent")
            .unwrap()
            .ends_with("-00")
    );
    assert!(rig.collector.spans().is_empty());
}

/// T7.
#[test]
fn what_no_endpoint_answers_is_counted_by_its_status() {
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

/// T8.
#[test]
fn a_refused_request_is_its_server_span_alone() {
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
fn a_failing_call_is_told_by_its_reason() {
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
            {"endpoint": "/p", "backend": [{"url_pattern": "/x/1"}, {"url_pattern": "/s/404"}]},
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
    eventually("all calls", Duration::from_secs(20), || {
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
        ("/p", "/s/404"),
        ("/p", "/x/1"),
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
    assert!(of("/x/1").start <= of("/s/404").end && of("/s/404").start <= of("/x/1").end);
}

/// T11. Unlike in KrakenD, the context is passed on regardless of the spans.
#[test]
fn the_switches_of_a_backend_layer_switch() {
    let run = |metrics: Value, traces: Value| {
        let mut block = both();
        block["layers"] = json!({"backend": {"metrics": metrics, "traces": traces}});
        let rig = Rig::of(block, json!([a()]));
        assert_eq!(rig.get("/a", &[]), 200);
        let page = rig.page_when("the request", |page| page.has("http_server_duration_count"));
        eventually("spans", Duration::from_secs(10), || {
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
fn endpoints_and_backends_say_more_for_themselves() {
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
fn what_cannot_be_read_is_told_and_the_rest_serves() {
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
        assert!(
            gateway.output().contains(reason),
            "{block}: {}",
            gateway.output()
        );
        let strict = Gateway::spawn(ports::free(), &at(block), &[], &["--strict"]);
        let ended = strict.wait(Duration::from_secs(20)).expect("it starts");
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
    eventually("the request", Duration::from_secs(10), || {
        read().contains("http_server_duration_count{")
    });
    assert!(
        gateway.output().contains("not built: zipkin"),
        "{}",
        gateway.output()
    );
}

/// T16.
#[test]
fn b3_is_spoken_where_the_environment_says_so() {
    let rig = Rig::with(
        &[("OTEL_PROPAGATORS", "b3")],
        grpc(),
        json!({}),
        json!([a()]),
    );
    let b3 = "80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1";
    assert_eq!(rig.get("/a", &[("b3", b3), ("traceparent", CLIENTS)]), 200);
    let seen = rig.one_seen();
    let sent = seen.header("b3").unwrap();
    let parts: Vec<&str> = sent.split('-').collect();
    assert_eq!(
        (parts[0], parts[2]),
        ("80f198ee56343ba864fe8b2a57d3eff7", "1")
    );
    assert_ne!(parts[1], "e457b5a2e4d86bd1");
    assert_eq!(seen.header("traceparent"), None);
}

/// T17. Unlike in KrakenD, nothing is lost when the gateway stops.
#[test]
fn what_waits_is_sent_at_the_stop() {
    let mut block = both();
    block["metric_reporting_period"] = json!(3600);
    let slow = [("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let rig = Rig::with(&slow, block, json!({}), json!([e()]));
    assert_eq!(rig.get("/o/5", &[]), 200);
    assert!(rig.collector.spans().is_empty());
    let began = Instant::now();
    rig.gateway.signal("TERM");
    let status = rig.gateway.wait(Duration::from_secs(20)).expect("it ends");
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
fn a_collector_that_is_away_or_hangs_delays_neither_requests_nor_the_stop_for_long() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = silent.local_addr().unwrap().port();
    let block = json!({"exporters": {"otlp": [
        {"name": "away", "host": "127.0.0.1", "port": ports::free()},
        {"name": "silent", "host": "127.0.0.1", "port": silent, "use_http": true},
    ]}});
    let rig = Rig::of(block, json!([a()]));
    let began = Instant::now();
    for _ in 0..20 {
        assert_eq!(rig.get("/a", &[]), 200);
    }
    assert!(began.elapsed() < Duration::from_secs(10));
    eventually("a line", Duration::from_secs(20), || {
        rig.gateway
            .output()
            .contains("away: traces were not delivered")
    });
    let began = Instant::now();
    rig.gateway.signal("TERM");
    assert!(rig.gateway.wait(Duration::from_secs(20)).unwrap().success());
    assert!(
        began.elapsed() < Duration::from_secs(12),
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
    eventually("recovery", Duration::from_secs(10), || {
        rig.gateway.output().contains("takes data again")
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
    eventually("spans", Duration::from_secs(20), || {
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
fn a_reload_keeps_counts_and_drops_series_of_endpoints_that_are_gone() {
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
