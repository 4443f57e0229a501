//! Lua scripts over real sockets: streamed endpoints, their own calls, scripts that do not end, reload.

mod calls;
mod composed;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Gateway, Stub, Upstream, eventually};

/// One endpoint `/m/{id}` for any method; `extra` is its `extra_config`, `backend_extra` the backend's.
fn config(url: &str, encoding: &str, extra: Value, backend_extra: Value) -> Value {
    json!({
        "version": 3,
        "timeout": "20s",
        "extra_config": { "router": { "return_error_msg": true } },
        "endpoints": [{
            "endpoint": "/m/{id}",
            "method": "POST",
            "output_encoding": encoding,
            "input_headers": ["Content-Type", "X-Lua", "Content-Length"],
            "extra_config": extra,
            "backend": [{
                "host": [url], "url_pattern": "/u/{id}", "method": "POST", "encoding": encoding,
                "extra_config": backend_extra
            }]
        }]
    })
}

fn post(gateway: &Gateway, path: &str, body: &str) -> crate::support::Response {
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    gateway.send("POST", head + body)
}

fn echo() -> Stub {
    Stub::with(
        r#"[{"echo": true, "headers": {"Content-Type": "application/json", "X-From": "backend"}}]"#,
    )
}

#[test]
fn a_header_that_a_script_sets_has_no_twin_of_the_client() {
    let stub = echo();
    let set = "r:headers('X-User', 'ada') r:headers('X-Gone', nil)";
    let endpoint = |place: &str, encoding: &str| {
        let script =
            |load: &str| json!({ place: { "pre": format!("local r = {load}.load() {set}") } });
        let (around, within) = match place {
            "modifier/lua-endpoint" => (script("ctx"), json!({})),
            "modifier/lua-proxy" => (script("request"), json!({})),
            _ => (json!({}), script("request")),
        };
        let path = format!("/{}/{encoding}", place.replace('/', "-"));
        let file = json!({ "endpoint": path, "input_headers": ["*"], "output_encoding": encoding,
            "extra_config": around,
            "backend": [{ "host": [stub.url()], "url_pattern": "/u", "encoding": encoding,
                "extra_config": within }] });
        (path, file)
    };
    let (paths, endpoints): (Vec<String>, Vec<Value>) = [
        "modifier/lua-endpoint",
        "modifier/lua-proxy",
        "modifier/lua-backend",
    ]
    .into_iter()
    .flat_map(|place| ["json", "no-op"].map(|encoding| endpoint(place, encoding)))
    .unzip();
    let gateway = Gateway::start(&json!({ "version": 3, "endpoints": endpoints }).to_string());
    let forged = [
        ("x_user", "eve"),
        ("X.User", "eve"),
        ("X-User", "eve"),
        ("X_Gone", "eve"),
        ("X-Users", "kept"),
    ];
    for path in paths {
        assert_eq!(
            gateway.get_with(&path, &forged).status,
            200,
            "{}",
            gateway.output()
        );
        let seen = stub.take_seen();
        for (name, value) in [
            ("x-user", Some("ada")),
            ("x-users", Some("kept")),
            ("x_user", None),
            ("x.user", None),
            ("x_gone", None),
        ] {
            assert_eq!(seen[0].header(name), value, "{path} {name}");
        }
    }
}

#[test]
fn a_streamed_request_and_its_response_are_changed() {
    let stub = echo();
    let gateway = Gateway::start(
        &config(
            &stub.url(),
            "no-op",
            json!({ "modifier/lua-proxy": {
                "pre": "local r = request.load() r:params('Id', 'nine') r:body(r:body() .. ' and more')",
                "post": "local r = response.load() r:body('<' .. r:body() .. '>') r:headers('X-Out', r:headers('X-In'))"
            }}),
            json!({ "modifier/lua-backend": {
                "pre": "local r = request.load() r:headers('X-Lua', r:path())",
                "post": "local r = response.load() r:headers('X-In', r:headers('X-From')) r:statusCode(202)"
            }}),
        )
        .to_string(),
    );
    let response = post(&gateway, "/m/7", "body");
    assert_eq!(response.status, 202, "{}", gateway.output());
    let text = response.text();
    let seen: Value = serde_json::from_str(text.trim_matches(['<', '>'])).unwrap();
    assert_eq!(seen["path"], "/u/nine");
    assert_eq!(seen["body"], "body and more");
    assert_eq!(seen["headers"]["x-lua"], "/u/nine");
    assert_eq!(response.header("x-out"), Some("backend"));
    // The length of the body that the script set.
    assert_eq!(
        response.header("content-length"),
        Some(&*text.len().to_string())
    );
    assert!(text.starts_with('<') && text.ends_with('>'));
}

