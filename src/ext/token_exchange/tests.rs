//! Valid and invalid blocks. Requests are tested over sockets.

use std::sync::Arc;

use http::StatusCode;

use super::BACKEND;
use crate::ext::extension::BackendPart;
use crate::ext::identity::{ExchangeRejections, SubjectWanted};
use crate::ext::testing::File;
use crate::runtime::response::Response;

fn findings(block: &str, extra: &str) -> (usize, String) {
    let mut file = File::new(block);
    let response = || Response::empty(StatusCode::UNAUTHORIZED);
    let rejections = ExchangeRejections {
        missing: response(),
        refused: response(),
        forbidden: response(),
    };
    file.set_fact(SubjectWanted::new(true, Arc::new(rejections)));
    let part = file.backend(&BACKEND, extra);
    if file.config_errors() == 0 {
        assert!(matches!(part, BackendPart::Credentials(_)), "{block}");
        assert!(file.fact::<SubjectWanted>().unwrap().is_wanted());
    } else {
        assert!(matches!(part, BackendPart::Nothing));
    }
    (file.config_errors(), file.findings())
}

const GUARDED: &str = r#"{"auth/validator": {}}"#;

#[test]
fn a_block_needs_a_server_a_client_and_a_verified_token() {
    let client = r#""client_id": "gw", "client_secret": "s3cret""#;
    let good = format!(r#"{{"token_url": "https://as/token", {client}, "audience": "orders"}}"#);
    assert_eq!(findings(&good, GUARDED).0, 0);
    let (errors, text) = findings(&good, "{}");
    assert_eq!(errors, 1);
    assert!(text.contains("auth/validator"), "{text}");
    let params = |params: &str| {
        format!(r#"{{"token_url": "https://as/token", {client}, "endpoint_params": {params}}}"#)
    };
    for wrong in [
        format!("{{{client}}}"),
        format!(r#"{{"token_url": "http://as/token", {client}}}"#),
        format!(r#"{{"token_url": "as/token", {client}}}"#),
        r#"{"token_url": "https://as/token"}"#.to_owned(),
        r#"{"token_url": "https://as/token", "client_id": "gw"}"#.to_owned(),
        r#"{"token_url": "https://as/token", "client_id": "gw", "auth_method": "private_key_jwt"}"#
            .to_owned(),
        r#"{"token_url": "https://as/token", "client_id": "gw", "auth_method": "tls_client_auth"}"#
            .to_owned(),
        format!(r#"{{"token_url": "https://as/token", {client}, "grant": "password"}}"#),
        format!(r#"{{"token_url": "https://as/token", {client}, "resource": "abc"}}"#),
        format!(r#"{{"token_url": "https://as/token", {client}, "resource": ["https://a/#f"]}}"#),
        format!(r#"{{"token_url": "https://as/token", {client}, "timeout": "0s"}}"#),
        format!(
            r#"{{"token_url": "https://as/token", {client}, "endpoint_params": {{"subject_token": ["x"]}}}}"#
        ),
        params(r#"{"scope": ["a", "b"]}"#),
        params(r#"{"actor_token": ["t"]}"#),
        params(r#"{"actor_token_type": ["urn:x"]}"#),
        params(r#"{"resource": ["/rel#f"]}"#),
        params(r#"{"scope": ["b"]}, "scope": "a""#),
        params(r#"{"requested_token_type": ["urn:b"]}, "requested_token_type": "urn:a""#),
    ] {
        let (errors, text) = findings(&wrong, GUARDED);
        assert!(errors > 0, "{wrong}");
        assert!(!text.contains("s3cret"), "{text}");
    }
    let plain = format!(
        r#"{{"token_url": "http://as/token", {client}, "allow_insecure": true, "scope": ["a", "b"]}}"#
    );
    assert_eq!(findings(&plain, GUARDED).0, 0);
    let assertion =
        format!(r#"{{"token_url": "https://as/token", {client}, "grant": "jwt-bearer"}}"#);
    let (errors, text) = findings(&assertion, GUARDED);
    assert_eq!(errors, 0);
    assert!(text.contains("opaque"), "{text}");
}
