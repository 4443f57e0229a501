//! Where a message ends: towards backends and from them, byte for byte.

use std::io::{self, BufRead as _, Read as _, Write as _};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::http::request;
use crate::support::tls::Authority;
use crate::support::upstream::Call;
use crate::support::{Answer, Client, Gateway, Upstream, eventually, pause};

/// Endpoints of both kinds that pass everything on to `backend`.
fn config(backend: &str) -> Value {
    let to = |path: &str, method: &str| json!([{ "host": [backend], "url_pattern": path, "method": method }]);
    let composed = |method: &str| {
        json!({ "endpoint": "/c", "method": method, "input_headers": ["Content-Type", "User-Agent", "Range"],
        "backend": to("/c", method) })
    };
    let streamed = |method: &str| {
        json!({ "endpoint": "/n", "method": method, "input_headers": ["Content-Type", "User-Agent", "Range"],
        "output_encoding": "no-op", "backend": to("/n", method) })
    };
    let methods = ["GET", "POST", "PUT", "PATCH", "DELETE"];
    let mut endpoints: Vec<Value> = methods
        .iter()
        .flat_map(|m| [composed(m), streamed(m)])
        .collect();
    // The client's method is GET, the call's is HEAD.
    for mut endpoint in [composed("GET"), streamed("GET")] {
        let path = format!("{}-head", endpoint["endpoint"].as_str().unwrap());
        endpoint["endpoint"] = json!(path);
        endpoint["backend"][0]["method"] = json!("HEAD");
        endpoints.push(endpoint);
    }
    json!({ "version": 3, "timeout": "5s", "endpoints": endpoints, "extra_config": { "telemetry/logging": { "level": "WARNING", "stdout": true } } })
}

fn start(backend: &Upstream) -> Gateway {
    Gateway::start(&config(&backend.url()).to_string())
}

/// What came over the connections of a backend: `METHOD path|fields of framing|body`, in order.
type Log = Arc<Mutex<Vec<String>>>;

