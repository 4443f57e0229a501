//! No spelling of a path gets around a rule.

use super::*;

#[test]
fn wildcards_match_what_no_other_route_does_and_forward_it_unchanged() {
    let stub = Stub::with(RESPONSES);
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

/// A guard that rejects everything, and backends that respond with the request that they got.
pub(super) fn guarded(stub: &Stub, public: &str, encoding: &str) -> Gateway {
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
    let stub = Stub::with(RESPONSES);
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
fn the_backend_gets_the_path_that_was_matched() {
    let stub = Stub::with(RESPONSES);
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
    let stub = Stub::with(RESPONSES);
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
        let response = match method {
            "OPTIONS" => gateway.send(method, request(method, path, &fields)),
            _ => gateway.get_with(path, &fields[..1]),
        };
        response.header("access-control-allow-origin").is_some()
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
    // A preflight request for a method that the endpoint does not have.
    let fields = [
        ("Origin", "https://all.example"),
        ("Access-Control-Request-Method", "POST"),
    ];
    let response = gateway.send("OPTIONS", request("OPTIONS", "/a/7", &fields));
    assert!(response.header("access-control-allow-origin").is_some());
}
