//! Collectors that are reached over TLS, and collectors that misbehave: no request waits for them.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::tls::Authority;
use crate::support::{Client, Collector, Gateway, Stub, eventually, pause, ports};

const LIMIT: Duration = Duration::from_secs(90);

struct Rig {
    gateway: Gateway,
    page: u16,
    _stub: Stub,
}

/// A gateway with this exporter, whose spans are sent at once.
fn start(exporter: Value, variables: &[(&str, &str)]) -> Rig {
    let stub = Stub::with(
        &json!([{"headers": {"Content-Type": "application/json"}, "body": "{}"}]).to_string(),
    );
    let page = ports::free();
    let file = json!({"version": 3,
        "extra_config": {
            "portcullis/metrics": {"listen": format!("127.0.0.1:{page}")},
            "telemetry/opentelemetry": {"metric_reporting_period": 1, "exporters": {"otlp": [exporter]}}
        },
        "endpoints": [{"endpoint": "/a", "backend": [{"host": [stub.url()], "url_pattern": "/x"}]}]});
    let variables = [&[("OTEL_BSP_SCHEDULE_DELAY", "20")], variables].concat();
    Rig {
        gateway: Gateway::start_in(&variables, &file.to_string()),
        page,
        _stub: stub,
    }
}

impl Rig {
    fn metric(&self, start: &str) -> f64 {
        let mut client = Client::connect(self.page).unwrap();
        let ask = crate::support::http::request("GET", "/metrics", &[]);
        client.send(ask).unwrap();
        let page = client.response("GET").unwrap().text();
        let line = page.lines().find(|line| line.starts_with(start));
        let value = line.and_then(|line| line.rsplit(' ').next());
        value.map_or(0.0, |value| value.parse().unwrap())
    }

    fn dropped(&self, signal: &str, reason: &str) -> f64 {
        self.metric(&format!(
            "portcullis_otlp_dropped_total{{exporter=\"t\",signal=\"{signal}\",reason=\"{reason}\"}}"
        ))
    }

    /// Requests are answered at once, whatever the collector does.
    fn is_fast(&self) {
        let mut times: Vec<Duration> = (0..10)
            .map(|_| {
                let began = Instant::now();
                assert_eq!(self.gateway.get("/a").status, 200);
                began.elapsed()
            })
            .collect();
        times.sort();
        // A machine that stalls makes a few of them slow; a gateway that waits for its collector makes all slow.
        assert!(times[5] < Duration::from_millis(500), "{times:?}");
    }
}

fn exporter(host: &str, port: u16, use_http: bool) -> Value {
    json!({"name": "t", "host": host, "port": port, "use_http": use_http})
}

/// The same for spans alone. There is one line a minute for both, which could be about the metrics.
fn of_spans(host: &str, port: u16, use_http: bool) -> Value {
    let mut exporter = exporter(host, port, use_http);
    exporter["disable_metrics"] = json!(true);
    exporter
}

#[test]
fn a_collector_is_reached_over_tls_with_http_and_with_grpc() {
    let (collector, authority) = (Collector::start(), Authority::new());
    let pair = authority.pair("localhost");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let variables = [("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap())];
    for (use_http, to, alpn) in [
        (true, collector.http(), "http/1.1"),
        (false, collector.grpc(), "h2"),
    ] {
        collector.forget();
        let port = collector.over_tls(to, &pair, &[alpn]);
        let rig = start(exporter("https://localhost", port, use_http), &variables);
        rig.is_fast();
        collector.wait_for_spans(50);
        collector.wait_for_metric("http.server.duration");
        assert!(
            !rig.gateway.output().contains("not delivered"),
            "{}",
            rig.gateway.output()
        );
    }
}

#[test]
fn a_collector_with_an_untrusted_certificate_gets_nothing() {
    let (collector, authority) = (Collector::start(), Authority::new());
    let pair = authority.pair("localhost");
    for (use_http, to, alpn) in [
        (true, collector.http(), "http/1.1"),
        (false, collector.grpc(), "h2"),
    ] {
        let port = collector.over_tls(to, &pair, &[alpn]);
        let rig = start(of_spans("https://localhost", port, use_http), &[]);
        rig.is_fast();
        eventually("a line", LIMIT, || {
            rig.gateway
                .output()
                .contains("t: traces were not delivered")
        });
        let output = rig.gateway.output();
        assert!(
            output.to_lowercase().contains("certificate"),
            "the reason is named: {output}"
        );
        assert!(collector.spans().is_empty());
    }
}

/// A server that does this with each connection.
fn server(act: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let act = Arc::new(act);
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let act = Arc::clone(&act);
            std::thread::spawn(move || act(stream));
        }
    });
    port
}

