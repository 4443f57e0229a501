//! Names of plugins that are built in.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::*;
use crate::support::http::request;
use crate::support::{Signer, tokens};

#[test]
fn client_plugins_work_as_their_blocks_do() {
    let stub = Stub::with(
        r#"[{"path": "/here", "status": 302, "headers": {"Location": "/b"}}, {"body": "ok"}]"#,
    );
    let proxy = Stub::with(r#"[{"body": "by the proxy"}]"#);
    let with = |path: &str, host: &str, namespace: &str, block: Value| {
        let mut one = endpoint(path, host, "/here", "no-op");
        one["backend"][0]["extra_config"] = json!({ namespace: block });
        one
    };
    let far = "http://backend.invalid:8000";
    let new = "plugin/http-client";
    let old = "github.com/devopsfaith/krakend/transport/http/client/executor";
    let endpoints = [
        with(
            "/usual",
            &stub.url(),
            "@plugin/http-client",
            json!({ "name": "no-redirect" }),
        ),
        with("/3", &stub.url(), new, json!({ "name": "no-redirect" })),
        with(
            "/4",
            &stub.url(),
            new,
            json!({ "plugins": [{ "name": "no-redirect", "config": {} }] }),
        ),
        with(
            "/1",
            &stub.url(),
            old,
            json!({ "name": "krakend-no-redirect" }),
        ),
        with(
            "/proxy",
            far,
            new,
            json!({ "name": "http-proxy", "http-proxy": { "proxy_address": proxy.url() } }),
        ),
        with(
            "/beside",
            far,
            new,
            json!({ "name": "http-proxy", "proxy_address": proxy.url() }),
        ),
        with("/wildcard", &stub.url(), new, json!({ "name": "wildcard" })),
    ];
    for version in [3, 4] {
        let mut text = file(&endpoints, json!({}));
        text["version"] = json!(version);
        let gateway = Gateway::start(&text.to_string());
        for (path, status) in [
            ("/usual", 200),
            ("/3", 302),
            ("/4", 302),
            ("/1", 302),
            ("/proxy", 200),
            ("/beside", 200),
            ("/wildcard", 200),
        ] {
            assert_eq!(gateway.get(path).status, status, "{version} {path}");
        }
        assert_eq!(gateway.get("/proxy").text(), "by the proxy");
    }
}

#[test]
fn an_unknown_plugin_stops_the_start_with_a_hint() {
    let mut one = endpoint("/a", "http://localhost:1", "/", "no-op");
    one["extra_config"] = json!({ "plugin/req-resp-modifier": {
        "name": ["my-header-rewriter"], "my-header-rewriter": {} } });
    let mut text = file(&[one], json!({}));
    is_rejected(
        &text,
        &[],
        "the plugin \"my-header-rewriter\" is not built in",
    );
    is_rejected(&text, &[], "modifier/martian");
    text["extra_config"] =
        json!({ "portcullis/compat": { "ignore_plugins": ["my-header-rewriter"] } });
    starts(
        &text,
        &[],
        "is ignored, because \"portcullis/compat\" lists it",
    );
    // The hint of the file's version 4 and of `check --compat`.
    text["plugin"] = json!({ "folder": "./plugins", "pattern": ".so" });
    starts(
        &text,
        &[("plugins/x.so", "")],
        "x.so: Go plugins (.so) cannot be loaded",
    );
}

#[test]
fn an_error_in_a_plugins_block_names_its_place_in_the_file() {
    let mut one = endpoint("/a", "http://localhost:1", "/", "no-op");
    one["backend"][0]["extra_config"] = json!({ "plugin/http-client": {
        "name": "http-proxy", "http-proxy": { "proxy_address": "nowhere" } } });
    is_rejected(
        &file(&[one], json!({})),
        &[],
        "/endpoints/0/backend/0/extra_config/plugin~1http-client/http-proxy",
    );
}

#[test]
fn the_password_plugin_guards_everything_but_the_health_endpoint() {
    let stub = Stub::with(r#"[{"body": "ok"}]"#);
    let mut text = file(
        &[
            endpoint("/a", &stub.url(), "/", "no-op"),
            endpoint("/p/{id}", &stub.url(), "/{id}", "no-op"),
        ],
        json!({
            "plugin/http-server": { "name": ["basic-auth"], "basic-auth": { "htpasswd_path": "secret/users" } },
            "server/static-filesystem": { "prefix": "/s", "path": "site" }
        }),
    );
    (text["debug_endpoint"], text["echo_endpoint"]) = (json!(true), json!(true));
    let users = format!("ada:{}\n", bcrypt::hash("geheim", 4).unwrap());
    let files = [("secret/users", &*users), ("site/a.txt", "file")];
    let basic = |credentials: &str| format!("Basic {}", STANDARD.encode(credentials));
    let gateway = Gateway::start_with(&text.to_string(), &files);
    // A redirect or an invalid parameter would tell which endpoints exist.
    let others = [
        "/A",
        "/a/",
        "//a",
        "/S",
        "/s",
        "/p/x%2Fy",
        "/__debug",
        "/__debug/x",
        "/__echo/x",
    ];
    for path in ["/a", "/s/a.txt", "/nowhere"].into_iter().chain(others) {
        let refused = gateway.get(path);
        assert_eq!(refused.status, 401, "{path}");
        let asked = refused.header("www-authenticate").unwrap_or_default();
        assert!(asked.starts_with("Basic "), "{path}: {asked}");
        let wrong = gateway.get_with(path, &[("Authorization", &basic("ada:wrong"))]);
        assert_eq!(wrong.status, 401, "{path}");
    }
    for request in [
        "DELETE /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS /a HTTP/1.1\r\nHost: x\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
        "GET /a HTTP/1.1\r\nHost: x\r\nExpect: magic\r\n\r\n",
    ] {
        assert_eq!(gateway.send("GET", request).status, 401, "{request}");
    }
    assert!(stub.take_seen().is_empty());
    let right = basic("ada:geheim");
    let passing = [
        ("/a", 200),
        ("/s/a.txt", 200),
        ("/nowhere", 404),
        ("/A", 301),
        ("//a", 301),
        ("/a/", 301),
    ];
    for (path, status) in passing {
        let passed = gateway.get_with(path, &[("Authorization", &right)]);
        assert_eq!(passed.status, status, "{path}");
    }
    assert_eq!(gateway.get("/__health").status, 200);
    let nobody = file(
        &[],
        json!({ "plugin/http-server": { "name": ["basic-auth"], "basic-auth": {} } }),
    );
    is_rejected(&nobody, &[], "there are no users");
}

#[test]
fn several_key_sets_are_one_and_one_of_them_may_fail() {
    let signers = [Signer::es256("a"), Signer::es256("b"), Signer::es256("c")];
    let serving = |signer: &Signer| {
        let document: Value = serde_json::from_str(&signer.jwks()).unwrap();
        let answer =
            json!([{ "headers": { "Content-Type": "application/json" }, "body": document }]);
        Stub::with(&answer.to_string())
    };
    let (one, two) = (serving(&signers[0]), serving(&signers[1]));
    let broken = Stub::with(r#"[{"status": 500, "body": "no"}]"#);
    let backend = Stub::with(r#"[{"body": "ok"}]"#);
    let mut guarded = endpoint("/a", &backend.url(), "/", "no-op");
    guarded["extra_config"] = json!({ "auth/validator": {
        "alg": "ES256", "jwk_url": "http://localhost:9876", "disable_jwk_security": true, "cache": true } });
    let origins = [one.url(), broken.url(), two.url()];
    let metrics = crate::support::ports::free();
    let block = json!({ "port": 9876, "cache": true, "origins": origins });
    let mut text = file(
        &[guarded],
        json!({ "plugin/http-server": { "name": ["jwk-aggregator"], "jwk-aggregator": block },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{metrics}") } }),
    );
    let gateway = Gateway::start(&text.to_string());
    let ask = |signer: &Signer| {
        let token = format!("Bearer {}", signer.token(&tokens::claims("api")));
        gateway.get_with("/a", &[("Authorization", &token)]).status
    };
    assert_eq!(signers.each_ref().map(ask), [200, 200, 401]);
    // The metrics say which origin has no keys.
    let mut client = crate::support::Client::connect(metrics).unwrap();
    client.send(request("GET", "/metrics", &[])).unwrap();
    let page = client.response("GET").unwrap().text();
    for (origin, keys) in origins.iter().zip([1, 0, 1]) {
        let line = format!("portcullis_jwks_keys{{source=\"{origin}\"}} {keys}\n");
        assert!(page.contains(&line), "{line}{page}");
    }
    assert_eq!(page.matches("portcullis_jwks_keys{").count(), 3);
    let failed = format!(
        "portcullis_jwks_fetch_errors_total{{source=\"{}\"}}",
        origins[1]
    );
    assert!(page.contains(&failed), "{page}");
    drop(client);
    gateway.tells("any issuer");
    // Without the flag, keys over http close the endpoint.
    text["endpoints"][0]["extra_config"]["auth/validator"]["disable_jwk_security"] = json!(false);
    text["extra_config"]["portcullis/metrics"] = json!({ "listen": "127.0.0.1:0" });
    let gateway = Gateway::start(&text.to_string());
    let token = format!("Bearer {}", signers[0].token(&tokens::claims("api")));
    let closed = gateway.get_with("/a", &[("Authorization", &token)]);
    assert!(closed.status >= 400, "{}", closed.status);
}
