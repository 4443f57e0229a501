//! Bodies and trees share one budget of memory.

use std::time::Duration;

use serde_json::{Value, json};

use super::{OK, config, with_metrics};
use crate::support::http::request;
use crate::support::{Client, Gateway, Stub, Upstream, eventually, ports};

#[test]
fn bodies_in_flight_share_a_budget() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let mut file = with_metrics(config(&stub.url()), metrics);
    file["extra_config"]["portcullis/limits"] = json!({ "buffered": "2MiB" });
    file["endpoints"].as_array_mut().unwrap().push(json!({
        "endpoint": "/up", "method": "POST", "timeout": "120s",
        "backend": [{ "host": [stub.url()], "url_pattern": "/up", "method": "POST" }]
    }));
    let gateway = Gateway::start(&file.to_string());
    // Two uploads of 1.5 MiB each stop before their end.
    let head = request("POST", "/up", &[("Content-Length", "1600000")]);
    let mut first = gateway.client();
    first.send(&head).unwrap();
    first.send(vec![b'x'; 1_500_000]).unwrap();
    let page = || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text()
    };
    let held = || {
        let page = page();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix("portcullis_buffered_bytes "));
        value.unwrap().parse::<u64>().unwrap()
    };
    eventually("the first is held", Duration::from_secs(30), || {
        held() > 1_400_000
    });
    let mut second = gateway.client();
    second.send(&head).unwrap();
    let _ = second.send(vec![b'x'; 1_500_000]);
    assert_eq!(second.response("POST").unwrap().status, 503);
    // The first one continues, and small requests are not affected.
    assert_eq!(gateway.get("/a").status, 200);
    first.send(vec![b'x'; 100_000]).unwrap();
    assert_eq!(first.response("POST").unwrap().status, 200);
    eventually("it is given back", Duration::from_secs(30), || held() == 0);
    assert!(page().contains("portcullis_buffered_refused_total 1"));
    assert!(
        page().contains("reason=\"buffers_full\",route=\"/up\"} 1"),
        "{}",
        page()
    );
}

#[test]
fn unfinished_heads_share_the_budget() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let mut file = with_metrics(config(&stub.url()), metrics);
    file["extra_config"]["portcullis/limits"] = json!({ "buffered": "120KiB" });
    let gateway = Gateway::start(&file.to_string());
    let page = || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        client.response("GET").unwrap().text()
    };
    let is_free = || page().contains("portcullis_buffered_bytes 0\n");
    let head = format!(
        "GET /a HTTP/1.1\r\nHost: h\r\n{}",
        format!("x: {}\r\n", "y".repeat(8000)).repeat(5)
    );
    let mut first = gateway.client();
    first.send(&head).unwrap();
    eventually("the first is held", Duration::from_secs(30), || !is_free());
    let mut second = gateway.client();
    second.send(&head).unwrap();
    assert_eq!(second.response("GET").unwrap().status, 503);
    assert_eq!(gateway.get("/a").status, 200);
    first.send("\r\n").unwrap();
    assert_eq!(first.response("GET").unwrap().status, 200);
    eventually("it is given back", Duration::from_secs(30), is_free);
    let page = page();
    assert!(page.contains("{reason=\"buffers_full\"} 1"), "{page}");
}

/// A few kilobytes each, of thousands of clients that stop before the end.
#[test]
fn small_bodies_and_complete_heads_share_the_budget() {
    let stub = Stub::with(OK);
    let metrics = ports::free();
    let mut file = with_metrics(config(&stub.url()), metrics);
    file["extra_config"]["portcullis/limits"] = json!({ "buffered": "100KiB" });
    file["endpoints"].as_array_mut().unwrap().push(json!({
        "endpoint": "/up", "method": "POST", "timeout": "120s",
        "backend": [{ "host": [stub.url()], "url_pattern": "/up", "method": "POST" }]
    }));
    let gateway = Gateway::start(&file.to_string());
    let held = || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let page = client.response("GET").unwrap().text();
        let value = page
            .lines()
            .find_map(|line| line.strip_prefix("portcullis_buffered_bytes "));
        value.unwrap().parse::<u64>().unwrap()
    };
    let long = "y".repeat(8000);
    let fields: Vec<(String, &str)> = (0..4).map(|n| (format!("X-{n}"), &*long)).collect();
    let fields = fields.iter().map(|(name, value)| (&**name, *value));
    let length = ("Content-Length", "12001");
    let large = request("POST", "/up", &fields.chain([length]).collect::<Vec<_>>());
    let small = request("POST", "/up", &[length]);
    for (head, each) in [(small + &"x".repeat(12_000), 24_000), (large, 64_000)] {
        let mut open = Vec::new();
        for count in 1..=100_000 / each {
            let mut client = gateway.client();
            client.send(&head).unwrap();
            open.push(client);
            eventually("it is held", Duration::from_secs(30), || {
                held() >= count * each
            });
        }
        let mut last = gateway.client();
        last.send(&head).unwrap();
        assert_eq!(last.response("POST").unwrap().status, 503);
        // Small requests are not affected, and those that wait go on.
        assert_eq!(gateway.get("/a").status, 200);
        let missing = 12_001 - if each == 24_000 { 12_000 } else { 0 };
        let first = &mut open[0];
        first.send("x".repeat(missing)).unwrap();
        assert_eq!(first.response("POST").unwrap().status, 200);
        drop(open);
        eventually("it is given back", Duration::from_secs(30), || held() == 0);
    }
}

