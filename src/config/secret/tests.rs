use super::super::block::Block;
use super::super::json;
use super::super::key::{Key, Kind, key};
use super::super::node::{Node, Typing};
use super::super::report::Report;
use super::*;

const SECRET: &str = "Zq9SecretPw77xK3mNp";

/// All messages of a file whose values at `pointer` is read as every type in turn, and found to be invalid.
fn messages(file: &serde_json::Value, steps: &[&str]) -> String {
    const KEYS: &[Key] = &[key("other", Kind::Text, "", "")];
    let report = Report::new();
    let value = json::parse(&file.to_string(), &report).unwrap();
    let mut node = Node::root(&value, &report);
    for step in steps {
        let index = step.parse::<usize>().ok();
        node = match index.and_then(|index| node.items().into_iter().nth(index)) {
            Some(item) => item,
            None => node.get(step).unwrap(),
        };
    }
    for typing in [Typing::Strict, Typing::Weak] {
        node.text(typing);
        node.bool(typing);
        node.integer(typing);
        node.number(typing);
        node.texts(typing);
        node.integers(typing);
        node.text_map(typing);
        node.list(typing);
        Block::open(node.clone(), KEYS, typing);
    }
    node.duration();
    let text = match &node.value().data {
        Data::Text(text) | Data::Number(text) => text.to_string(),
        _ => String::new(),
    };
    node.header_name(&text);
    node.invalid(format!("{text:?} is not valid: {text}"));
    node.warn_hint(
        super::super::ConfigError::invalid("bad"),
        format!("not {text}"),
    );
    let findings = report.into_findings().into_iter();
    findings
        .map(|it| format!("{} {:?}\n", it.config_error, it.hint))
        .collect()
}

#[test]
fn a_value_that_may_be_secret_is_in_no_message() {
    use serde_json::json;
    for steps in [
        &["auth/client-credentials", "endpoint_params", "password"][..],
        &["auth/client-credentials", "endpoint_params"],
        &["auth/client-credentials", "Client-Secret"],
        &["auth/client-credentials"],
        &["auth/api-keys", "keys"],
        &["auth/api-keys", "keys", "0"],
        &["auth/api-keys", "keys", "0", "key"],
        &["auth/basic", "users", "ada"],
        &["auth/basic", "users", "0", "ada"],
        &["auth/validator", "secret_url"],
        &["telemetry/x", "headers", "X-Anything"],
        &["telemetry/x", "headers"],
        &["portcullis/redis", "password"],
        &["x", "access_token", "0"],
        &["modifier/martian", "header.Modifier", "value"],
        &["modifier/martian", "querystring.Modifier", "value"],
        &["backend/amqp/consumer", "dsn"],
    ] {
        for secret in [json!(SECRET), json!(8_765_432_101_u64)] {
            let shown = secret.as_str().map_or(secret.to_string(), str::to_owned);
            let file = steps.iter().rev().fold(secret, |inner, step| match *step {
                "0" => json!([inner]),
                step => json!({ step: inner }),
            });
            let messages = messages(&file, steps);
            assert!(!messages.contains(&shown), "{steps:?}: {messages}");
            assert!(messages.contains(MASK), "{steps:?}: {messages}");
        }
    }
}

#[test]
fn other_values_are_in_messages() {
    for steps in [
        &["auth/validator", "alg"][..],
        &["auth/api-keys", "keys", "0", "roles"],
        &["cors", "headers", "0"],
        &["timeout"],
        &["tls", "keys", "0", "private_key"],
        &["status.Modifier", "value"],
    ] {
        let file = steps
            .iter()
            .rev()
            .fold("word".into(), |inner, step| match *step {
                "0" => serde_json::json!([inner]),
                step => serde_json::json!({ step: inner }),
            });
        let messages = messages(&file, steps);
        assert!(messages.contains("\"word\" is a string"), "{messages}");
    }
}

#[test]
fn the_credentials_of_urls_are_in_no_message() {
    for url in [
        "http://u:PW@h/x",
        "http://PW@h/x",
        "u:PW@h:80",
        "redis://:PW@h/0",
        "htp:///u:PW@h",
        "http://u:a/PW@h",
        "http://h/x?access_token=PW&b=1",
        "/x?a=1&api-key=PW",
    ] {
        let long = url.replace("PW", &"PW".repeat(60));
        for url in [url, &long] {
            let file = serde_json::json!({ "host": url });
            let messages = messages(&file, &["host"]);
            assert!(!messages.contains("PW"), "{messages}");
        }
    }
    for (text, want) in [
        (
            "open -----BEGIN PRIVATE KEY-----\nPW\n-----END PRIVATE KEY-----\n: no such file",
            "open [redacted]\n: no such file",
        ),
        (
            "open -----BEGIN PRIVATE KEY-----\nPW: no such file",
            "open [redacted]",
        ),
        (
            r#"{"keys":[{"kty":"oct","k":"PW"}]}: no such file"#,
            "[redacted]: no such file",
        ),
        (
            r#""{\"kty\":\"oct\",\"k\":\"PW\"}" is no path"#,
            r#""[redacted]" is no path"#,
        ),
    ] {
        assert_eq!(masked(text), want);
    }
    for plain in [
        "http://h/a@b",
        "ada@test.example",
        "\"@x\" and a=b",
        "http://h:80/x?a=1",
    ] {
        assert_eq!(masked(plain), plain);
    }
}
