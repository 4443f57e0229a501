use super::BACKEND;
use super::runtime::{is_name, type_name};
use crate::ext::extension::BackendPart;
use crate::ext::testing::File;

/// The errors and the warnings about a block in a backend of `/a/{id}`.
fn findings(block: &serde_json::Value) -> (Vec<String>, String) {
    let mut file = File::in_environment(
        &block.to_string(),
        [("AWS_ACCESS_KEY_ID", "A"), ("AWS_SECRET_ACCESS_KEY", "b")],
    );
    file.backend(&BACKEND, "{}");
    (file.config_error_lines(), file.findings())
}

#[test]
fn a_block_that_cannot_work_is_an_error() {
    for (block, words) in [
        (
            serde_json::json!({ "region": "eu-west-1" }),
            "no parameter {function}",
        ),
        (
            serde_json::json!({ "region": "eu-west-1", "function_name": 7, "max_retries": true }),
            "max_retries",
        ),
        (
            serde_json::json!({ "region": "eu-west-1", "function_name": "f", "endpoint": "ftp://x" }),
            "endpoint",
        ),
        (
            serde_json::json!({ "region": "eu-west-1", "function_name": "f", "function_errors": "maybe" }),
            "function_errors",
        ),
    ] {
        let (errors, text) = findings(&block);
        assert!(
            !errors.is_empty() && text.contains(words),
            "{block}: {text}"
        );
    }
}

#[test]
fn problems_that_depend_on_the_machine_are_warnings() {
    let block = serde_json::json!({ "function_name": "f" });
    let mut file =
        File::in_environment(&block.to_string(), [("AWS_EC2_METADATA_DISABLED", "true")]);
    let part = file.backend(&BACKEND, "{}");
    assert!(
        matches!(part, BackendPart::OnWire(_)),
        "{}",
        file.findings()
    );
    assert!(file.findings().contains("no region"), "{}", file.findings());
    assert!(
        file.findings().contains("source of AWS keys"),
        "{}",
        file.findings()
    );
}

#[test]
fn names_of_functions_have_the_alphabet_of_aws() {
    for name in [
        "a",
        "my-function_1",
        "arn:aws:lambda:eu-west-1:1:function:f:$LATEST",
        "a.b",
    ] {
        assert!(is_name(name), "{name}");
    }
    let long = "a".repeat(171);
    for name in ["", "a/b", "a b", "a%2f", "../x", "ä", &long] {
        assert!(!is_name(name), "{name}");
    }
}

#[test]
fn only_names_of_types_are_shown() {
    for name in [
        "Unhandled",
        "KeyError",
        "java.lang.Error",
        "Runtime.ExitError",
        "Sandbox.Timedout",
        "",
    ] {
        assert_eq!(type_name(name), name);
    }
    for text in [
        "key geheim",
        "eyJhbGciOiJSUzI1NiJ9.e30.x-1",
        "IQoJb3JpZ2luX2VjE9f8A7b6",
        "a\nb",
    ] {
        assert!(!type_name(text).contains(text), "{text}");
    }
}
