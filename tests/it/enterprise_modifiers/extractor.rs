//! What a body must not do by its coding, and what the body extractor must not set.

use serde_json::{Value, json};

use super::bodies::{echo, endpoint, gateway, post, template};
use crate::support::gateway::command;
use crate::support::http::request;
use crate::support::{Gateway, Response};

fn compressed(text: &str) -> Vec<u8> {
    use std::io::Write as _;
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    encoder.write_all(text.as_bytes()).unwrap();
    encoder.finish().unwrap()
}

fn post_compressed(gateway: &Gateway, path: &str, body: &str) -> Response {
    let body = compressed(body);
    let length = body.len().to_string();
    let headers = [
        ("Content-Type", "application/json"),
        ("Content-Encoding", "gzip"),
        ("Content-Length", length.as_str()),
        ("X-Tenant", "own"),
    ];
    let head = request("POST", path, &headers).into_bytes();
    gateway.send("POST", [head, body].concat())
}

#[test]
fn gzip_does_not_hide_a_body_from_checks() {
    let upstream = echo();
    let extractor = json!({ "operations": [{ "type": "header", "strategy": "dotnotation",
        "expression": "u", "target": "X-Tenant", "on_conflict": "replace" }] });
    let of = |namespace: &str, block: &Value| json!({ (namespace): block });
    let generator = template(r#"{"n": {{ .req_body.u | toJson }}}"#, json!({}));
    let schema = json!({ "type": "object", "properties": { "u": { "const": "acme" } } });
    let mut endpoints = Vec::new();
    for (path, extra) in [
        ("/late", of("modifier/request-body-extractor", &extractor)),
        (
            "/early",
            of("modifier/request-body-extractor/early", &extractor),
        ),
        ("/made", of("modifier/request-body-generator", &generator)),
        ("/checked", of("validation/json-schema", &schema)),
    ] {
        let mut one = endpoint(path, "POST", &upstream, extra, json!({}));
        one["input_headers"] = json!(["X-Tenant", "Content-Type", "Content-Encoding"]);
        endpoints.push(one.clone());
        one["endpoint"] = json!(format!("/stream{path}"));
        one["output_encoding"] = json!("no-op");
        one["backend"][0]["encoding"] = json!("no-op");
        endpoints.push(one);
    }
    let gateway = gateway(&endpoints);
    for start in ["", "/stream"] {
        for path in ["/late", "/early"] {
            let got = post_compressed(&gateway, &format!("{start}{path}"), r#"{"u":"acme"}"#);
            let got = got.json();
            assert_eq!(got["tenant"], "acme", "{start}{path}");
            assert_eq!(got["body"], r#"{"u":"acme"}"#, "{start}{path}");
        }
        let made = post_compressed(&gateway, &format!("{start}/made"), r#"{"u":"acme"}"#);
        assert_eq!(made.json()["body"], r#"{"n": "acme"}"#);
        let checked = |body: &str| post_compressed(&gateway, &format!("{start}/checked"), body);
        assert_eq!(checked(r#"{"u":"acme"}"#).status, 200);
        assert_eq!(checked(r#"{"u":"other"}"#).status, 400);
    }
    // The block of the service.
    let file = json!({ "version": 3, "extra_config": of("modifier/request-body-extractor", &extractor),
        "endpoints": [endpoint("/x", "POST", &upstream, json!({}), json!({}))] });
    let gateway = Gateway::start(&file.to_string());
    let got = post_compressed(&gateway, "/x", r#"{"u":"acme"}"#);
    assert_eq!(got.json()["tenant"], "acme");
}

#[test]
fn a_made_body_keeps_its_type_whatever_the_backend_lists() {
    let upstream = echo();
    let generator = template("<a/>", json!({ "content_type": "text/xml" }));
    let one = endpoint(
        "/made",
        "POST",
        &upstream,
        json!({ "modifier/request-body-generator": generator }),
        json!({ "input_headers": ["X-Tenant"] }),
    );
    let plain = endpoint(
        "/plain",
        "POST",
        &upstream,
        json!({}),
        json!({ "input_headers": ["X-Tenant"] }),
    );
    let gateway = gateway(&[one, plain]);
    let got = post(&gateway, "/made", "{}").json();
    assert_eq!(
        (&got["type"], &got["body"]),
        (&json!("text/xml"), &json!("<a/>"))
    );
    assert_eq!(got["tenant"], "own");
    assert_eq!(post(&gateway, "/plain", "{}").json()["type"], Value::Null);
}

#[test]
fn a_body_cannot_identify_the_client() {
    let operations = |target: &str| {
        json!({ "operations": [{ "type": "header", "strategy": "dotnotation",
            "expression": "u", "target": target, "on_conflict": "replace" }] })
    };
    let keys = json!({ "keys": [{ "key": "secret", "roles": ["a"] }], "propagate_role": "X-User" });
    let check = |early: bool, in_service: bool, target: &str| {
        let namespace = if early {
            "modifier/request-body-extractor/early"
        } else {
            "modifier/request-body-extractor"
        };
        let mut service =
            json!({ "auth/api-keys": keys, "portcullis/request-id": { "header": "X-Id" } });
        let mut extra = json!({ "auth/api-keys": { "strategy": "header", "identifier": "X-Key", "roles": ["a"] },
            "portcullis/forward-auth": { "url": "http://127.0.0.1:1/", "request_headers": ["X-Plan"] } });
        let place = if in_service { &mut service } else { &mut extra };
        place[namespace] = operations(target);
        let one = json!({ "endpoint": "/a", "method": "POST", "input_headers": ["*"], "extra_config": extra,
            "backend": [{ "host": ["http://127.0.0.1:1"], "url_pattern": "/b" }] });
        let text = json!({ "version": 3, "extra_config": service, "endpoints": [one] });
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("krakend.json");
        std::fs::write(&path, text.to_string()).unwrap();
        let output = command().args(["check", "-c"]).arg(&path).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.success(), said)
    };
    for early in [true, false] {
        for in_service in [true, false] {
            for target in [
                "X-User", "X_User", "x.user", "X_Key", "X-Id", "X_Id", "X_Plan",
            ] {
                let (good, said) = check(early, in_service, target);
                assert!(
                    !good && said.contains("who the client is"),
                    "{early} {in_service} {target}: {said}"
                );
            }
            for target in ["X_Real_IP", "X_Forwarded_For", "Content_Length"] {
                let (good, said) = check(early, in_service, target);
                assert!(
                    !good && said.contains("set by the gateway"),
                    "{target}: {said}"
                );
            }
            let (good, said) = check(early, in_service, "X-Tenant");
            assert!(good, "{said}");
        }
        // A key may come in the body, if it is taken before it is checked.
        assert_eq!(check(early, false, "X-Key").0, early);
        assert_eq!(check(early, false, "X-Plan").0, early);
    }
}