#[test]
fn a_script_that_reads_only_the_head_lets_the_body_stream() {
    let upstream = Upstream::start(|mut call| {
        call.send("HTTP/1.1 200 OK\r\nX-From: b\r\nTransfer-Encoding: chunked\r\n\r\n")?;
        call.chunk("one")?;
        // A client that waits for the whole response would never see its first part.
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let gateway = Gateway::start(
        &config(
            &upstream.url(),
            "no-op",
            json!({ "modifier/lua-proxy": {
                "post": "local r = response.load() r:headers('X-Seen', r:headers('X-From')) r:statusCode(201) r:headers('Content-Length', '2')"
            }}),
            json!({}),
        )
        .to_string(),
    );
    let mut client = gateway.client();
    client
        .send("POST /m/7 HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    let head = client.head().unwrap();
    assert_eq!((head.status, head.header("x-seen")), (201, Some("b")));
    // A script cannot decide where a body ends if it does not create the body.
    assert_eq!(head.header("content-length"), None);
    assert_eq!(client.chunk().unwrap().unwrap(), b"one");
}

#[test]
fn a_rejection_of_a_streamed_endpoint_has_its_status_and_text() {
    let stub = echo();
    for (extra, backend) in [
        (
            json!({ "modifier/lua-proxy": { "pre": "custom_error('no || more', 418, 'a/b')" }}),
            json!({}),
        ),
        (
            json!({}),
            json!({ "modifier/lua-backend": { "pre": "custom_error('no || more', 418, 'a/b')" }}),
        ),
        (
            json!({ "modifier/lua-proxy": { "post": "custom_error('no || more', 418, 'a/b')" }}),
            json!({}),
        ),
    ] {
        let gateway = Gateway::start(&config(&stub.url(), "no-op", extra, backend).to_string());
        let response = post(&gateway, "/m/7", "");
        assert_eq!((response.status, &*response.text()), (418, "no || more"));
        assert_eq!(response.header("content-type"), Some("a/b"));
        assert_eq!(response.header("x-krakend-completed"), Some("false"));
    }
}

#[test]
fn skip_next_responds_without_the_backend() {
    let stub = echo();
    let script = json!({
        "skip_next": true,
        "post": "local r = response.load() r:statusCode(203) r:body('made here') r:headers('Content-Type', 'text/plain')"
    });
    let gateway = Gateway::start(
        &config(
            &stub.url(),
            "no-op",
            json!({ "modifier/lua-proxy": script }),
            json!({}),
        )
        .to_string(),
    );
    let response = post(&gateway, "/m/7", "");
    assert_eq!((response.status, &*response.text()), (203, "made here"));
    assert_eq!(response.header("content-length"), Some("9"));
    assert!(stub.take_seen().is_empty());
}

#[test]
fn skipped_backends_have_no_status_and_are_not_complete() {
    let stub = echo();
    let look = "local r = response.load() r:body(r:statusCode() .. tostring(r:isComplete()))";
    for (outer, inner) in [
        (
            json!({ "modifier/lua-proxy": { "skip_next": true, "post": look } }),
            json!({}),
        ),
        (
            json!({}),
            json!({ "modifier/lua-backend": { "skip_next": true, "post": look } }),
        ),
    ] {
        let gateway = Gateway::start(&config(&stub.url(), "no-op", outer, inner).to_string());
        let response = post(&gateway, "/m/7", "");
        assert_eq!((response.status, &*response.text()), (200, "0false"));
    }
    assert!(stub.take_seen().is_empty());
}

#[test]
fn values_that_a_url_takes_from_an_earlier_response_are_parameters() {
    let stub = Stub::with(
        r#"[{"path": "/a", "headers": {"Content-Type": "application/json"}, "body": {"id": 7, "user": {"n": "x"}}},
            {"echo": true, "headers": {"Content-Type": "application/json"}}]"#,
    );
    let see = "local r = request.load() r:headers('X-Seen', r:params('Resp0_id') .. r:params('Resp0_user.n'))";
    let seen = json!({ "modifier/lua-backend": { "pre": see } });
    let config = json!({
        "version": 3,
        "host": [stub.url()],
        "endpoints": [{
            "endpoint": "/m",
            "extra_config": { "proxy": { "sequential": true } },
            "backend": [
                { "url_pattern": "/a", "group": "a" },
                { "url_pattern": "/b/{resp0_a.id}?n={resp0_a.user.n}", "group": "b", "extra_config": {
                    "validation/cel": [{ "check_expr": "req_params['Resp0_a.id'] == '7'" }]
                } },
                { "url_pattern": "/c", "group": "c", "extra_config": seen },
            ]
        }]
    });
    let config = config
        .to_string()
        .replace("Resp0_id", "Resp0_a.id")
        .replace("Resp0_user", "Resp0_a.user");
    let gateway = Gateway::start(&config);
    let response = gateway.get("/m");
    assert_eq!(response.status, 200, "{}", gateway.output());
    let seen: Value = serde_json::from_str(&response.text()).unwrap();
    assert_eq!(seen["b"]["path"], "/b/7");
    assert_eq!(seen["c"]["headers"]["x-seen"], "7x");
}

/// The process continues, and so do other requests.
#[test]
fn scripts_that_run_wild_cost_their_own_request() {
    let stub = echo();
    for script in [
        "while true do end",
        "local t = {} while true do t[#t + 1] = ('x'):rep(1000) end",
        "local function f() return 1 + f() end f()",
        "local function f() return (('aa'):gsub('.', f)) end f()",
        "return ('a'):rep(50000):find(('.-'):rep(20) .. 'b')",
        "os.exit(3)",
        "error(nil)",
        "error({})",
        "coroutine.yield(1)",
        "return loadstring('\\27Lua')()",
    ] {
        for namespace in ["modifier/lua-endpoint", "modifier/lua-proxy"] {
            let guarded =
                format!("if request or ctx.load():headers('X-Lua') == '' then {script} end");
            let block = json!({ namespace: { "pre": guarded, "allow_open_libs": true } });
            let mut file = config(&stub.url(), "json", block, json!({}));
            file["timeout"] = "500ms".into();
            file["endpoints"].as_array_mut().unwrap().push(json!({
                "endpoint": "/tame", "timeout": "20s",
                "backend": [{ "host": [stub.url()], "url_pattern": "/tame" }]
            }));
            let gateway = Gateway::start(&file.to_string());
            assert_eq!(post(&gateway, "/m/7", "").status, 500, "{script}");
            assert_eq!(gateway.get("/tame").status, 200, "{script}");
            assert!(gateway.ended().is_none(), "{script}");
        }
    }
}

#[test]
fn a_script_of_the_service_responds_with_its_own_status() {
    let stub = echo();
    let mut file = config(&stub.url(), "json", json!({}), json!({}));
    file["extra_config"]["modifier/lua-endpoint"] = json!({
        "pre": "local c = ctx.load()
                if c:headers('X-Key') ~= 'open' then custom_error('{}', 401, 'application/json') end
                c:headers('X-Lua', c:url() .. c:body()) c:body('other')"
    });
    let gateway = Gateway::start(&file.to_string());
    let rejected = post(&gateway, "/m/7", "x");
    assert_eq!((rejected.status, rejected.body.len()), (401, 0));
    assert_eq!(rejected.header("content-type"), Some("application/json"));
    assert_eq!(gateway.get("/nowhere").status, 401);
    assert_eq!(gateway.get("/__health").status, 200);
    let passed = gateway.send(
        "POST",
        "POST /m/7?a=b HTTP/1.1\r\nHost: h\r\nX-Key: open\r\nContent-Length: 4\r\n\r\nbody",
    );
    assert_eq!(passed.status, 200, "{}", gateway.output());
    assert_eq!(passed.json()["headers"]["x-lua"], "/m/7?a=bbody");
    assert_eq!(passed.json()["body"], "other");
}

#[test]
fn print_goes_to_standard_output() {
    let stub = echo();
    let script = json!({ "modifier/lua-proxy": { "pre": "print('from lua', 1, nil, 2.5)" } });
    let gateway = Gateway::start(&config(&stub.url(), "json", script, json!({})).to_string());
    assert_eq!(post(&gateway, "/m/7", "").status, 200);
    eventually("the line is there", Duration::from_secs(30), || {
        gateway
            .output()
            .lines()
            .any(|line| line == "from lua\t1\tnil\t2.5")
    });
}

#[test]
fn a_reload_reads_the_sources_again_and_rejects_invalid_ones() {
    let stub = echo();
    let script = json!({ "modifier/lua-proxy": {
        "sources": ["lib.lua"], "post": "response.load():data():set('v', version())"
    }});
    let file = config(&stub.url(), "json", script, json!({})).to_string();
    let gateway = Gateway::start_with(&file, &[("lib.lua", "function version() return 1 end")]);
    let version = || post(&gateway, "/m/7", "").json()["v"].clone();
    assert_eq!(version(), 1);
    let path = gateway.dir().join("lib.lua");
    fs::write(&path, "function version() return 2 end").unwrap();
    assert_eq!(version(), 1);
    gateway.signal("HUP");
    eventually("the new source counts", Duration::from_secs(30), || {
        version() == 2
    });
    fs::write(&path, "function version( return 3 end").unwrap();
    gateway.signal("HUP");
    eventually("the refusal is logged", Duration::from_secs(30), || {
        gateway.output().contains("lib.lua:L1")
    });
    assert_eq!(version(), 2);
}

/// Scripts whose work depends on the request, on a gateway with one worker: other requests do not wait for them.
#[test]
fn heavy_scripts_do_not_hold_the_worker() {
    let stub = echo();
    let heavy = [
        "local x = 0 while true do x = x + 1 end",
        "local t = {} for i = 1, 20000 do t[i] = i end while true do table.insert(t, 1, 0) table.remove(t, 1) end",
        "local t = {} for i = 1, 300000 do t[i] = -i end while true do table.sort(t) end",
        "while true do (('a'):rep(30000)):find(('.-'):rep(9) .. 'b') end",
        "local s = ('a'):rep(1e6) while true do local t = s:sub(2) end",
        "local s = ('a'):rep(1e6) while true do local t = s .. 'b' end",
        "local s = 'x = ' .. ('1+'):rep(5e5) .. '1' while true do loadstring(s) end",
    ];
    let endpoints: Vec<Value> = heavy
        .iter()
        .enumerate()
        .flat_map(|(index, script)| {
            ["lua-endpoint", "lua-proxy"].map(|namespace| {
                json!({
                    "endpoint": format!("/{namespace}/{index}"),
                    "backend": [{ "url_pattern": "/heavy" }],
                    "extra_config": { format!("modifier/{namespace}"): { "pre": script, "allow_open_libs": true } }
                })
            })
        })
        .chain([json!({ "endpoint": "/light", "timeout": "20s", "backend": [{ "url_pattern": "/light" }] })])
        .collect();
    let file = json!({
        "version": 3, "host": [stub.url()], "timeout": "3s", "endpoints": endpoints,
        "extra_config": { "portcullis/server": { "threads": 1 } }
    });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/light").status, 200);
    for endpoint in &endpoints[..heavy.len() * 2] {
        let path = endpoint["endpoint"].as_str().unwrap();
        std::thread::scope(|scope| {
            let slow = scope.spawn(|| gateway.get(path).status);
            let mut others = Vec::new();
            while !slow.is_finished() {
                let asked = Instant::now();
                assert_eq!(gateway.get("/light").status, 200);
                others.push(asked.elapsed());
            }
            assert_eq!(slow.join().unwrap(), 500, "{path}");
            // A typical request does not wait. A machine under load may delay some.
            others.sort_unstable();
            let usual = others[others.len() / 2];
            assert!(others.len() > 5, "{path}: {others:?}");
            assert!(usual < Duration::from_millis(250), "{path}: {others:?}");
        });
    }
}
