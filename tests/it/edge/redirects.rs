//! Redirects of backends, and proxies between the gateway and backends.

use super::*;

/// A backend that redirects all requests, and the target of the redirects.
pub(super) fn redirecting() -> (Stub, Stub) {
    let there = Stub::with(RESPONSES);
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
fn headers_of_a_step_do_not_follow_a_redirect_to_another_origin() {
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

/// Headers with names that say nothing: only the file says that they are credentials.
#[test]
fn credentials_that_a_step_checked_do_not_follow_a_redirect_to_another_origin() {
    let (stub, there) = redirecting();
    let mut endpoints = Vec::new();
    for (path, listed) in [
        ("/listed", json!(["X-Plain", "X-Door"])),
        ("/all", json!(["*"])),
    ] {
        let mut endpoint = endpoint(path, "/away", &stub, "no-op");
        endpoint["input_headers"] = listed;
        endpoint["extra_config"] = json!({ "auth/api-keys": { "roles": ["user"] } });
        endpoints.push(endpoint);
    }
    let keys = json!({ "auth/api-keys": { "identifier": "X-Door", "keys": [{ "key": "k1", "roles": ["user"] }] } });
    let gateway = Gateway::start(&file(&endpoints, keys));
    for path in ["/listed", "/all"] {
        let sent = [("X-Plain", "1"), ("X-Door", "k1")];
        assert_eq!(gateway.get_with(path, &sent).status, 200);
        let first = stub.take_seen().pop().unwrap();
        assert_eq!(first.header("x-door"), Some("k1"), "{path}");
        let second = there.take_seen().pop().unwrap();
        assert_eq!(second.header("x-plain"), Some("1"), "{path}");
        assert_eq!(second.header("x-door"), None, "{path}");
    }
}

/// A client may send its key or token to every endpoint.
#[test]
fn credentials_that_another_endpoint_checks_do_not_follow_a_redirect_to_another_origin() {
    let (stub, there) = redirecting();
    let mut open = endpoint("/open", "/away", &stub, "no-op");
    open["input_headers"] = json!(["*"]);
    let mut listed = endpoint("/listed", "/away", &stub, "json");
    listed["input_headers"] = json!(["X-Plain", "X-Door", "X-Badge"]);
    let mut checked = endpoint("/checked", "/b", &stub, "json");
    checked["extra_config"] = json!({ "auth/validator": { "alg": "ES256", "auth_header_name": "X-Badge",
        "jwk_url": format!("{}/b", stub.url()), "disable_jwk_security": true } });
    let keys = json!({ "auth/api-keys": { "identifier": "X-Door", "keys": [{ "key": "k1", "roles": ["user"] }] } });
    let gateway = Gateway::start(&file(&[open, listed, checked], keys));
    for path in ["/open", "/listed"] {
        let sent = [
            ("X-Plain", "1"),
            ("X-Door", "k1"),
            ("X_Door", "k1"),
            ("X-Badge", "t"),
        ];
        assert_eq!(gateway.get_with(path, &sent).status, 200);
        let calls = stub.take_seen();
        let first = calls.iter().find(|call| call.path == "/away").unwrap();
        assert_eq!(first.header("x-door"), Some("k1"), "{path}");
        assert_eq!(first.header("x-badge"), Some("t"), "{path}");
        let second = there.take_seen().pop().unwrap();
        assert_eq!(second.header("x-plain"), Some("1"), "{path}");
        for name in ["x-door", "x_door", "x-badge"] {
            assert_eq!(second.header(name), None, "{path}: {name}");
        }
    }
}

#[test]
fn backends_are_called_through_the_proxy_of_the_environment() {
    let proxy = Stub::with(RESPONSES);
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
fn an_invalid_proxy_stops_the_start_without_showing_its_password() {
    let stub = Stub::with(RESPONSES);
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
            .wait(Duration::from_secs(30))
            .expect("it ends")
            .success()
    );
    gateway.tells("proxy_address");
    let output = gateway.output();
    assert!(!output.contains("secret"), "{output}");
}
