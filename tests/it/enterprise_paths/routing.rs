//! Rewrites, virtual hosts, wildcards, the endpoint for everything else, and inputs in URLs.

use super::*;
use crate::support::http::request;

/// A backend that says which path was called.
fn echo() -> Stub {
    Stub::with(r#"[{"headers": {"Content-Type": "application/json"}, "echo": true}]"#)
}

/// The last path and query that a backend saw.
fn seen(stub: &Stub) -> Option<String> {
    let last = stub.take_seen().pop()?;
    Some(match &*last.query {
        "" => format!("{} {}", last.method, last.path),
        query => format!("{} {}?{query}", last.method, last.path),
    })
}

/// A request to this host.
fn to_host(host: &str, method: &str, path: &str, headers: &[(&str, &str)]) -> String {
    request(method, path, headers).replacen("Host: 127.0.0.1", &format!("Host: {host}"), 1)
}

/// What a GET answers, and what the backend saw of it.
fn get(gateway: &Gateway, stub: &Stub, host: &str, path: &str) -> (u16, Option<String>) {
    let status = gateway.send("GET", to_host(host, "GET", path, &[])).status;
    (status, seen(stub))
}

fn called(target: &str) -> (u16, Option<String>) {
    (200, Some(format!("GET {target}")))
}

#[test]
fn a_rewritten_path_is_routed_and_guarded_like_a_requested_one() {
    let stub = echo();
    let mut guarded = endpoint("/admin/{id}", &stub.url(), "/a/{id}", "no-op");
    guarded["extra_config"] = json!({ "auth/api-keys": { "roles": ["x"] } });
    let mut open = endpoint("/users/{id}", &stub.url(), "/u/{id}", "no-op");
    open["input_query_strings"] = json!(["q", "kind"]);
    let text = file(
        &[guarded, open],
        json!({
            "auth/api-keys": { "keys": [{ "key": "k", "roles": ["x"] }] },
            "plugin/http-server": { "name": ["url-rewrite"], "url-rewrite": {
                "literal": { "/me": "/users/7?kind=own", "/secret": "/admin/7" },
                "regexp": [["^/user/(.*)$", "/users/${1}"], ["^/a/(.*)$", "/admin/${1}"]] } } }),
    );
    let gateway = Gateway::start(&text.to_string());
    let ask = |path: &str| get(&gateway, &stub, "h", path);
    assert_eq!(ask("/me?q=1&kind=other&x=2"), called("/u/7?kind=own&q=1"));
    assert_eq!(ask("/user/8?q=1"), called("/u/8?q=1"));
    assert_eq!(ask("/users/9"), called("/u/9"));
    for path in ["/secret", "/a/7", "/admin/7"] {
        assert_eq!(ask(path), (401, None), "{path}");
    }
    assert_eq!(
        gateway
            .get_with("/secret", &[("Authorization", "Bearer k")])
            .status,
        200
    );
    stub.take_seen();
    for path in [
        "/user/../admin/7",
        "/user/%2e%2e/admin/7",
        "/user/",
        "/user/a/b",
    ] {
        let (status, called) = ask(path);
        // A path with dot segments may be redirected to its own spelling, as without rewrites.
        assert!(
            (300..500).contains(&status) && called.is_none(),
            "{path}: {status}"
        );
    }
}

#[test]
fn a_virtual_host_has_its_own_endpoints_and_no_others() {
    let stub = echo();
    let mut own = endpoint("/__virtual/a.example/foo", &stub.url(), "/of-a", "no-op");
    own["extra_config"] = json!({ "security/cors": { "allow_origins": ["https://a.example"] } });
    let endpoints = [
        endpoint("/foo", &stub.url(), "/plain", "no-op"),
        endpoint("/only-plain", &stub.url(), "/plain", "no-op"),
        own,
        endpoint("/__virtual/a.example/bar/", &stub.url(), "/bar", "no-op"),
        endpoint(
            "/__virtual/b.example:8080/foo",
            &stub.url(),
            "/of-b",
            "no-op",
        ),
    ];
    let text = file(
        &endpoints,
        json!({
            "server/virtualhost": { "hosts": ["a.example", "b.example:8080"] },
            "security/cors": { "endpoints_only": true }
        }),
    );
    let gateway = Gateway::start(&text.to_string());
    let ask = |host: &str, path: &str| get(&gateway, &stub, host, path);
    assert_eq!(ask("a.example", "/foo"), called("/of-a"));
    assert_eq!(ask("A.EXAMPLE.:80", "/foo"), called("/of-a"));
    assert_eq!(ask("b.example:8080", "/foo"), called("/of-b"));
    assert_eq!(ask("b.example", "/foo"), called("/plain"));
    assert_eq!(ask("other", "/foo"), called("/plain"));
    assert_eq!(ask("a.example", "/only-plain"), (404, None));
    assert_eq!(ask("a.example", "/__health"), (200, None));
    // Nobody reaches the endpoints of a host by their own paths.
    for host in ["other", "a.example", "b.example"] {
        for path in [
            "/__virtual/a.example/foo",
            "/%5f%5fvirtual/a.example/foo",
            "/__virtual/b.example:8080/foo",
            "/__VIRTUAL/a.example/foo",
            "//__virtual/a.example/foo",
        ] {
            let (status, called) = ask(host, path);
            assert!(status == 404 && called.is_none(), "{host}{path}: {status}");
        }
        // Nor do they learn which exist.
        for path in [
            "/__virtual/b.example:8080/foo/",
            "//__virtual/b.example:8080/foo",
            "/__VIRTUAL/b.example:8080/nope",
        ] {
            assert_eq!(ask(host, path), (404, None), "{host}{path}");
        }
    }
    let post = to_host("a.example", "POST", "/foo", &[]);
    assert_eq!(gateway.send("POST", post).status, 405);
    // A redirect shows the path that the client knows.
    let slash = gateway.send("GET", to_host("a.example", "GET", "/bar", &[]));
    assert_eq!(
        (slash.status, slash.header("location")),
        (301, Some("/bar/"))
    );
    assert!(!slash.text().contains("__virtual"), "{}", slash.text());
    let cors = [("Origin", "https://a.example")];
    let allowed = gateway.send("GET", to_host("a.example", "GET", "/foo", &cors));
    assert_eq!(
        allowed.header("access-control-allow-origin"),
        Some("https://a.example")
    );
    crate::support::eventually("a line", std::time::Duration::from_secs(20), || {
        gateway.output().contains("\"/foo\"")
    });
    let log = gateway.output();
    assert!(!log.contains("\"/__virtual/a.example/bar\""), "{log}");
}

#[test]
fn hosts_may_have_short_names() {
    let stub = echo();
    let one = endpoint("/__virtual/users/foo", &stub.url(), "/of-users", "no-op");
    let unreachable = endpoint("/__virtual/nobody/foo", &stub.url(), "/x", "no-op");
    let block = json!({ "aliased_hosts": { "users": "users.example" } });
    let text = file(&[one, unreachable], json!({ "server/virtualhost": block }));
    let gateway = Gateway::start(&text.to_string());
    assert_eq!(
        get(&gateway, &stub, "users.example", "/foo"),
        called("/of-users")
    );
    assert!(
        gateway
            .output()
            .contains("no request reaches /__virtual/nobody/foo")
    );
}

#[test]
fn wildcards_go_to_their_endpoint_with_the_rest_of_the_path() {
    let stub = echo();
    let endpoints = [
        endpoint("/__wildcard/foo", &stub.url(), "/to", "no-op"),
        endpoint("/foobar", &stub.url(), "/plain", "no-op"),
    ];
    let block = json!({ "endpoints": { "/__wildcard/foo": ["/foo", "/aliases/foo"] } });
    let text = file(
        &endpoints,
        json!({ "plugin/http-server": { "name": ["wildcard"], "wildcard": block } }),
    );
    let gateway = Gateway::start(&text.to_string());
    let ask = |path: &str| get(&gateway, &stub, "h", path);
    assert_eq!(ask("/foo/a/b"), called("/to/a/b"));
    assert_eq!(ask("/foo"), called("/to/"));
    assert_eq!(ask("/aliases/foo/x"), called("/to/x"));
    assert_eq!(ask("/foobar"), called("/plain"));
    for path in [
        "/__wildcard/foo/x",
        "/__wildcard/foo",
        "/__WILDCARD/foo",
        "/__wildcard/no",
    ] {
        assert_eq!(ask(path), (404, None), "{path}");
    }
    assert_eq!(ask("/foo/../x").0, 404);
    let missing = file(
        &[],
        json!({ "portcullis/wildcard": { "endpoints": { "/__wildcard/x": ["/x"] } } }),
    );
    is_rejected(&missing, &[], "there is no endpoint");
}

#[test]
fn the_part_that_a_wildcard_matched_is_appended_to_the_url() {
    let stub = echo();
    let endpoints = [
        endpoint("/a/*", &stub.url(), "/", "no-op"),
        endpoint("/b/*", &stub.url(), "/to", "no-op"),
        endpoint("/c/*", &stub.url(), "/to/*", "no-op"),
    ];
    let gateway = Gateway::start(&file(&endpoints, json!({})).to_string());
    let ask = |path: &str| get(&gateway, &stub, "h", path);
    assert_eq!(ask("/a/x/y"), called("/x/y"));
    assert_eq!(ask("/b/x/y"), called("/to/x/y"));
    assert_eq!(ask("/c/x/y"), called("/to/x/y"));
}

#[test]
fn one_endpoint_handles_everything_else() {
    let stub = echo();
    let endpoints = [
        endpoint("/known", &stub.url(), "/plain", "no-op"),
        endpoint("/__catchall", &stub.url(), "/rest", "json"),
    ];
    let gateway = Gateway::start(&file(&endpoints, json!({})).to_string());
    let ask = |path: &str| get(&gateway, &stub, "h", path);
    assert_eq!(ask("/known"), called("/plain"));
    assert_eq!(ask("/a/b%20c?x=1&y=2"), called("/rest/a/b%20c?x=1&y=2"));
    assert_eq!(ask("/"), called("/rest/"));
    for method in [
        "POST", "PUT", "DELETE", "PATCH", "PROPFIND", "REPORT", "MKCOL", "LOCK", "PURGE", "QUERY",
    ] {
        let response = gateway.send(method, request(method, "/known", &[("X-Any", "1")]));
        let last = stub.take_seen().pop().unwrap();
        assert_eq!(
            (response.status, &*last.method, &*last.path),
            (200, method, "/rest/known")
        );
        assert_eq!(last.header("x-any"), Some("1"), "all headers pass");
    }
    for path in [
        "/__catchall",
        "/__debug/x",
        "/__anything",
        "/../x",
        "/%2e%2e/x",
        "/a%2fb",
    ] {
        let (status, called) = ask(path);
        assert!(
            matches!(status, 301 | 404) && called.is_none(),
            "{path}: {status}"
        );
    }
    assert_eq!(gateway.get("/__health").status, 200);
    assert_eq!(gateway.get("/__ready").status, 200);
    for method in ["TRACE", "CONNECT"] {
        let status = gateway.send(method, request(method, "/known", &[])).status;
        assert!(
            status >= 400 && stub.take_seen().is_empty(),
            "{method} {status}"
        );
    }
    gateway.tells("/__catchall is always");
    // The lists of the file count, and so do its guards.
    let mut closed = endpoint("/__catchall", &stub.url(), "/", "no-op");
    closed["input_headers"] = json!(["X-Listed"]);
    closed["extra_config"] =
        json!({ "qos/ratelimit/router": { "max_rate": 1, "capacity": 1, "every": "1h" } });
    let gateway = Gateway::start(&file(&[closed], json!({})).to_string());
    let response = gateway.get_with("/x", &[("X-Listed", "1"), ("X-Other", "1")]);
    assert_eq!(response.status, 200);
    let last = stub.take_seen().pop().unwrap();
    assert_eq!(
        (last.header("x-listed"), last.header("x-other")),
        (Some("1"), None)
    );
    assert_eq!(gateway.send("POST", request("POST", "/y", &[])).status, 503);
}

#[test]
fn headers_and_query_parameters_can_be_used_in_the_url_of_a_backend() {
    let stub = echo();
    let one = endpoint(
        "/a/{id}",
        &stub.url(),
        "/{input_headers.X-Tenant}/{id}?lang={input_query_strings.lang}",
        "no-op",
    );
    let gateway = Gateway::start(&file(&[one], json!({})).to_string());
    let ask = |path: &str, headers: &[(&str, &str)]| {
        let status = gateway.get_with(path, headers).status;
        (status, seen(&stub))
    };
    let tenant = [("x-tenant", "acme co")];
    assert_eq!(ask("/a/7?lang=de", &tenant), called("/acme%20co/7?lang=de"));
    assert_eq!(
        ask("/a/7?lang=a%26b", &tenant),
        called("/acme%20co/7?lang=a%26b")
    );
    assert_eq!(ask("/a/7?lang=a/b", &tenant).0, 200);
    for (path, headers) in [
        ("/a/7?lang=de", vec![]),
        ("/a/7", tenant.to_vec()),
        ("/a/7?lang=", tenant.to_vec()),
        ("/a/7?lang=a&lang=b", tenant.to_vec()),
        ("/a/7?lang=a%00", tenant.to_vec()),
        ("/a/7?lang=de", vec![("X-Tenant", "")]),
        ("/a/7?lang=de", vec![("X-Tenant", "..")]),
        ("/a/7?lang=de", vec![("X-Tenant", "..;a")]),
        ("/a/7?lang=de", vec![("X-Tenant", "a/b")]),
        ("/a/7?lang=de", vec![("X-Tenant", "%2e%2e")]),
        ("/a/7?lang=de", vec![("X-Tenant", "a"), ("X-Tenant", "b")]),
    ] {
        assert_eq!(ask(path, &headers), (400, None), "{path} {headers:?}");
    }
}

#[test]
fn the_next_backend_is_called_when_one_fails() {
    let good = Stub::with(
        r#"[{"path": "/bad", "status": 500}, {"headers": {"Content-Type": "application/json"}, "body": {"good": true}}]"#,
    );
    let dead = "http://127.0.0.1:1";
    let fallback = |path: &str, backends: Value| {
        json!({ "endpoint": path, "timeout": "10s", "backend": backends,
            "extra_config": { "proxy": { "strategy": "fallback" } } })
    };
    let to = |host: &str, path: &str| json!({ "host": [host], "url_pattern": path });
    let url = good.url();
    let endpoints = [
        fallback("/first", json!([to(&url, "/a"), to(&url, "/never")])),
        fallback("/second", json!([to(dead, "/a"), to(&url, "/b")])),
        fallback(
            "/third",
            json!([to(dead, "/a"), to(&url, "/bad"), to(&url, "/c")]),
        ),
        fallback("/none", json!([to(dead, "/a"), to(&url, "/bad")])),
    ];
    let mut text = file(&endpoints, json!({}));
    text["version"] = json!(4);
    let gateway = Gateway::start(&text.to_string());
    for (path, status, calls) in [
        ("/first", 200, vec!["/a"]),
        ("/second", 200, vec!["/b"]),
        ("/third", 200, vec!["/bad", "/c"]),
        ("/none", 500, vec!["/bad"]),
    ] {
        let response = gateway.get(path);
        assert_eq!(response.status, status, "{path}");
        let seen = good.take_seen();
        let paths: Vec<&str> = seen.iter().map(|seen| &*seen.path).collect();
        assert_eq!(paths, calls, "{path}");
        if status == 200 {
            assert_eq!(response.text(), r#"{"good":true}"#);
            assert_eq!(response.header("x-krakend-completed"), Some("true"));
        }
    }
    gateway.tells("the next one is called");
    let mut posted = fallback("/post", json!([to(&url, "/a"), to(&url, "/b")]));
    posted["method"] = json!("POST");
    let mut text = file(&[posted], json!({}));
    text["version"] = json!(4);
    is_rejected(&text, &[], "could make a POST twice");
}

#[test]
fn an_endpoint_has_security_headers_of_its_own() {
    let stub = echo();
    let mut own = endpoint("/own", &stub.url(), "/", "no-op");
    own["extra_config"] = json!({ "security/http": {
        "custom_frame_options_value": "SAMEORIGIN", "referrer_policy": "same-origin" } });
    let usual = endpoint("/usual", &stub.url(), "/", "no-op");
    let text = file(
        &[own.clone(), usual],
        json!({ "security/http": { "frame_deny": true, "content_type_nosniff": true } }),
    );
    let gateway = Gateway::start(&text.to_string());
    let fields = |path: &str| {
        let response = gateway.get(path);
        [
            "x-frame-options",
            "referrer-policy",
            "x-content-type-options",
        ]
        .map(|name| response.header(name).map(str::to_owned))
    };
    let owned = |text: &str| Some(text.to_owned());
    assert_eq!(
        fields("/own"),
        [owned("SAMEORIGIN"), owned("same-origin"), owned("nosniff")]
    );
    assert_eq!(fields("/usual"), [owned("DENY"), None, owned("nosniff")]);
    for key in ["ssl_redirect", "allowed_hosts"] {
        let mut one = own.clone();
        one["extra_config"]["security/http"][key] = match key {
            "ssl_redirect" => json!(true),
            _ => json!(["a"]),
        };
        is_rejected(
            &file(&[one], json!({})),
            &[],
            "has no effect in an endpoint",
        );
    }
}

#[test]
fn endpoints_that_a_rewrite_or_a_wildcard_covers_give_a_warning_with_their_guards() {
    let filter = json!({ "security/ip-filter": { "CIDR": ["203.0.113.7"], "allow": true } });
    let guarded = |path: &str| {
        let mut guarded = endpoint(path, "http://localhost:1", "/x", "no-op");
        guarded["extra_config"] = filter.clone();
        guarded
    };
    let plain = |path: &str| endpoint(path, "http://localhost:1", "/x", "no-op");
    let wildcard = json!({ "plugin/http-server": { "name": ["wildcard"],
        "wildcard": { "endpoints": { "/__wildcard/foo": ["/foo"] } } } });
    let rewrite = json!({ "portcullis/url-rewrite": {
        "literal": { "/foo/admin": "/other" }, "regexp": [["^/bar/(.*)$", "/other/${1}"]] } });
    let site = json!({ "server/static-filesystem": { "prefix": "/foo", "path": "site" } });
    for (extra, path, expected) in [
        (
            &wildcard,
            "/foo/admin",
            Some(
                "/foo/admin cannot be reached: requests go to /__wildcard/foo, which its \"security/ip-filter\" does not guard",
            ),
        ),
        (&wildcard, "/foo", Some("/foo cannot be reached")),
        (&wildcard, "/foo/{id}", Some("/foo/{id} may not be reached")),
        (&wildcard, "/foobar", None),
        (
            &wildcard,
            "/{a}/x",
            Some(
                "/{a}/x may not be reached: requests go to /__wildcard/foo, which its \"security/ip-filter\" does not guard",
            ),
        ),
        (
            &wildcard,
            "/*",
            Some("/* may not be reached: requests go to /__wildcard/foo, which"),
        ),
        (&wildcard, "/{a}", Some("/{a} may not be reached")),
        (&wildcard, "/bar/{a}", None),
        (
            &rewrite,
            "/foo/{a}",
            Some("/foo/{a} may not be reached: requests go to /other, which"),
        ),
        (&rewrite, "/{a}/{b}/{c}", None),
        (
            &rewrite,
            "/foo/admin",
            Some("/foo/admin cannot be reached: requests go to /other, which"),
        ),
        (
            &rewrite,
            "/bar/{id}",
            Some("/bar/{id} may not be reached: requests go to /other/x, which"),
        ),
        (&rewrite, "/foo/admins", None),
        (
            &site,
            "/foo/admin",
            Some("a file is served at this path, which its \"security/ip-filter\""),
        ),
    ] {
        let endpoints = [
            plain("/__wildcard/foo"),
            plain("/other"),
            plain("/other/{x}"),
            guarded(path),
        ];
        let first = usize::from(extra != &wildcard);
        let (code, messages) = checked(
            &file(&endpoints[first..], extra.clone()),
            &[("site/a.txt", "a")],
        );
        assert_eq!(code, Some(0), "{path}: {messages}");
        match expected {
            Some(expected) => assert!(messages.contains(expected), "{path}: {messages}"),
            None => assert!(!messages.contains("be reached"), "{path}: {messages}"),
        }
    }
}
