//! What stands around a request: load balancers in front, changed files, the end of the process, wildcard routes.

use std::fs;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::{Gateway, Stub, eventually};

const ANSWERS: &str = r#"[
    {"path": "/slow", "delay_ms": 2000, "headers": {"Content-Type": "application/json"}, "body": {"ok": true}},
    {"headers": {"Content-Type": "application/json"}, "body": {"ok": true}}
]"#;

fn endpoint(path: &str, to: &str, stub: &Stub, encoding: &str) -> Value {
    json!({ "endpoint": path, "timeout": "10s", "output_encoding": encoding,
        "backend": [{ "host": [stub.url()], "url_pattern": to }] })
}

fn file(endpoints: &[Value], extra: Value) -> String {
    json!({ "version": 3, "endpoints": endpoints, "extra_config": extra }).to_string()
}

fn balanced(stub: &Stub, trusted: &str) -> Gateway {
    let extra = json!({ "portcullis/server": { "proxy_protocol": [trusted] } });
    Gateway::start(&file(&[endpoint("/a", "/a", stub, "no-op")], extra))
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";

fn v2(command: u8) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
    bytes.extend([
        command, 0x11, 0, 12, 192, 0, 2, 9, 198, 51, 100, 1, 0xdc, 4, 1, 0xbb,
    ]);
    bytes
}

/// What the backend and the access log took for the client, after these first bytes.
fn client_behind(gateway: &Gateway, stub: &Stub, preamble: &[u8]) -> (String, String) {
    let before = gateway.output().len();
    let mut client = gateway.client();
    client
        .send([preamble, request("GET", "/a", &[]).as_bytes()].concat())
        .unwrap();
    assert_eq!(client.answer("GET").unwrap().status, 200);
    let seen = stub.take_seen().pop().unwrap();
    eventually("the access line", Duration::from_secs(10), || {
        gateway.output()[before..].contains("| 200 |")
    });
    let output = gateway.output()[before..].to_owned();
    let line = output
        .lines()
        .find(|line| line.contains("| 200 |"))
        .unwrap();
    let logged = line.split('|').nth(3).unwrap().trim().to_owned();
    (
        seen.header("x-forwarded-for")
            .unwrap_or_default()
            .to_owned(),
        logged,
    )
}

#[test]
fn a_load_balancer_says_whom_it_speaks_for() {
    let stub = Stub::with(ANSWERS);
    let gateway = balanced(&stub, "127.0.0.0/8");
    let both = |address: &str| (address.to_owned(), address.to_owned());
    assert_eq!(client_behind(&gateway, &stub, V1), both("192.0.2.7"));
    assert_eq!(client_behind(&gateway, &stub, &v2(0x21)), both("192.0.2.9"));
    // Its own health checks speak for nobody.
    assert_eq!(client_behind(&gateway, &stub, &v2(0x20)), both("127.0.0.1"));
    assert_eq!(
        client_behind(&gateway, &stub, b"PROXY UNKNOWN\r\n"),
        both("127.0.0.1")
    );
}

#[test]
fn a_load_balancer_that_does_not_say_so_is_not_served() {
    let stub = Stub::with(ANSWERS);
    let gateway = balanced(&stub, "127.0.0.1");
    for preamble in ["", "PROXY TCP4 nobody 198.51.100.1 1 2\r\n", "PROXY TCP4 "] {
        let mut client = gateway.client();
        client
            .send([preamble.as_bytes(), request("GET", "/a", &[]).as_bytes()].concat())
            .unwrap();
        assert!(client.is_closed_by_peer(), "{preamble:?}");
    }
    assert_eq!(stub.take_seen().len(), 0);
}

#[test]
fn whoever_is_not_listed_cannot_choose_an_address() {
    let stub = Stub::with(ANSWERS);
    let gateway = balanced(&stub, "10.0.0.0/8");
    let (forwarded, logged) = client_behind(&gateway, &stub, b"");
    assert_eq!((&*forwarded, &*logged), ("127.0.0.1", "127.0.0.1"));
    let mut client = gateway.client();
    client
        .send([V1, request("GET", "/a", &[]).as_bytes()].concat())
        .unwrap();
    assert_eq!(client.head().unwrap().status, 400);
}

