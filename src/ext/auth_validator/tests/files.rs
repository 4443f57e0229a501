//! Which blocks are rejected, which get a warning, and what the hints say.

use http::HeaderMap;
use serde_json::json;

use super::{block, compiled, findings, key_file, verdict, with_token};
use crate::ext::auth_validator::ENDPOINT;
use crate::ext::testing::File;
use crate::jose::Algorithm;
use crate::jose::testing::{jwk, token};

#[test]
fn a_block_that_would_not_protect_is_rejected() {
    let keys = key_file();
    let path = keys.path().display().to_string();
    for text in [
        r#"{"jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": "none", "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": "ES256K", "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": [], "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": ["RS256", "none"], "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": {"a": 1}, "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": "RS256", "algs": ["ES256"], "jwk_url": "https://k"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "audience_matcher": "most"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "roles": ["a"], "roles_key": []}"#.to_owned(),
        r#"{"introspection": {}}"#.to_owned(),
        r#"{"introspection": {"url": "http://as", "client_id": "a", "client_secret": "b"}}"#.to_owned(),
        r#"{"introspection": {"url": "https://as", "client_id": "a"}}"#.to_owned(),
        r#"{"providers": [{"introspection": {"url": "https://as", "client_id": "a", "client_secret": "b"}}]}"#.to_owned(),
        r#"{"introspection": {"url": "https://as", "client_id": "a", "client_secret": "b"}, "providers": [{"issuer": "i", "alg": "RS256", "jwk_url": "https://k"}]}"#.to_owned(),
        r#"{"providers": [{"issuer": "i", "introspection": {"url": "https://as", "client_id": "a", "client_secret": "b"}}, {"issuer": "j", "introspection": {"url": "https://as", "client_id": "a", "client_secret": "b"}}]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"dpop": "yes"}}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"dpop": "required", "dpop_algs": ["HS256"]}}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"dpop": "required", "dpop_max_age": "1h"}}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"dpop": "required", "dpop_origins": ["https://a/x"]}}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"dpop": "required", "dpop_nonce": true, "dpop_nonce_secret": "short"}}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"certificate": "required", "certificate_header": "X-Cert"}}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "issuer": "https://i", "typ": "at+jwt"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "audience": ["a"], "typ": "at+jwt"}"#.to_owned(),
        r#"{"alg": "RS256", "providers": [{"issuer": "https://i", "jwk_url": "https://k", "typ": "at+jwt"}]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_local_path": "/does/not/exist"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "jwk_local_ca": "/does/not/exist"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "jwk_fingerprints": ["%"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "jwk_fingerprints": ["AAAA"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "cipher_suites": [5, 10]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "scopes": ["a"], "scopes_key": "s", "scopes_matcher": "most"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": ["sub", "x-user"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "key_identify_strategy": "x"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [["sub"]]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": ["sub"]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [["sub", "a b"]]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "audience": true}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "cache": true, "cache_duration": "5m"}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "cache": true, "cache_duration": -1}"#.to_owned(),
        r#"{"alg": "RS256", "openid_configuration": true}"#.to_owned(),
        r#"{"alg": "RS256", "providers": []}"#.to_owned(),
        r#"{"alg": "RS256", "providers": [{"jwk_url": "https://k"}]}"#.to_owned(),
        r#"{"alg": "RS256", "providers": [{"issuer": "a", "jwk_url": "http://k"}]}"#.to_owned(),
        r#"{"alg": "RS256", "jwk_url": "https://k", "providers": [{"issuer": "a", "jwk_url": "https://k"}]}"#.to_owned(),
        format!(r#"{{"alg": "RS256", "jwk_local_path": {path:?}, "cache": true}}"#),
        format!(r#"{{"alg": "RS256", "jwk_local_path": {path:?}, "secret_url": "awskms://x", "cypher_key": "x"}}"#),
    ] {
        let (config_errors, _) = findings(&text);
        assert!(config_errors > 0, "{text}");
    }
}

#[test]
fn a_block_with_an_obvious_meaning_is_accepted() {
    for (text, words) in [
        (r#""audience": "a""#, "treated as"),
        (r#""issuer": ["https://i"]"#, "treated as"),
        (r#""scopes": ["a"]"#, "in the claim"),
        (r#""scopes": "a", "scopes_key": "scope""#, "treated as"),
        (
            r#""scopes": ["a"], "scopes_key": "scope", "scopes_matcher": "ALL""#,
            "treated as",
        ),
        (r#""roles": "admin""#, "treated as"),
        (r#""Roles": ["admin"]"#, "KeyTaken"),
        (r#""disable_jwk_security": "false""#, "false"),
        (r#""cache": "true", "cache_duration": "900""#, "900"),
        (r#""key_identify_strategy": "KID""#, "treated as"),
    ] {
        let text = format!(r#"{{"alg": "RS256", "jwk_url": "https://k", {text}}}"#);
        let mut file = File::new(&text);
        file.endpoint(&ENDPOINT, "/m");
        let found = file.findings();
        assert_eq!(file.config_errors(), 0, "{text}: {found}");
        assert!(
            found.contains(words) || words == "treated as" && found.contains("Taken"),
            "{text}: {found}"
        );
    }
    let (config_errors, _) = findings(r#"{"alg": "rs256 ", "jwk_url": "https://k"}"#);
    assert_eq!(config_errors, 0);
}

/// A hint must lead to a configuration that starts, not to the next error.
#[test]
fn the_hint_for_a_single_claim_is_a_valid_pair() {
    for claim in ["user_id", "realm.user id", "https://a.example/tenant"] {
        let text = json!({"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [claim]});
        let mut file = File::new(&text.to_string());
        file.endpoint(&ENDPOINT, "/m");
        let hints = file.hints();
        let hint = hints.iter().find(|hint| hint.starts_with('[')).unwrap();
        let text =
            format!(r#"{{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [{hint}]}}"#);
        assert_eq!(findings(&text).0, 0, "{text}");
    }
}

#[test]
fn one_fault_is_reported_once_with_its_reason() {
    let keys = tempfile::NamedTempFile::new().unwrap();
    let private = json!({"keys": [jwk("ed25519", true)]}).to_string();
    std::fs::write(keys.path(), private).unwrap();
    let lines = |text: &str| {
        let mut file = File::new(text);
        file.endpoint(&ENDPOINT, "/x");
        file.config_error_lines()
    };
    let found = lines(&block(&keys, ""));
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(
        found[0].ends_with("no key of the set can be used: it is a private key"),
        "{found:?}"
    );
    let path = keys.path().display().to_string();
    let found = lines(&format!(
        r#"{{"alg": "EdDSA", "providers": [{{"issuer": "https://i", "jwk_local_path": {path:?}}}]}}"#
    ));
    assert_eq!(found.len(), 1, "{found:?}");
    let found = lines(r#"{"alg": "EdDSA", "providers": []}"#);
    assert!(found[0].contains("has none"), "{found:?}");
}

#[tokio::test]
async fn keys_over_an_insecure_connection_close_the_endpoint() {
    for text in [
        r#"{"alg": "RS256", "jwk_url": "http://k", "optional": true}"#,
        r#"{"alg": "RS256", "jwk_url": "HTTPS://k"}"#,
        r#"{"alg": "RS256"}"#,
    ] {
        let steps = compiled(text);
        assert_eq!(
            verdict(&steps, &HeaderMap::new()).await,
            Some((401, "missing"))
        );
        let token = token(Algorithm::Rs256, "{}");
        assert_eq!(
            verdict(&steps, &with_token(&token)).await,
            Some((401, "keys_unavailable"))
        );
    }
}

#[test]
fn a_file_with_few_requirements_gets_one_hint() {
    let keys = key_file();
    for (more, warnings) in [
        ("", 1),
        (r#", "audience": ["a"]"#, 1),
        (r#", "audience": ["a"], "issuer": "i""#, 0),
        (r#", "audience": ["a"], "issuer": "i", "leeway": "1ms""#, 1),
    ] {
        assert_eq!(findings(&block(&keys, more)), (0, warnings), "{more}");
    }
}

#[test]
fn the_new_forms_are_accepted_without_a_finding_of_their_own() {
    for text in [
        r#"{"alg": ["RS256", "ES256"], "jwk_url": "https://k"}"#,
        r#"{"algs": ["EdDSA", "ML-DSA-65"], "jwk_url": "https://k", "single_key_without_kid": true}"#,
        r#"{"alg": "RS256", "jwk_url": "https://k", "audience": ["a"], "audience_key": "client_id", "audience_matcher": "any"}"#,
        r#"{"alg": "RS256", "jwk_url": "https://k", "roles": ["a"], "roles_key": ["r", "a.b"], "roles_as_object": true}"#,
        r#"{"alg": "RS256", "jwk_url": "https://k", "propagate_claims": [[["r", "a.b"], "x-r"]]}"#,
        r#"{"introspection": {"url": "https://as", "client_id": "a", "client_secret": "b", "auth_method": "client_secret_post"}}"#,
        r#"{"alg": "RS256", "jwk_url": "https://k", "binding": {"dpop": "optional", "dpop_nonce": true}}"#,
    ] {
        assert_eq!(findings(text).0, 0, "{text}");
    }
}

#[test]
fn es256k_is_rejected_with_the_reason() {
    let mut file = File::new(r#"{"alg": "es256k", "jwk_url": "https://k"}"#);
    file.endpoint(&ENDPOINT, "/x");
    let hints = file.hints().join("\n");
    assert!(
        hints.contains("secp256k1") && hints.contains("ES256"),
        "{hints}"
    );
}

#[test]
fn a_key_file_that_others_may_change_gets_a_warning() {
    let keys = key_file();
    let (_, before) = findings(&block(&keys, ""));
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    std::fs::set_permissions(keys.path(), open).unwrap();
    assert_eq!(findings(&block(&keys, "")), (0, before + 1));
}
