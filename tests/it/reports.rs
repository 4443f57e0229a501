//! What operators read besides traces: metrics of backends, the status page, the access log, GELF.

use std::io::Read as _;
use std::net::{TcpListener, UdpSocket};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Client, Collector, Gateway, Response, Stub, eventually, ports};

fn stub() -> Stub {
    Stub::with(
        r#"[{"path": "/bad", "status": 503, "body": "no"},
            {"headers": {"Content-Type": "application/json"}, "body": "{}"}]"#,
    )
}

fn asked(port: u16, path: &str) -> Response {
    let mut client = Client::connect(port).unwrap();
    client.send(request("GET", path, &[])).unwrap();
    client.response("GET").unwrap()
}

fn file(stub: &Stub, extra: Value) -> String {
    let closed = "http://127.0.0.1:1";
    json!({
        "version": 3, "host": [stub.url()], "extra_config": extra,
        "endpoints": [
            {"endpoint": "/a/{id}", "backend": [{"url_pattern": "/x/{id}"}]},
            {"endpoint": "/bad", "backend": [{"url_pattern": "/bad"}]},
            {"endpoint": "/away", "backend": [{"host": [closed], "url_pattern": "/z"}]},
            {"endpoint": "/stream", "output_encoding": "no-op", "backend": [{"url_pattern": "/s"}]},
        ]
    })
    .to_string()
}

#[test]
fn each_backend_and_host_has_metrics() {
    let (stub, port) = (stub(), ports::free());
    let listen = format!("127.0.0.1:{port}");
    let gateway = Gateway::start(&file(
        &stub,
        json!({"portcullis/metrics": {"listen": listen}}),
    ));
    for (path, status) in [
        ("/a/1", 200),
        ("/a/2", 200),
        ("/bad", 500),
        ("/away", 500),
        ("/stream", 200),
    ] {
        assert_eq!(gateway.get(path).status, status, "{path}");
    }
    let host = stub.url();
    let wanted = [
        r#"portcullis_backend_calls_total{backend="/x/{id}",result="ok",route="/a/{id}"} 2"#
            .to_owned(),
        r#"portcullis_backend_calls_total{backend="/bad",result="status",route="/bad"} 1"#
            .to_owned(),
        r#"portcullis_backend_calls_total{backend="/z",result="connect_refused",route="/away"} 1"#
            .to_owned(),
        r#"portcullis_backend_calls_total{backend="/s",result="ok",route="/stream"} 1"#.to_owned(),
        format!(
            r#"portcullis_upstream_requests_total{{backend="/bad",host="{host}",route="/bad",status="5xx"}} 1"#
        ),
        format!(
            r#"portcullis_upstream_request_duration_seconds_count{{backend="/s",host="{host}",route="/stream"}} 1"#
        ),
    ];
    eventually("the series", Duration::from_secs(30), || {
        let page = asked(port, "/metrics").text();
        wanted
            .iter()
            .all(|line| page.lines().any(|found| found == line))
    });
    let page = asked(port, "/metrics").text();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let name = line.split(' ').next().unwrap();
        assert!(page.contains(&format!("# HELP {name} ")), "{name}");
    }
    let connections = |state: &str| -> f64 {
        let state = format!("state=\"{state}\"");
        let lines = page.lines().filter(|line| {
            line.starts_with("portcullis_upstream_connections_total{") && line.contains(&state)
        });
        lines
            .map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    };
    assert_eq!(connections("new") + connections("reused"), 4.0);
}

#[test]
fn exporters_are_counted_on_the_page() {
    let (stub, port, collector) = (stub(), ports::free(), Collector::start());
    let extra = json!({
        "portcullis/metrics": {"listen": format!("127.0.0.1:{port}")},
        "telemetry/opentelemetry": {"exporters": {"otlp": [
            {"name": "c", "host": "127.0.0.1", "port": collector.grpc(), "disable_metrics": true}
        ]}},
    });
    let soon = [("OTEL_BSP_SCHEDULE_DELAY", "20")];
    let gateway = Gateway::start_in(&soon, &file(&stub, extra));
    assert_eq!(gateway.get("/a/1").status, 200);
    let line = r#"portcullis_otlp_exports_total{exporter="c",signal="traces",result="success"} "#;
    eventually("an export", Duration::from_secs(30), || {
        let page = asked(port, "/metrics").text();
        let found = page
            .lines()
            .find_map(|found| found.strip_prefix(line).map(str::to_owned));
        found.is_some_and(|count| count != "0")
    });
}

