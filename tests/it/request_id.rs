//! `portcullis/request-id`: one id finds everything that the gateway wrote about a request.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::{Gateway, eventually};

const LIMIT: Duration = Duration::from_secs(30);

fn gateway(more: &[(&str, Value)]) -> Gateway {
    let mut extra = json!({ "portcullis/request-id": {} });
    for (name, block) in more {
        extra[*name] = block.clone();
    }
    let down = "http://127.0.0.1:1".to_owned();
    let file = json!({ "version": 3, "extra_config": extra, "endpoints": [{
        "endpoint": "/down", "backend": [{ "host": [down], "url_pattern": "/x" }]
    }]});
    Gateway::start(&file.to_string())
}

fn line(gateway: &Gateway, words: &[&str]) -> String {
    let found = || {
        let log = gateway.output();
        let mut lines = log.lines();
        let line = lines.find(|line| words.iter().all(|word| line.contains(word)));
        line.map(str::to_owned)
    };
    eventually("the line", LIMIT, || found().is_some());
    found().unwrap()
}

#[test]
fn log_lines_of_a_request_have_its_id_as_a_member() {
    let logging = json!({ "level": "DEBUG", "stdout": true, "format": "logstash" });
    let gateway = gateway(&[("telemetry/logging", logging)]);
    let id = gateway
        .get("/down")
        .header("x-request-id")
        .unwrap()
        .to_owned();
    let line: Value =
        serde_json::from_str(&line(&gateway, &["connection refused", "@timestamp"])).unwrap();
    assert_eq!(line["request_id"], id.as_str());
}

#[test]
fn a_template_shows_the_id_only_where_it_asks_for_it() {
    let logging = json!({
        "level": "DEBUG", "stdout": true, "format": "custom",
        "custom_format": "<%{requestid}> %{message}",
        "access_log_format": "custom",
        "access_log_custom_format": "access %{requestID} %{traceID} %{path}"
    });
    let own = gateway(&[("telemetry/logging", logging)]);
    let id = own.get("/down").header("x-request-id").unwrap().to_owned();
    let failed = line(&own, &["connection refused"]);
    assert!(failed.contains(&format!("<{id}> ")), "{failed}");
    assert!(line(&own, &["access "]).contains(&format!("access {id} - /down")));
    let plain = gateway(&[]);
    let id = plain
        .get("/down")
        .header("x-request-id")
        .unwrap()
        .to_owned();
    let failed = line(&plain, &["connection refused"]);
    assert!(!failed.contains(&id), "{failed}");
}

#[test]
fn what_is_rejected_before_it_is_a_request_has_an_id_in_its_response_and_in_the_log() {
    let problem = json!({ "format": "problem+json" });
    for errors in [None, Some(("portcullis/errors", problem))] {
        let has_body = errors.is_some();
        let gateway = gateway(errors.as_slice());
        let large = format!(
            "GET /down HTTP/1.1\r\nHost: a\r\nX: {}\r\n\r\n",
            "x".repeat(1_200_000)
        );
        let twice = "GET /down HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
        for (status, bytes) in [(400, twice), (431, large.as_str())] {
            let response = gateway.send("GET", bytes);
            assert_eq!(response.status, status);
            let id = response.header("x-request-id").unwrap().to_owned();
            if has_body {
                assert_eq!(response.json()["request_id"], id.as_str());
            }
            line(&gateway, &["rejected a request from ", &id]);
        }
    }
}