fn next_head(call: &mut Call) -> io::Result<String> {
    let mut head = String::new();
    loop {
        let mut line = String::new();
        if call.reader.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if line == "\r\n" {
            return Ok(head);
        }
        head.push_str(&line);
    }
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    head.lines().find_map(|line| {
        let (known, value) = line.split_once(':')?;
        known.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

/// A backend that reads each request strictly, answers it, and stays on its connection: a stray byte becomes a request.
fn strict() -> (Upstream, Log) {
    let log = Log::default();
    let seen = log.clone();
    let upstream = Upstream::start(move |mut call| {
        loop {
            let body = call.body()?;
            let line = call.head.lines().next().unwrap_or_default().to_owned();
            let line = line.trim_end_matches(" HTTP/1.1");
            let framing = match (
                field(&call.head, "content-length"),
                field(&call.head, "transfer-encoding"),
            ) {
                (Some(length), None) => format!("length {length}"),
                (None, Some(coding)) => coding.to_owned(),
                (None, None) => "none".to_owned(),
                (Some(_), Some(_)) => "both".to_owned(),
            };
            let body = String::from_utf8_lossy(&body);
            seen.lock()
                .unwrap()
                .push(format!("{line}|{framing}|{body}"));
            call.send(
                "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}",
            )?;
            call.head = next_head(&mut call)?;
        }
    });
    (upstream, log)
}

fn taken(log: &Log) -> Vec<String> {
    std::mem::take(&mut *log.lock().unwrap())
}

fn upload(fields: &str) -> String {
    format!("POST /n HTTP/1.1\r\nHost: a\r\n{fields}\r\n\r\n")
}

const CHUNKED: &str = "Transfer-Encoding: chunked";

#[test]
fn a_chunked_upload_ends_once_however_its_end_arrives() {
    let (backend, log) = strict();
    let gateway = start(&backend);
    let mut client = gateway.client();
    for trailer in ["", "X-Sum: 1\r\n"] {
        let body = format!("5\r\nhello\r\n0\r\n{trailer}\r\n");
        for cut in 0..=body.len() {
            let (first, last) = body.split_at(cut);
            client.send(upload(CHUNKED) + first).unwrap();
            if !last.is_empty() {
                pause(Duration::from_millis(8));
                client.send(last).unwrap();
            }
            assert_eq!(client.answer("POST").unwrap().status, 200, "cut at {cut}");
            client.send(request("GET", "/n", &[])).unwrap();
            assert_eq!(
                client.answer("GET").unwrap().status,
                200,
                "after a cut at {cut}"
            );
            let seen = taken(&log);
            assert_eq!(
                seen,
                ["POST /n|chunked|hello", "GET /n|none|"],
                "cut at {cut}"
            );
        }
    }
    assert_eq!(backend.calls(), 1, "one connection served all of them");
}

#[test]
fn a_chunked_upload_without_a_byte_ends_once() {
    let (backend, log) = strict();
    let gateway = start(&backend);
    let mut client = gateway.client();
    client.send(upload(CHUNKED) + "0\r\n").unwrap();
    pause(Duration::from_millis(30));
    client.send("\r\n").unwrap();
    assert_eq!(client.answer("POST").unwrap().status, 200);
    client.send(request("GET", "/n", &[])).unwrap();
    assert_eq!(client.answer("GET").unwrap().status, 200);
    assert_eq!(taken(&log), ["POST /n|chunked|", "GET /n|none|"]);
}

#[test]
fn a_body_of_known_length_goes_out_with_its_length() {
    let (backend, log) = strict();
    let gateway = start(&backend);
    for path in ["/c", "/n"] {
        for method in ["POST", "PUT", "PATCH", "DELETE", "GET"] {
            let mut client = gateway.client();
            client
                .send(format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n{{\"a\":1}}"
                ))
                .unwrap();
            assert_eq!(client.answer(method).unwrap().status, 200);
            assert_eq!(
                taken(&log),
                [format!("{method} {path}|length 7|{{\"a\":1}}")]
            );
        }
    }
    // A composed endpoint has the whole body in its hand, however it came.
    let chunks = "7\r\n{\"a\":1}\r\n0\r\n\r\n";
    let answer = gateway.send(
        "POST",
        format!("POST /c HTTP/1.1\r\nHost: a\r\n{CHUNKED}\r\n\r\n{chunks}"),
    );
    assert_eq!(answer.status, 200);
    assert_eq!(taken(&log), ["POST /c|length 7|{\"a\":1}"]);
}

/// Waits until the gateway's log has `count` lines with `text`, those of the access log aside: it is written by a thread
/// of its own.
fn logs(gateway: &Gateway, text: &str, count: usize) {
    let limit = Duration::from_secs(5);
    let found = || {
        let output = gateway.output();
        let lines = output.lines().filter(|line| line.contains('▶'));
        lines.filter(|line| line.contains(text)).count()
    };
    eventually(text, limit, || found() == count);
}

/// What both kinds of endpoint make of `answer`, each in one line of the log with `text`. No connection of the backend is
/// used again.
fn through(answer: &str, text: &str) -> [Answer; 2] {
    ["/c", "/n"].map(|path| {
        let answer = answer.to_owned();
        let backend = Upstream::start(move |mut call| {
            loop {
                call.send(&answer)?;
                call.head = next_head(&mut call)?;
            }
        });
        let gateway = start(&backend);
        let got = gateway.get(path);
        pause(Duration::from_millis(20));
        gateway.get(path);
        assert_eq!(backend.calls(), 2, "{}", gateway.output());
        logs(&gateway, text, 2);
        logs(&gateway, "WARN", 2);
        got
    })
}

fn json_head(fields: &str) -> String {
    format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{fields}\r\n\r\n")
}

#[test]
fn bytes_behind_an_answer_do_not_hurt_it_and_are_told_of_once() {
    let length = json_head("Content-Length: 11") + "{\"ok\":true}";
    let chunked = json_head(CHUNKED) + "b\r\n{\"ok\":true}\r\n0\r\n\r\n";
    for whole in [length, chunked] {
        for surplus in ["X", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nbad"] {
            let told = "sent more bytes than its answer has";
            for answer in through(&(whole.clone() + surplus), told) {
                let got = (answer.status, answer.text());
                assert_eq!(got, (200, "{\"ok\":true}".to_owned()));
            }
        }
    }
}

#[test]
fn bytes_behind_the_refusal_of_a_websocket_do_not_hurt_it() {
    let refusal = "HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nnoHTTP/1.1 200 OK\r\n\r\n";
    let backend = Upstream::start(move |mut call| {
        call.send(refusal)?;
        call.sees_hang_up(Duration::from_secs(5));
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
    let answer = gateway.get_with("/n", &fields);
    assert_eq!((answer.status, answer.text().as_str()), (403, "no"));
    logs(&gateway, "sent more bytes than its answer has", 1);
}

#[test]
fn equal_lengths_collapse_and_others_are_refused() {
    for fields in [
        "Content-Length: 11\r\nContent-Length: 11",
        "Content-Length: 11, 11",
        "Content-Length: 11,11\r\nContent-Length: 11",
    ] {
        let backend = Upstream::raw(json_head(fields) + "{\"ok\":true}");
        let gateway = start(&backend);
        for path in ["/c", "/n"] {
            let answer = gateway.get(path);
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "{\"ok\":true}"),
                "{path} {fields}"
            );
            let lengths = answer
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
        let told = "Content-Length beside Transfer-Encoding";
        for answer in through(&(json_head(&fields) + chunks), told) {
            let got = (answer.status, answer.text());
            assert_eq!(got, (200, "{\"ok\":true}".to_owned()));
            let both = answer.header("content-length").is_some()
                && answer.header("transfer-encoding").is_some();
            assert!(!both, "{:?}", answer.headers);
        }
    }
}

/// A backend that ends each connection in place of its second answer, and how often it was asked.
fn ends_second(reset: bool) -> (Upstream, Log) {
    let log = Log::default();
    let seen = log.clone();
    let upstream = Upstream::start(move |mut call| {
        for turn in 0.. {
            call.body()?;
            let line = call.head.lines().next().unwrap_or_default().to_owned();
            seen.lock().unwrap().push(line);
            if turn > 0 {
                if reset {
                    // Closed with something unread, a socket sends RST.
                    let socket = socket2::SockRef::from(call.reader.get_ref());
                    socket.set_linger(Some(Duration::ZERO))?;
                }
                return Ok(());
            }
            call.send(json_head("Content-Length: 2") + "{}")?;
            call.head = next_head(&mut call)?;
        }
        Ok(())
    });
    (upstream, log)
}

#[test]
fn only_safe_methods_are_sent_again_when_a_kept_connection_ends() {
    for reset in [false, true] {
        let (backend, log) = ends_second(reset);
        let gateway = start(&backend);
        for path in ["/c", "/n"] {
            for (method, body, tries) in [
                ("GET", "", 2),
                ("GET -head", "", 2),
                ("GET", "{}", 2),
                ("DELETE", "", 1),
                ("PUT", "{}", 1),
                ("POST", "{}", 1),
                ("PATCH", "{}", 1),
                ("POST", "", 1),
            ] {
                let mut client = gateway.client();
                // Leaves one connection behind that has given its one answer.
                client.send(request("GET", "/n", &[])).unwrap();
                assert_eq!(client.answer("GET").unwrap().status, 200);
                pause(Duration::from_millis(20));
                taken(&log);
                let (method, suffix) = method.split_once(' ').unwrap_or((method, ""));
                let path = &format!("{path}{suffix}");
                let text = format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.send(text).unwrap();
                let answer = client.answer(method).unwrap();
                let what = format!("{method} {path} {body:?}, reset {reset}");
                let seen = taken(&log);
                if path == "/n" && !body.is_empty() && method == "GET" {
                    // What streams past is gone.
                    assert!(seen.len() <= 2, "{what}: {seen:?}");
                    continue;
                }
                assert_eq!(seen.len(), tries, "{what}: {seen:?}");
                let status = if tries == 2 { 200 } else { 500 };
                // An answer to HEAD has nothing to compose.
                if suffix.is_empty() || path.starts_with("/n") {
                    assert_eq!(answer.status, status, "{what}");
                }
            }
        }
    }
}

/// A TLS server that ends each connection without a close_notify in place of its second answer.
fn tls_backend(authority: &Authority) -> u16 {
    use rustls::pki_types::pem::PemObject as _;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    let (certificate, key) = authority.pair("127.0.0.1");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(
            vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()],
            PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
        )
        .unwrap();
    let config = Arc::new(config);
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || -> io::Result<()> {
                let session = rustls::ServerConnection::new(config).unwrap();
                let mut stream = rustls::StreamOwned::new(session, socket);
                for turn in 0..2 {
                    let mut head = Vec::new();
                    let mut byte = [0];
                    while !head.ends_with(b"\r\n\r\n") {
                        stream.read_exact(&mut byte)?;
                        head.push(byte[0]);
                    }
                    if turn == 0 {
                        stream.write_all((json_head("Content-Length: 2") + "{}").as_bytes())?;
                    }
                }
                stream.sock.shutdown(std::net::Shutdown::Both)
            });
        }
    });
    port
}

