//! Heads of requests and responses.

use super::*;

#[test]
fn hundreds_of_fields_pass_and_the_bound_is_in_bytes() {
    let many: String = (0..700)
        .map(|i| format!("X-Field-{i}: value {i}\r\n"))
        .collect();
    let head = json_head(&format!("{many}Content-Length: 11"));
    let size = head.len();
    for pieces in [1, 3] {
        let head = head.clone();
        let backend = Upstream::start(move |mut call| {
            loop {
                let (first, rest) = head.split_at(head.len() * 2 / 3);
                call.send(first)?;
                if pieces > 1 {
                    pause(Duration::from_millis(30));
                }
                call.send(format!("{rest}{{\"ok\":true}}"))?;
                call.head = next_head(&mut call)?;
            }
        });
        let gateway = start(&backend);
        for path in ["/n", "/c", "/n"] {
            let response = gateway.get(path);
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, "{\"ok\":true}"),
                "{path}: {}",
                gateway.output()
            );
            if path == "/n" {
                assert_eq!(response.header("x-field-699"), Some("value 699"));
                let passed = response
                    .headers
                    .iter()
                    .filter(|(name, _)| name.starts_with("x-field"));
                assert_eq!(passed.count(), 700);
            }
        }
        // A connection is returned to the pool just after its response was sent.
        eventually("the connection is kept", Duration::from_secs(30), || {
            let before = backend.calls();
            gateway.get("/n").status == 200 && backend.calls() == before
        });
    }
    for most in [size - 1, size] {
        let backend = Upstream::raw(head.clone() + "{\"ok\":true}");
        let mut file = config(&backend.url());
        file["extra_config"]["portcullis/limits"] = json!({ "upstream_headers": most });
        let gateway = Gateway::start(&file.to_string());
        let status = if most < size { 500 } else { 200 };
        for path in ["/n", "/c"] {
            assert_eq!(gateway.get(path).status, status, "{path} {most}");
        }
        let told = format!("server response headers exceeded {most} bytes");
        logs(&gateway, &told, if most < size { 2 } else { 0 });
    }
}

#[test]
fn the_bound_of_a_head_holds_for_few_fields_too() {
    let backend = Upstream::raw(
        json_head(&format!(
            "X-Long: {}\r\nContent-Length: 2",
            "x".repeat(9000)
        )) + "{}",
    );
    let mut file = config(&backend.url());
    file["extra_config"]["portcullis/limits"] = json!({ "upstream_headers": "8KiB" });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/n").status, 500);
    logs(&gateway, "exceeded 8192 bytes", 1);
}

/// The raw response to a request that is the last one on its connection.
pub(super) fn raw(gateway: &Gateway, bytes: &str) -> String {
    let mut client: Client = gateway.client();
    client.send(bytes).unwrap();
    String::from_utf8(client.rest().unwrap()).unwrap()
}

#[test]
fn a_client_of_http10_gets_responses_of_http10() {
    let open =
        Upstream::raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"ok\":true}");
    let gateway = start(&open);
    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut client = gateway.client();
        client
            .send(format!("GET /n HTTP/1.0\r\nHost: a\r\n{fields}\r\n"))
            .unwrap();
        let response = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(response.starts_with("HTTP/1.0 200 OK\r\n"), "{response}");
        assert!(
            response
                .to_lowercase()
                .contains("\r\nconnection: close\r\n"),
            "{response}"
        );
        assert!(
            !response.contains("chunked") && response.ends_with("\r\n\r\n{\"ok\":true}"),
            "{response}"
        );
    }
    let (backend, log) = strict();
    let gateway = start(&backend);
    for path in ["/c", "/n"] {
        let mut client = gateway.client();
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        client.send(&head).unwrap();
        let response = client.any_head().unwrap();
        assert_eq!(response.status, 200, "no interim answer");
        assert_eq!(response.header("connection"), Some("keep-alive"));
        client.body(&response, "POST").unwrap();
        client.send(&head).unwrap();
        assert_eq!(
            client.response("POST").unwrap().status,
            200,
            "the promise is kept"
        );
        assert_eq!(taken(&log).len(), 2);
    }
}

#[test]
fn a_status_without_a_name_has_a_phrase() {
    let backend = Upstream::raw("HTTP/1.1 599 Whatever\r\nContent-Length: 0\r\n\r\n");
    let gateway = start(&backend);
    let response = raw(
        &gateway,
        "GET /n HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(
        response.starts_with("HTTP/1.1 599 status code 599\r\n"),
        "{response}"
    );
}

