//! TLS to backends.

use super::*;

#[test]
fn a_backend_may_show_a_certificate_of_the_file() {
    for (authority, version) in [(false, "http/1.1"), (true, "http/1.1"), (true, "auto")] {
        let pair = self_signed("localhost", authority);
        let tls = json!({ "ca_certs": ["it.crt"], "disable_system_ca_pool": true });
        let file = calling_over(version, serve(&pair, None), &tls);
        let gateway = Gateway::start_with(&file.to_string(), &[("it.crt", &pair.0)]);
        let status = gateway.get("/a").status;
        assert_eq!(status, 200, "{authority} {version} {}", gateway.output());
        let (other, _) = self_signed("localhost", authority);
        let gateway = Gateway::start_with(&file.to_string(), &[("it.crt", &other)]);
        assert_eq!(gateway.get("/a").status, 500, "another one is on the list");
    }
}

pub(super) fn calling(port: u16, client_tls: &Value) -> Value {
    json!({ "version": 3, "client_tls": client_tls, "endpoints": [{ "endpoint": "/a", "timeout": "10s",
        "backend": [{ "host": [format!("https://localhost:{port}")], "url_pattern": "/" }] }] })
}

/// The same with another `http_version`.
pub(super) fn calling_over(version: &str, port: u16, client_tls: &Value) -> Value {
    let mut file = calling(port, client_tls);
    if version != "http/1.1" {
        file["endpoints"][0]["backend"][0]["extra_config"] =
            json!({ "portcullis/upstream": { "http_version": version } });
    }
    file
}

#[test]
fn in_the_insecure_mode_certificates_are_not_checked() {
    let gateway = {
        let tls = json!({ "allow_insecure_connections": true });
        let file = calling_over("auto", serve(&owned(V1), None), &tls);
        Gateway::start(&file.to_string())
    };
    assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
    for pair in [owned(V1), odd(), owned(P521)] {
        let file = calling(
            serve(&pair, None),
            &json!({ "allow_insecure_connections": true }),
        );
        let gateway = Gateway::start(&file.to_string());
        assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
        // The connection is also kept.
        assert_eq!(gateway.get("/a").status, 200, "{}", gateway.output());
    }
}

#[test]
fn versions_curves_and_suites_of_client_tls_are_the_only_ones_offered() {
    let authority = Authority::new();
    let (certificate, key) = authority.pair("localhost");
    // A backend that takes one version, group and suite.
    let backend = |version: &'static SupportedProtocolVersion, group: u16, suite: u16| {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider
            .kx_groups
            .retain(|known| u16::from(known.name()) == group);
        provider
            .cipher_suites
            .retain(|known| known.tls13().is_some() || u16::from(known.suite()) == suite);
        let config = ServerConfig::builder_with_provider(Arc::new(provider))
            .with_protocol_versions(&[version])
            .unwrap()
            .with_no_client_auth();
        serve_as(config.with_cert_resolver(as_it_is((&certificate, &key))))
    };
    let (new, old) = (&rustls::version::TLS13, &rustls::version::TLS12);
    for (rules, port, expected) in [
        (json!({}), backend(old, 29, 0xc02b), 200),
        (
            json!({ "min_version": "TLS13" }),
            backend(old, 29, 0xc02b),
            500,
        ),
        (
            json!({ "min_version": "TLS13" }),
            backend(new, 29, 0xc02b),
            200,
        ),
        (
            json!({ "max_version": "TLS12" }),
            backend(new, 29, 0xc02b),
            500,
        ),
        (
            json!({ "max_version": "TLS12" }),
            backend(old, 29, 0xc02b),
            200,
        ),
        (
            json!({ "curve_preferences": [24, 23] }),
            backend(new, 29, 0xc02b),
            500,
        ),
        (
            json!({ "curve_preferences": [24, 23] }),
            backend(new, 23, 0xc02b),
            200,
        ),
        (
            json!({ "cipher_suites": [0xc02c] }),
            backend(old, 29, 0xc02b),
            500,
        ),
        (
            json!({ "cipher_suites": [0xc02c] }),
            backend(old, 29, 0xc02c),
            200,
        ),
        (
            json!({ "cipher_suites": [0xc02c] }),
            backend(new, 29, 0xc02b),
            200,
        ),
    ] {
        for version in ["http/1.1", "auto"] {
            let mut rules = rules.clone();
            rules["allow_insecure_connections"] = json!(true);
            let gateway = Gateway::start(&calling_over(version, port, &rules).to_string());
            assert_eq!(
                gateway.get("/a").status,
                expected,
                "{rules}: {}",
                gateway.output()
            );
        }
    }
    for (rules, told) in [
        (
            json!({ "cipher_suites": [5] }),
            "none of the cipher suites is supported",
        ),
        (
            json!({ "curve_preferences": [1] }),
            "none of the curves is supported",
        ),
        (
            json!({ "min_version": "TLS13", "max_version": "TLS12" }),
            "above",
        ),
    ] {
        let (code, said) = checked(&calling(1, &rules), &[]);
        assert!(code == Some(1) && said.contains(told), "{rules}: {said}");
    }
}

#[test]
fn the_log_has_the_reason_why_a_backends_certificate_is_rejected() {
    let authority = Authority::new();
    for (pair, words) in [
        (
            owned(V1),
            "it is an X.509 v1 certificate, which has no extensions",
        ),
        (odd(), "its extension 1.2.3.4 is critical and not supported"),
        (owned(P521), "certificate signed by unknown authority"),
    ] {
        let tls = json!({ "ca_certs": ["ca.crt"], "disable_system_ca_pool": true });
        let file = calling(serve(&pair, None), &tls);
        let gateway = Gateway::start_with(&file.to_string(), &[("ca.crt", &authority.pem())]);
        assert_eq!(gateway.get("/a").status, 500);
        eventually("the log says why", Duration::from_secs(30), || {
            gateway.output().contains(words)
        });
    }
}

