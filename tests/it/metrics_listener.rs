//! The listener of `portcullis/metrics`: formats, TLS, and its size with thousands of endpoints.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::tls::{Authority, Speaker};
use crate::support::{Client, Collector, Gateway, Response, Stub, eventually, ports};

fn asked(port: u16, path: &str, headers: &[(&str, &str)]) -> Response {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", path, headers)).unwrap();
    client.response("GET").unwrap()
}

fn stub() -> Stub {
    Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "body": "{}"}]"#)
}

/// A file whose metrics listener has these keys of `tls`, and the files that it names.
fn with_tls(
    authority: &Authority,
    port: u16,
    more: Value,
) -> (String, Vec<(&'static str, String)>) {
    let mut tls = json!({"keys": [{"public_key": "m.crt", "private_key": "m.key"}]});
    for (key, value) in more.as_object().unwrap() {
        tls[key] = value.clone();
    }
    let block = json!({"listen": format!("127.0.0.1:{port}"), "page": true, "tls": tls});
    let file =
        json!({"version": 3, "extra_config": {"portcullis/metrics": block}, "endpoints": []});
    let (certificate, key) = authority.pair("m.test");
    let files = vec![
        ("m.crt", certificate),
        ("m.key", key),
        ("ca.crt", authority.pem()),
    ];
    (file.to_string(), files)
}

fn start(file: &(String, Vec<(&'static str, String)>)) -> Gateway {
    let files: Vec<(&str, &str)> = file.1.iter().map(|(name, text)| (*name, &**text)).collect();
    Gateway::start_with(&file.0, &files)
}

#[test]
fn the_metrics_listener_speaks_tls_if_the_file_says_so() {
    let (authority, port) = (Authority::new(), ports::free());
    let gateway = start(&with_tls(&authority, port, json!({})));
    // HTTP/2 is not offered: a client that prefers it speaks HTTP/1.1.
    let speaker = Speaker::default().alpn("h2").alpn("http/1.1");
    let mut client = speaker.connect(port, "m.test", &authority).unwrap();
    assert_eq!(client.0.conn.alpn_protocol(), Some(&b"http/1.1"[..]));
    for path in ["/metrics", "/", "/metrics"] {
        let response = client.get(path).unwrap();
        assert!(response.starts_with("HTTP/1.1 200"), "{path}: {response}");
    }
    let page = client.get("/metrics").unwrap();
    let expiry = "portcullis_certificate_expiry_timestamp_seconds{file=\"m.crt\"";
    assert!(page.contains(expiry), "{page}");
    let mut plain = Client::connect(port).unwrap();
    plain.send(request("GET", "/metrics", &[])).unwrap();
    let rejection = String::from_utf8(plain.rest().unwrap()).unwrap();
    assert!(rejection.starts_with("HTTP/1.0 400"), "{rejection}");
    assert!(!rejection.contains("portcullis_"));

    let before = client.certificate();
    authority.write(&gateway.dir(), "m", "m.test");
    gateway.signal("HUP");
    eventually("the renewed certificate", Duration::from_secs(30), || {
        let client = speaker.connect(port, "m.test", &authority);
        client.is_ok_and(|client| client.certificate() != before)
    });
}

#[test]
fn a_client_without_a_certificate_reads_no_metrics_if_one_is_required() {
    let (authority, port) = (Authority::new(), ports::free());
    let mutual =
        json!({"enable_mtls": true, "ca_certs": ["ca.crt"], "disable_system_ca_pool": true});
    let _gateway = start(&with_tls(&authority, port, mutual));
    let read = |speaker: &Speaker| {
        let mut client = speaker.connect(port, "m.test", &authority)?;
        client.get("/metrics")
    };
    assert!(read(&Speaker::default()).is_err());
    let known = Speaker::default().showing(authority.pair("scraper.test"));
    assert!(read(&known).unwrap().starts_with("HTTP/1.1 200"));
    let foreign = Speaker::default().showing(Authority::new().pair("scraper.test"));
    assert!(read(&foreign).is_err());
}

#[test]
fn a_metrics_listener_without_a_usable_certificate_does_not_start() {
    let (authority, port) = (Authority::new(), ports::free());
    for (more, reason) in [
        (json!({"keys": []}), "public key not defined"),
        (
            json!({"keys": [{"public_key": "none.crt", "private_key": "m.key"}]}),
            "none.crt",
        ),
    ] {
        let (file, files) = with_tls(&authority, port, more);
        let files: Vec<(&str, &str)> = files.iter().map(|(name, text)| (*name, &**text)).collect();
        let gateway = Gateway::spawn(ports::free(), &file, &files, &[]);
        let ended = gateway.wait(Duration::from_secs(30));
        assert!(ended.is_some_and(|status| !status.success()), "{reason}");
        gateway.tells(reason);
    }
}

/// Checks the form of a page in OpenMetrics. Returns its families and their types.
fn checked(page: &str) -> BTreeMap<String, String> {
    assert!(page.ends_with("# EOF\n") && page.matches("# EOF").count() == 1);
    let mut types = BTreeMap::new();
    let mut current = (String::new(), String::new());
    for line in page.lines().take_while(|line| *line != "# EOF") {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            current = (name.to_owned(), kind.to_owned());
            let known = types.insert(name.to_owned(), kind.to_owned());
            assert!(known.is_none(), "{name} comes twice");
            assert!(kind != "counter" || !name.ends_with("_total"), "{line}");
        } else if !line.starts_with("# HELP ") {
            let name = line.split(['{', ' ']).next().unwrap();
            let suffix = name
                .strip_prefix(&current.0)
                .unwrap_or_else(|| panic!("{line}"));
            let allowed: &[&str] = match &*current.1 {
                "counter" => &["_total"],
                "info" => &["_info"],
                "histogram" => &["_bucket", "_sum", "_count"],
                "gauge" => &[""],
                other => panic!("{other}"),
            };
            assert!(allowed.contains(&suffix), "{line}");
            let example = line.contains(" # {trace_id=\"");
            assert!(!example || suffix == "_bucket", "{line}");
        }
    }
    types
}

#[test]
fn a_scraper_that_prefers_openmetrics_gets_it_with_the_traces_of_its_buckets() {
    let (stub, port, collector) = (stub(), ports::free(), Collector::start());
    let file = json!({
        "version": 3, "host": [stub.url()],
        "extra_config": {
            "portcullis/metrics": {"listen": format!("127.0.0.1:{port}")},
            "telemetry/opentelemetry": {"exporters": {"otlp": [
                {"name": "c", "host": "127.0.0.1", "port": collector.grpc()}
            ]}},
        },
        "endpoints": [{"endpoint": "/a/{id}", "backend": [{"url_pattern": "/x/{id}"}]}],
    });
    let gateway = Gateway::start(&file.to_string());
    let trace = "0af7651916cd43dd8448eb211c80319c";
    for (id, flag) in [("4bf92f3577b34da6a3ce929d0e0e4736", "00"), (trace, "01")] {
        let context = format!("00-{id}-b7ad6b7169203331-{flag}");
        let response = gateway.get_with("/a/1", &[("traceparent", &context)]);
        assert_eq!(response.status, 200);
    }
    let open = [(
        "Accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3",
    )];
    let name = "portcullis_http_request_duration_seconds_count{method=\"GET\",route=\"/a/{id}\"} 2";
    eventually("both requests", Duration::from_secs(30), || {
        asked(port, "/metrics", &open).text().contains(name)
    });
    let response = asked(port, "/metrics", &open);
    assert_eq!(
        response.header("content-type"),
        Some("application/openmetrics-text; version=1.0.0; charset=utf-8")
    );
    assert!(response.header("vary").unwrap().contains("Accept,"));
    let page = response.text();
    let types = checked(&page);
    for (family, kind) in [
        ("portcullis_build", "info"),
        ("portcullis_http_requests", "counter"),
        ("portcullis_http_request_duration_seconds", "histogram"),
        ("portcullis_upstream_request_duration_seconds", "histogram"),
        ("portcullis_otlp_exports", "counter"),
        ("process_cpu_seconds", "counter"),
    ] {
        assert_eq!(
            types.get(family).map(String::as_str),
            Some(kind),
            "{family}"
        );
    }
    let sampled: BTreeSet<&str> = page
        .lines()
        .filter(|line| line.contains(&format!("# {{trace_id=\"{trace}\"")))
        .filter_map(|line| line.split("_bucket").next())
        .collect();
    let wanted = [
        "portcullis_http_request_duration_seconds",
        "portcullis_upstream_request_duration_seconds",
    ];
    assert_eq!(sampled, wanted.into(), "{page}");
    assert!(
        !page.contains("4bf92f3577b34da6a3ce929d0e0e4736"),
        "it is not sampled"
    );
    for accept in ["text/plain", "application/openmetrics-text;q=0", "*/*"] {
        let response = asked(port, "/metrics", &[("Accept", accept)]);
        let kind = response.header("content-type").unwrap();
        assert!(
            kind.starts_with("text/plain; version=0.0.4"),
            "{accept}: {kind}"
        );
        let page = response.text();
        assert!(
            !page.contains("trace_id=") && !page.contains("# EOF"),
            "{accept}"
        );
    }
}

#[test]
fn thousands_of_endpoints_explode_neither_page() {
    let (stub, port) = (stub(), ports::free());
    let endpoints: Vec<Value> = (0..3000)
        .map(|n| json!({"endpoint": format!("/e{n}/{{id}}"), "backend": [{"url_pattern": "/x"}]}))
        .collect();
    let block = json!({"listen": format!("127.0.0.1:{port}"), "page": true});
    let file = json!({"version": 3, "host": [stub.url()],
        "extra_config": {"portcullis/metrics": block}, "endpoints": endpoints});
    let gateway = Gateway::start(&file.to_string());
    let called = 400;
    let mut client = gateway.client();
    for n in 0..called {
        client
            .send(request("GET", &format!("/e{n}/1"), &[]))
            .unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    // An endpoint beyond the limit of series.
    client.send(request("GET", "/e2999/1", &[])).unwrap();
    assert_eq!(client.response("GET").unwrap().status, 200);
    let other = "portcullis_http_requests_total{method=\"GET\",route=\"_OTHER\",status=\"2xx\"} 1";
    eventually("the last request", Duration::from_secs(30), || {
        asked(port, "/metrics", &[]).text().contains(other)
    });
    let page = asked(port, "/metrics", &[]);
    assert!(page.text().lines().count() < 150_000);
    let status = asked(port, "/", &[]).text();
    assert!(status.len() < 100_000, "{}", status.len());
    assert_eq!(status.matches("<td>GET /e").count(), 200);
    assert!(status.contains("more: enter a part"));
    let found = asked(port, "/?filter=%2Fe399%2F", &[]).text();
    assert!(
        found.contains("GET /e399/{id}") && !found.contains("GET /e398/"),
        "{found}"
    );
}
