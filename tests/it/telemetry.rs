//! `telemetry/opentelemetry`: traces, series with KrakenD's names, and what collectors get.

mod calls;
mod context;
mod delivery;
mod labels;
mod page;
mod settings;
mod size;
mod spans;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::collector::Span;
use crate::support::http::request;
use crate::support::stub::Seen;
use crate::support::{Client, Collector, Gateway, Stub, eventually, ports};

pub const CLIENTS: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
pub const CLIENTS_TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
pub const CLIENTS_SPAN: &str = "b7ad6b7169203331";

/// Spans are sent immediately, not after five seconds.
const SOON: (&str, &str) = ("OTEL_BSP_SCHEDULE_DELAY", "20");

pub struct Rig {
    pub gateway: Gateway,
    pub stub: Stub,
    pub collector: Collector,
    pub page: u16,
}

impl Rig {
    /// `service` is the block, `extra` more of the service's `extra_config`. `{{…}}` are ports and the backend.
    pub fn with(variables: &[(&str, &str)], service: Value, extra: Value, endpoints: Value) -> Rig {
        let good = json!({"Content-Type": "application/json"});
        let ok = "{\"a\":1}";
        let mut routes = vec![
            json!({"path": "/slow", "delay_ms": 2000, "headers": good, "body": ok}),
            json!({"path": "/chunk", "chunked": true, "headers": good, "body": ok}),
        ];
        for status in [404, 418, 500] {
            routes.push(json!({"path": format!("/s/{status}"), "status": status, "body": "no"}));
        }
        // Each of these two waits for the other.
        routes.push(json!({"path": "/w/404", "waits_for": "/w/1", "status": 404, "body": "no"}));
        routes.push(json!({"path": "/w/1", "waits_for": "/w/404", "headers": good, "body": ok}));
        routes.push(json!({"headers": good, "body": ok}));
        let stub = Stub::with(&Value::Array(routes).to_string());
        let collector = Collector::start();
        let page = ports::free();
        let mut all = extra.as_object().cloned().unwrap_or_default();
        all.insert("telemetry/opentelemetry".to_owned(), service);
        let file = json!({
            "version": 3, "host": ["{{BACKEND}}"], "extra_config": all, "endpoints": endpoints
        });
        let text = file
            .to_string()
            .replace("{{BACKEND}}", &stub.url())
            .replace("{{CLOSED}}", "http://127.0.0.1:1")
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

    pub fn of(service: Value, endpoints: Value) -> Rig {
        Rig::with(&[], service, json!({}), endpoints)
    }

    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.gateway.get_with(path, headers).status
    }

    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)]) -> u16 {
        self.gateway
            .send(method, request(method, path, headers))
            .status
    }

    pub fn one_seen(&self) -> Seen {
        let mut seen = self.stub.take_seen();
        assert_eq!(seen.len(), 1, "{seen:?}");
        seen.remove(0)
    }

    pub fn scrape(&self) -> Page {
        let mut client = Client::connect(self.page).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let response = client.response("GET").unwrap();
        let kind = response.header("content-type").unwrap_or("").to_owned();
        assert!(kind.starts_with("text/plain; version=0.0.4"), "{kind}");
        Page::read(&response.text())
    }

    /// The page once `done` is true for it: the series of a request appear shortly after its response.
    fn page_when(&self, what: &str, done: impl Fn(&Page) -> bool) -> Page {
        eventually(what, Duration::from_secs(30), || done(&self.scrape()));
        self.scrape()
    }
}

/// A Prometheus page, parsed.
#[derive(Debug, Default)]
pub struct Page {
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

/// The value of a metric without labels on the page of `portcullis/metrics`.
fn own_metric(port: u16, name: &str) -> f64 {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap().trim().parse().unwrap()
}

/// The rows of the case tables of `telemetry/opentelemetry` and its neighbours, T1 to T20. The comment of a test names its row.
#[test]
fn each_row_of_the_case_tables_is_a_test() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it");
    let own = std::fs::read_dir(folder.join("telemetry")).unwrap();
    let own = own.map(|entry| entry.unwrap().path());
    let sources: Vec<String> = own
        .chain([folder.join("reports.rs")])
        .map(|path| std::fs::read_to_string(path).unwrap())
        .collect();
    for row in 1..=20 {
        let name = format!("/// T{row}");
        let is_test = |source: &String| {
            source.match_indices(&name).any(|(at, _)| {
                let rest = &source[at + name.len()..];
                let (comment, code) = rest.split_once("#[test]\nfn ").unwrap_or((rest, ""));
                let names_it = !rest.starts_with(|c: char| c.is_ascii_digit());
                names_it
                    && !code.is_empty()
                    && comment.lines().skip(1).all(|it| it.starts_with("///"))
            })
        };
        assert!(sources.iter().any(is_test), "T{row} has no test");
    }
}

pub fn prometheus() -> Value {
    json!({"exporters": {"prometheus": [{"name": "p", "port": "{{PROM}}"}]}})
}

pub fn grpc() -> Value {
    json!({
        "service_name": "gw", "service_version": "1.2", "deploy_env": "ci",
        "exporters": {"otlp": [{"name": "t", "host": "127.0.0.1", "port": "{{OTLP_GRPC}}"}]}
    })
}

pub fn both() -> Value {
    let mut block = grpc();
    block["exporters"]["prometheus"] = json!([{"name": "p", "port": "{{PROM}}"}]);
    block
}

/// E of the case table.
fn e() -> Value {
    json!({"endpoint": "/o/{id}", "backend": [{"url_pattern": "/x/{id}"}]})
}

pub fn a() -> Value {
    json!({"endpoint": "/a", "backend": [{"url_pattern": "/x/a"}]})
}

pub fn find<'s>(spans: &'s [Span], name: &str, kind: u64) -> &'s Span {
    spans
        .iter()
        .find(|span| span.name == name && span.kind == kind)
        .unwrap_or_else(|| panic!("no span {name} of kind {kind}: {spans:#?}"))
}

pub const INTERNAL: u64 = 1;
pub const SERVER: u64 = 2;
pub const CLIENT: u64 = 3;
