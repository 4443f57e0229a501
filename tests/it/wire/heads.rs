//! Heads at the limits of the HTTP library, and expectations.

use super::*;

/// The default of `max_header_bytes`, and what is added to it.
const MOST: usize = (1 << 20) + 4096;

/// A request whose head has this size, with a last header that the backend gets.
fn large(line: &str, fields: &str, size: usize, body: &str) -> Vec<u8> {
    let head = |value: &str| {
        format!("{line}\r\nHost: a\r\nX-Long: {value}\r\n{fields}X-Last: here\r\n\r\n")
    };
    let value = "v".repeat(size - head("").len());
    (head(&value) + body).into_bytes()
}

#[test]
fn a_large_head_is_served_whatever_its_form() {
    let stub = Stub::with(ANY);
    let mut file = config(&stub.url());
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        endpoint["input_headers"] = json!(["X-Last", "Content-Type"]);
    }
    let gateway = Gateway::start(&file.to_string());
    let get = "GET /get HTTP/1.1";
    let length = "Content-Length: 2\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    let expect = "Expect: 100-continue\r\nContent-Length: 2\r\n";
    let chunks = "2\r\n{}\r\n0\r\n\r\n";
    for (line, fields, body) in [
        (get, "", ""),
        (get, "Connection: close\r\n", ""),
        (get, "Connection: keep-alive, x\r\n", ""),
        (get, "Connection: x\r\nConnection: y\r\n", ""),
        (get, "Upgrade: other\r\n", ""),
        ("GET /get HTTP/1.0", "", ""),
        ("GET http://b/get HTTP/1.1", "", ""),
        ("POST /json HTTP/1.1", length, "{}"),
        ("POST /stream HTTP/1.1", length, "{}"),
        ("POST /json HTTP/1.1", chunked, chunks),
        ("POST /stream HTTP/1.1", chunked, chunks),
        ("POST /json HTTP/1.1", expect, "{}"),
    ] {
        for size in [1_048_570, 1_048_575, 1_048_576, MOST - 1, MOST, MOST + 1] {
            let what = format!("{line} {fields:?} {size}");
            let mut client = gateway.client();
            // The rest of a head that is too large is not read.
            let _ = client.send(large(line, fields, size, body));
            let response = client.response("GET").unwrap();
            let status = if size > MOST { 431 } else { 200 };
            assert_eq!(response.status, status, "{what}: {}", gateway.output());
            assert_eq!(response.header("server"), None, "{what}");
            let seen = stub.take_seen();
            assert_eq!(seen.len(), usize::from(status == 200), "{what}");
            for call in seen {
                assert_eq!(call.header("x-last"), Some("here"), "{what}");
                let body = if body.is_empty() { "" } else { "{}" };
                assert_eq!(call.body, body.as_bytes(), "{what}");
            }
        }
    }
}

#[test]
fn a_head_that_the_library_cannot_hold_gets_the_response_of_the_gateway() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    let name = |length: usize| format!("{}: v\r\n", "n".repeat(length));
    let connection = format!("Connection: {}\r\n", "c".repeat((1 << 20) + 100));
    for (fields, status) in [
        (name(65_535), 200),
        (name(65_536), 431),
        (format!("Connection: close\r\n{}", name(70_000)), 431),
        (connection, 431),
    ] {
        let what = &fields[..30];
        let mark = gateway.mark();
        let mut client = gateway.client();
        let _ = client.send(get(&format!("Host: a\r\n{fields}")));
        let response = client.response("GET").unwrap();
        assert_eq!(response.status, status, "{what}");
        assert_eq!(response.header("server"), None, "{what}");
        if status == 431 {
            let text = response.text();
            assert_eq!(text, "431 Request Header Fields Too Large", "{what}");
            let told = "rejected a request from ";
            eventually("the reason is logged", Duration::from_secs(20), || {
                gateway.output_since(mark).contains(told)
            });
        }
    }
}

#[test]
fn empty_members_of_expect_are_no_expectation() {
    let stub = Stub::with(ANY);
    let gateway = Gateway::start(&config(&stub.url()).to_string());
    for (fields, status) in [
        ("Expect:", 200),
        ("Expect: ,, ", 200),
        ("Expect: 100-Continue", 200),
        ("Expect: 100-continue,", 200),
        ("Expect: 100-continue, 100-continue", 200),
        ("Expect:\r\nExpect: 100-continue", 200),
        ("Expect: x", 417),
        ("Expect: 100-continue, x", 417),
        ("Expect: 100-continue\r\nExpect: x", 417),
        ("Expect: 100-continue;a=b", 417),
    ] {
        let mut client = gateway.client();
        client
            .send(get(&format!("Host: a\r\n{fields}\r\n")))
            .unwrap();
        assert_eq!(client.response("GET").unwrap().status, status, "{fields:?}");
    }
    // The interim response comes before the body is sent, also if the list has an empty member.
    for value in ["100-continue", ", 100-continue"] {
        let fields = format!("Expect: {value}\r\nContent-Length: 2");
        let mut client = gateway.client();
        client.send(post("/json", &fields, "")).unwrap();
        assert_eq!(client.any_head().unwrap().status, 100, "{value}");
        client.send("{}").unwrap();
        assert_eq!(client.response("POST").unwrap().status, 200, "{value}");
    }
}
