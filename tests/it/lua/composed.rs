//! Scripts of composed endpoints, and the language of scripts.

use super::*;

/// One endpoint for each pair of path and blocks: the endpoint's, and its backends with theirs.
pub(super) fn composed(url: &str, endpoints: &[(&str, Value, Value)]) -> Gateway {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(path, extra, backends)| {
            json!({ "endpoint": path, "extra_config": extra, "backend": backends, "cache_ttl": "60s" })
        })
        .collect();
    let mut file = json!({
        "version": 3, "host": [url], "timeout": "20s", "endpoints": endpoints,
        "extra_config": { "router": { "return_error_msg": true } }
    });
    for (path, encoding) in [("/string", "string"), ("/xml", "xml"), ("/yaml", "yaml")] {
        for endpoint in file["endpoints"].as_array_mut().unwrap() {
            if endpoint["endpoint"] == path {
                endpoint["output_encoding"] = encoding.into();
            }
        }
    }
    Gateway::start(&file.to_string())
}

pub(super) fn plain() -> Stub {
    Stub::with(
        &json!([
            { "path": "/base", "headers": { "Content-Type": "application/json" }, "body": { "id": 1 } },
            { "path": "/other", "headers": { "Content-Type": "application/json" }, "body": { "b": 2 } },
            { "path": "/empty", "headers": { "Content-Type": "application/json" }, "body": {} },
            { "path": "/s404", "status": 404, "headers": { "Content-Type": "text/plain" }, "body": "no" },
            { "echo": true, "headers": { "Content-Type": "application/json" } },
        ])
        .to_string(),
    )
}

#[test]
fn the_gateways_own_headers_have_one_value() {
    let stub = plain();
    let set = "local r = response.load() r:headers('X-Krakend', 'evil') r:headers('X-Krakend-Completed', 'no')";
    let script = |place: &str| json!({ place: { "post": set } });
    let modifier = |name: &str| json!({ "header.Append": { "scope": ["response"], "name": name, "value": "evil" } });
    let martian = json!({ "modifier/martian": { "fifo.Group": {
        "scope": ["response"],
        "modifiers": [modifier("X-Krakend"), modifier("X-Krakend-Completed")]
    } } });
    let add = json!({ "modifier/response-headers": {
        "add": { "X-Krakend": ["evil"], "X-Krakend-Completed": ["evil"] }
    } });
    let backend = |extra: Value| json!([{ "url_pattern": "/base", "extra_config": extra }]);
    let none = || json!({});
    let gateway = composed(
        &stub.url(),
        &[
            ("/proxy", script("modifier/lua-proxy"), backend(none())),
            (
                "/endpoint",
                script("modifier/lua-endpoint"),
                backend(none()),
            ),
            ("/backend", none(), backend(script("modifier/lua-backend"))),
            ("/martian", none(), backend(martian)),
            ("/add", add, backend(none())),
        ],
    );
    for path in ["/proxy", "/endpoint", "/backend", "/martian", "/add"] {
        let mut client = gateway.client();
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
            ))
            .unwrap();
        let response = String::from_utf8(client.rest().unwrap()).unwrap();
        let own = |name: &str| {
            let lines = response.lines().filter_map(|line| line.split_once(": "));
            let values = lines.filter(|(other, _)| other.eq_ignore_ascii_case(name));
            values.map(|(_, value)| value).collect::<Vec<_>>()
        };
        assert_eq!(own("x-krakend-completed"), ["true"], "{path}: {response}");
        let version = own("x-krakend");
        assert_eq!(version.len(), 1, "{path}: {response}");
        assert!(version[0].starts_with("Portcullis"), "{path}: {response}");
    }
}

