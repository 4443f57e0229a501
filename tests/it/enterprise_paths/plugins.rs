//! Names of plugins that are built in.

use super::*;

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
fn an_unknown_plugin_stops_the_start_with_what_to_write_instead() {
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
    starts(&text, &[], "is ignored, as \"portcullis/compat\" says");
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