#[test]
fn a_request_may_have_as_many_fields_as_the_file_says() {
    let stub = Stub::with(ANSWERS);
    let extra = json!({ "portcullis/limits": { "headers": 4 } });
    let gateway = Gateway::start(&file(&[endpoint("/a", "/a", &stub, "json")], extra));
    let with = |count: usize| {
        let fields: Vec<(&str, &str)> = (1..count).map(|_| ("X-A", "1")).collect();
        gateway.get_with("/a", &fields).status
    };
    assert_eq!((with(4), with(5)), (200, 431));
}

#[test]
fn a_changed_file_is_applied_by_itself_when_asked_to_watch() {
    let stub = Stub::with(ANSWERS);
    let port = crate::support::ports::free();
    let text = |paths: &[&str]| {
        let endpoints: Vec<Value> = paths
            .iter()
            .map(|path| endpoint(path, path, &stub, "json"))
            .collect();
        file(&endpoints, json!({}))
    };
    let gateway = Gateway::spawn(
        port,
        &text(&["/a"]),
        &[],
        &["-p", &port.to_string(), "--watch"],
    );
    assert!(
        gateway.listens(Duration::from_secs(20)),
        "{}",
        gateway.output()
    );
    assert_eq!(gateway.get("/b").status, 404);
    // Half a file is not applied, the whole one is; a file may also be put in place of the old one.
    let whole = text(&["/a", "/b"]);
    fs::write(gateway.config_path(), &whole[..whole.len() / 2]).unwrap();
    eventually("the refusal is told", Duration::from_secs(20), || {
        gateway.output().contains("Reload refused")
    });
    assert_eq!(gateway.get("/a").status, 200);
    let beside = gateway.dir().join("new.json");
    fs::write(&beside, whole).unwrap();
    fs::rename(beside, gateway.config_path()).unwrap();
    eventually("the new file rules", Duration::from_secs(20), || {
        gateway.get("/b").status == 200
    });
}

#[test]
fn the_reload_command_tells_what_became_of_it() {
    let stub = Stub::with(ANSWERS);
    let gateway = Gateway::start(&file(&[endpoint("/a", "/a", &stub, "json")], json!({})));
    let reload = |port: u16| {
        let output = crate::support::gateway::command()
            .env(crate::support::gateway::RUNTIME_FOLDER, gateway.dir())
            .args(["reload", "-c"])
            .arg(gateway.config_path())
            .args(["-p", &port.to_string()])
            .output()
            .unwrap();
        let told = [output.stdout, output.stderr].concat();
        (
            output.status.code(),
            String::from_utf8_lossy(&told).into_owned(),
        )
    };
    let change = |endpoints: &[Value], extra: Value| {
        fs::write(gateway.config_path(), file(endpoints, extra)).unwrap();
    };
    let (a, b) = (
        endpoint("/a", "/a", &stub, "json"),
        endpoint("/b", "/b", &stub, "json"),
    );
    change(&[a.clone(), b.clone()], json!({}));
    assert_eq!(reload(gateway.port()).0, Some(0));
    assert_eq!(gateway.get("/b").status, 200);
    // What cannot change while running is refused whole.
    change(
        std::slice::from_ref(&a),
        json!({ "portcullis/limits": { "headers": 4 } }),
    );
    let (code, told) = reload(gateway.port());
    assert_eq!(code, Some(1), "{told}");
    assert!(told.contains("restart"), "{told}");
    assert_eq!(gateway.get("/b").status, 200, "the old file rules");
    fs::write(gateway.config_path(), "{").unwrap();
    assert_eq!(reload(gateway.port()).0, Some(1));
    change(&[a, b], json!({}));
    assert_eq!(
        reload(crate::support::ports::free()).0,
        Some(1),
        "nobody there"
    );
}

#[test]
fn a_draining_process_is_not_ready_on_connections_that_stand() {
    let stub = Stub::with(ANSWERS);
    let endpoints = [
        endpoint("/a", "/a", &stub, "json"),
        endpoint("/slow", "/slow", &stub, "json"),
    ];
    let gateway = Gateway::start(&file(&endpoints, json!({})));
    let mut probe = gateway.client();
    probe.send(request("GET", "/__ready", &[])).unwrap();
    assert_eq!(probe.answer("GET").unwrap().status, 200);
    let mut slow = gateway.client();
    slow.send(request("GET", "/slow", &[])).unwrap();
    eventually("the backend has it", Duration::from_secs(10), || {
        !stub.take_seen().is_empty()
    });
    // Half a request keeps the connection from being taken for idle.
    probe.send("GET /__ready HTTP/1.1\r\n").unwrap();
    crate::support::pause(Duration::from_millis(100));
    gateway.signal("TERM");
    eventually("it drains", Duration::from_secs(10), || {
        gateway.output().contains("terminated")
    });
    probe.send("Host: a\r\n\r\n").unwrap();
    let told = probe.answer("GET").unwrap();
    assert_eq!(
        (told.status, told.header("connection")),
        (503, Some("close"))
    );
    assert_eq!(slow.answer("GET").unwrap().status, 200);
    assert!(
        gateway
            .wait(Duration::from_secs(10))
            .expect("it ends")
            .success()
    );
}