#[test]
fn a_header_with_one_value_is_not_added_twice() {
    const NAMES: [&str; 8] = [
        "Content-Type",
        "Access-Control-Allow-Origin",
        "Access-Control-Allow-Credentials",
        "Date",
        "ETag",
        "X-Frame-Options",
        "X-Content-Type-Options",
        "X-Request-Id",
    ];
    let stub = plain();
    let script = NAMES
        .map(|name| format!("r:headers('{name}', 'evil') "))
        .concat();
    let script =
        json!({ "modifier/lua-proxy": { "post": format!("local r = response.load() {script}") } });
    let append = NAMES.map(
        |name| json!({ "header.Append": { "scope": ["response"], "name": name, "value": "evil" } }),
    );
    let martian = json!({ "modifier/martian": { "fifo.Group": { "scope": ["response"], "modifiers": append } } });
    let add: serde_json::Map<_, _> = NAMES
        .iter()
        .map(|name| ((*name).to_owned(), json!(["evil"])))
        .collect();
    let add = json!({ "modifier/response-headers": { "add": add } });
    let mut endpoints = Vec::new();
    for encoding in ["json", "no-op"] {
        for (name, endpoint, backend) in [
            ("script", &script, &json!({})),
            ("martian", &json!({}), &martian),
            ("add", &add, &json!({})),
        ] {
            endpoints.push(json!({
                "endpoint": format!("/{encoding}/{name}"), "output_encoding": encoding, "extra_config": endpoint,
                "backend": [{ "url_pattern": "/base", "encoding": encoding, "extra_config": backend }]
            }));
        }
    }
    let gateway = Gateway::start(
        &json!({
            "version": 3, "host": [stub.url()], "endpoints": endpoints,
            "extra_config": {
                "security/cors": { "allow_origins": ["http://o"], "allow_credentials": true },
                "security/http": { "frame_deny": true, "content_type_nosniff": true },
                "portcullis/request-id": {}
            }
        })
        .to_string(),
    );
    for endpoint in &endpoints {
        let path = endpoint["endpoint"].as_str().unwrap();
        let mut client = gateway.client();
        client
            .send(format!(
                "GET {path} HTTP/1.1\r\nHost: h\r\nOrigin: http://o\r\nConnection: close\r\n\r\n"
            ))
            .unwrap();
        let response = String::from_utf8(client.rest().unwrap()).unwrap();
        let head = response.split("\r\n\r\n").next().unwrap();
        let lines: Vec<_> = head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .collect();
        for name in NAMES.iter().chain(&["Content-Length", "Connection"]) {
            let values = lines
                .iter()
                .filter(|(other, _)| other.eq_ignore_ascii_case(name));
            assert!(values.count() <= 1, "{path}: {name}: {response}");
        }
        let origin = lines
            .iter()
            .find(|(name, _)| name.eq_ignore_ascii_case(NAMES[1]));
        assert_eq!(origin.unwrap().1, "http://o", "{path}");
    }
}

#[test]
fn headers_of_a_post_script_reach_the_client_with_composed_data() {
    let stub = plain();
    let set = "local r = response.load() r:headers('X-Post', 'v') r:headers('Set-Cookie', 'a=b') r:headers('Cache-Control', 'no-store') r:headers('Content-Length', '3')";
    let list =
        "local l = luaList.new() l:set(0, '1') l:set(1, '2') response.load():headerList('X-L', l)";
    let kind = "response.load():headers('Content-Type', 'application/vnd.api+json')";
    let proxy = |script: &str| json!({ "modifier/lua-proxy": { "post": script } });
    let backend = |script: &str| json!({ "url_pattern": "/base", "extra_config": { "modifier/lua-backend": { "post": script } } });
    let base = json!({ "url_pattern": "/base" });
    let gateway = composed(
        &stub.url(),
        &[
            ("/proxy", proxy(set), json!([base])),
            ("/backend", json!({}), json!([backend(set)])),
            (
                "/both",
                proxy("local r = response.load() r:headers('X-Seen', r:headers('X-Post'))"),
                json!([backend(set)]),
            ),
            (
                "/group",
                proxy(set),
                json!([base, { "url_pattern": "/other" }]),
            ),
            (
                "/merged",
                json!({}),
                json!([backend(set), { "url_pattern": "/other" }]),
            ),
            (
                "/alone",
                json!({}),
                json!([backend(set), { "url_pattern": "/s404" }]),
            ),
            ("/list", proxy(list), json!([base])),
            ("/type", proxy(kind), json!([base])),
            ("/yaml", proxy(kind), json!([base])),
            ("/xml", proxy(kind), json!([base])),
            ("/empty", proxy(set), json!([{ "url_pattern": "/empty" }])),
            (
                "/failed",
                proxy(&format!("{set} custom_error('no', 418)")),
                json!([base]),
            ),
            (
                "/none",
                proxy("response.load():headers('X-Post', nil)"),
                json!([base]),
            ),
        ],
    );
    for path in ["/proxy", "/backend", "/both", "/group", "/alone"] {
        let response = gateway.get(path);
        assert_eq!(response.header("x-post"), Some("v"), "{path}");
        assert_eq!(response.header("set-cookie"), Some("a=b"), "{path}");
        assert_eq!(response.header("cache-control"), Some("no-store"), "{path}");
        assert_eq!(response.json()["id"], 1, "{path}");
    }
    assert_eq!(gateway.get("/both").header("x-seen"), Some("v"));
    for path in ["/merged", "/empty", "/failed", "/none"] {
        assert_eq!(gateway.get(path).header("x-post"), None, "{path}");
    }
    let list = gateway.get("/list");
    let lines: Vec<&str> = list
        .headers
        .iter()
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-l"))
        .map(|(_, value)| &**value)
        .collect();
    assert_eq!(lines, ["1", "2"]);
    for (path, kind) in [
        ("/type", "application/vnd.api+json"),
        ("/yaml", "application/vnd.api+json"),
        ("/xml", "application/xml"),
    ] {
        assert_eq!(
            gateway.get(path).header("content-type"),
            Some(kind),
            "{path}"
        );
    }
}