#[test]
fn a_kept_tls_connection_that_ends_without_a_word_is_replaced() {
    let authority = Authority::new();
    let port = tls_backend(&authority);
    let mut file = config(&format!("https://127.0.0.1:{port}"));
    file["client_tls"] = json!({ "ca_certs": ["ca.pem"] });
    let gateway = Gateway::start_with(&file.to_string(), &[("ca.pem", &authority.pem())]);
    for path in ["/n", "/c"] {
        let statuses: Vec<u16> = (0..6).map(|_| gateway.get(path).status).collect();
        assert_eq!(statuses, [200; 6], "{path}: {}", gateway.output());
    }
}

#[test]
fn hundreds_of_fields_pass_and_the_bound_is_in_bytes() {
    let many: String = (0..700)
        .map(|i| format!("X-Field-{i}: value {i}\r\n"))
        .collect();
    let head = json_head(&format!("{many}Content-Length: 11"));
    let size = head.len();
    for pieces in [1, 3] {
        let head = head.clone();
        let backend = Upstream::start(move |mut call| {
            loop {
                let (first, rest) = head.split_at(head.len() * 2 / 3);
                call.send(first)?;
                if pieces > 1 {
                    pause(Duration::from_millis(30));
                }
                call.send(format!("{rest}{{\"ok\":true}}"))?;
                call.head = next_head(&mut call)?;
            }
        });
        let gateway = start(&backend);
        for path in ["/n", "/c", "/n"] {
            let answer = gateway.get(path);
            assert_eq!(
                (answer.status, answer.text().as_str()),
                (200, "{\"ok\":true}"),
                "{path}: {}",
                gateway.output()
            );
            if path == "/n" {
                assert_eq!(answer.header("x-field-699"), Some("value 699"));
                let passed = answer
                    .headers
                    .iter()
                    .filter(|(name, _)| name.starts_with("x-field"));
                assert_eq!(passed.count(), 700);
            }
        }
        // A connection is given back just after its answer has gone out.
        eventually("the connection is kept", Duration::from_secs(20), || {
            let before = backend.calls();
            gateway.get("/n").status == 200 && backend.calls() == before
        });
    }
    for most in [size - 1, size] {
        let backend = Upstream::raw(head.clone() + "{\"ok\":true}");
        let mut file = config(&backend.url());
        file["extra_config"]["portcullis/limits"] = json!({ "upstream_headers": most });
        let gateway = Gateway::start(&file.to_string());
        let status = if most < size { 500 } else { 200 };
        for path in ["/n", "/c"] {
            assert_eq!(gateway.get(path).status, status, "{path} {most}");
        }
        let told = format!("server response headers exceeded {most} bytes");
        logs(&gateway, &told, if most < size { 2 } else { 0 });
    }
}

