//! The metrics page: what a scrape finds there, and what an unknown client cannot add to it.

use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Gateway, Signer, Stub, Upstream, eventually, pause, ports, tokens};

const TABLE: &str = include_str!("../../docs/metrics.md");

struct Scraped {
    gateway: Gateway,
    metrics: u16,
    signer: Signer,
    _stub: Stub,
}

fn start() -> Scraped {
    start_with(&[])
}

/// A gateway with an open endpoint and these additional ones.
fn start_with(more: &[Value]) -> Scraped {
    let signer = Signer::es256("k");
    let stub = Stub::with(
        &json!([{"path": "/jwks", "infra": true, "headers": {"Content-Type": "application/json"}, "body": signer.jwks()},
        {"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}])
        .to_string(),
    );
    let metrics = ports::free();
    let mut endpoints = vec![json!({
        "endpoint": "/open/{id}", "backend": [{ "host": [stub.url()], "url_pattern": "/open" }]
    })];
    endpoints.extend_from_slice(more);
    let file = json!({
        "version": 3,
        "host": [stub.url()],
        "extra_config": { "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") } },
        "endpoints": endpoints
    });
    let file = file.to_string().replace("{{BACKEND}}", &stub.url());
    Scraped {
        gateway: Gateway::start(&file),
        metrics,
        signer,
        _stub: stub,
    }
}

/// An endpoint that needs a token.
fn protected() -> Value {
    json!({
        "endpoint": "/me",
        "extra_config": { "auth/validator": {
            "alg": "ES256", "audience": ["api"], "jwk_url": "{{BACKEND}}/jwks", "disable_jwk_security": true
        } },
        "backend": [{ "url_pattern": "/me" }]
    })
}

impl Scraped {
    fn page(&self) -> String {
        let mut client = Client::connect(self.metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let response = client.response("GET").unwrap();
        assert_eq!(response.status, 200);
        assert!(
            response
                .header("content-type")
                .unwrap_or("")
                .starts_with("text/plain")
        );
        response.text()
    }

    fn bearer(&self, audience: &str) -> String {
        format!("Bearer {}", self.signer.token(&tokens::claims(audience)))
    }
}

/// The lines with a value.
fn samples(page: &str) -> Vec<&str> {
    page.lines()
        .filter(|l| !l.is_empty() && !l.starts_with('#'))
        .collect()
}

#[test]
fn each_rejection_is_counted_under_its_reason() {
    let s = start_with(&[protected()]);
    assert_eq!(s.gateway.get("/me").status, 401);
    let other = s.bearer("other");
    assert_eq!(
        s.gateway
            .get_with("/me", &[("Authorization", &other)])
            .status,
        401
    );
    assert_eq!(
        s.gateway
            .get_with("/me", &[("Authorization", &s.bearer("api"))])
            .status,
        200
    );
    for reason in ["missing", "wrong_audience"] {
        eventually(reason, Duration::from_secs(30), || {
            samples(&s.page()).iter().any(|l| {
                let named = l.starts_with("portcullis_jwt_rejected_total{");
                named && l.contains(&format!("reason=\"{reason}\"")) && l.ends_with(" 1")
            })
        });
    }
}

#[test]
fn tokens_that_never_expire_are_counted_where_they_pass() {
    let s = start_with(&[protected()]);
    let mut endless = tokens::claims("api");
    endless.as_object_mut().unwrap().remove("exp");
    let mut elsewhere = endless.clone();
    elsewhere["aud"] = json!("other");
    let calls = [(endless.clone(), 200), (endless, 200), (elsewhere, 401)];
    for (claims, status) in calls {
        let bearer = format!("Bearer {}", s.signer.token(&claims));
        let response = s.gateway.get_with("/me", &[("Authorization", &bearer)]);
        assert_eq!(response.status, status);
    }
    let ordinary = s.bearer("api");
    s.gateway.get_with("/me", &[("Authorization", &ordinary)]);
    let page = s.page();
    assert!(
        samples(&page).contains(&"portcullis_jwt_without_exp_total 2"),
        "{page}"
    );
}

#[test]
fn unknown_paths_and_methods_add_no_series() {
    let s = start();
    let ask = |from: usize| {
        for i in from..from + 200 {
            s.gateway.get(&format!("/open/{i}"));
            s.gateway.get(&format!("/nowhere/{i}?token={i}"));
            let method = format!("M{i}");
            let mut client = s.gateway.client();
            client.send(request(&method, "/open/1", &[])).unwrap();
            let _ = client.response(&method);
        }
    };
    ask(0);
    let before = samples(&s.page()).len();
    ask(1000);
    let page = s.page();
    assert_eq!(samples(&page).len(), before, "the page grew");
    for sent in ["/1007", "=1007", "M1007"] {
        assert!(!page.contains(sent), "{sent} is on the page: {page}");
    }
}

#[test]
fn every_metric_has_a_help_text_and_passes_promtool_where_there_is_one() {
    let s = start();
    s.gateway.get("/open/1");
    let page = s.page();
    for line in page.lines().filter_map(|l| l.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        let documented = name.starts_with("process_") || TABLE.contains(&format!("| `{name}` |"));
        assert!(documented, "{name} is not in docs/metrics.md");
        assert!(
            page.contains(&format!("# HELP {name} ")),
            "{name} has no help text"
        );
    }
    assert!(page.contains("portcullis_build_info"), "{page}");
    let promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!(
            "promtool is not here: the page was not linted (Debian: apt-get install prometheus)"
        );
        return;
    };
    promtool
        .stdin
        .take()
        .unwrap()
        .write_all(page.as_bytes())
        .unwrap();
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "promtool: {}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn metrics_have_no_listener_by_default() {
    let gateway = Gateway::start(r#"{"version": 3, "endpoints": []}"#);
    let listening = listening_ports(gateway.pid());
    assert_eq!(
        listening,
        [gateway.port()],
        "more ports than the file asks for"
    );
}

/// The TCP ports on which this process listens, from /proc.
fn listening_ports(pid: u32) -> Vec<u16> {
    let mut ports = Vec::new();
    let links = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .flatten();
    let inodes: Vec<String> = links
        .filter_map(|l| std::fs::read_link(l.path()).ok())
        .filter_map(|l| {
            Some(
                l.to_str()?
                    .strip_prefix("socket:[")?
                    .strip_suffix(']')?
                    .to_owned(),
            )
        })
        .collect();
    for table in ["tcp", "tcp6"] {
        let table = std::fs::read_to_string(format!("/proc/net/{table}")).unwrap_or_default();
        for line in table.lines().skip(1) {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let is_ours = fields
                .get(9)
                .is_some_and(|i| inodes.iter().any(|own| own == i));
            if is_ours && fields[3] == "0A" {
                let port = fields[1].rsplit(':').next().unwrap();
                ports.push(u16::from_str_radix(port, 16).unwrap());
            }
        }
    }
    ports.sort_unstable();
    ports.dedup();
    ports
}

/// An endpoint for POST with this `extra_config`, and one whose only backend has it.
fn guarded(path: &str, level: &str, extra: &Value) -> Value {
    let mut endpoint =
        json!({ "endpoint": path, "method": "POST", "backend": [{ "url_pattern": "/guarded" }] });
    match level {
        "endpoint" => endpoint["extra_config"] = extra.clone(),
        _ => endpoint["backend"][0]["extra_config"] = extra.clone(),
    }
    endpoint
}

#[test]
#[cfg(all(feature = "cel", feature = "json-schema", feature = "lua"))]
fn rejections_by_guards_are_not_errors_of_backends() {
    let script = |source: &str| json!({ "modifier/lua-proxy": { "pre": source } });
    let in_backend = |source: &str| json!({ "modifier/lua-backend": { "pre": source } });
    let put = "req_method == 'PUT'";
    let policies = json!({ "security/policies": { "req": { "policies": [put], "error": { "status": 418, "body": "no tea" } } } });
    let cases = [
        (
            "/cel",
            "endpoint",
            json!({ "validation/cel": [{ "check_expr": put }] }),
            "cel",
            500,
        ),
        (
            "/cel-backend",
            "backend",
            json!({ "validation/cel": [{ "check_expr": put }] }),
            "cel",
            500,
        ),
        ("/policy", "endpoint", policies.clone(), "policy", 418),
        ("/policy-backend", "backend", policies, "policy", 418),
        (
            "/schema",
            "endpoint",
            json!({ "validation/json-schema": { "type": "string" } }),
            "json_schema",
            400,
        ),
        (
            "/script",
            "endpoint",
            script("custom_error('no', 403)"),
            "script",
            403,
        ),
        (
            "/script-fault",
            "endpoint",
            script("error('no')"),
            "script",
            500,
        ),
        (
            "/script-backend",
            "backend",
            in_backend("custom_error('no', 403)"),
            "script",
            403,
        ),
        (
            "/address",
            "backend",
            json!({ "security/ip-filter": { "CIDR": ["127.0.0.0/8"], "allow": false } }),
            "ip_filter",
            403,
        ),
        (
            "/graphql",
            "backend",
            json!({ "backend/graphql": { "type": "mutation", "query": "mutation {a}" } }),
            "bad_input",
            500,
        ),
    ];
    let endpoints: Vec<Value> = cases
        .iter()
        .map(|(path, level, extra, ..)| guarded(path, level, extra))
        .collect();
    let scraped = start_with(&endpoints);
    for (path, _, _, reason, status) in &cases {
        let sent = format!("POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n[1]");
        let response = scraped.gateway.send("POST", sent);
        assert_eq!(response.status, *status, "{path}");
        let line = format!(
            "portcullis_requests_refused_total{{reason=\"{reason}\",route=\"{path}\"}} 1\n"
        );
        eventually(&line, Duration::from_secs(30), || {
            scraped.page().contains(&line)
        });
    }
    let page = scraped.page();
    let wrong: Vec<&str> = page
        .lines()
        .filter(|line| line.starts_with("portcullis_upstream_errors_total{"))
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
    assert_eq!(scraped._stub.take_seen().len(), 0);
}

#[test]
fn a_call_above_the_limit_of_its_backend_is_a_rejection() {
    let limit = json!({ "qos/ratelimit/proxy": { "max_rate": 0.001, "capacity": 1 } });
    let scraped = start_with(&[guarded("/limited", "backend", &limit)]);
    let send = || {
        let sent = "POST /limited HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\n[1]";
        scraped.gateway.send("POST", sent).status
    };
    assert_eq!((send(), send()), (200, 500));
    let line = "portcullis_requests_refused_total{reason=\"rate_limited\",route=\"/limited\"} 1\n";
    eventually(line, Duration::from_secs(30), || {
        scraped.page().contains(line)
    });
    let page = scraped.page();
    let result = "result=\"rate_limited\",route=\"/limited\"} 1\n";
    assert!(page.contains(result), "{page}");
    assert!(
        !page.contains("portcullis_upstream_errors_total{"),
        "{page}"
    );
}

/// Clients of event streams always end them so.
#[test]
fn a_stream_that_its_client_closes_is_not_a_rejection() {
    let events = Upstream::start(|mut call| {
        call.send("HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        // Until the gateway closes the connection.
        for _ in 0..2000 {
            call.chunk("data: x\n\n")?;
            pause(Duration::from_millis(10));
        }
        Ok(())
    });
    let scraped = start_with(&[json!({
        "endpoint": "/events", "output_encoding": "no-op",
        "backend": [{ "host": [events.url()], "url_pattern": "/e", "encoding": "no-op" }]
    })]);
    let mut client = scraped.gateway.client();
    client.send(request("GET", "/events", &[])).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    client.chunk().unwrap();
    drop(client);
    let ended = |line: &str| {
        let counts = line.starts_with("portcullis_http_requests_total{");
        counts && line.contains("\"/events\"") && line.ends_with(" 1")
    };
    eventually("the request is counted", Duration::from_secs(30), || {
        scraped.page().lines().any(ended)
    });
    let page = scraped.page();
    assert!(!page.contains("client_gone"), "{page}");
}

/// One backend of two is not called: the request itself was not rejected.
#[test]
#[cfg(feature = "cel")]
fn a_rejection_of_one_call_of_several_is_not_one_of_the_request() {
    let no = json!({ "validation/cel": [{ "check_expr": "req_method == 'PUT'" }] });
    let backend = |extra: &Value| json!({ "url_pattern": "/x", "extra_config": extra });
    let scraped = start_with(&[
        json!({ "endpoint": "/one", "backend": [backend(&no), backend(&json!({}))] }),
        json!({ "endpoint": "/none", "backend": [backend(&no), backend(&no)] }),
    ]);
    assert_eq!(scraped.gateway.get("/one").status, 200);
    assert_eq!(scraped.gateway.get("/none").status, 500);
    let none = "portcullis_requests_refused_total{reason=\"cel\",route=\"/none\"} 1\n";
    eventually(none, Duration::from_secs(30), || {
        scraped.page().contains(none)
    });
    let page = scraped.page();
    assert!(!page.contains("reason=\"cel\",route=\"/one\""), "{page}");
    assert!(
        !page.contains("portcullis_upstream_errors_total{"),
        "{page}"
    );
}