#[test]
fn the_status_page_is_served_if_the_file_enables_it() {
    let stub = stub();
    let port = ports::free();
    let block =
        json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{port}"), "page": true}});
    let secret = "hush-hush";
    let text = file(&stub, block).replace("/x/{id}", &format!("/x/{{id}}?token={secret}"));
    let gateway = Gateway::start(&text);
    assert_eq!(gateway.get("/a/1?token=topsecret").status, 200);
    assert_eq!(gateway.get("/bad").status, 500);
    eventually("the page", Duration::from_secs(30), || {
        let page = asked(port, "/").text();
        page.contains("GET /a/{id}") && page.contains("GET /bad") && page.contains(&stub.url())
    });
    let response = asked(port, "/");
    assert_eq!(
        response.header("content-type"),
        Some("text/html; charset=utf-8")
    );
    assert!(
        response
            .header("content-security-policy")
            .unwrap()
            .contains("default-src 'none'")
    );
    let page = response.text();
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
    assert!(page.contains("prefers-color-scheme:dark"));
    assert!(
        !page.contains(secret) && !page.contains("topsecret"),
        "{page}"
    );
    let tags = |name: &str| {
        (
            page.matches(&format!("<{name}")).count(),
            page.matches(&format!("</{name}>")).count(),
        )
    };
    for name in ["table", "tr", "td", "section", "main", "body", "script"] {
        let (open, closed) = tags(name);
        assert_eq!(open, closed, "{name}");
    }
    assert_eq!(asked(port, "/metrics").status, 200);

    let port = ports::free();
    let block = json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{port}")}});
    let _gateway = Gateway::start(&file(&stub, block));
    assert_eq!(asked(port, "/").status, 404);
}

#[test]
fn a_json_line_names_backend_trace_and_claimed_members() {
    let (stub, collector) = (stub(), Collector::start());
    let extra = json!({
        "portcullis/access-log": {"format": "json"},
        "telemetry/opentelemetry": {"exporters": {"otlp": [
            {"name": "c", "host": "127.0.0.1", "port": collector.grpc()}
        ]}},
    });
    let gateway = Gateway::start(&file(&stub, extra));
    let trace = "0af7651916cd43dd8448eb211c80319c";
    let parent = format!("00-{trace}-b7ad6b7169203331-01");
    let sent = [("User-Agent", "probe/1"), ("traceparent", parent.as_str())];
    assert_eq!(gateway.get_with("/a/1?x=1", &sent).status, 200);
    let line = json_line(&gateway, "/a/1");
    assert_eq!(line["user_agent"], "probe/1");
    assert_eq!(line["upstream"], stub.url());
    assert_eq!(line["upstream_status"], 200);
    assert!(line["upstream_ms"].as_f64().unwrap() >= 0.0);
    assert_eq!(
        (&line["trace_id"], &line["trace_flags"]),
        (&json!(trace), &json!("01"))
    );
    assert_eq!(
        (&line["scheme"], &line["protocol"]),
        (&json!("http"), &json!("HTTP/1.1"))
    );
    assert_eq!(line["host"], "127.0.0.1");

    let extra = json!({"portcullis/access-log": {"format": "json", "fields": ["status", "path", "upstream"]}});
    let gateway = Gateway::start(&file(&stub, extra));
    assert_eq!(gateway.get("/stream").status, 200);
    let line = json_line(&gateway, "/stream");
    assert_eq!(
        line,
        json!({"status": 200, "path": "/stream", "upstream": stub.url()})
    );
    let seen = stub.take_seen();
    assert_eq!(seen.last().unwrap().header("traceparent"), None);
}

fn json_line(gateway: &Gateway, path: &str) -> Value {
    let find = || {
        let output = gateway.output();
        let lines = output
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let mut lines = lines.filter(|line| line["path"] == path);
        lines.next()
    };
    eventually("the line", Duration::from_secs(30), || find().is_some());
    find().unwrap()
}

/// T19, over UDP.
#[test]
fn log_lines_and_the_access_log_go_to_graylog() {
    let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
    receiver
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let stub = stub();
    let extra = json!({
        "telemetry/logging": {"level": "INFO", "prefix": "[P]"},
        "telemetry/gelf": {"address": receiver.local_addr().unwrap().to_string()},
    });
    let gateway = Gateway::start(&file(&stub, extra));
    assert_eq!(
        (gateway.get("/a/1").status, gateway.get("/bad").status),
        (200, 500)
    );
    let (mut logger, mut accesses) = (Vec::new(), Vec::new());
    let mut buffer = [0; 8192];
    let is_error = |message: &Value| message["level"] == 3;
    while accesses.len() < 2 || !logger.iter().any(is_error) {
        let read = receiver.recv(&mut buffer).unwrap();
        let mut text = String::new();
        flate2::read::GzDecoder::new(&buffer[..read])
            .read_to_string(&mut text)
            .unwrap();
        let message: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(message["version"], "1.1");
        assert!(message["host"].is_string() && message["timestamp"].is_f64());
        match message["short_message"].as_str().unwrap() {
            text if text.starts_with("[GIN]") => accesses.push(message),
            text if text.starts_with("[P]") => logger.push(message),
            text => panic!("{text}"),
        }
    }
    let bad = accesses
        .iter()
        .find(|message| message["_route"] == "/bad")
        .unwrap();
    assert_eq!((&bad["level"], &bad["_status"]), (&json!(3), &json!(500)));
    assert!(
        bad["full_message"]
            .as_str()
            .unwrap()
            .contains("Error #01: ")
    );
    assert!(!gateway.output().contains("[GIN]") && !gateway.output().contains("[P]"));
}

