//! The memory that scripts occupy.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::memory::{LIMIT, endpoint, gateway, held, metric};
use crate::support::http::request;
use crate::support::{Client, Upstream, eventually};

/// An endpoint with a script around it. Its backend never responds.
fn waiting(path: &str, pre: &str, backend: &Upstream) -> Value {
    let mut endpoint = endpoint(path, "GET", "json", backend);
    endpoint["extra_config"]["modifier/lua-proxy"] = json!({
        "allow_open_libs": true, "pre": pre, "post": "local r = response.load()" });
    endpoint
}

/// What a script keeps while its backend works is Lua's own memory: long strings, and tables of short ones.
#[test]
fn interpreters_share_the_budget() {
    let waiting_calls = Arc::new(AtomicUsize::new(0));
    let begun = Arc::clone(&waiting_calls);
    let backend = Upstream::start(move |mut call| {
        if call.head.contains("/small") {
            return call
                .send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}");
        }
        begun.fetch_add(1, Ordering::Relaxed);
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let mut endpoints = json!([
        waiting("/string", "x = string.rep('a', 3000000)", &backend),
        waiting(
            "/texts",
            "x = {} for i = 1, 60000 do x[i] = 'item ' .. i end",
            &backend
        ),
        waiting(
            "/tables",
            "x = {} for i = 1, 40000 do x[i] = {i} end",
            &backend
        ),
        waiting(
            "/upper",
            "x = string.rep('a', 1500000) y = x:upper()",
            &backend
        ),
        waiting("/body", "x = request.load():body() y = x .. 'b'", &backend),
        waiting("/small", "local r = request.load()", &backend),
    ]);
    endpoints[4]["method"] = json!("POST");
    endpoints[4]["backend"][0]["method"] = json!("POST");
    let (gateway, metrics) = gateway("16MiB", endpoints);
    let text = "x".repeat(500_000);
    for (path, each) in [
        ("/string", 3_000_000),
        ("/texts", 2_500_000),
        ("/tables", 2_500_000),
        ("/upper", 3_000_000),
        ("/body", 1_500_000),
    ] {
        let open = || {
            let mut client = gateway.client();
            let method = if path == "/body" { "POST" } else { "GET" };
            let body = if path == "/body" { &*text } else { "" };
            let length = body.len().to_string();
            let head = request(method, path, &[("Content-Length", &length)]);
            let _ = client.send(format!("{head}{body}"));
            client
        };
        // Each request calls the backend, or is rejected.
        waiting_calls.store(0, Ordering::Relaxed);
        let calls = || waiting_calls.load(Ordering::Relaxed);
        let target = format!("\"{path}\"");
        let is_rejection = |line: &&str| line.contains("| 503 |") && line.ends_with(&target);
        let rejected = || gateway.output().lines().filter(is_rejection).count();
        let refused = metric(metrics, "portcullis_buffered_refused_total");
        let mut clients: Vec<Client> = Vec::new();
        while rejected() == 0 {
            assert!(clients.len() < 16, "{path}: {}", gateway.output());
            clients.push(open());
            let what = format!("{path}: the end of request {}", clients.len());
            eventually(&what, LIMIT, || calls() + rejected() == clients.len());
        }
        // The interpreter has some room that is charged as long as it exists, and Lua collects some garbage.
        let least = calls() as u64 * each / 10 * 8;
        assert!(held(metrics) >= least, "{path}: {}", held(metrics));
        assert!(metric(metrics, "portcullis_buffered_refused_total") > refused);
        let last = clients.last_mut().unwrap();
        assert_eq!(last.response("GET").unwrap().status, 503, "{path}");
        assert_eq!(gateway.get("/small").status, 200, "{path}");
        drop(clients);
        eventually("it is given back", LIMIT, || held(metrics) == 0);
    }
    let log = gateway.output();
    let reason = "too many bytes of bodies are buffered";
    assert!(log.contains(reason), "{log}");
}

/// An interpreter takes memory even if its script does not.
#[test]
fn interpreters_that_wait_are_charged() {
    let backend = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let endpoints = json!([waiting("/a", "local r = request.load()", &backend)]);
    let (gateway, metrics) = gateway("16MiB", endpoints);
    let open = || {
        let mut client = gateway.client();
        client.send(request("GET", "/a", &[])).unwrap();
        client
    };
    let _clients = [open(), open(), open(), open()];
    // The connection, the call, and the interpreter.
    let least = 4 * (64 + 16 + 100) * 1024;
    eventually("they are charged", LIMIT, || {
        metric(metrics, "portcullis_memory_charged_bytes") > least
    });
    assert_eq!(held(metrics), 0);
}

/// What a script makes of the data is charged before it is made.
#[test]
fn data_of_scripts_is_within_the_budget() {
    let backend = Upstream::start(|mut call| {
        call.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}")
    });
    let with = |path: &str, post: &str| {
        let mut endpoint = endpoint(path, "GET", "json", &backend);
        endpoint["extra_config"]["modifier/lua-proxy"] =
            json!({ "allow_open_libs": true, "post": post });
        endpoint
    };
    let set =
        |size: u32| format!("local d = response.load():data() d:set('z', string.rep('q', {size}))");
    let endpoints = json!([
        with("/long", &set(3_000_000)),
        with("/short", &set(300_000)),
        // Each of these takes memory outside of Lua that is released at once.
        with(
            "/gsub",
            "local s = string.rep('a', 1000000):gsub('.', 'bbbb')"
        ),
        with(
            "/caught",
            "while true do pcall(string.rep, 'a', 5000000) end"
        ),
        with(
            "/template",
            "local s = string.rep('a', 100000):gsub('.*', string.rep('%0', 100))"
        ),
        with("/code", "loadstring(string.rep(';', 100000))"),
        with(
            "/tables",
            "local d = response.load():data() for i = 1, 20000 do
             local t = luaTable.new() t:set('a', i) d:set('k' .. i, t) end"
        ),
        with(
            "/items",
            "local t = {} for i = 1, 40000 do t[i] = true end response.load():data():set('t', {t})"
        ),
        with(
            "/fields",
            "local r, v = response.load(), string.rep('v', 20000)
             for i = 1, 900 do r:headers('X-' .. i, v) end"
        ),
        with(
            "/appended",
            "local s, x = '', string.rep('x', 20000) while true do s = s .. x end"
        ),
        with(
            "/errors",
            "while true do pcall(custom_error, string.rep('m', 100000)) end"
        ),
    ]);
    let (gateway, metrics) = gateway("8MiB", endpoints);
    for (path, status) in [
        ("/short", 200),
        ("/long", 503),
        ("/gsub", 503),
        ("/caught", 503),
        ("/template", 503),
        ("/code", 503),
        ("/tables", 503),
        ("/items", 503),
        ("/fields", 503),
        ("/appended", 503),
        ("/errors", 503),
        ("/short", 200),
    ] {
        let refused = metric(metrics, "portcullis_buffered_refused_total");
        let response = gateway.get(path);
        assert_eq!(response.status, status, "{path}: {}", gateway.output());
        let counted = metric(metrics, "portcullis_buffered_refused_total") > refused;
        assert_eq!(counted, status == 503, "{path}");
        eventually("it is given back", LIMIT, || held(metrics) == 0);
    }
}