#[test]
fn the_bound_of_a_head_holds_for_few_fields_too() {
    let backend = Upstream::raw(
        json_head(&format!(
            "X-Long: {}\r\nContent-Length: 2",
            "x".repeat(9000)
        )) + "{}",
    );
    let mut file = config(&backend.url());
    file["extra_config"]["portcullis/limits"] = json!({ "upstream_headers": "8KiB" });
    let gateway = Gateway::start(&file.to_string());
    assert_eq!(gateway.get("/n").status, 500);
    logs(&gateway, "exceeded 8192 bytes", 1);
}

/// The raw answer to a request that is the last one on its connection.
fn raw(gateway: &Gateway, bytes: &str) -> String {
    let mut client: Client = gateway.client();
    client.send(bytes).unwrap();
    String::from_utf8(client.rest().unwrap()).unwrap()
}

#[test]
fn a_client_of_http10_gets_what_it_knows() {
    let open =
        Upstream::raw("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{\"ok\":true}");
    let gateway = start(&open);
    for fields in ["", "Connection: keep-alive\r\n"] {
        let mut client = gateway.client();
        client
            .send(format!("GET /n HTTP/1.0\r\nHost: a\r\n{fields}\r\n"))
            .unwrap();
        let answer = String::from_utf8(client.rest().unwrap()).unwrap();
        assert!(answer.starts_with("HTTP/1.0 200 OK\r\n"), "{answer}");
        assert!(
            answer.to_lowercase().contains("\r\nconnection: close\r\n"),
            "{answer}"
        );
        assert!(
            !answer.contains("chunked") && answer.ends_with("\r\n\r\n{\"ok\":true}"),
            "{answer}"
        );
    }
    let (backend, log) = strict();
    let gateway = start(&backend);
    for path in ["/c", "/n"] {
        let mut client = gateway.client();
        let head = format!(
            "POST {path} HTTP/1.0\r\nHost: a\r\nConnection: keep-alive\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n{{}}"
        );
        client.send(&head).unwrap();
        let answer = client.any_head().unwrap();
        assert_eq!(answer.status, 200, "no interim answer");
        assert_eq!(answer.header("connection"), Some("keep-alive"));
        client.body(&answer, "POST").unwrap();
        client.send(&head).unwrap();
        assert_eq!(
            client.answer("POST").unwrap().status,
            200,
            "the promise is kept"
        );
        assert_eq!(taken(&log).len(), 2);
    }
}