#[test]
fn a_post_sees_the_call_that_was_made() {
    let stub = plain();
    let details = json!([{ "url_pattern": "/s404", "extra_config": { "backend/http": { "return_error_details": "x" } } }]);
    let status = "local r = response.load() r:data():set('seen', r:statusCode())";
    let path =
        "response.load():data():set('seen', request.load():path() .. ' ' .. request.load():url())";
    let both = json!({ "modifier/lua-proxy": { "pre": "request.load():headers('X-A', '1')", "post": path } });
    let only = json!({ "modifier/lua-proxy": { "post": path } });
    let decoded = "local r = request.load() r:headers('X-Path', r:path())";
    let gateway = composed(
        &stub.url(),
        &[
            (
                "/details",
                json!({ "modifier/lua-proxy": { "post": status } }),
                details,
            ),
            ("/only", only.clone(), json!([{ "url_pattern": "/base" }])),
            ("/both", both, json!([{ "url_pattern": "/base" }])),
            (
                "/group",
                only,
                json!([{ "url_pattern": "/base" }, { "url_pattern": "/other" }]),
            ),
            (
                "/d/{a}",
                json!({}),
                json!([{ "url_pattern": "/echo/{a}", "extra_config": { "modifier/lua-backend": { "pre": decoded } } }]),
            ),
        ],
    );
    assert_eq!(gateway.get("/details").json()["seen"], 404);
    let called = format!("/base {}/base", stub.url());
    for path in ["/only", "/both"] {
        assert_eq!(gateway.get(path).json()["seen"], *called, "{path}");
    }
    assert_eq!(gateway.get("/group").json()["seen"], "/group ");
    let seen = gateway.get("/d/a%7Cb").json();
    assert_eq!(seen["headers"]["x-path"], "/echo/a|b");
    assert_eq!(seen["path"], "/echo/a%7Cb");
}

