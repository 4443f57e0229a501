//! How commands get their configuration, and what `token explain` says about endpoints.

use super::{GOOD, run, with_file, with_input};

/// Every command that reads a configuration takes it with `-c` and as an argument. `-` is standard input.
#[test]
fn every_command_takes_the_file_in_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("gateway.json");
    std::fs::write(&path, GOOD).unwrap();
    let path = path.to_str().unwrap();
    let token = ["token", "explain", "--endpoint", "/a"];
    for (words, last) in [
        (&["jwks"][..], None),
        (&["openapi", "export"], None),
        (&["reload", "-p", "1"], None),
        (&["healthcheck", "--timeout", "1"], None),
        (&token, Some("x.y.z")),
    ] {
        let with_flag = run(&[words, &["-c", path], last.as_slice()].concat());
        let without = run(&[words, &[path], last.as_slice()].concat());
        assert_eq!(with_flag, without, "{words:?}");
        assert_ne!(with_flag.0, 2, "{words:?}: {}", with_flag.2);
        let (code, _, err) = run(&[words, &["-c", path, path], last.as_slice()].concat());
        assert_eq!(code, 2, "{words:?}: {err}");
    }
    let (code, _, err) = run(&["token", "explain", "--endpoint", "/a", "x.y.z"]);
    assert_eq!(code, 2);
    assert!(err.contains("the file is missing"), "{err}");
    let (code, _, err) = run(&["healthcheck", "no-such-file.json"]);
    assert_eq!(code, 1);
    assert!(err.contains("no-such-file.json is not a file"), "{err}");
    let (code, out, _) = with_input(GOOD, &["openapi", "export", "-"]);
    assert_eq!(code, 0);
    assert!(out.contains("\"/a\""), "{out}");
}

#[test]
fn token_explain_says_which_endpoints_verify_tokens() {
    let keys = r#"{"keys": [{"kty": "oct", "kid": "k", "alg": "HS256", "k": "c2VjcmV0LXNlY3JldC1zZWNyZXQtc2VjcmV0LXNlY3JldA"}]}"#;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("keys.json"), keys).unwrap();
    let backend = r#""backend": [{"host": ["http://127.0.0.1:1"], "url_pattern": "/b"}]"#;
    let file = format!(
        r#"{{"version": 3, "endpoints": [
        {{"endpoint": "/open", {backend}}},
        {{"endpoint": "/orders/{{id}}", {backend}, "extra_config": {{"auth/validator": {{
            "alg": "HS256", "jwk_local_path": "{}/keys.json", "audience": ["a"], "issuer": "i"}}}}}}]}}"#,
        folder.path().display()
    );
    let explain = |words: &[&str]| {
        let (code, out, err) = {
            let path = folder.path().join("gateway.json");
            std::fs::write(&path, &file).unwrap();
            let path = path.to_str().unwrap();
            run(&[&["token", "explain", "-c", path], words, &["x.y"]].concat())
        };
        assert_eq!(code, 1, "{err}");
        format!("{out}{err}")
    };
    let list = "these endpoints verify tokens:\n  GET /orders/{id}\n";
    for (words, expected) in [
        (&["-e", "/orders/{id}"][..], "=> 401 malformed"),
        (&["-e", "/orders/7"], "=> 401 malformed"),
        (
            &["-e", "/nope"],
            "GET /nope is not an endpoint of this file\n",
        ),
        (
            &["-e", "/open"],
            "GET /open has no auth/validator: it requires no token\n",
        ),
        (
            &["-e", "/orders/{id}", "-m", "post"],
            "/orders/{id} does not accept POST, but GET: use --method\n",
        ),
    ] {
        let said = explain(words);
        assert!(said.contains(expected), "{words:?}: {said}");
        let is_checked = expected.starts_with("=>");
        assert!(is_checked || said.ends_with(list), "{words:?}: {said}");
    }
    let (_, _, err) = with_file(GOOD, &["token", "explain", "-e", "/a", "x.y", "-c"]);
    assert!(
        err.ends_with("no endpoint of this file verifies tokens\n"),
        "{err}"
    );
}