#[test]
fn failing_collectors_lose_only_their_spans() {
    type Serve = fn(TcpStream);
    let kinds: [(&str, Serve); 5] = [
        ("dies at once", drop),
        ("dies within the request", |mut stream| {
            let _ = stream.read(&mut [0; 16]);
        }),
        ("answers garbage", |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(&[0xff; 4096]);
            pause(Duration::from_secs(1));
        }),
        ("answers without an end", |mut stream| {
            let _ = stream.read(&mut [0; 1024]);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while stream.write_all(&[b'x'; 65536]).is_ok() {}
        }),
        ("is a web server", |mut stream| {
            let _ = stream.read(&mut [0; 65536]);
            let _ = stream.write_all(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        }),
    ];
    for (what, act) in kinds {
        for use_http in [true, false] {
            let port = server(act);
            let rig = start(of_spans("127.0.0.1", port, use_http), &[]);
            rig.is_fast();
            eventually(what, LIMIT, || {
                rig.gateway
                    .output()
                    .contains("t: traces were not delivered")
            });
            assert_eq!(
                rig.gateway.output().matches("t: traces were").count(),
                1,
                "{what}: one line a minute"
            );
            assert!(rig.gateway.resident_kib() < 400_000, "{what}");
            assert!(rig.gateway.stop(LIMIT).unwrap().success(), "{what}");
        }
    }
}

#[test]
fn a_collector_over_tls_may_die_within_the_handshake() {
    let hangs: fn(TcpStream) = |mut stream| {
        let _ = stream.read(&mut [0; 64]);
        pause(Duration::from_secs(30));
    };
    let dies: fn(TcpStream) = |mut stream| {
        let _ = stream.read(&mut [0; 64]);
    };
    let soon = [("OTEL_EXPORTER_OTLP_TIMEOUT", "500")];
    for act in [dies, hangs] {
        for use_http in [true, false] {
            let rig = start(of_spans("https://127.0.0.1", server(act), use_http), &soon);
            rig.is_fast();
            eventually("a line", LIMIT, || {
                rig.gateway
                    .output()
                    .contains("t: traces were not delivered")
            });
            assert!(rig.gateway.stop(LIMIT).unwrap().success());
        }
    }
}

/// Answers each request with this head and no body, and counts them.
fn answering(head: &'static str) -> (u16, Arc<AtomicUsize>) {
    let count = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&count);
    let port = server(move |stream| {
        let mut client = Client::over(stream);
        while let Ok((line, ..)) = client.request() {
            if line.contains("/v1/traces") {
                seen.fetch_add(1, Ordering::SeqCst);
            }
            if client
                .send(format!("{head}\r\nContent-Length: 0\r\n\r\n"))
                .is_err()
            {
                return;
            }
        }
    });
    (port, count)
}

#[test]
fn a_batch_that_is_too_large_for_a_collector_is_dropped_and_counted() {
    let (port, count) = answering("HTTP/1.1 413 Too Large");
    let rig = start(exporter("127.0.0.1", port, true), &[]);
    assert_eq!(rig.gateway.get("/a").status, 200);
    eventually("dropped", LIMIT, || {
        rig.dropped("traces", "rejected") >= 5.0
    });
    assert!(count.load(Ordering::SeqCst) <= 5, "it is not sent again");
}