#[test]
fn a_status_without_a_name_has_a_phrase() {
    let backend = Upstream::raw("HTTP/1.1 599 Whatever\r\nContent-Length: 0\r\n\r\n");
    let gateway = start(&backend);
    let answer = raw(
        &gateway,
        "GET /n HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n",
    );
    assert!(
        answer.starts_with("HTTP/1.1 599 status code 599\r\n"),
        "{answer}"
    );
}

#[test]
fn gzip_is_not_asked_for_beside_a_range_nor_by_head() {
    let backend = Upstream::raw(json_head("Content-Length: 0"));
    let gateway = start(&backend);
    for (suffix, fields, asked) in [
        ("", &[][..], true),
        ("", &[("Range", "bytes=0-9")][..], false),
        ("-head", &[][..], false),
    ] {
        for path in ["/c", "/n"] {
            let path = format!("{path}{suffix}");
            gateway.get_with(&path, fields);
            let head = backend.heads().pop().unwrap();
            let gzip = field(&head, "accept-encoding").is_some();
            assert_eq!(gzip, asked, "{path} {fields:?}");
        }
    }
}

#[test]
fn an_answer_to_head_is_whole_for_a_client_that_sent_get() {
    let backend = Upstream::raw(json_head("Content-Length: 2000\r\nX-Seen: 1"));
    let gateway = start(&backend);
    let answer = gateway.get("/n-head");
    assert_eq!((answer.status, answer.text().as_str()), (200, ""));
    assert_eq!(answer.header("x-seen"), Some("1"));
}

#[test]
fn an_empty_user_agent_is_not_sent_on() {
    let backend = Upstream::raw(json_head("Content-Length: 2") + "{}");
    let gateway = start(&backend);
    for path in ["/c", "/n"] {
        gateway.get_with(path, &[("User-Agent", "")]);
        assert_eq!(
            field(&backend.heads().pop().unwrap(), "user-agent"),
            None,
            "{path}"
        );
        gateway.get_with(path, &[("User-Agent", "curl")]);
        assert_eq!(
            field(&backend.heads().pop().unwrap(), "user-agent"),
            Some("curl"),
            "{path}"
        );
    }
}

#[test]
fn a_call_that_lost_its_user_agent_has_the_gateways() {
    let backend = Upstream::raw(json_head("Content-Length: 2") + "{}");
    let mut file = config(&backend.url());
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        let blacklist =
            json!({ "header.Blacklist": { "scope": ["request"], "names": ["User-Agent"] } });
        endpoint["backend"][0]["extra_config"] = json!({ "modifier/martian": blacklist });
    }
    let gateway = Gateway::start(&file.to_string());
    for path in ["/c", "/n"] {
        gateway.get_with(path, &[("User-Agent", "curl")]);
        let head = backend.heads().pop().unwrap();
        let agents: Vec<&str> = head
            .lines()
            .filter(|l| l.starts_with("User-Agent"))
            .collect();
        assert_eq!(agents.len(), 1, "{path}: {head}");
        assert!(
            agents[0].starts_with("User-Agent: Portcullis/"),
            "{path}: {head}"
        );
    }
}

