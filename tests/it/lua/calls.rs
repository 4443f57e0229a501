//! Calls that scripts make.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{config, echo, post};
use crate::support::{Gateway, Stub, Upstream, eventually, ports};

#[test]
fn calls_of_scripts_wait_without_a_thread() {
    let slow = Stub::with(
        r#"[{"path": "/slow", "delay_ms": 600, "status": 201, "headers": {"X-A": "b"}, "body": "late"}]"#,
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
    let gateway = Gateway::start(&config(&stub.url(), "json", script, json!({})).to_string());
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
        began.elapsed() < Duration::from_secs(6),
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
    let closed = format!("http://127.0.0.1:{}/x", ports::free());
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
        call.sees_hang_up(Duration::from_secs(20));
        Ok(())
    });
    let stub = echo();
    let script = json!({ "modifier/lua-endpoint": { "pre": format!("http_response.new('{}')", silent.url()) } });
    let mut file = config(&stub.url(), "json", script, json!({}));
    file["timeout"] = "400ms".into();
    let gateway = Gateway::start(&file.to_string());
    let began = Instant::now();
    assert_eq!(post(&gateway, "/m/7", "").status, 500);
    assert!(began.elapsed() < Duration::from_secs(5));
    let log = "deadline";
    eventually("the log says why", Duration::from_secs(5), || {
        gateway.output().contains(log)
    });
}