#[test]
fn gzip_is_not_requested_with_a_range_or_head() {
    let backend = Upstream::raw(json_head("Content-Length: 0"));
    let gateway = start(&backend);
    for (suffix, fields, asked) in [
        ("", &[][..], true),
        ("", &[("Range", "bytes=0-9")][..], false),
        ("-head", &[][..], false),
    ] {
        for path in ["/c", "/n"] {
            let path = format!("{path}{suffix}");
            gateway.get_with(&path, fields);
            let head = backend.heads().pop().unwrap();
            let gzip = field(&head, "accept-encoding").is_some();
            assert_eq!(gzip, asked, "{path} {fields:?}");
        }
    }
}

#[test]
fn a_response_to_head_is_complete_for_a_client_that_sent_get() {
    let backend = Upstream::raw(json_head("Content-Length: 2000\r\nX-Seen: 1"));
    let gateway = start(&backend);
    let response = gateway.get("/n-head");
    assert_eq!((response.status, response.text().as_str()), (200, ""));
    assert_eq!(response.header("x-seen"), Some("1"));
}

#[test]
fn an_empty_user_agent_is_not_sent_on() {
    let backend = Upstream::raw(json_head("Content-Length: 2") + "{}");
    let gateway = start(&backend);
    for path in ["/c", "/n"] {
        gateway.get_with(path, &[("User-Agent", "")]);
        assert_eq!(
            field(&backend.heads().pop().unwrap(), "user-agent"),
            None,
            "{path}"
        );
        gateway.get_with(path, &[("User-Agent", "curl")]);
        assert_eq!(
            field(&backend.heads().pop().unwrap(), "user-agent"),
            Some("curl"),
            "{path}"
        );
    }
}

#[test]
fn a_call_that_lost_its_user_agent_has_the_gateways() {
    let backend = Upstream::raw(json_head("Content-Length: 2") + "{}");
    let mut file = config(&backend.url());
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        let blacklist =
            json!({ "header.Blacklist": { "scope": ["request"], "names": ["User-Agent"] } });
        endpoint["backend"][0]["extra_config"] = json!({ "modifier/martian": blacklist });
    }
    let gateway = Gateway::start(&file.to_string());
    for path in ["/c", "/n"] {
        gateway.get_with(path, &[("User-Agent", "curl")]);
        let head = backend.heads().pop().unwrap();
        let agents: Vec<&str> = head
            .lines()
            .filter(|l| l.starts_with("User-Agent"))
            .collect();
        assert_eq!(agents.len(), 1, "{path}: {head}");
        assert!(
            agents[0].starts_with("User-Agent: Portcullis/"),
            "{path}: {head}"
        );
    }
}

#[test]
fn blanks_around_values_of_scripts_are_not_sent() {
    let backend = Upstream::raw(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Seen: 1\r\nContent-Length: 2\r\n\r\n{}",
    );
    let mut file = config(&backend.url());
    let script = json!({ "pre": "local r = request.load(); r:headers('X-Blank', '  a b  ')", "post": "local r = response.load(); r:headers('X-Back', '  c d  ')", "allow_open_libs": false });
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        endpoint["extra_config"] = json!({ "modifier/lua-proxy": script });
        endpoint["input_headers"] = json!(["*"]);
    }
    let gateway = Gateway::start(&file.to_string());
    for path in ["/c", "/n"] {
        let response = raw(
            &gateway,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        );
        let head = backend.heads().pop().unwrap();
        assert!(head.contains("X-Blank: a b\r\n"), "{path}: {head}");
        if path == "/n" {
            assert!(
                response.to_lowercase().contains("x-back: c d\r\n"),
                "{response}"
            );
        }
    }
}

/// The two bounds of a head, in bytes and in headers, have texts of their own.
#[test]
fn too_many_fields_are_reported_as_such() {
    let fields: String = (0..10_001).map(|n| format!("X-{n}: v\r\n")).collect();
    let backend = Upstream::raw(json_head(&format!("{fields}Content-Length: 2")) + "{}");
    let gateway = Gateway::start(&config(&backend.url()).to_string());
    for path in ["/n", "/c"] {
        assert_eq!(gateway.get(path).status, 500, "{path}");
    }
    logs(&gateway, "server response has more than 10000 headers", 2);
}