#[test]
fn client_tls_holds_for_token_servers_and_scripts_too() {
    let authority = Authority::new();
    for (client_tls, demand, status) in [
        (json!({}), false, 500),
        (json!({ "ca_certs": ["ca.crt"] }), false, 200),
        (json!({ "allow_insecure_connections": true }), false, 200),
        (json!({ "ca_certs": ["ca.crt"] }), true, 500),
        (
            json!({ "ca_certs": ["ca.crt"],
                "client_certs": [{ "certificate": "me.crt", "private_key": "me.key" }] }),
            true,
            200,
        ),
    ] {
        let port = backend(&authority, demand);
        let response =
            "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}";
        let upstream = crate::support::upstream::Upstream::raw(response);
        let script = format!(
            "local r = http_response.new('https://localhost:{port}/x') if r:statusCode() ~= 200 then custom_error('no', 500) end"
        );
        let backend = json!({ "host": [upstream.url()], "url_pattern": "/" });
        let mut with_token = backend.clone();
        with_token["extra_config"] = json!({ "auth/client-credentials": {
            "client_id": "i", "client_secret": "s",
            "token_url": format!("https://localhost:{port}/token") } });
        let file = json!({ "version": 3, "client_tls": client_tls, "endpoints": [
            { "endpoint": "/token", "timeout": "10s", "backend": [with_token] },
            { "endpoint": "/lua", "timeout": "10s", "backend": [backend],
              "extra_config": { "modifier/lua-proxy": { "pre": script } } },
        ] });
        let (certificate, key) = authority.pair("gateway");
        let files = [
            ("ca.crt", &*authority.pem()),
            ("me.crt", &certificate),
            ("me.key", &key),
        ];
        let gateway = Gateway::start_with(&file.to_string(), &files);
        for path in ["/token", "/lua"] {
            let response = gateway.get(path);
            assert_eq!(
                response.status,
                status,
                "{path} {client_tls} {}",
                gateway.output()
            );
        }
    }
}

/// A backend that speaks TLS and, if asked to, wants to see a certificate of `authority`. Answers 200 with an access token, whatever is asked.
pub(super) fn backend(authority: &Authority, demand: bool) -> u16 {
    let roots = demand.then(|| authority.roots());
    serve(&authority.pair("localhost"), roots)
}

/// The same with this certificate and key.
pub(super) fn serve(
    (certificate, key): &(String, String),
    demanded: Option<Arc<RootCertStore>>,
) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = demanded.map(|roots| {
        let builder = WebPkiClientVerifier::builder_with_provider(roots, provider);
        builder.build().unwrap()
    });
    serve_who((certificate, key), verifier)
}

/// The same for clients that `verifier` accepts.
pub(super) fn serve_who(pair: (&str, &str), verifier: Option<Arc<dyn ClientCertVerifier>>) -> u16 {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap();
    let config = match verifier {
        None => builder.with_no_client_auth(),
        Some(verifier) => builder.with_client_cert_verifier(verifier),
    };
    serve_as(config.with_cert_resolver(as_it_is(pair)))
}

fn serve_as(config: ServerConfig) -> u16 {
    let config = Arc::new(config);
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            let config = config.clone();
            std::thread::spawn(move || {
                let (mut socket, mut buffer) = (socket, [0; 4096]);
                let mut session = ServerConnection::new(config).unwrap();
                let mut stream = Stream::new(&mut session, &mut socket);
                while matches!(stream.read(&mut buffer), Ok(count) if count > 0) {
                    let response = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 30\r\n\r\n{\"ok\":true,\"access_token\":\"t\"}";
                    let _ = stream.write_all(response.as_bytes());
                }
            });
        }
    });
    port
}

#[test]
fn backends_are_verified_with_the_configured_authorities_and_get_our_certificate() {
    let authority = Authority::new();
    let (open, closed) = (backend(&authority, false), backend(&authority, true));
    let statuses = |client_tls: Option<Value>| {
        let endpoint = |path: &str, port: u16| {
            json!({ "endpoint": path, "timeout": "10s",
                "backend": [{ "host": [format!("https://localhost:{port}")], "url_pattern": "/" }] })
        };
        let mut file = json!({ "version": 3,
            "endpoints": [endpoint("/open", open), endpoint("/closed", closed)] });
        if let Some(tls) = client_tls {
            file["client_tls"] = tls;
        }
        let (certificate, key) = authority.pair("gateway");
        let files = [
            ("ca.crt", &*authority.pem()),
            ("me.crt", &*certificate),
            ("me.key", &*key),
        ];
        let gateway = Gateway::start_with(&file.to_string(), &files);
        (gateway.get("/open").status, gateway.get("/closed").status)
    };
    assert_eq!(statuses(None), (500, 500), "nobody vouches for it");
    let ca = json!({ "ca_certs": ["ca.crt"], "disable_system_ca_pool": true });
    assert_eq!(statuses(Some(ca.clone())), (200, 500));
    let mut both = ca;
    both["client_certs"] = json!([{ "certificate": "me.crt", "private_key": "me.key" }]);
    assert_eq!(statuses(Some(both)), (200, 200));
    let insecure = json!({ "allow_insecure_connections": true });
    assert_eq!(statuses(Some(insecure)), (200, 500));
}