/// T20. Unlike with KrakenD, a collector over TCP that goes away delays nothing.
#[test]
fn a_graylog_that_becomes_unreachable_delays_no_request() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let stub = stub();
    let extra = json!({
        "telemetry/logging": {"level": "INFO"},
        "telemetry/gelf": {"address": listener.local_addr().unwrap().to_string(), "enable_tcp": true},
    });
    let gateway = Gateway::start(&file(&stub, extra));
    assert_eq!(gateway.get("/a/1").status, 200);
    let (mut stream, _) = listener.accept().unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut first = Vec::new();
    let mut byte = [0];
    while stream.read_exact(&mut byte).is_ok() && byte[0] != 0 {
        first.push(byte[0]);
    }
    let message: Value = serde_json::from_slice(&first).unwrap();
    assert_eq!(message["version"], "1.1");
    drop(stream);
    drop(listener);
    let mut times: Vec<Duration> = (0..9)
        .map(|_| {
            let began = Instant::now();
            assert_eq!(gateway.get("/a/1").status, 200);
            began.elapsed()
        })
        .collect();
    times.sort();
    // A machine that stalls makes a few of them slow.
    assert!(times[4] < Duration::from_millis(500), "{times:?}");
}

/// T18.
#[test]
fn influx_gets_the_counters_of_krakend() {
    let sink = Stub::with(r#"[{"status": 204}]"#);
    let stub = stub();
    let extra = json!({
        "telemetry/influx": {"address": sink.url(), "ttl": "200ms", "db": "d", "username": "u", "password": "p"},
        "telemetry/metrics": {"collection_time": "1h", "endpoint_disabled": true},
    });
    let gateway = Gateway::start(&file(&stub, extra));
    assert_eq!(
        (gateway.get("/a/1").status, gateway.get("/a/2").status),
        (200, 200)
    );
    let mut seen = Vec::new();
    let mut line = None;
    eventually("two requests in one push", Duration::from_secs(30), || {
        seen.extend(sink.take_seen());
        let texts = seen
            .iter()
            .map(|seen| String::from_utf8_lossy(&seen.body).into_owned());
        line = texts
            .flat_map(|text| text.lines().map(str::to_owned).collect::<Vec<_>>())
            .find(|line| {
                line.starts_with("requests,complete=true,error=false,host=")
                    && line.contains(",layer=pipe,name=/a/:id count=")
                    && line.contains("total=2i ")
            });
        line.is_some()
    });
    assert_eq!(
        (seen[0].method.as_str(), seen[0].path.as_str()),
        ("GET", "/ping")
    );
    assert_eq!(seen[0].query, "wait_for_leader=1s");
    let push = seen.iter().find(|seen| seen.method == "POST").unwrap();
    assert_eq!(push.path, "/write");
    assert_eq!(push.query, "consistency=&db=d&precision=s&rp=");
    assert_eq!(push.header("authorization"), Some("Basic dTpw"));
    let all: String = seen
        .iter()
        .map(|seen| String::from_utf8_lossy(&seen.body).into_owned())
        .collect();
    for part in [
        ",layer=backend,name=/x/{{.Id}} count=",
        "responses,host=",
        "router,direction=in,host=",
        "router.response-time,host=",
        "runtime,host=",
        "debug,host=",
        ",p0.99=",
    ] {
        assert!(all.contains(part), "{part}: {all}");
    }
}

/// The database rejects the first push and is away for the next ones: the rest arrives, in order.
#[test]
fn a_push_that_influx_rejects_does_not_hold_up_the_next_ones() {
    for status in [400, 503] {
        let sink = Stub::with(&format!(
            r#"[{{"path": "/ping", "status": 204}}, {{"status": {status}}}]"#
        ));
        let stub = stub();
        let address = sink.url().replace("http://", "http://user:hush-hush@");
        let extra = json!({
            "telemetry/influx": {"address": address, "ttl": "100ms", "db": "d", "buffer_size": 50},
            "telemetry/metrics": {"collection_time": "1h", "endpoint_disabled": true},
        });
        let gateway = Gateway::start(&file(&stub, extra));
        let began = Instant::now();
        assert_eq!(gateway.get("/a/1").status, 200);
        assert!(began.elapsed() < Duration::from_secs(15));
        let mut bodies: Vec<Vec<u8>> = Vec::new();
        eventually("three pushes", Duration::from_secs(30), || {
            let posts = sink.take_seen().into_iter();
            bodies.extend(posts.filter(|it| it.method == "POST").map(|it| it.body));
            bodies.len() >= 3
        });
        // What is malformed is not sent again; what the server could not take is.
        assert_eq!(bodies[0] == bodies[1], status == 503, "{status}");
        let told = format!("Couldn't write to server: status {status}");
        gateway.tells(&told);
        let lines = gateway.output();
        assert_eq!(lines.matches(&told).count(), 1, "{lines}");
        assert!(!lines.contains("hush"), "{lines}");
        assert!(gateway.stop(Duration::from_secs(30)).unwrap().success());
    }
}

/// No field of a request ends a line, moves a cursor, turns the direction of the text, or shows a credential.
#[test]
fn a_line_of_any_shape_survives_what_clients_send() {
    let stub = stub();
    let own = "AL %{time:rfc3339} %{method} %{uri} %{path} %{query} %{query.q} %{host} %{header.User-Agent} %{header.X-Y} %{header.Authorization} %{header.Cookie} %{statusCode} %{clientIP} %{proto} %{jwt.sub}";
    for shape in ["default", "httpdCommon", "httpdCombined", "json", "custom"] {
        let extra = json!({"telemetry/logging": {"level": "ERROR", "stdout": true, "prefix": "[P]",
            "access_log_format": shape, "access_log_custom_format": own}});
        let gateway = Gateway::start(&file(&stub, extra));
        let hostile: [&[u8]; 5] = [
            b"/a/%0d%0aFORGED%20line?q=%0aFORGED&token=geheim",
            b"/a/\xc2\x9b31m\xe2\x80\xae?q=\xe2\x80\xa8FORGED",
            b"/a/\xff\xfe?q=\x80&api_key=geheim",
            b"/a/\"\\?q=\"\\",
            b"/nope/%1b[31m",
        ];
        for target in hostile {
            let bytes = [
                b"GET ",
                target,
                b" HTTP/1.1\r\nHost: a\r\nUser-Agent: \xc2\x9b31m\t\xe2\x80\xae\"\\ x\r\n",
                b"X-Y: \xe2\x80\xa9\xff FORGED\r\nAuthorization: Bearer geheim\r\nCookie: s=geheim\r\n\r\n",
            ]
            .concat();
            let mut client = gateway.client();
            client.send(bytes).unwrap();
            client.response("GET").unwrap();
        }
        assert_eq!(gateway.get("/a/last").status, 200);
        // Lines of several connections have no order; at the end of the process all are written.
        assert!(gateway.stop(Duration::from_secs(30)).unwrap().success());
        let log = gateway.output();
        assert!(log.contains("/a/last"), "{shape}: {log}");
        assert!(!log.contains("geheim"), "{shape}: {log}");
        assert!(log.contains("nope"), "{shape}: {log}");
        for line in log.lines() {
            assert!(!line.trim_start().starts_with("FORGED"), "{shape}: {line}");
            let bad = |c: char| c.is_control() || matches!(c, '\u{2028}'..='\u{202e}');
            assert!(!line.contains(bad), "{shape}: {line:?}");
            if shape == "json" && line.starts_with('{') {
                let parsed: Result<Value, _> = serde_json::from_str(line);
                assert!(parsed.is_ok(), "{line}");
            }
        }
    }
}

#[test]
fn the_access_log_has_the_shape_that_the_file_asks_for() {
    let stub = stub();
    let extra = json!({"telemetry/logging": {"level": "ERROR", "stdout": true, "prefix": "[P]",
        "access_log_format": "custom",
        "access_log_custom_format": "AL %{method} %{uri} %{statusCode} \"%{header.User-Agent}\" %{jwt.sub}"}});
    let gateway = Gateway::start(&file(&stub, extra));
    let sent = [("User-Agent", "a\"b")];
    assert_eq!(gateway.get_with("/a/1?token=secret", &sent).status, 200);
    let wanted = r#"AL GET /a/1?token=*** 200 "a\x22b" -"#;
    eventually("the line", Duration::from_secs(30), || {
        gateway.output().lines().any(|line| line == wanted)
    });
    assert!(!gateway.output().contains("[GIN]"));

    let extra = json!({"telemetry/logging": {"level": "ERROR", "access_log_format": "httpdCommon"},
        "portcullis/access-log": {"format": "json"}});
    let gateway = Gateway::spawn(ports::free(), &file(&stub, extra), &[], &[]);
    assert!(
        !gateway
            .wait(Duration::from_secs(30))
            .expect("it starts")
            .success()
    );
}
