//! Pooled connections to backends that are closed.

use super::*;

/// A backend that closes each connection instead of sending a second response, and its number of requests.
pub(super) fn ends_second(reset: bool) -> (Upstream, Log) {
    let log = Log::default();
    let seen = log.clone();
    let upstream = Upstream::start(move |mut call| {
        for turn in 0.. {
            call.body()?;
            let line = call.head.lines().next().unwrap_or_default().to_owned();
            seen.lock().unwrap().push(line);
            if turn > 0 {
                if reset {
                    // A socket that is closed with unread bytes sends RST.
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
                // Leaves one connection in the pool that has already sent its one response.
                client.send(request("GET", "/n", &[])).unwrap();
                assert_eq!(client.response("GET").unwrap().status, 200);
                pause(Duration::from_millis(20));
                taken(&log);
                let (method, suffix) = method.split_once(' ').unwrap_or((method, ""));
                let path = &format!("{path}{suffix}");
                let text = format!(
                    "{method} {path} HTTP/1.1\r\nHost: a\r\nContent-Length: {}\r\n\r\n{body}",
                    body.len()
                );
                client.send(text).unwrap();
                let response = client.response(method).unwrap();
                let what = format!("{method} {path} {body:?}, reset {reset}");
                let seen = taken(&log);
                if path == "/n" && !body.is_empty() && method == "GET" {
                    // A streamed body cannot be sent again.
                    assert!(seen.len() <= 2, "{what}: {seen:?}");
                    continue;
                }
                assert_eq!(seen.len(), tries, "{what}: {seen:?}");
                let status = if tries == 2 { 200 } else { 500 };
                // A response to HEAD has nothing to compose.
                if suffix.is_empty() || path.starts_with("/n") {
                    assert_eq!(response.status, status, "{what}");
                }
            }
        }
    }
}

/// A TLS server that closes each connection without a close_notify instead of sending a second response.
pub(super) fn tls_backend(authority: &Authority) -> u16 {
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
fn a_kept_alive_tls_connection_that_ends_without_close_notify_is_replaced() {
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