#[test]
fn wildcards_take_what_no_other_route_does_and_pass_it_on_as_it_is() {
    let stub = Stub::with(ANSWERS);
    for encoding in ["no-op", "json"] {
        let endpoints = [
            endpoint("/foo/*", "/all/*", &stub, encoding),
            endpoint("/foo/bar", "/bar", &stub, encoding),
            endpoint("/foo/{id}/x", "/id/{id}", &stub, encoding),
        ];
        let gateway = Gateway::start(&file(&endpoints, json!({})));
        let reaches = |path: &str| {
            let status = gateway.get(path).status;
            let seen = stub.take_seen().pop().map(|seen| seen.path);
            (status, seen.unwrap_or_default())
        };
        for (path, to) in [
            ("/foo/bar", "/bar"),
            ("/foo/1/x", "/id/1"),
            ("/foo/1/y", "/all/1/y"),
            ("/foo/a", "/all/a"),
            ("/foo/a/b/c", "/all/a/b/c"),
            ("/foo/a%20b/c%2Bd", "/all/a%20b/c%2Bd"),
            ("/foo/a+b:c@d;e=f", "/all/a+b:c@d;e=f"),
            ("/foo/%C3%A9", "/all/%C3%A9"),
        ] {
            assert_eq!(reaches(path), (200, to.to_owned()), "{encoding} {path}");
        }
        for path in ["/foo/../a", "/foo/%2e%2e/a", "/foo/a%00b"] {
            let (status, to) = reaches(path);
            assert!(
                status >= 300 && to.is_empty(),
                "{encoding} {path}: {status} {to}"
            );
        }
        assert_eq!(reaches("/other").0, 404);
    }
}

/// A backend that sends everybody elsewhere, and the place where they are sent.
fn redirecting() -> (Stub, Stub) {
    let there = Stub::with(ANSWERS);
    let routes = json!([
        { "path": "/away", "status": 307, "headers": { "Location": format!("{}/b", there.url()) } },
        { "path": "/here", "status": 302, "headers": { "Location": "/b" } },
        { "headers": { "Content-Type": "application/json" }, "body": { "ok": true } },
    ]);
    (Stub::with(&routes.to_string()), there)
}

#[test]
fn redirects_of_backends_pass_where_the_file_says_so() {
    let (stub, _there) = redirecting();
    let with = |path: &str, to: &str, extra: Value| {
        let mut endpoint = endpoint(path, to, &stub, "no-op");
        endpoint["backend"][0]["extra_config"] = extra;
        endpoint
    };
    let redirects = |what: &str| json!({ "portcullis/upstream": { "redirects": what } });
    let endpoints = [
        with("/usual", "/here", json!({})),
        with("/followed", "/here", redirects("follow")),
        with("/none", "/here", redirects("none")),
        with("/same", "/here", redirects("same-origin")),
        with("/other", "/away", redirects("same-origin")),
        with(
            "/enterprise",
            "/here",
            json!({ "backend/http/client": { "no_redirect": true } }),
        ),
    ];
    let statuses = |gateway: &Gateway| {
        let paths = [
            "/usual",
            "/followed",
            "/none",
            "/same",
            "/other",
            "/enterprise",
        ];
        paths.map(|path| gateway.get(path).status)
    };
    let gateway = Gateway::start(&file(&endpoints, json!({})));
    assert_eq!(statuses(&gateway), [200, 200, 302, 200, 307, 302]);
    assert_eq!(gateway.get("/none").header("location"), Some("/b"));
    let gateway = Gateway::start(&file(&endpoints, redirects("none")));
    assert_eq!(statuses(&gateway), [302, 200, 302, 200, 307, 302]);
}