#[test]
fn a_busy_collector_is_called_when_it_says_and_not_in_a_loop() {
    let (port, count) = answering("HTTP/1.1 429 Busy\r\nRetry-After: 0");
    let rig = start(exporter("127.0.0.1", port, true), &[]);
    assert_eq!(rig.gateway.get("/a").status, 200);
    eventually("a call", LIMIT, || count.load(Ordering::SeqCst) > 0);
    pause(Duration::from_secs(2));
    assert!(count.load(Ordering::SeqCst) <= 4, "{count:?}");
    let (port, count) = answering("HTTP/1.1 429 Busy\r\nRetry-After: 3600");
    let rig = start(exporter("127.0.0.1", port, true), &[]);
    assert_eq!(rig.gateway.get("/a").status, 200);
    eventually("a call", LIMIT, || count.load(Ordering::SeqCst) > 0);
    rig.is_fast();
    pause(Duration::from_secs(2));
    assert_eq!(
        count.load(Ordering::SeqCst),
        1,
        "it wants silence for an hour"
    );
    // The spans of the first request, or some of them: the others may be in the next batch, which waits for an hour.
    eventually("dropped", LIMIT, || rig.dropped("traces", "timeout") > 0.0);
}

/// Long values of headers make large spans: no request for a collector is larger than it takes.
#[test]
fn a_batch_is_bounded_in_bytes() {
    let largest = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&largest);
    let port = server(move |stream| {
        let mut client = Client::over(stream);
        while let Ok((_, _, body)) = client.request() {
            seen.fetch_max(body.len(), Ordering::SeqCst);
            if client
                .send("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .is_err()
            {
                return;
            }
        }
    });
    let stub = Stub::with(&json!([{"body": "{}"}]).to_string());
    let file = json!({"version": 3,
        "extra_config": {"telemetry/opentelemetry": {
            "exporters": {"otlp": [exporter("127.0.0.1", port, true)]},
            "layers": {"global": {"report_headers": true}}}},
        "endpoints": [{"endpoint": "/a", "backend": [{"host": [stub.url()], "url_pattern": "/x"}]}]});
    let variables = [
        ("OTEL_EXPORTER_OTLP_COMPRESSION", "none"),
        ("OTEL_BSP_SCHEDULE_DELAY", "60000"),
    ];
    let gateway = Gateway::start_in(&variables, &file.to_string());
    let long = "x".repeat(15_000);
    let mut client = gateway.client();
    for _ in 0..300 {
        let headers = [("X-Long-1", &*long), ("X-Long-2", &*long)];
        client
            .send(crate::support::http::request("GET", "/a", &headers))
            .unwrap();
        assert_eq!(client.response("GET").unwrap().status, 200);
    }
    assert!(gateway.stop(LIMIT).unwrap().success());
    let largest = largest.load(Ordering::SeqCst);
    assert!((500_000..3_000_000).contains(&largest), "{largest}");
}

/// A real collector with a file for what it received. It ends when this is dropped.
struct Real {
    child: std::process::Child,
    folder: tempfile::TempDir,
    port: u16,
}

impl Real {
    /// The program that `scripts/collector` built.
    fn program() -> Option<std::path::PathBuf> {
        let target = std::env::var("CARGO_TARGET_DIR").unwrap_or_else(|_| "target".to_owned());
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join(target);
        let path = path.join("collector");
        path.is_file().then_some(path)
    }

