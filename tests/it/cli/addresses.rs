//! The addresses that a configuration listens at.

use super::{GOOD, ports, with_file};

#[test]
fn check_t_tries_every_address_that_run_would_bind() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let revoker = |more: &str| {
        format!(
            r#""auth/revoker": {{"N": 100, "P": 0.01, "hash_name": "optimal", "TTL": 60, "token_keys": ["jti"], {more}}}"#
        )
    };
    let blocks = [
        (
            "telemetry~1opentelemetry",
            format!(
                r#""telemetry/opentelemetry": {{"exporters": {{"prometheus": [{{"name": "p", "port": {port}}}]}}}}"#
            ),
        ),
        (
            "portcullis~1metrics",
            format!(r#""portcullis/metrics": {{"listen": "127.0.0.1:{port}", "page": true}}"#),
        ),
        ("auth~1revoker", revoker(&format!(r#""port": {port}"#))),
        (
            "auth~1revoker",
            revoker(&format!(
                r#""port": {}, "http_listen": "127.0.0.1:{port}", "secret": "0123456789abcdef""#,
                ports::free()
            )),
        ),
    ];
    for (pointer, block) in blocks {
        let file = with_block(&block, ports::free());
        let (code, _, err) = with_file(&file, &["check"]);
        assert_eq!(code, 0, "{block}: {err}");
        let (code, _, err) = with_file(&file, &["check", "-t"]);
        assert_eq!(code, 1, "{block}: {err}");
        assert!(err.contains("bind") && err.contains(pointer), "{err}");
        assert!(err.contains(&port.to_string()), "{err}");
        assert_eq!(with_file(&file, &["run"]).0, 1, "{block}");
    }

    // As with `run`, the statistics do not stop the start.
    let stats = format!(r#""telemetry/metrics": {{"listen_address": "127.0.0.1:{port}"}}"#);
    let (code, _, err) = with_file(&with_block(&stats, ports::free()), &["check", "-t"]);
    assert_eq!(code, 0, "{err}");
    assert!(err.contains("starts without this page"), "{err}");
}

#[test]
fn two_listeners_of_a_file_cannot_have_one_address() {
    let port = ports::free();
    let own = format!(r#""portcullis/metrics": {{"listen": "127.0.0.1:{port}"}}"#);
    let series = |list: &str| {
        format!(r#""telemetry/opentelemetry": {{"exporters": {{"prometheus": [{list}]}}}}"#)
    };
    let one = format!(r#"{{"name": "p", "port": {port}}}"#);
    for (block, gateway) in [
        (own.clone(), port),
        (format!("{own}, {}", series(&one)), ports::free()),
    ] {
        let file = with_block(&block, gateway);
        let (code, _, err) = with_file(&file, &["check"]);
        assert_eq!(code, 1, "{block}: {err}");
        assert!(err.contains("cannot listen at"), "{err}");
        assert_eq!(with_file(&file, &["run"]).0, 1);
    }
    // Two pages with the same series are one.
    let twice = with_block(&series(&format!("{one}, {one}")), ports::free());
    let (code, _, err) = with_file(&twice, &["check", "-t"]);
    assert_eq!(code, 0, "{err}");
}

/// A configuration with this block in the service.
fn with_block(block: &str, port: u16) -> String {
    let root =
        format!(r#"{{"listen_ip": "127.0.0.1", "port": {port}, "extra_config": {{{block}}}, "#);
    GOOD.replacen('{', &root, 1)
}

/// A user who chose a port with `-p` must learn which other address of the file is in use.
#[test]
fn the_message_about_an_address_in_use_names_its_block() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = taken.local_addr().unwrap().port();
    let block = format!(r#""portcullis/metrics": {{"listen": "127.0.0.1:{port}"}}"#);
    for (file, name) in [
        (with_block(&block, ports::free()), "portcullis/metrics"),
        (with_block("", port), "port"),
    ] {
        let (code, _, err) = with_file(&file, &["run"]);
        assert_eq!(code, 1, "{err}");
        let end = format!("(the address of {name:?})");
        assert!(
            err.contains(&format!("listen tcp 127.0.0.1:{port}: bind: ")),
            "{err}"
        );
        assert!(err.trim_end().ends_with(&end), "{err}");
    }
}