#[test]
fn scripts_are_written_as_for_gopher_lua() {
    let stub = plain();
    let sets = |code: &str| json!({ "modifier/lua-proxy": { "post": format!("local d = response.load():data()\n{code}"), "allow_open_libs": true } });
    let base = json!([{ "url_pattern": "/base" }]);
    let cases = [
        (
            "for i = 1, 3 do if i == 2 then goto continue end d:set('k' .. i, i) ::continue:: end",
            json!({ "id": 1, "k1": 1, "k3": 3 }),
        ),
        (";; d:set('x', 1);; ;", json!({ "id": 1, "x": 1 })),
        (
            "local f = function(v) d:set('x', v) end\nf\n('y')",
            json!({ "id": 1, "x": "y" }),
        ),
        (
            "d:set('x', string.format('%s %s %d %s%%', nil, true, 7, 'a'))",
            json!({ "id": 1, "x": "nil true 7 a%" }),
        ),
        (
            "d:set('x', ('%5s|%-6s|'):format(nil, false))",
            json!({ "id": 1, "x": "  nil|false |" }),
        ),
        (
            "local t = setmetatable({}, { __len = function() return 42 end }) d:set('x', #t + #'ab' + #{1})",
            json!({ "id": 1, "x": 45 }),
        ),
        (
            "local f = loadstring('goto e; x = 1; ::e:: return 2;;') d:set('x', f())",
            json!({ "id": 1, "x": 2 }),
        ),
        (
            "d:set('x', { a = {}, b = { 1, nil, 3 }, c = { 'y' }, e = { 1, f = 2 } })",
            json!({ "id": 1, "x": { "a": null, "b": [1, 3], "c": ["y"], "e": { "1": 1, "f": 2 } } }),
        ),
        (
            "local t = { 3, 1, 2 } table.sort(t) table.insert(t, 1, 0) d:set('x', table.concat(t, ',', 1, 4) .. table.remove(t, 2))",
            json!({ "id": 1, "x": "0,1,2,31" }),
        ),
    ];
    let paths: Vec<String> = (0..cases.len()).map(|index| format!("/{index}")).collect();
    let endpoints: Vec<_> = cases
        .iter()
        .zip(&paths)
        .map(|((code, _), path)| (&**path, sets(code), base.clone()))
        .collect();
    let gateway = composed(&stub.url(), &endpoints);
    for ((code, expected), path) in cases.iter().zip(&paths) {
        let response = gateway.get(path);
        assert_eq!(response.status, 200, "{code}: {}", gateway.output());
        assert_eq!(response.json(), *expected, "{code}");
    }
}

#[test]
fn scripts_that_krakend_rejects_are_rejected() {
    let stub = plain();
    let base = json!([{ "url_pattern": "/base" }]);
    let host = |namespace: &str| json!({ namespace: { "pre": "request.load():headers('Host', 'h.lua')" } });
    let complete = |value: &str| json!({ "modifier/lua-proxy": { "post": format!("response.load():isComplete({value})") } });
    let gateway = composed(
        &stub.url(),
        &[
            (
                "/host",
                host("modifier/lua-proxy"),
                json!([{ "url_pattern": "/echo" }]),
            ),
            (
                "/call",
                json!({}),
                json!([{ "url_pattern": "/echo", "extra_config": host("modifier/lua-backend") }]),
            ),
            ("/text", complete("'x'"), base.clone()),
            ("/number", complete("1"), base.clone()),
            ("/false", complete("false"), base),
        ],
    );
    stub.take_seen();
    for path in ["/host", "/call"] {
        assert_eq!(gateway.get(path).status, 200);
        let seen = stub.take_seen();
        let host = stub.url().replace("http://", "");
        assert_eq!(seen[0].header("host"), Some(&*host), "{path}");
    }
    assert_eq!(gateway.get("/text").status, 500);
    assert_eq!(gateway.get("/number").status, 500);
    assert_eq!(
        gateway.get("/false").header("x-krakend-completed"),
        Some("false")
    );
}

/// The client sent five bytes, and none of them is passed on.
#[test]
fn a_script_removes_the_body_of_a_streamed_call() {
    let stub = echo();
    for block in [
        (
            json!({}),
            json!({ "modifier/lua-backend": { "pre": "request.load():body('')" } }),
        ),
        (
            json!({ "modifier/lua-proxy": { "pre": "request.load():body('')" } }),
            json!({}),
        ),
    ] {
        let gateway = Gateway::start(&config(&stub.url(), "no-op", block.0, block.1).to_string());
        let response = post(&gateway, "/m/7", "hello");
        assert_eq!(response.status, 200, "{}", gateway.output());
        assert_eq!(response.json()["body"], "");
    }
}

#[test]
fn an_unsupported_jump_stops_the_start_and_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    let script = "if x then goto a end\n::a::\nif y then goto a end";
    let file = config(
        "http://localhost:1",
        "json",
        json!({ "modifier/lua-proxy": { "pre": script } }),
        json!({}),
    );
    fs::write(&path, file.to_string()).unwrap();
    let output = crate::support::gateway::command()
        .args(["check", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8_lossy(&output.stdout).into_owned()
        + &String::from_utf8_lossy(&output.stderr);
    assert!(
        said.contains("jumps to 'a' both forward and backward (pre-script:L2)"),
        "{said}"
    );
}
