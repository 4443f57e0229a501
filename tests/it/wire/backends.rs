//! Hostile bytes from backends.

use super::*;

/// What a client gets if a backend sends these bytes: a status, or a broken response.
pub(super) fn through(response: &[u8], path: &str) -> Result<Response, std::io::Error> {
    let upstream = Upstream::raw(response);
    let gateway = Gateway::start(&config(&upstream.url()).to_string());
    let mut client = gateway.client();
    client.send(request("GET", path, &[]))?;
    client.response("GET")
}

#[test]
fn a_truncated_response_of_a_backend_never_looks_complete() {
    let json = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n";
    let cases: [(&str, String); 8] = [
        (
            "two lengths",
            format!("{json}Content-Length: 2\r\nContent-Length: 9\r\n\r\n{{}}"),
        ),
        (
            "NUL in a field",
            format!("{json}X-A: 1\x002\r\nContent-Length: 2\r\n\r\n{{}}"),
        ),
        (
            "a bare CR in a field",
            format!("{json}X-A: 1\r2\r\nContent-Length: 2\r\n\r\n{{}}"),
        ),
        (
            "a short body",
            format!("{json}Content-Length: 20\r\n\r\n{{\"a\":1}}"),
        ),
        (
            "a broken chunk",
            format!("{json}Transfer-Encoding: chunked\r\n\r\nzz\r\n{{}}\r\n0\r\n\r\n"),
        ),
        (
            "a chunked body without its end",
            format!("{json}Transfer-Encoding: chunked\r\n\r\n7\r\n{{\"a\":1}}\r\n"),
        ),
        (
            "an unasked 101",
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".into(),
        ),
        ("no HTTP at all", "SSH-2.0-OpenSSH_9.2\r\n".into()),
    ];
    let mut wrong = Vec::new();
    for (what, bytes) in &cases {
        for path in ["/get", "/streamed"] {
            match through(bytes.as_bytes(), path) {
                Ok(response) if !matches!(response.status, 500 | 502) => {
                    wrong.push(format!(
                        "{what} on {path}: {} {:?}",
                        response.status,
                        response.text()
                    ));
                }
                Ok(_) => {}
                // The response was cut, which is right for a stream only: a composed response is not started.
                Err(e) if path == "/get" => wrong.push(format!("{what} on {path}: {e}")),
                Err(_) => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn surplus_bytes_of_a_backend_are_not_the_next_response() {
    let upstream = Upstream::start(|mut call| {
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 7\r\n\r\n";
        let other = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{\"bad\":1}";
        call.send(format!("{head}{{\"a\":1}}{other}"))?;
        call.sees_hang_up(Duration::from_secs(120));
        Ok(())
    });
    let gateway = Gateway::start(&config(&upstream.url()).to_string());
    for path in ["/get", "/get", "/streamed", "/streamed"] {
        let response = gateway.get(path);
        assert!(
            !response.text().contains("bad"),
            "{path}: {}",
            response.text()
        );
    }
}

#[test]
fn bombs_of_a_backend_are_500() {
    let deep = format!("{}{}", "[".repeat(2000), "]".repeat(2000));
    let deep = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{{\"a\":{deep}}}",
        deep.len() + 6
    );
    let response = through(deep.as_bytes(), "/get").unwrap();
    assert_eq!(response.status, 500, "depth 2000");
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
    let blank = vec![b' '; 1 << 20];
    for _ in 0..100 {
        packed.write_all(&blank).unwrap();
    }
    packed.write_all(b"{\"a\":1}").unwrap();
    let packed = packed.finish().unwrap();
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        packed.len()
    );
    let response = through(&[head.as_bytes(), &packed].concat(), "/get").unwrap();
    assert_eq!(response.status, 500, "100 MiB out of 100 KiB");
}