    fn start(program: &std::path::Path, protocol: &str, pair: Option<&(String, String)>) -> Real {
        let folder = tempfile::tempdir().unwrap();
        let file = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        let port = ports::free();
        let mut protocols = json!({protocol: {"endpoint": format!("127.0.0.1:{port}")}});
        if let Some((certificate, key)) = pair {
            std::fs::write(file("cert.pem"), certificate).unwrap();
            std::fs::write(file("key.pem"), key).unwrap();
            protocols[protocol]["tls"] =
                json!({"cert_file": file("cert.pem"), "key_file": file("key.pem")});
        }
        let pipeline = json!({"receivers": ["otlp"], "exporters": ["file"]});
        // JSON is YAML, too.
        let config = json!({
            "receivers": {"otlp": {"protocols": protocols}},
            "exporters": {"file": {"path": file("got.json")}},
            "service": {
                "telemetry": {"metrics": {"level": "none"}, "logs": {"level": "warn"}},
                "pipelines": {"traces": pipeline, "metrics": pipeline}
            }
        });
        std::fs::write(file("config.yaml"), config.to_string()).unwrap();
        let child = std::process::Command::new(program)
            .args(["--config", &file("config.yaml")])
            .stdout(std::process::Stdio::null())
            .stderr(std::fs::File::create(file("log")).unwrap())
            .spawn()
            .unwrap();
        let real = Real {
            child,
            folder,
            port,
        };
        eventually("the collector listens", LIMIT, || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        });
        real
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    /// Every message that it wrote, as OTLP in JSON.
    fn got(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.folder.path().join("got.json"));
        let text = text.unwrap_or_default();
        // The last line may be incomplete.
        let lines = text.lines().map(serde_json::from_str);
        lines.filter_map(Result::ok).collect()
    }

    /// The members called `name` of all messages, at any depth.
    fn all(&self, name: &str) -> Vec<Value> {
        let mut found = Vec::new();
        for message in self.got() {
            collect(&message, name, &mut found);
        }
        found
    }
}

fn collect(value: &Value, name: &str, found: &mut Vec<Value>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                match value {
                    Value::Array(items) if key == name => found.extend(items.iter().cloned()),
                    value => collect(value, name, found),
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, name, found)),
        _ => {}
    }
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Spans and metrics over both protocols, with and without TLS, as the collector of the OpenTelemetry project reads them.
#[test]
fn a_real_collector_accepts_everything_where_there_is_one() {
    let Some(program) = Real::program() else {
        eprintln!("there is no collector: scripts/collector builds one");
        return;
    };
    let authority = Authority::new();
    let pair = authority.pair("localhost");
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, authority.pem()).unwrap();
    let variables = [("OTEL_EXPORTER_OTLP_CERTIFICATE", ca.to_str().unwrap())];
    for (protocol, tls) in [
        ("http", false),
        ("grpc", false),
        ("http", true),
        ("grpc", true),
    ] {
        let real = Real::start(&program, protocol, tls.then_some(&pair));
        let host = if tls {
            "https://localhost"
        } else {
            "127.0.0.1"
        };
        let rig = start(exporter(host, real.port, protocol == "http"), &variables);
        rig.is_fast();
        eventually("spans", LIMIT, || real.all("spans").len() >= 50);
        for name in ["http.server.duration", "portcullis_http_requests_total"] {
            eventually(name, LIMIT, || {
                real.all("metrics")
                    .iter()
                    .any(|metric| metric["name"] == name)
            });
        }
        assert!(rig.gateway.stop(LIMIT).unwrap().success());
        let spans = real.all("spans");
        assert_eq!(
            spans.len(),
            50,
            "{protocol} {tls}: no span is lost or sent twice"
        );
        let ids: std::collections::HashSet<&str> = spans
            .iter()
            .map(|span| span["spanId"].as_str().unwrap())
            .collect();
        let roots = spans
            .iter()
            .filter(|span| match span["parentSpanId"].as_str() {
                None | Some("") => true,
                Some(parent) => {
                    assert!(ids.contains(parent), "{span}");
                    false
                }
            });
        assert_eq!(roots.count(), 10, "one for each request");
        assert_eq!(real.log(), "", "the collector has nothing to complain of");
    }
}

#[test]
fn values_of_attributes_are_cut_to_the_limit() {
    let collector = Collector::start();
    let variables = [("OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT", "7")];
    let rig = start(exporter("127.0.0.1", collector.http(), true), &variables);
    assert_eq!(rig.gateway.get("/a").status, 200);
    let spans = collector.wait_for_spans(5);
    let mut cut = 0;
    for value in spans.iter().flat_map(|span| span.attributes.values()) {
        let length = value.as_str().map_or(0, |text| text.chars().count());
        assert!(length <= 7, "{value}");
        cut += usize::from(length == 7);
    }
    assert!(cut > 0, "{spans:?}");
}
