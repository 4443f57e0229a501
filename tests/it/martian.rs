//! `modifier/martian` over real sockets: streams stay streams, and no change breaks the framing.

use std::fs;
use std::sync::mpsc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Stub, Upstream, eventually};

/// One endpoint `/s` whose backend has this modifier.
fn config(backend: &str, method: &str, encoding: &str, modifier: &Value) -> Value {
    json!({
        "version": 3,
        "timeout": "5s",
        "endpoints": [{
            "endpoint": "/s",
            "method": method,
            "output_encoding": encoding,
            "input_headers": ["Content-Type", "Range", "X-A"],
            "input_query_strings": ["*"],
            "backend": [{
                "host": [backend], "url_pattern": "/up", "method": method,
                "encoding": if encoding == "no-op" { "no-op" } else { "json" },
                "extra_config": { "modifier/martian": modifier }
            }]
        }]
    })
}

fn streamed(backend: &str, method: &str, modifier: Value) -> Gateway {
    Gateway::start(&config(backend, method, "no-op", &modifier).to_string())
}

fn header(name: &str, value: &str, scope: &str) -> Value {
    json!({ "header.Modifier": { "name": name, "value": value, "scope": [scope] } })
}

#[test]
fn a_response_with_a_changed_head_still_streams() {
    let (next, turn) = mpsc::channel::<()>();
    let turn = std::sync::Mutex::new(turn);
    let upstream = Upstream::start(move |mut call| {
        call.send("HTTP/1.1 200 OK\r\nX-Up: 1\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        for i in 0..3 {
            call.chunk(&format!("event {i}"))?;
            // Not sent before the client has seen this one.
            turn.lock().unwrap().recv().ok();
        }
        call.send("0\r\n\r\n")
    });
    let group = json!({ "fifo.Group": { "modifiers": [
        header("X-Sent", "1", "request"), header("X-Came", "2", "response"),
        { "header.Blacklist": { "names": ["X-Up"] } }, { "status.Modifier": { "statusCode": 207 } }
    ] } });
    let gateway = streamed(&upstream.url(), "GET", group);
    let mut client = gateway.client();
    client.send(request("GET", "/s", &[])).unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("x-came")), (207, Some("2")));
    assert_eq!(head.header("x-up"), None);
    for i in 0..3 {
        let event = client.chunk().unwrap().unwrap();
        assert_eq!(String::from_utf8_lossy(&event), format!("event {i}"));
        next.send(()).unwrap();
    }
    assert_eq!(client.chunk().unwrap(), None);
    assert!(upstream.heads()[0].contains("X-Sent: 1\r\n"));
}

/// Two responses on one connection: the second is only read correctly if the first was framed correctly.
fn twice(gateway: &Gateway) -> (u16, String, Option<String>) {
    let mut client = gateway.client();
    let mut responses = (0..2).map(|_| {
        client.send(request("GET", "/s", &[])).unwrap();
        let response = client.response("GET").unwrap();
        let length = response.header("content-length").map(str::to_owned);
        (response.status, response.text(), length)
    });
    let (first, second) = (responses.next().unwrap(), responses.next().unwrap());
    assert_eq!(first, second);
    first
}

#[test]
fn an_invented_length_does_not_frame_a_message() {
    let upstream = Upstream::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    for made_up in ["2", "90"] {
        let length = header("Content-Length", made_up, "response");
        let (status, text, length) = twice(&streamed(&upstream.url(), "GET", length));
        assert_eq!(
            (status, &*text, length.as_deref()),
            (200, "hello", Some("5"))
        );
    }
    for unannounced in [
        header("Transfer-Encoding", "chunked", "response"),
        json!({ "header.Blacklist": { "names": ["Content-Length"] } }),
    ] {
        let (status, text, length) = twice(&streamed(&upstream.url(), "GET", unannounced));
        assert_eq!((status, &*text, length), (200, "hello", None));
    }
}

