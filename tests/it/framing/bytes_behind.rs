//! Bytes after a response, and contradictory lengths.

use super::*;

#[test]
fn bytes_after_a_response_do_not_affect_it_and_are_logged_once() {
    let length = json_head("Content-Length: 11") + "{\"ok\":true}";
    let chunked = json_head(CHUNKED) + "b\r\n{\"ok\":true}\r\n0\r\n\r\n";
    for whole in [length, chunked] {
        for surplus in ["X", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"] {
            let told = "sent more bytes than its response has";
            for response in through(&(whole.clone() + surplus), told) {
                let got = (response.status, response.text());
                assert_eq!(got, (200, "{\"ok\":true}".to_owned()));
            }
        }
    }
}

#[test]
fn bytes_after_the_rejection_of_a_websocket_do_not_affect_it() {
    let rejection = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\n\r\n";
    let backend = Upstream::start(move |mut call| {
        call.send(rejection)?;
        call.sees_hang_up(Duration::from_secs(60));
        Ok(())
    });
    let mut file = config(&backend.url());
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        if endpoint["endpoint"] == "/n" && endpoint["method"] == "GET" {
            endpoint["extra_config"] = json!({ "portcullis/stream": { "upgrade": true } });
        }
    }
    let gateway = Gateway::start(&file.to_string());
    let fields = [
        ("Upgrade", "websocket"),
        ("Connection", "Upgrade"),
        ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("Sec-WebSocket-Version", "13"),
    ];
    let response = gateway.get_with("/n", &fields);
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    logs(&gateway, "sent more bytes than its response has", 1);
}

#[test]
fn equal_lengths_collapse_and_others_are_rejected() {
    for fields in [
        "Content-Length: 11\r\nContent-Length: 11",
        "Content-Length: 11, 11",
        "Content-Length: 11,11\r\nContent-Length: 11",
    ] {
        let backend = Upstream::raw(json_head(fields) + "{\"ok\":true}");
        let gateway = start(&backend);
        for path in ["/c", "/n"] {
            let response = gateway.get(path);
            assert_eq!(
                (response.status, response.text().as_str()),
                (200, "{\"ok\":true}"),
                "{path} {fields}"
            );
            let lengths = response
                .headers
                .iter()
                .filter(|(name, _)| name == "content-length");
            assert_eq!(
                lengths.map(|(_, value)| value.as_str()).collect::<Vec<_>>(),
                ["11"]
            );
        }
    }
    for fields in [
        "Content-Length: 11\r\nContent-Length: 12",
        "Content-Length: 11, 12",
        "Content-Length: +11",
        "Content-Length: 11 11",
        "Content-Length: eleven",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: xchunked",
    ] {
        let backend = Upstream::raw(json_head(fields) + "{\"ok\":true}");
        let gateway = start(&backend);
        for path in ["/c", "/n"] {
            assert_eq!(gateway.get(path).status, 500, "{path} {fields}");
        }
    }
}

#[test]
fn chunks_win_over_a_length_and_their_connection_ends() {
    for fields in [
        format!("Content-Length: 3\r\n{CHUNKED}"),
        format!("{CHUNKED}\r\nContent-Length: 300"),
    ] {
        let chunks = "b\r\n{\"ok\":true}\r\n0\r\n\r\n";
        let told = "Content-Length together with Transfer-Encoding";
        for response in through(&(json_head(&fields) + chunks), told) {
            let got = (response.status, response.text());
            assert_eq!(got, (200, "{\"ok\":true}".to_owned()));
            let both = response.header("content-length").is_some()
                && response.header("transfer-encoding").is_some();
            assert!(!both, "{:?}", response.headers);
        }
    }
}
