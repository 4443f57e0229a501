//! Bodies of requests that stop, or that are not read.

use super::*;

#[test]
fn after_an_early_response_the_body_is_not_parsed_as_a_request() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    let inner = "GET /get HTTP/1.1\r\nHost: a\r\n\r\n";
    for path in ["/nowhere", "/get"] {
        // No such route, and no such method: both get a response before the body is read.
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n",
            inner.len()
        );
        let mut client = gateway.client();
        client.send(head).unwrap();
        let first = client.response("POST").unwrap();
        assert!(
            matches!(first.status, 404 | 405),
            "{path}: {}",
            first.status
        );
        let _ = client.send(inner);
        client.finish_sending();
        assert!(
            client.rest().unwrap_or_default().is_empty(),
            "{path}: the body was answered"
        );
        assert!(
            stub.take_seen().is_empty(),
            "{path}: the body was forwarded"
        );
    }
}

#[test]
fn a_rejected_client_without_100_continue_gets_the_rejection_and_is_closed() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    let mut client = gateway.client();
    // The client's next bytes would otherwise be read as this body.
    client
        .send(post(
            "/nowhere",
            "Expect: 100-continue\r\nContent-Length: 40",
            "",
        ))
        .unwrap();
    let response = client.response("POST").unwrap();
    assert_eq!(response.status, 404);
    assert_eq!(response.header("connection"), Some("close"));
    assert!(client.is_closed_by_peer());
}

/// Endpoints that read a complete body, in parallel and as a stream, with this timeout.
pub(super) fn slow_bodies(stub: &Stub, timeout: &str, more: Value) -> Gateway {
    let backend = json!({ "host": [stub.url()], "url_pattern": "/json", "method": "POST" });
    let mut kept = backend.clone();
    kept["extra_config"] = json!({ "backend/http/client": { "send_body_on_redirect": true } });
    let endpoint = |path: &str, encoding: &str, backends: Value| json!({ "endpoint": path, "method": "POST", "output_encoding": encoding, "backend": backends });
    let mut file = json!({
        "version": 3,
        "timeout": timeout,
        "endpoints": [
            endpoint("/one", "json", json!([backend])),
            endpoint("/two", "json", json!([backend, backend])),
            endpoint("/kept", "no-op", json!([kept])),
            endpoint("/stream", "no-op", json!([backend])),
        ]
    });
    for (key, value) in more.as_object().unwrap() {
        file[key] = value.clone();
    }
    Gateway::start(&file.to_string())
}

pub(super) fn stall(gateway: &Gateway, path: &str) -> Response {
    let mut client = gateway.client();
    client
        .send(post(path, "Content-Length: 10", "abc"))
        .unwrap();
    let response = client.response("POST").unwrap();
    assert!(client.is_closed_by_peer(), "{path}");
    response
}

#[test]
fn a_body_that_outlasts_the_time_of_its_endpoint_is_500() {
    let stub = Stub::with(ANY);
    let shown = json!({ "extra_config": { "router": { "return_error_msg": true } } });
    let (quiet, loud) = (
        slow_bodies(&stub, "300ms", json!({})),
        slow_bodies(&stub, "300ms", shown),
    );
    for path in ["/one", "/two", "/kept", "/stream"] {
        let response = stall(&quiet, path);
        assert_eq!(
            (response.status, response.text().as_str()),
            (500, ""),
            "{path}"
        );
        assert_eq!(
            response.header("x-krakend-completed"),
            Some("false"),
            "{path}"
        );
        let text = stall(&loud, path).text();
        assert_eq!(text, "context deadline exceeded", "{path}");
    }
}

#[test]
fn a_client_that_is_silent_in_its_body_gets_408() {
    let stub = Stub::with(ANY);
    let gateway = slow_bodies(&stub, "10s", json!({ "read_timeout": "300ms" }));
    for path in ["/one", "/two", "/kept", "/stream"] {
        assert_eq!(stall(&gateway, path).status, 408, "{path}");
    }
}
