//! Calls that scripts make.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{config, echo, post};
use crate::support::{Gateway, Stub, Upstream, eventually, ports};

#[test]
fn calls_of_scripts_wait_without_a_thread() {
    let slow = Stub::with(
        r#"[{"path": "/slow", "delay_ms": 3000, "status": 201, "headers": {"X-A": "b"}, "body": "late"}]"#,
    );
    let stub = echo();
    // More at once than there are threads, each in a protected call in a coroutine.
    let script = format!(
        "local c = ctx.load()
         local co = coroutine.wrap(function()
           local ok, r = pcall(http_response.new, '{}/slow')
           c:headers('X-Lua', tostring(ok) .. r:statusCode() .. r:headers('x-a') .. r:body() .. r:body())
           r:close()
         end)
         co()",
        slow.url()
    );
    let script = json!({ "modifier/lua-endpoint": { "pre": script, "allow_open_libs": true } });
    let mut file = config(&stub.url(), "json", script, json!({}));
    file["timeout"] = "60s".into();
    let gateway = Gateway::start(&file.to_string());
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..20 {
            scope.spawn(|| {
                let response = post(&gateway, "/m/7", "");
                assert_eq!(response.status, 200, "{}", gateway.output());
                assert_eq!(response.json()["headers"]["x-lua"], "true201blatelate");
            });
        }
    });
    assert!(
        began.elapsed() < Duration::from_secs(15),
        "{:?}",
        began.elapsed()
    );
    let call = &slow.take_seen()[0];
    assert!(
        call.header("user-agent")
            .unwrap()
            .starts_with("Portcullis/")
    );
}

#[test]
fn a_call_that_fails_is_an_error_of_the_script() {
    let stub = echo();
    let nobody = ports::Closed::new();
    let closed = format!("http://127.0.0.1:{}/x", nobody.port());
    let failing = |pre: String| {
        let script = json!({ "modifier/lua-proxy": { "pre": pre } });
        let gateway = Gateway::start(&config(&stub.url(), "json", script, json!({})).to_string());
        let response = post(&gateway, "/m/7", "");
        assert_eq!(response.status, 500);
        response.text()
    };
    let text = failing(format!("http_response.new('{closed}')"));
    assert!(text.contains("connect: connection refused"), "{text}");
    let text = failing(format!("http_response.new('{closed}', 'POST')"));
    assert!(text.starts_with("need 1, 3 or 4 arguments"), "{text}");
    let text = failing("http_response.new('no url at all')".to_owned());
    assert!(!text.is_empty());
    // The caught value is a string.
    let caught = format!(
        "local ok, e = pcall(http_response.new, '{closed}') custom_error(type(e) .. tostring(ok), 502)"
    );
    let script = json!({ "modifier/lua-proxy": { "pre": caught } });
    let gateway = Gateway::start(&config(&stub.url(), "json", script, json!({})).to_string());
    assert_eq!(post(&gateway, "/m/7", "").text(), "stringfalse");
}

#[test]
fn a_call_without_a_response_ends_with_its_request() {
    let silent = Upstream::start(|mut call| {
        call.sees_hang_up(Duration::from_secs(60));
        Ok(())
    });
    let stub = echo();
    let script = json!({ "modifier/lua-endpoint": { "pre": format!("http_response.new('{}')", silent.url()) } });
    let mut file = config(&stub.url(), "json", script, json!({}));
    file["timeout"] = "400ms".into();
    let gateway = Gateway::start(&file.to_string());
    let began = Instant::now();
    assert_eq!(post(&gateway, "/m/7", "").status, 500);
    assert!(began.elapsed() < Duration::from_secs(20));
    let log = "deadline";
    eventually("the log says why", Duration::from_secs(30), || {
        gateway.output().contains(log)
    });
}

#[test]
fn a_redirect_of_a_call_to_another_origin_gets_nothing_of_the_script() {
    let seen = |name: &'static str| {
        Upstream::start(move |mut call| {
            let body = String::from_utf8(call.body()?).unwrap();
            call.send(format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{name}{body}",
                name.len() + body.len()
            ))
        })
    };
    let other = seen("other ");
    let to = other.url();
    let first = Upstream::start(move |mut call| {
        let body = String::from_utf8(call.body()?).unwrap();
        let name = call.head.split(['/', '?', ' ']).nth(2).unwrap().to_owned();
        let (status, location) = match &*name {
            "here" => ("200", format!("here {body}")),
            name if name.starts_with("same") => (&name[4..], "/here".to_owned()),
            status => (status, format!("{to}/there")),
        };
        let length = if status == "200" { location.len() } else { 0 };
        let text = if length > 0 { &*location } else { "" };
        call.send(format!(
            "HTTP/1.1 {status} R\r\nLocation: {location}\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{text}"
        ))
    });
    let calling = |target: &str, method: &str| {
        format!(
            "local r = http_response.new('{}/{target}?key=SECRET', '{method}', 'SECRET-BODY', \
             {{['X-Api-Key'] = 'SECRET', ['X-Plain'] = 'SECRET', ['Authorization'] = 'SECRET'}}) \
             custom_error(r:statusCode() .. r:body(), 418)",
            first.url()
        )
    };
    let stub = echo();
    let answer =
        |script: String, level: &str, service: serde_json::Value, own: serde_json::Value| {
            let script = json!({ "pre": script, "allow_open_libs": true });
            let mut extra = own;
            let mut around = json!({});
            match level {
                "modifier/lua-backend" => extra[level] = script,
                _ => around[level] = script,
            }
            let mut file = config(&stub.url(), "json", around, extra);
            file["extra_config"]["portcullis/upstream"] = service;
            let gateway = Gateway::start(&file.to_string());
            post(&gateway, "/m/7", "").text()
        };
    let proxy = |target: &str, method: &str| {
        answer(
            calling(target, method),
            "modifier/lua-proxy",
            json!({}),
            json!({}),
        )
    };
    assert_eq!(proxy("302", "POST"), "200other ");
    assert_eq!(proxy("302", "GET"), "200other ");
    // A body goes to the same origin only.
    assert_eq!(proxy("307", "POST"), "307");
    assert_eq!(proxy("308", "PUT"), "308");
    assert_eq!(proxy("same307", "POST"), "200here SECRET-BODY");
    let heads = other.heads().join("");
    assert_eq!(heads.matches("GET /there").count(), 2, "{heads}");
    assert!(!heads.contains("SECRET"), "{heads}");
    assert!(!heads.to_ascii_lowercase().contains("referer"), "{heads}");
    let last = first.heads().pop().unwrap();
    assert!(
        last.starts_with("POST /here") && last.contains("SECRET"),
        "{last}"
    );
    // The settings of the service and of the backend hold for scripts.
    let same = json!({ "redirects": "same-origin" });
    let script = || calling("302", "GET");
    assert_eq!(
        answer(script(), "modifier/lua-proxy", same.clone(), json!({})),
        "302"
    );
    let none = json!({ "portcullis/upstream": { "redirects": "none" } });
    let within = "modifier/lua-backend";
    assert_eq!(answer(calling("same302", "GET"), within, same, none), "302");
    let both = json!({ "send_body_to_other_origins": true });
    let sent = answer(
        calling("307", "POST"),
        "modifier/lua-proxy",
        both,
        json!({}),
    );
    assert_eq!(sent, "200other SECRET-BODY");
}