#[test]
fn trees_of_bodies_share_the_budget_too() {
    // Each object of eight bytes becomes a node of several hundred.
    let small = format!("[{}]", vec![r#"{"":1}"#; 60_000].join(","));
    let plain = format!("[\"{}\"]", "x".repeat(480_000));
    let response = |data: &str| {
        let data: Value = serde_json::from_str(data).unwrap();
        let stub =
            json!([{ "headers": {"Content-Type": "application/json"}, "body": { "a": data } }]);
        Stub::with(&stub.to_string())
    };
    let (small_response, plain_response) = (response(&small), response(&plain));
    let stub = Stub::with(OK);
    let mut endpoints = vec![
        json!({ "endpoint": "/schema", "method": "POST", "backend": [{ "host": [stub.url()], "url_pattern": "/" }],
            "extra_config": { "validation/json-schema": { "type": "array" } } }),
        json!({ "endpoint": "/graphql", "method": "POST", "backend": [{ "host": [stub.url()], "url_pattern": "/",
            "extra_config": { "backend/graphql": { "type": "mutation", "query": "mutation { a }" } } }] }),
    ];
    for (size, stub) in [("small", &small_response), ("plain", &plain_response)] {
        let backend = json!({ "host": [stub.url()], "url_pattern": "/" });
        let mut flat = backend.clone();
        flat["extra_config"] =
            json!({ "proxy": { "flatmap_filter": [{ "type": "del", "args": ["z"] }] } });
        let cel = json!({ "validation/cel": [{ "check_expr": "size(resp_data.a) > 0" }] });
        endpoints.extend([
            json!({ "endpoint": format!("/{size}/json"), "backend": [backend] }),
            json!({ "endpoint": format!("/{size}/flat"), "backend": [flat] }),
            json!({ "endpoint": format!("/{size}/yaml"), "output_encoding": "yaml", "backend": [backend] }),
            json!({ "endpoint": format!("/{size}/cel"), "backend": [backend], "extra_config": cel }),
        ]);
    }
    let file = json!({ "version": 3, "timeout": "20s", "endpoints": endpoints,
        "extra_config": { "portcullis/limits": { "buffered": "16MiB" } } });
    let gateway = Gateway::start(&file.to_string());
    let post = |path: &str, body: &str| {
        let length = body.len().to_string();
        let head = request("POST", path, &[("Content-Length", &length)]);
        gateway
            .send("POST", [head.as_bytes(), body.as_bytes()].concat())
            .status
    };
    assert_eq!(post("/schema", &small), 503, "{}", gateway.output());
    assert_eq!(post("/schema", &plain), 200, "{}", gateway.output());
    let variables = |data: &str| format!("{{\"v\":{data}}}");
    assert_eq!(
        post("/graphql", &variables(&small)),
        503,
        "{}",
        gateway.output()
    );
    assert_eq!(
        post("/graphql", &variables(&plain)),
        200,
        "{}",
        gateway.output()
    );
    // What passes as it is needs no tree.
    assert_eq!(
        gateway.get("/small/json").status,
        200,
        "{}",
        gateway.output()
    );
    for path in ["flat", "yaml", "cel"] {
        let status = |size: &str| gateway.get(&format!("/{size}/{path}")).status;
        assert_eq!(
            (status("small"), status("plain")),
            (503, 200),
            "{path}: {}",
            gateway.output()
        );
    }
}

#[test]
fn responses_in_flight_share_the_budget_and_streams_continue() {
    let text = "x".repeat(3 << 20);
    let stub = Stub::with(
        &json!([{ "headers": {"Content-Type": "application/json"},
        "body": { "text": text } }])
        .to_string(),
    );
    let file = json!({ "version": 3,
        "extra_config": { "portcullis/limits": { "buffered": "4MiB" } },
        "endpoints": [
            { "endpoint": "/whole", "timeout": "20s", "backend": [{ "host": [stub.url()], "url_pattern": "/" }] },
            { "endpoint": "/stream", "timeout": "20s", "output_encoding": "no-op",
              "backend": [{ "host": [stub.url()], "url_pattern": "/", "encoding": "no-op" }] }
        ] });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/whole").status, 503, "{}", gateway.output());
    eventually("the reason in the log", Duration::from_secs(30), || {
        let reason = "too many bytes of bodies are buffered";
        gateway.output().contains(reason)
    });
    let streamed = gateway.get("/stream");
    assert_eq!(streamed.status, 200);
    assert!(streamed.body.len() > 3 << 20);
}

#[test]
fn data_made_of_bodies_is_within_the_budget() {
    let metrics = ports::free();
    let response = |body: &str| {
        let body: Value = serde_json::from_str(body).unwrap();
        let headers = json!({ "Content-Type": "application/json" });
        Stub::with(&json!([{ "headers": headers, "body": body }]).to_string())
    };
    let names: Vec<String> = (0..60_000).map(|n| format!("\"{n}\":1")).collect();
    let members = response(&format!("{{{}}}", names.join(",")));
    let list = response(&format!(r#"{{"a":[{}]}}"#, vec!["1"; 60_000].join(",")));
    let text = response(&format!(r#"{{"a":"{}"}}"#, "x".repeat(400_000)));
    let backend = |stub: &Stub| json!({ "host": [stub.url()], "url_pattern": "/" });
    let denying = |stub: &Stub| json!({ "host": [stub.url()], "url_pattern": "/", "deny": ["a"] });
    let lua = |part: &str, script: &str| json!({ "modifier/lua-proxy": { part: script } });
    let calls = |count: u32| {
        let url = text.url();
        format!("local kept = {{}} for i = 1, {count} do kept[i] = http_response.new('{url}/') end")
    };
    let file = json!({ "version": 3, "timeout": "120s",
        "extra_config": {
            "portcullis/limits": { "buffered": "8MiB" },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") }
        },
        "endpoints": [
            { "endpoint": "/members", "backend": [backend(&members)] },
            { "endpoint": "/filtered", "backend": [denying(&members)] },
            { "endpoint": "/both", "backend": [backend(&members), backend(&members)] },
            { "endpoint": "/list", "backend": [backend(&list)] },
            { "endpoint": "/read", "backend": [backend(&list)],
              "extra_config": lua("post", "response.load():data():get('a')") },
            { "endpoint": "/calls", "backend": [backend(&list)], "extra_config": lua("pre", &calls(40)) },
            { "endpoint": "/few", "backend": [backend(&list)], "extra_config": lua("pre", &calls(2)) },
        ] });
    let gateway = Gateway::start(&file.to_string());
    for (path, status) in [
        ("/list", 200),
        // A body that nothing reads stays a text.
        ("/members", 200),
        // Otherwise each member of an object takes more memory than its text.
        ("/filtered", 503),
        ("/both", 503),
        // So does each element of a list that a script looks into.
        ("/read", 503),
        // Responses that a script keeps.
        ("/calls", 503),
    ] {
        assert_eq!(
            gateway.get(path).status,
            status,
            "{path}: {}",
            gateway.output()
        );
    }
    // What the last script kept is given back shortly after its response.
    for _ in 0..2 {
        eventually(
            "a script that keeps little",
            Duration::from_secs(60),
            || gateway.get("/few").status == 200,
        );
    }
    eventually("it is given back", Duration::from_secs(30), || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let page = client.response("GET").unwrap().text();
        page.lines()
            .any(|line| line == "portcullis_buffered_bytes 0")
    });
}

/// What a step makes of a response can be many times as large as the response.
#[test]
fn what_steps_make_of_data_is_charged_while_it_is_made() {
    let numbers = format!(r#"{{"a":[{}1]}}"#, "1,".repeat(20_000));
    let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(100_000));
    let plain = format!("<r>{}</r>", "<a>t</a>".repeat(12_000));
    let named = format!("<r>{}</r>", r#"<a b="1">t</a>"#.repeat(40_000));
    let backend = Upstream::start(move |mut call| {
        let path = call.head.split(' ').nth(1).unwrap_or_default();
        let body = match path {
            "/numbers" => &numbers,
            "/text" => &text,
            "/plain" => &plain,
            _ => &named,
        };
        call.send(format!(
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        ))
    });
    let endpoint = |path: &str, target: &str, encoding: &str, steps: Value| {
        json!({ "endpoint": path, "backend": [{ "host": [backend.url()], "url_pattern": target,
            "encoding": encoding, "extra_config": steps }] })
    };
    let query = |expr: &str| json!({ "modifier/jmespath": { "expr": expr } });
    let replace = |with: usize| {
        let literal = json!({ "field": "a", "find": "x", "replace": "y".repeat(with) });
        json!({ "modifier/response-body": { "modifiers": [{ "literal": literal }] } })
    };
    let pattern = json!({ "field": "a", "find": "(x{100})", "replace": "$1".repeat(200) });
    let pattern = json!({ "modifier/response-body": { "modifiers": [{ "regexp": pattern }] } });
    let metrics = ports::free();
    let file = json!({ "version": 3, "timeout": "20s",
        "extra_config": { "portcullis/limits": { "buffered": "16MiB" } },
        "endpoints": [
            endpoint("/first", "/numbers", "json", query("{n: a[0]}")),
            endpoint("/mapped", "/numbers", "json", query("{d: map(&{x: @}, a)}")),
            endpoint("/repeated", "/numbers", "json", query("{a: a, b: a, c: a, d: a, e: a}")),
            endpoint("/replaced", "/text", "json", replace(2)),
            endpoint("/grown", "/text", "json", replace(300)),
            endpoint("/expanded", "/text", "json", pattern),
            endpoint("/elements", "/plain", "xml", json!({})),
            endpoint("/attributes", "/named", "xml", json!({})),
        ] });
    let gateway = Gateway::start(&with_metrics(file, metrics).to_string());
    for (path, status) in [
        ("/first", 200),
        ("/mapped", 503),
        ("/repeated", 503),
        ("/replaced", 200),
        ("/grown", 503),
        ("/expanded", 503),
        ("/elements", 200),
        ("/attributes", 503),
        ("/first", 200),
    ] {
        let response = gateway.get(path);
        assert_eq!(response.status, status, "{path}: {}", gateway.output());
    }
    eventually("it is given back", Duration::from_secs(30), || {
        let mut client = Client::connect(metrics).unwrap();
        client.send(request("GET", "/metrics", &[])).unwrap();
        let page = client.response("GET").unwrap().text();
        page.contains("portcullis_buffered_bytes 0\n")
    });
}

/// A policy makes a list of a header, many times as large as the header.
#[test]
fn the_values_of_policies_share_the_budget() {
    let stub = Stub::with(OK);
    let mut file = config(&stub.url());
    file["extra_config"]["portcullis/limits"] = json!({ "buffered": "2MiB" });
    let endpoint = |path: &str, policy: &str| {
        json!({
            "endpoint": path, "input_headers": ["X-A"],
            "backend": [{ "host": [stub.url()], "url_pattern": "/" }],
            "extra_config": { "security/policies": { "req": { "policies": [policy] } } }
        })
    };
    let endpoints = file["endpoints"].as_array_mut().unwrap();
    endpoints.push(endpoint("/groups", "size(getHeader('X-A').split(',')) > 0"));
    // The other side does not decide in place of one that has no memory.
    endpoints.push(endpoint(
        "/either",
        "size(getHeader('X-A').split(',')) > 0 || true",
    ));
    // Neither does the other backend, nor does a stream respond as if its backend had no call.
    let backend = |condition: &Value| {
        json!({ "host": [stub.url()], "url_pattern": "/",
            "extra_config": { "backend/conditional": condition } })
    };
    let by_policy = backend(&json!({
        "strategy": "policy", "value": "size(getHeader('X-A').split(',')) > 0"
    }));
    let other = backend(&json!({ "strategy": "fallback" }));
    for (path, encoding, backends) in [
        ("/one", "json", vec![&by_policy]),
        ("/two", "json", vec![&by_policy, &other]),
        ("/stream", "no-op", vec![&by_policy]),
    ] {
        endpoints.push(json!({ "endpoint": path, "input_headers": ["X-A"],
            "output_encoding": encoding, "backend": backends }));
    }
    let gateway = Gateway::start(&file.to_string());
    let status = |path: &str, groups: &str| {
        let mut client = gateway.client();
        let fields = [("X-A", groups), ("Connection", "close")];
        client.send(request("GET", path, &fields)).unwrap();
        client.response("GET").unwrap().status
    };
    let long = vec!["a"; 75_000].join(",");
    for path in ["/groups", "/either", "/one", "/two", "/stream"] {
        assert_eq!(status(path, "a,b"), 200, "{path}");
        assert_eq!(status(path, &long), 503, "{path}");
        assert_eq!(status(path, "a,b"), 200);
    }
}