#[test]
fn a_status_without_a_body_has_none_and_one_with_a_body_may_be_empty() {
    let status = |code: u16| json!({ "status.Modifier": { "statusCode": code } });
    let full = Upstream::raw("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello");
    let chunks = Upstream::raw(
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    for upstream in [&full, &chunks] {
        for code in [204, 304] {
            let (found, text, length) = twice(&streamed(&upstream.url(), "GET", status(code)));
            assert_eq!((found, &*text, length), (code, "", None));
        }
    }
    for line in ["204 No Content", "304 Not Modified"] {
        let response = format!("HTTP/1.1 {line}\r\nContent-Length: 5\r\n\r\n");
        let empty = Upstream::raw(response);
        let (found, text, _) = twice(&streamed(&empty.url(), "GET", status(200)));
        assert_eq!((found, &*text), (200, ""));
    }
    let both = json!({ "fifo.Group": { "modifiers": [
        status(204), { "body.Modifier": { "body": "aGVsbG8=" } }
    ] } });
    let (found, text, length) = twice(&streamed(&full.url(), "GET", both));
    assert_eq!((found, &*text, length), (204, "", None));
}

#[test]
fn a_body_that_replaces_a_response_has_its_own_length() {
    let chunks = Upstream::raw(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    );
    let body =
        json!({ "body.Modifier": { "body": "MDEyMzQ1Njc4OQ==", "contentType": "text/plain" } });
    let gateway = streamed(&chunks.url(), "GET", body);
    let (status, text, length) = twice(&gateway);
    assert_eq!(
        (status, &*text, length.as_deref()),
        (200, "0123456789", Some("10"))
    );
    let part = gateway.get_with("/s", &[("Range", "bytes=2-4")]);
    assert_eq!((part.status, &*part.text()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(part.header("content-encoding"), None);
}

#[test]
fn a_body_in_place_of_the_clients_is_all_that_is_sent() {
    let upstream = Upstream::start(|mut call| {
        let body = call.body()?;
        // It closes the connection and announces it: a POST that arrives on a closing connection is not repeated.
        let head = "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length";
        let head = format!("{head}: {}\r\n\r\n", body.len());
        call.send([head.as_bytes(), &body].concat())
    });
    for (modifier, expected) in [("bWluZQ==", "mine"), ("", "")] {
        let body = json!({ "body.Modifier": { "body": modifier, "scope": ["request"] } });
        for encoding in ["no-op", "json"] {
            let config = config(&upstream.url(), "POST", encoding, &body).to_string();
            let gateway = Gateway::start(&config);
            let large = "x".repeat(300_000);
            for theirs in ["", "theirs", &large] {
                let sent = format!(
                    "POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{theirs}",
                    theirs.len()
                );
                let response = gateway.send("POST", sent);
                // What is not JSON fails a composed endpoint; the backend got the request all the same.
                if encoding == "no-op" {
                    let log = gateway.output();
                    assert_eq!(
                        (response.status, &*response.text()),
                        (200, expected),
                        "{log}"
                    );
                }
                let head = upstream.heads().pop().unwrap();
                let length = format!("Content-Length: {}\r\n", expected.len());
                assert!(head.contains(&length), "{encoding}: {head}");
                assert!(!head.contains("Transfer-Encoding"), "{head}");
            }
        }
    }
}

#[test]
fn a_made_up_length_of_a_request_is_not_sent() {
    let stub = Stub::with("[{}]");
    for encoding in ["no-op", "json"] {
        for (name, value) in [("Content-Length", "90"), ("Transfer-Encoding", "identity")] {
            let config = config(
                &stub.url(),
                "POST",
                encoding,
                &header(name, value, "request"),
            );
            let gateway = Gateway::start(&config.to_string());
            let mut client = gateway.client();
            for body in ["hello", "", "again"] {
                let sent = format!(
                    "POST /s HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.send(sent).unwrap();
                client.response("POST").unwrap();
                let seen = stub.take_seen();
                assert_eq!(seen.len(), 1);
                assert_eq!(seen[0].body, body.as_bytes(), "{encoding} {name}");
            }
        }
    }
}

#[test]
fn a_call_goes_where_the_url_says() {
    let (first, other) = (
        Stub::with("[{\"body\": {\"n\": 1}}]"),
        Stub::with("[{\"body\": {\"n\": 2}}]"),
    );
    let place = format!("127.0.0.1:{}", other.port());
    for encoding in ["no-op", "json"] {
        let url =
            json!({ "url.Modifier": { "host": place, "path": "/else where", "query": "q=1" } });
        let config = config(&first.url(), "GET", encoding, &url).to_string();
        let response = Gateway::start(&config).get("/s?q=2");
        assert_eq!(response.json()["n"], 2, "{encoding}");
        assert!(first.take_seen().is_empty());
        let seen = other.take_seen();
        assert_eq!((&*seen[0].path, &*seen[0].query), ("/else%20where", "q=1"));
        let host = format!("127.0.0.1:{}", first.port());
        assert_eq!(seen[0].header("host"), Some(&*host), "as KrakenD does");
        let port = json!({ "port.Modifier": { "port": other.port() } });
        let config = self::config(&first.url(), "GET", encoding, &port).to_string();
        assert_eq!(Gateway::start(&config).get("/s").json()["n"], 2);
        assert_eq!(other.take_seen()[0].header("host"), Some(&*place));
    }
}

#[test]
fn a_dead_host_costs_no_responses() {
    let stub = Stub::with("[{\"body\": {\"n\": 1}}]");
    for encoding in ["no-op", "json"] {
        let mut config = config(&stub.url(), "GET", encoding, &header("X-A", "1", "request"));
        let hosts = json!(["http://127.0.0.1:1", stub.url()]);
        config["endpoints"][0]["backend"][0]["host"] = hosts;
        let gateway = Gateway::start(&config.to_string());
        for _ in 0..4 {
            assert_eq!(gateway.get("/s").status, 200, "{encoding}");
        }
        assert_eq!(stub.take_seen().len(), 4);
    }
}

fn serving(root: &str, encoding: &str, method: &str) -> Value {
    let backend = |pattern: &str| {
        json!([{
            "host": ["http://127.0.0.1:1"], "url_pattern": pattern, "method": method, "encoding": encoding,
            "extra_config": {
                "modifier/martian": { "static.Modifier": { "rootPath": root } },
                // Neither is used for a call that is not made.
                "auth/client-credentials": { "client_id": "a", "client_secret": "b", "token_url": "http://127.0.0.1:1/" }
            }
        }])
    };
    json!({ "version": 3, "endpoints": [
        { "endpoint": "/f/{name}", "method": method, "output_encoding": encoding, "input_headers": ["Range"], "backend": backend("/{name}") },
        { "endpoint": "/all/*", "method": method, "output_encoding": encoding, "backend": backend("/*") }
    ] })
}

#[test]
fn files_are_served_instead_of_a_call() {
    let root = tempfile::tempdir().unwrap();
    let public = root.path().join("public");
    fs::create_dir(&public).unwrap();
    fs::write(public.join("a.json"), r#"{"a": 1}"#).unwrap();
    fs::write(root.path().join("secret"), "secret").unwrap();
    std::os::unix::fs::symlink("../secret", public.join("link")).unwrap();
    let path = public.display().to_string();
    let gateway = Gateway::start(&serving(&path, "no-op", "GET").to_string());
    let response = gateway.get("/f/a.json");
    assert_eq!((response.status, &*response.text()), (200, r#"{"a": 1}"#));
    assert_eq!(response.header("content-type"), Some("application/json"));
    assert_eq!(response.header("content-length"), Some("8"));
    let part = gateway.get_with("/f/a.json", &[("Range", "bytes=-1")]);
    assert_eq!((part.status, &*part.text()), (206, "}"));
    for path in [
        "/f/none",
        "/f/link",
        "/f/..%2fsecret",
        "/f/%2e%2e%2fsecret",
        "/f/..",
        "/f/%2e%2e",
        "/all/../secret",
        "/all/%2e%2e/secret",
        "/all/x/..%2f..%2fsecret",
    ] {
        let response = gateway.get(path);
        assert!(response.status >= 400, "{path}: {}", response.status);
        assert!(!response.text().contains("secret"), "{path}");
    }
    // A file that changes is served as it is.
    fs::write(public.join("a.json"), r#"{"a": 2}"#).unwrap();
    assert_eq!(gateway.get("/f/a.json").text(), r#"{"a": 2}"#);
    let composed = Gateway::start(&serving(&path, "json", "GET").to_string());
    assert_eq!(composed.get("/f/a.json").json(), json!({"a": 2}));
    let none = composed.get("/f/none");
    assert_eq!(
        (none.status, none.header("x-krakend-completed")),
        (500, Some("false"))
    );
}

#[test]
fn an_unread_upload_does_not_become_the_next_request() {
    let root = tempfile::tempdir().unwrap();
    fs::write(root.path().join("a"), "file").unwrap();
    let path = root.path().display().to_string();
    let gateway = Gateway::start(&serving(&path, "no-op", "POST").to_string());
    let smuggled = "GET /__health HTTP/1.1\r\nHost: a\r\n\r\n";
    let mut client = gateway.client();
    let sent = format!(
        "POST /f/a HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{smuggled}",
        smuggled.len()
    );
    client.send(&sent).unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!((response.status, &*response.text()), (200, "file"));
    // Either the connection is closed, or the next response belongs to the next request.
    if client.send(request("POST", "/f/none", &[])).is_ok()
        && let Ok(next) = client.response("POST")
    {
        assert_eq!(next.status, 404);
    }
}

#[test]
fn a_failed_modifier_fails_the_call() {
    let stub = Stub::with("[{\"body\": {}}]");
    let copy = json!({ "header.Copy": { "from": "X-A", "to": "Host" } });
    for encoding in ["no-op", "json"] {
        let config = config(&stub.url(), "GET", encoding, &copy).to_string();
        let gateway = Gateway::start(&config);
        assert_eq!(gateway.get_with("/s", &[("X-A", "inner")]).status, 200);
        assert_eq!(stub.take_seen()[0].header("host"), Some("inner"));
        assert_eq!(gateway.get_with("/s", &[("X-A", "in ner")]).status, 500);
        assert!(stub.take_seen().is_empty());
    }
}

#[test]
fn calls_are_made_without_a_broken_definition() {
    let stub = Stub::with("[{\"body\": {}}]");
    let file = |modifier: &Value| config(&stub.url(), "GET", "json", modifier).to_string();
    let gateway = Gateway::start(&file(&header("X-V", "1", "request")));
    let version = || {
        stub.take_seen();
        gateway.get("/s");
        stub.take_seen()[0].header("x-v").map(str::to_owned)
    };
    assert_eq!(version().as_deref(), Some("1"));
    let broken = json!({ "fifo.Group": { "modifiers": [{ "header.Nope": {} }] } });
    fs::write(gateway.config_path(), file(&broken)).unwrap();
    gateway.signal("HUP");
    eventually("the warning", Duration::from_secs(30), || {
        gateway.output().contains("unknown modifier: header.Nope")
    });
    eventually("the new file", Duration::from_secs(30), || {
        version().is_none()
    });
    fs::write(gateway.config_path(), file(&header("X-V", "2", "request"))).unwrap();
    gateway.signal("HUP");
    eventually("the repaired file", Duration::from_secs(30), || {
        version().as_deref() == Some("2")
    });
}

#[test]
fn a_tunnel_has_the_fields_that_were_set() {
    let upstream = Upstream::start(|mut call| {
        call.send(
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        )?;
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let mut config = config(
        &upstream.url(),
        "GET",
        "no-op",
        &json!({ "fifo.Group": { "modifiers": [
            header("Host", "inner", "request"), header("X-Came", "1", "response"),
            { "body.Modifier": { "body": "aGk=", "scope": ["request"] } }
        ] } }),
    );
    config["endpoints"][0]["extra_config"] = json!({ "portcullis/stream": { "upgrade": true } });
    let gateway = Gateway::start(&config.to_string());
    let mut client = gateway.client();
    let asks = [
        ("Connection", "Upgrade"),
        ("Upgrade", "websocket"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    client.send(request("GET", "/s", &asks)).unwrap();
    let response = client.any_head().unwrap();
    assert_eq!(
        (response.status, response.header("x-came")),
        (101, Some("1"))
    );
    let head = upstream.heads()[0].to_lowercase();
    assert!(head.contains("host: inner\r\n"), "{head}");
    assert!(!head.contains("content-length"), "{head}");
}