#[test]
fn blanks_around_values_of_scripts_are_not_sent() {
    let backend = Upstream::raw(
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Seen: 1\r\nContent-Length: 2\r\n\r\n{}",
    );
    let mut file = config(&backend.url());
    let script = json!({ "pre": "local r = request.load(); r:headers('X-Blank', '  a b  ')", "post": "local r = response.load(); r:headers('X-Back', '  c d  ')", "allow_open_libs": false });
    for endpoint in file["endpoints"].as_array_mut().unwrap() {
        endpoint["extra_config"] = json!({ "modifier/lua-proxy": script });
        endpoint["input_headers"] = json!(["*"]);
    }
    let gateway = Gateway::start(&file.to_string());
    for path in ["/c", "/n"] {
        let answer = raw(
            &gateway,
            &format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"),
        );
        let head = backend.heads().pop().unwrap();
        assert!(head.contains("X-Blank: a b\r\n"), "{path}: {head}");
        if path == "/n" {
            assert!(
                answer.to_lowercase().contains("x-back: c d\r\n"),
                "{answer}"
            );
        }
    }
}

#[test]
fn an_upload_of_known_length_reaches_its_backend_piece_by_piece() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let log = seen.clone();
    let backend = Upstream::start(move |mut call| {
        let mut byte = [0];
        for _ in 0..3 {
            call.reader.read_exact(&mut byte)?;
            log.lock().unwrap().push(byte[0]);
        }
        call.send(json_head("Content-Length: 2") + "{}")?;
        call.head = next_head(&mut call)?;
        call.send(json_head("Content-Length: 2") + "{}")
    });
    let gateway = start(&backend);
    let mut client = gateway.client();
    client.send(upload("Content-Length: 3") + "a").unwrap();
    for (count, piece) in [(1, "b"), (2, "c")] {
        eventually(
            "the backend sees each piece",
            Duration::from_secs(3),
            || seen.lock().unwrap().len() == count,
        );
        client.send(piece).unwrap();
    }
    assert_eq!(client.answer("POST").unwrap().status, 200);
    client.send(request("GET", "/n", &[])).unwrap();
    assert_eq!(client.answer("GET").unwrap().status, 200);
    assert_eq!(backend.calls(), 1, "the connection is kept");
}

#[test]
fn an_answer_of_known_length_reaches_its_client_piece_by_piece() {
    let (turn, wait) = std::sync::mpsc::channel::<()>();
    let wait = Mutex::new(wait);
    let backend = Upstream::start(move |mut call| {
        call.send(json_head("Content-Length: 3"))?;
        for piece in ["a", "b", "c"] {
            // Not before the client has seen what came: a gateway that collects would hang here.
            wait.lock().unwrap().recv().ok();
            call.send(piece)?;
        }
        Ok(())
    });
    let gateway = start(&backend);
    let mut client = gateway.client().patience(Duration::from_secs(3));
    client.send(request("GET", "/n", &[])).unwrap();
    assert_eq!(client.head().unwrap().status, 200);
    for piece in [b"a", b"b", b"c"] {
        turn.send(()).unwrap();
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        assert_eq!(&byte, piece);
    }
}

#[test]
fn a_body_that_a_script_empties_or_replaces_has_the_length_that_it_has() {
    let (backend, log) = strict();
    for (body, framing) in [("", "length 0"), ("longer than it was", "length 18")] {
        let script = format!("local r = request.load(); r:body('{body}')");
        let mut file = config(&backend.url());
        for endpoint in file["endpoints"].as_array_mut().unwrap() {
            let script = json!({ "pre": script });
            endpoint["backend"][0]["extra_config"] = json!({ "modifier/lua-backend": script });
        }
        let gateway = Gateway::start(&file.to_string());
        for path in ["/c", "/n"] {
            let sent = format!("POST {path} HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello");
            assert_eq!(
                gateway.send("POST", sent).status,
                200,
                "{}",
                gateway.output()
            );
            assert_eq!(taken(&log), [format!("POST {path}|{framing}|{body}")]);
        }
    }
}