#[test]
fn what_a_step_added_does_not_follow_a_redirect_to_another_origin() {
    let (stub, there) = redirecting();
    let mut endpoints = Vec::new();
    for encoding in ["no-op", "json"] {
        let mut endpoint = endpoint(&format!("/{encoding}"), "/away", &stub, encoding);
        endpoint["input_headers"] = json!(["X-Plain", "X-Api-Key", "X-Role", "Authorization"]);
        endpoint["extra_config"] = json!({ "auth/api-keys": { "roles": ["user"] } });
        endpoint["backend"][0]["extra_config"] = json!({ "modifier/martian": { "header.Modifier":
            { "scope": ["request"], "name": "X-Inside", "value": "hidden" } } });
        endpoints.push(endpoint);
    }
    let keys = json!({ "auth/api-keys": { "strategy": "header", "identifier": "X-Api-Key", "propagate_role": "X-Role",
        "keys": [{ "key": "k1", "roles": ["user"] }] } });
    let gateway = Gateway::start(&file(&endpoints, keys));
    for path in ["/no-op", "/json"] {
        let sent = [
            ("X-Plain", "1"),
            ("X-Api-Key", "k1"),
            ("Authorization", "Bearer x"),
        ];
        assert_eq!(gateway.get_with(path, &sent).status, 200);
        let first = stub.take_seen().pop().unwrap();
        for name in ["x-plain", "x-role", "x-inside", "authorization"] {
            assert!(
                first.header(name).is_some(),
                "{path}: the backend gets {name}"
            );
        }
        let second = there.take_seen().pop().unwrap();
        assert_eq!(second.header("x-plain"), Some("1"), "{path}");
        for name in [
            "x-api-key",
            "x-role",
            "x-inside",
            "authorization",
            "x-forwarded-for",
            "referer",
        ] {
            assert_eq!(second.header(name), None, "{path}: {name}");
        }
    }
}

#[test]
fn backends_are_called_through_the_proxy_of_the_environment() {
    let proxy = Stub::with(ANSWERS);
    let mut named = endpoint("/named", "/b", &proxy, "json");
    named["backend"][0]["host"] = json!(["http://backend.invalid:8000"]);
    let mut own = named.clone();
    own["endpoint"] = json!("/own");
    own["backend"][0]["extra_config"] =
        json!({ "backend/http/client": { "proxy_address": proxy.url() } });
    let near = endpoint("/near", "/near", &proxy, "no-op");
    let text = file(&[named, own, near], json!({}));
    let gateway = Gateway::start_in(&[("http_proxy", &proxy.url()), ("NO_PROXY", "")], &text);
    let reaches = |gateway: &Gateway, path: &str| {
        let status = gateway.get(path).status;
        (status, proxy.take_seen().pop().map(|seen| seen.path))
    };
    let through = (200, Some("http://backend.invalid:8000/b".to_owned()));
    assert_eq!(reaches(&gateway, "/named"), through);
    assert_eq!(reaches(&gateway, "/own"), through);
    let near = (200, Some("/near".to_owned()));
    assert_eq!(reaches(&gateway, "/near"), near, "never for this machine");
    let variables = [("HTTP_PROXY", &*proxy.url()), ("NO_PROXY", ".invalid")];
    let gateway = Gateway::start_in(&variables, &text);
    assert_eq!(reaches(&gateway, "/named"), (500, None));
    assert_eq!(reaches(&gateway, "/own"), through, "it has its own");
}

#[test]
fn a_proxy_that_is_none_stops_the_start_without_telling_its_password() {
    let stub = Stub::with(ANSWERS);
    let mut bad = endpoint("/a", "/a", &stub, "json");
    bad["backend"][0]["extra_config"] =
        json!({ "backend/http/client": { "proxy_address": "ftp://u:secret@proxy" } });
    let gateway = Gateway::spawn(
        crate::support::ports::free(),
        &file(&[bad], json!({})),
        &[],
        &[],
    );
    assert!(
        !gateway
            .wait(Duration::from_secs(20))
            .expect("it ends")
            .success()
    );
    let output = gateway.output();
    assert!(output.contains("proxy_address"), "{output}");
    assert!(!output.contains("secret"), "{output}");
}

/// A guard that lets nobody pass, and backends that tell what they were asked for.
fn guarded(stub: &Stub, public: &str, encoding: &str) -> Gateway {
    let keys = json!({ "auth/api-keys": { "keys": [{ "key": "k", "roles": ["r"] }] } });
    let mut admin = endpoint("/admin", "/admin", stub, encoding);
    let mut team = endpoint("/team/*", "/team/*", stub, encoding);
    for one in [&mut admin, &mut team] {
        one["extra_config"] = json!({ "auth/api-keys": { "roles": ["r"] } });
    }
    let public = endpoint(public, public, stub, encoding);
    Gateway::start(&file(&[public, admin, team], keys))
}

