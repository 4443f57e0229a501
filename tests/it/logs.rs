//! What is in the log and in the access log, and what must never be.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::time::Duration;

use regex::Regex;
use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Signer, Stub, eventually, ports, tokens};

const ANY: &str = r#"[{"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}]"#;
const LIMIT: Duration = Duration::from_secs(30);

/// The log once it has the line of a last request and satisfies `enough`: a request's line is written after its
/// response, and lines of other connections may come later still.
fn lines_until(gateway: &Gateway, last: &str, enough: impl Fn(&str) -> bool) -> Vec<String> {
    let path = format!("/last/{last}");
    gateway.get(&path);
    eventually("all lines", LIMIT, || {
        let log = gateway.output();
        log.contains(&path) && enough(&log)
    });
    gateway.output().lines().map(str::to_owned).collect()
}

#[test]
fn the_access_log_equals_krakends_byte_for_byte() {
    let stub = Stub::with(ANY);
    let broken = ports::Closed::new();
    let file = json!({
        "version": 3,
        "extra_config": { "security/cors": { "allow_origins": ["*"] } },
        "endpoints": [
            { "endpoint": "/a", "backend": [{ "host": [stub.url()], "url_pattern": "/a" }] },
            { "endpoint": "/down", "backend": [{
                "host": [format!("http://127.0.0.1:{}", broken.port())], "url_pattern": "/down"
            }] },
        ]
    });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/a?x=%20&token=geheim").status, 200);
    assert_eq!(gateway.get("/no%22where").status, 404);
    assert_eq!(gateway.get("/down").status, 500);
    let preflight = [
        ("Origin", "http://a"),
        ("Access-Control-Request-Method", "GET"),
    ];
    gateway.send("OPTIONS", request("OPTIONS", "/a", &preflight));
    assert_eq!(gateway.send("POST", request("POST", "/a", &[])).status, 405);
    let lines = lines_until(&gateway, "1", |log| log.matches("[GIN]").count() >= 5);
    let access: Vec<&String> = lines
        .iter()
        .filter(|line| line.starts_with("[GIN]"))
        .collect();
    let expected = [
        (200, "GET    ", r#""/a?x=%20&token=***""#),
        (404, "GET    ", r#""/no\"where""#),
        (500, "GET    ", r#""/down""#),
        (405, "POST   ", r#""/a""#),
        (404, "GET    ", r#""/last/1""#),
    ];
    assert_eq!(access.len(), expected.len(), "{access:#?}");
    for (status, method, target) in expected {
        let pattern = format!(
            r"^\[GIN\] \d{{4}}/\d\d/\d\d - \d\d:\d\d:\d\d \| {status} \| ([ 0-9.]+)(µs|ms|s) \|       127\.0\.0\.1 \| {method}  {}$",
            regex::escape(target)
        );
        let pattern = Regex::new(&pattern).unwrap();
        // Of two connections, the second may be logged first.
        let found = access.iter().find_map(|line| pattern.captures(line));
        let found = found.unwrap_or_else(|| panic!("none of {access:#?} is {pattern}"));
        // Eight columns wide, as `%8v` prints.
        let width = found[1].chars().count() + found[2].chars().count();
        assert!(width >= 8, "{:?}", &found[0]);
    }
    let failed = lines
        .iter()
        .position(|line| line.ends_with(r#""/down""#))
        .unwrap();
    assert!(lines[failed + 1].starts_with("Error #01: "), "{lines:#?}");
}

/// An endpoint for tokens from header, cookie and query, one whose backend is down, one that streams.
fn protected(stub: &Stub) -> String {
    let closed = ports::Closed::new();
    let validator = json!({
        "alg": "ES256", "audience": ["api"], "issuer": "me", "jwk_local_path": "./jwks.json",
        "disable_jwk_security": true, "cookie_key": "session", "operation_debug": true,
        "roles": ["admin"], "roles_key": "roles",
        "propagate_claims": [["sub", "x-user"]]
    });
    let endpoint = |path: &str, host: &str, encoding: &str| {
        json!({
            "endpoint": path, "input_headers": ["*"], "input_query_strings": ["*"],
            "output_encoding": encoding,
            "extra_config": { "auth/validator": validator },
            "backend": [{ "host": [host], "url_pattern": path, "encoding": encoding }]
        })
    };
    let down = format!("http://127.0.0.1:{}", closed.port());
    json!({
        "version": 3,
        "extra_config": { "telemetry/logging": { "level": "DEBUG", "stdout": true } },
        "debug_endpoint": true,
        "endpoints": [
            endpoint("/me", &stub.url(), "json"),
            endpoint("/down", &down, "json"),
            endpoint("/streamed", &stub.url(), "no-op"),
            endpoint("/streamed-down", &down, "no-op"),
        ]
    })
    .to_string()
}

fn claims(change: &[(&str, Value)]) -> Value {
    let mut claims = tokens::claims("api");
    claims["iss"] = json!("me");
    claims["roles"] = json!(["admin"]);
    for (name, value) in change {
        claims[*name] = value.clone();
    }
    claims
}

#[test]
fn no_log_holds_a_token_whatever_became_of_it() {
    let stub = Stub::with(ANY);
    let (signer, stranger) = (Signer::es256("k"), Signer::es256("k2"));
    let keys = [("jwks.json", &*signer.jwks())];
    let gateway = Gateway::start_with(&protected(&stub), &keys);
    let good = signer.token(&claims(&[]));
    let unsigned = signer.token_with_header(&json!({"alg": "none"}), &claims(&[]));
    let all = [
        good.clone(),
        signer.token(&claims(&[("exp", json!(1_000_000))])),
        signer.token(&claims(&[("nbf", json!(9_999_999_999_u64))])),
        signer.token(&claims(&[("aud", json!(["other"]))])),
        signer.token(&claims(&[("iss", json!("other"))])),
        signer.token(&claims(&[("roles", json!(["guest"]))])),
        signer.token(&claims(&[("sub", json!(["a", {"b": 1}]))])),
        stranger.token(&claims(&[])),
        tokens::tampered(&good),
        unsigned,
        good.replacen('.', "", 1),
        format!("{good}.{good}"),
        good[..good.len() - 3].to_owned(),
        "geheim-geheim-geheim".to_owned(),
    ];
    for token in &all {
        for path in [
            "/me",
            "/down",
            "/streamed",
            "/streamed-down",
            "/__debug/x",
            "/nowhere",
        ] {
            let bearer = format!("Bearer {token}");
            let cookie = format!("session={token}; other=1");
            let as_query = [
                format!("{path}?access_token={token}"),
                format!("{path}?a=1&token={token}&b=2"),
                format!("{path}?Access%5FToken={token}&jwt={token}"),
            ];
            gateway.get_with(path, &[("Authorization", &bearer)]);
            gateway.get_with(path, &[("Authorization", token)]);
            gateway.get_with(
                path,
                &[("Authorization", &bearer), ("Authorization", &bearer)],
            );
            gateway.get_with(path, &[("Cookie", &cookie)]);
            for query in &as_query {
                gateway.get_with(query, &[("Authorization", &bearer)]);
            }
        }
    }
    let requests = all.len() * 6 * 7;
    let log = lines_until(&gateway, "1", |log| log.matches("[GIN]").count() > requests).join("\n");
    assert!(
        log.contains("***"),
        "queries are shown, with their tokens masked"
    );
    for token in &all {
        let part = token.rsplit('.').next().unwrap();
        for secret in [token.as_str(), part] {
            if secret.len() >= 16 {
                let at = log.lines().find(|line| line.contains(secret));
                assert_eq!(at, None, "a token is in the log");
            }
        }
    }
}

#[test]
fn a_json_access_log_is_json_whatever_clients_send() {
    let stub = Stub::with(ANY);
    let file = json!({
        "version": 3,
        "extra_config": { "portcullis/access-log": { "format": "json" } },
        "endpoints": [{ "endpoint": "/a/{id}", "input_query_strings": ["*"],
            "backend": [{ "host": [stub.url()], "url_pattern": "/a" }] }]
    });
    let gateway = Gateway::start(&file.to_string());
    let targets: [&[u8]; 12] = [
        b"/a/%22%5C%0A%0D%00",
        b"/a/\"\\",
        b"/a/\xff\xfe\xc3\x28",
        b"/a/\xe2\x80\xa8\xe2\x80\xae",
        "/a/é😀\u{7f}".as_bytes(),
        b"/a/1?q=\"\\\x80%00&token=geheim",
        b"/a/1?access_token=geheim&jwt=geheim",
        b"/a/1?a%63cess_token=geheim",
        b"/\",\"status\":200,\"x\":\"",
        b"/a/%ff%zz",
        b"/a/{}[]<>&'",
        b"/a/%u2028%C0%80",
    ];
    let mut answered = 0;
    for target in targets {
        for method in ["GET", "P\"ST", "X'Y`Z|~"] {
            let bytes = [
                method.as_bytes(),
                b" ",
                target,
                b" HTTP/1.1\r\nHost: a\r\n\r\n",
            ]
            .concat();
            let mut client = gateway.client();
            client.send(bytes).unwrap();
            answered += usize::from(client.response(method).is_ok());
        }
    }
    assert!(answered > 24, "{answered} answers");
    let lines = lines_until(&gateway, "1", |log| log.lines().count() > 12);
    let logged: Vec<Value> = lines
        .iter()
        .filter(|line| line.starts_with('{'))
        .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
        .collect();
    assert!(logged.len() > 12, "{} lines", logged.len());
    assert!(
        logged
            .iter()
            .all(|line| line["status"].is_u64() && line["x"].is_null())
    );
    assert!(!gateway.output().contains("geheim"));
}

/// A byte that is not ASCII must not let a client avoid filters by user agent in the log.
#[test]
fn a_user_agent_is_logged_whatever_bytes_it_has() {
    let stub = Stub::with(ANY);
    let file = json!({
        "version": 3,
        "extra_config": { "portcullis/access-log": { "format": "json" } },
        "endpoints": [{ "endpoint": "/a",
            "backend": [{ "host": [stub.url()], "url_pattern": "/a" }] }]
    });
    let gateway = Gateway::start(&file.to_string());
    for agent in [&b"sqlmap \xc3\xa9"[..], b"sqlmap \xe9"] {
        let head = b"GET /a HTTP/1.1\r\nHost: a\r\nUser-Agent: ";
        let bytes = [&head[..], agent, b"\r\n\r\n"].concat();
        assert_eq!(gateway.send("GET", bytes).status, 200);
    }
    let lines = lines_until(&gateway, "1", |log| log.matches("sqlmap").count() >= 2);
    let agents: Vec<Value> = lines
        .iter()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|line| line["path"] == "/a")
        .map(|line| line["user_agent"].clone())
        .collect();
    assert_eq!(agents, ["sqlmap \u{e9}", "sqlmap \u{fffd}"]);
}

#[test]
fn one_id_names_a_request_everywhere() {
    let stub = Stub::with(ANY);
    let to = json!([{ "host": [stub.url()], "url_pattern": "/a" }]);
    let streamed = json!([{ "host": [stub.url()], "url_pattern": "/a", "encoding": "no-op" }]);
    let file = |trust: bool| {
        json!({
            "version": 3,
            "extra_config": {
                "portcullis/request-id": { "trust": trust },
                "portcullis/access-log": { "format": "json" },
                "portcullis/forwarding": { "proto": true, "forwarded": true }
            },
            "endpoints": [
                { "endpoint": "/a", "backend": to },
                { "endpoint": "/s", "output_encoding": "no-op", "backend": streamed },
            ]
        })
        .to_string()
    };
    for trust in [false, true] {
        let gateway = Gateway::start(&file(trust));
        let mut ids = Vec::new();
        for path in ["/a", "/s", "/nowhere"] {
            let response = gateway.get_with(path, &[("X-Request-Id", "from-client")]);
            let id = response.header("x-request-id").unwrap().to_owned();
            assert_eq!(id == "from-client", trust, "{path}: {id}");
            for seen in stub.take_seen() {
                assert_eq!(seen.header("x-request-id"), Some(&*id), "{path}");
                assert_eq!(seen.header("x-forwarded-proto"), Some("http"));
                let forwarded = seen.header("forwarded").unwrap();
                assert!(
                    forwarded.starts_with("for=127.0.0.1;host=\""),
                    "{forwarded}"
                );
                ids.push(id.clone());
            }
        }
        assert_eq!(ids.len(), 2, "both reached the backend");
        let logged = |log: &str, id: &str| log.contains(&format!("\"request_id\":\"{id}\""));
        let all = |log: &str| ids.iter().all(|id| logged(log, id));
        let log = lines_until(&gateway, "1", all).join("\n");
        assert!(all(&log), "{log}");
    }
}

/// A backend whose responses end in the middle, whatever the request.
fn breaking_off() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 8192];
            let _ = stream.read(&mut request);
            let response = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100\r\n\r\n{\"a\":";
            let _ = stream.write_all(response);
        }
    });
    format!("http://{address}")
}

#[test]
fn no_failure_shows_credentials_of_a_url() {
    let stub = Stub::with(ANY);
    let failing = Stub::with(r#"[{"status": 500, "body": {}}]"#);
    let broken = breaking_off();
    let closed = ports::Closed::new();
    let down = format!("127.0.0.1:{}", closed.port());
    let stats = ports::free();
    let metrics = ports::free();
    let endpoint = |path: &str, host: &str, pattern: &str, encoding: &str| {
        json!({
            "endpoint": path, "input_query_strings": ["*"], "output_encoding": encoding,
            "backend": [{ "host": [host], "url_pattern": pattern, "encoding": encoding,
                "disable_host_sanitize": true }]
        })
    };
    let secret =
        "/bot123:geheim/9geheim0123456789/x?appid=geheim-appid-1&licence-id=geheim-licence&k=v";
    let mut keyed = endpoint("/keyed", &stub.url(), "/x", "json");
    keyed["extra_config"] = json!({ "auth/api-keys": { "roles": ["r"] } });
    let with_password = format!("http://user:geheim-password@{down}");
    let mut script = endpoint("/script", &stub.url(), "/x", "json");
    script["extra_config"] = json!({ "modifier/lua-proxy":
        { "pre": "error('bad query ' .. request.load():query())" } });
    let mut endpoints = vec![keyed, script];
    for (encoding, name) in [("json", "json"), ("no-op", "stream")] {
        for (place, host) in [
            ("broken", &*broken),
            ("down", &*format!("http://{down}")),
            ("password", &*with_password),
            ("failing", &*failing.url()),
        ] {
            let path = format!("/{name}-{place}");
            endpoints.push(endpoint(&path, host, secret, encoding));
        }
    }
    let file = json!({
        "version": 3, "debug_endpoint": true,
        "extra_config": {
            "telemetry/logging": { "level": "DEBUG", "stdout": true },
            "telemetry/metrics": { "listen_address": format!("127.0.0.1:{stats}") },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") },
            "router": { "return_error_msg": true },
            "auth/api-keys": { "strategy": "query_string", "identifier": "pass-it",
                "keys": [{ "key": "geheim-key", "roles": ["r"] }] }
        },
        "endpoints": endpoints
    });
    let gateway = Gateway::start(&file.to_string());
    let query = "?access_token=geheim-1&client-secret=geheim-2&pass-it=geheim-key&a=1;token=geheim-3&q=eyJnZWhlaW0.e30.x";
    let mut told = String::new();
    let mut paths = vec![
        "/keyed".to_owned(),
        "/script".to_owned(),
        "/__debug/x".to_owned(),
        "/nowhere".to_owned(),
    ];
    for name in ["json", "stream"] {
        paths.extend(
            ["broken", "down", "password", "failing"].map(|place| format!("/{name}-{place}")),
        );
    }
    for path in &paths {
        let mut client = gateway.client();
        let referer = format!("http://a/{query}");
        let head = [("Referer", &*referer), ("Pass-It", "geheim-header")];
        client
            .send(request("GET", &format!("{path}{query}"), &head))
            .unwrap();
        // What a script says of a request to its client is its own matter.
        if let Ok(head) = client.any_head()
            && path != "/script"
        {
            told.push_str(&String::from_utf8_lossy(
                &client.body(&head, "GET").unwrap_or_default(),
            ));
        }
    }
    let log = lines_until(&gateway, "1", |log| {
        log.matches("[GIN]").count() > paths.len()
    })
    .join("\n");
    for (port, path) in [(stats, "/__stats"), (metrics, "/metrics")] {
        let mut client = crate::support::Client::connect(port).unwrap();
        client.send(request("GET", path, &[])).unwrap();
        let page = client.response("GET").unwrap().text();
        assert!(page.len() > 100, "{page}");
        told.push_str(&page);
    }
    for text in [&log, &told] {
        for secret in ["geheim", "eyJnZWhlaW0"] {
            let at = text.lines().find(|line| line.contains(secret));
            assert_eq!(at, None, "a credential is shown");
        }
    }
    assert!(log.contains("appid=***") && log.contains("k=v"), "{log}");
    assert!(log.contains("user:***@"), "{log}");
    assert!(told.contains("appid=***"), "{told}");
    let broken_off: Vec<&str> = log
        .lines()
        .filter(|line| line.contains("ERROR") && !line.contains("[ENDPOINT: "))
        .collect();
    assert!(
        broken_off.is_empty(),
        "one line for one failure: {broken_off:#?}"
    );
}

#[test]
fn with_debug_a_rejected_preflight_has_its_cause_in_the_log() {
    let cors = json!({
        "allow_origins": ["https://a.example"], "allow_methods": ["GET"], "allow_headers": ["X-A"], "debug": true
    });
    let file = json!({
        "version": 3,
        "extra_config": { "security/cors": cors, "telemetry/logging": { "level": "DEBUG", "stdout": true } },
        "endpoints": []
    });
    let gateway = Gateway::start(&file.to_string());
    for (origin, method, header, why) in [
        (
            "https://b.example",
            "GET",
            "X-A",
            "\"allow_origins\" does not have the origin https://b.example",
        ),
        (
            "https://a.example",
            "PUT",
            "X-A",
            "\"allow_methods\" does not have the method PUT",
        ),
        (
            "https://a.example",
            "GET",
            "X-B",
            "\"allow_headers\" does not have all of these headers: X-B",
        ),
    ] {
        let asked = [
            ("Origin", origin),
            ("Access-Control-Request-Method", method),
            ("Access-Control-Request-Headers", header),
        ];
        gateway.send("OPTIONS", request("OPTIONS", "/a", &asked));
        let want = format!("[CORS] preflight to /a rejected: {why}");
        eventually(&want, LIMIT, || gateway.output().contains(&want));
    }
}