#[test]
fn no_spelling_of_a_guarded_path_reaches_a_backend() {
    let stub = Stub::with(ANSWERS);
    for (public, encoding) in [
        ("/*", "no-op"),
        ("/*", "json"),
        ("/{a}", "json"),
        ("/{a}/{b}", "json"),
    ] {
        let gateway = guarded(&stub, public, encoding);
        for path in [
            "/admin",
            "//admin",
            "/%61dmin",
            "/x/..;/admin",
            "/..;/admin",
            "/admin;/x",
            "/admin;a=b",
            "/;/admin",
            "/x%2f..%2fadmin",
            "/%2fadmin",
            "/x/%2e%2e/admin",
            "/x/%252e%252e/admin",
            "/x/..%3b/admin",
            "/x/%5c..%5cadmin",
            "/team/x",
            "//team/x",
            "/team;a/x",
            "/team;/x",
            "/x/..;/team/x",
            "/x/%C0%AE%C0%AE/admin",
        ] {
            let status = gateway.get(path).status;
            assert!(
                [301, 400, 401, 404].contains(&status),
                "{public} {path}: {status}"
            );
            assert_eq!(stub.take_seen().len(), 0, "{public} {path}");
        }
        let path = public
            .replace("{a}", "x")
            .replace("{b}", "y")
            .replace('*', "x/y");
        assert_eq!(gateway.get(&path).status, 200, "{public}");
        assert_eq!(stub.take_seen().pop().unwrap().path, path);
    }
}

#[test]
fn what_goes_to_a_backend_is_what_was_matched() {
    let stub = Stub::with(ANSWERS);
    let gateway = Gateway::start(&file(
        &[
            endpoint("/w/*", "/to/*", &stub, "no-op"),
            endpoint("/p/{x}", "/to/{x}", &stub, "json"),
            endpoint("/q/{x}?b=1", "/to/{x}", &stub, "json"),
        ],
        json!({}),
    ));
    for (path, to) in [
        ("/w//a///b", "/to/a/b"),
        ("/w/caf%E9/b;c=d", "/to/caf%E9/b;c=d"),
        ("/p/caf%E9", "/to/caf%E9"),
        ("/p/%FF", "/to/%FF"),
        ("/q/v", "/to/v"),
    ] {
        assert_eq!(gateway.get(path).status, 200, "{path}");
        assert_eq!(stub.take_seen().pop().unwrap().path, to, "{path}");
    }
}

#[test]
fn an_endpoints_own_cors_rules_hold_for_every_spelling_of_its_paths() {
    let stub = Stub::with(ANSWERS);
    let own = |origin: &str| json!({ "security/cors": { "allow_origins": [origin] } });
    let with = |path: &str, to: &str, origin: &str| {
        let mut one = endpoint(path, to, &stub, "json");
        one["extra_config"] = own(origin);
        one
    };
    let endpoints = [
        with("/admin", "/admin", "https://admin.example"),
        with("/a/{id}", "/a", "https://a.example"),
        with("/w/*", "/w/*", "https://w.example"),
        endpoint("/a/b", "/b", &stub, "json"),
    ];
    let gateway = Gateway::start(&file(&endpoints, own("https://all.example")));
    let allowed = |method: &str, path: &str, origin: &str| {
        let fields = [("Origin", origin), ("Access-Control-Request-Method", "GET")];
        let answer = match method {
            "OPTIONS" => gateway.send(method, request(method, path, &fields)),
            _ => gateway.get_with(path, &fields[..1]),
        };
        answer.header("access-control-allow-origin").is_some()
    };
    for (path, origin) in [
        ("/admin", "https://admin.example"),
        ("/%61dmin", "https://admin.example"),
        ("/a/7", "https://a.example"),
        ("/w/x/y", "https://w.example"),
        ("/w/", "https://w.example"),
        ("/a/b", "https://all.example"),
        ("/nowhere", "https://all.example"),
    ] {
        for method in ["OPTIONS", "GET"] {
            for other in [
                "https://admin.example",
                "https://a.example",
                "https://w.example",
                "https://all.example",
            ] {
                let fine = allowed(method, path, other);
                assert_eq!(fine, other == origin, "{method} {path} {other}");
            }
        }
    }
    // A preflight about a method that the endpoint has not.
    let fields = [
        ("Origin", "https://all.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let answer = gateway.send("OPTIONS", request("OPTIONS", "/a/7", &fields));
    assert!(answer.header("access-control-allow-origin").is_some());
}
