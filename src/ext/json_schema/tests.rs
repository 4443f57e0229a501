mod words;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::ENDPOINT;
use super::schema::{Rejection, Schema, SchemaError};
use crate::ext::extension::EndpointPart;
use crate::ext::testing::{File, pipe_request};
use crate::runtime::heavy::{Cut, Heavy};

fn soon() -> Heavy {
    Heavy::until(Instant::now() + Duration::from_secs(120))
}

fn schema(schema: &Value) -> Schema {
    Schema::compile(&schema.to_string(), Path::new(".")).unwrap_or_else(|e| panic!("{schema}: {e}"))
}

fn said(by: &Value, body: &Value) -> String {
    match schema(by).check(body.clone(), body.to_string().len(), soon()) {
        Ok(()) => String::new(),
        Err(Rejection::Unfit(lines)) => lines,
        Err(rejection) => panic!("{by}: {rejection:?}"),
    }
}

#[test]
fn a_long_value_is_not_copied_into_a_failure() {
    // All copies together may have 32 MiB.
    let body = json!({"s": "x".repeat(33 << 20)});
    let by = json!({"properties": {"s": {"type": "integer"}}});
    assert_eq!(said(&by, &body), "- at '/s': got string, want integer");
    let by = json!({"properties": {"s": {"pattern": "^b"}}});
    let lines = said(&by, &json!({"s": "x".repeat(2000)}));
    assert!(lines.starts_with("- at '/s': 'xxx") && lines.len() < 400);
    // A name cannot be looked up.
    let by = json!({"propertyNames": {"maxLength": 3}});
    let lines = said(&by, &json!({ "x".repeat(2000): 1 }));
    assert!(
        lines.starts_with("- at '': invalid propertyName 'xxx"),
        "{lines}"
    );
    assert!(lines.ends_with("maxLength: got 2,000, want 3"), "{lines}");
    // Each level of a body holds its place.
    let name = "n".repeat(2_000);
    let deep = (0..100).fold(json!({"x": "s"}), |inner, _| json!({ name.clone(): inner }));
    let by =
        json!({"properties": {"x": {"type": "integer"}}, "additionalProperties": {"$ref": "#"}});
    let lines = said(&by, &deep);
    assert!(lines.ends_with("got string, want integer"), "{lines}");
}

#[test]
fn patterns_are_those_of_re2_in_every_draft() {
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "https://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft/2019-09/schema",
        "https://json-schema.org/draft/2020-12/schema",
    ] {
        for (pattern, fits, unfit) in [
            (r"^\d+$", "12", "٣"),
            (r"^[[:alpha:]]+$", "ab", "é"),
            (r"\Aa\z", "a", "a\n"),
            (r"\bb", "éb", "ab"),
            (r"^\Qa.b\E{2}$", "a.bb", "axbb"),
            (r"(?i)^k$", "\u{212a}", "x"),
            (r"^{x}$", "{x}", "x"),
        ] {
            let by = json!({"$schema": draft, "pattern": pattern});
            assert_eq!(said(&by, &json!(fits)), "", "{by}");
            let told = said(&by, &json!(unfit));
            let written = pattern.replace('\\', r"\\");
            assert!(told.starts_with("- at '': '"), "{by}: {told}");
            assert!(
                told.ends_with(&format!("does not match pattern '{written}'")),
                "{by}: {told}"
            );
            let by =
                json!({"$schema": draft, "patternProperties": {pattern: {"not": {}}, "^$": {}}});
            assert_eq!(said(&by, &json!({unfit: 1})), "", "{by}");
            assert_ne!(said(&by, &json!({fits: 1})), "", "{by}");
        }
        // The meta-schema still judges everything else.
        let by = json!({"$schema": draft, "pattern": 5, "type": "strong"}).to_string();
        let error = Schema::compile(&by, Path::new("/")).unwrap_err();
        assert!(matches!(error, SchemaError::Invalid { .. }), "{error:?}");
    }
}

#[test]
fn the_draft_decides_the_meaning_of_keywords() {
    let email = |draft: Option<&str>| {
        let mut schema = json!({"format": "email"});
        if let Some(draft) = draft {
            schema["$schema"] = json!(draft);
        }
        schema
    };
    for draft in [
        "http://json-schema.org/draft-04/schema#",
        "http://json-schema.org/draft-06/schema#",
        "http://json-schema.org/draft-07/schema#",
        "http://json-schema.org/draft-07/schema",
        "https://json-schema.org/draft-07/schema",
    ] {
        assert_ne!(said(&email(Some(draft)), &json!("zz")), "", "{draft}");
    }
    for draft in [
        None,
        Some("https://json-schema.org/draft/2019-09/schema"),
        Some("https://json-schema.org/draft/2020-12/schema"),
        Some("https://json-schema.org/draft/2020-12/schema#"),
    ] {
        assert_eq!(said(&email(draft), &json!("zz")), "", "{draft:?}");
    }
    let draft4 = json!({"$schema": "http://json-schema.org/draft-04/schema#", "minimum": 1, "exclusiveMinimum": true});
    assert_ne!(said(&draft4, &json!(1)), "");
    let whole =
        json!({"$schema": "http://json-schema.org/draft-04/schema#", "items": {"type": "integer"}});
    assert_eq!(said(&whole, &json!([1, 1.0, 1e2, -0.0])), "");
    assert_ne!(said(&whole, &json!([1.5])), "");
    for content in [
        json!({"contentEncoding": "base64"}),
        json!({"contentMediaType": "application/json"}),
    ] {
        let mut by = content.clone();
        by["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        assert_eq!(said(&by, &json!("zz%")), "", "{content}");
    }
}

#[test]
fn a_format_has_the_same_meaning_in_every_draft_that_asserts_it() {
    for draft in ["04", "06", "07"] {
        let draft = format!("http://json-schema.org/draft-{draft}/schema#");
        for (format, wrong) in [
            ("uuid", "zz"),
            ("duration", "zz"),
            ("period", "zz"),
            ("semver", "zz"),
            ("uri-reference", "\\"),
            ("uri-template", "/{"),
            ("iri", "zz"),
            ("json-pointer", "zz"),
            ("relative-json-pointer", "zz"),
            ("hostname", "-"),
            ("time", "10:00"),
            ("regex", "("),
        ] {
            let by = json!({"$schema": draft, "format": format});
            let line = said(&by, &json!(wrong));
            assert!(line.contains(format), "{draft} {format}: {line}");
            assert_eq!(said(&by, &json!(1)), "");
        }
        for unknown in ["idn-email", "idn-hostname", "mine"] {
            assert_eq!(
                said(&json!({"$schema": draft, "format": unknown}), &json!("@")),
                ""
            );
        }
    }
    let now = "https://json-schema.org/draft/2019-09/schema";
    assert_eq!(
        said(&json!({"$schema": now, "format": "uuid"}), &json!("zz")),
        ""
    );
}

#[test]
fn an_invalid_schema_stops_the_start() {
    for (block, words) in [
        (r#"{"type": "objekt"}"#, "not a JSON Schema: /type"),
        (r#"{"minimum": "1"}"#, "not a JSON Schema: /minimum"),
        (r#"{"properties": []}"#, "not a JSON Schema: /properties"),
        (r#"{"pattern": "(?=a)"}"#, "not a JSON Schema"),
        (r#"{"pattern": "("}"#, "not a JSON Schema"),
        (r##"{"$ref": "#/nowhere"}"##, "not a JSON Schema"),
        (r#"{"$ref": "nowhere.json"}"#, "nowhere.json"),
        (
            r#"{"$ref": "http://localhost:1/x.json"}"#,
            "never the network",
        ),
        (
            r#"{"$schema": "http://example.com/mine"}"#,
            "names no draft",
        ),
        (r#"{"$schema": 7}"#, "names no draft"),
        ("[]", "is an object"),
        (r#""x""#, "is an object"),
    ] {
        let mut file = File::new(block);
        let part = file.endpoint(&ENDPOINT, "/e");
        assert!(matches!(part, EndpointPart::Nothing), "{block}");
        assert_eq!(file.config_errors(), 1, "{block}: {}", file.findings());
        assert!(
            file.findings().contains(words),
            "{block}: {}",
            file.findings()
        );
    }
}

#[test]
fn a_schema_may_be_a_boolean() {
    assert_eq!(said(&json!(true), &json!({})), "");
    assert_eq!(said(&json!(false), &json!({})), "- at '': false schema");
}

#[test]
fn references_are_resolved_to_files() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    write(
        "name of it.json",
        r##"{"$defs": {"n": {"$ref": "other.json#/definitions/text"}}}"##,
    );
    write(
        "other.json",
        r#"{"definitions": {"text": {"type": "string"}}}"#,
    );
    let schema = Schema::compile(
        r##"{"properties": {"a": {"$ref": "name%20of%20it.json#/$defs/n"}}}"##,
        folder.path(),
    )
    .unwrap();
    assert!(schema.check(json!({"a": "x"}), 9, soon()).is_ok());
    assert!(schema.check(json!({"a": 1}), 9, soon()).is_err());
    let absolute = format!(
        r#"{{"$ref": "file://{}/other.json#/definitions/text"}}"#,
        folder.path().display()
    );
    let schema = Schema::compile(&absolute, Path::new("/")).unwrap();
    assert!(schema.check(json!(1), 1, soon()).is_err());
}

#[test]
fn recursive_schemas_and_huge_bodies_are_limited() {
    for by in [
        json!({"$ref": "#"}),
        json!({"allOf": [{"$ref": "#"}]}),
        json!({"$defs": {"a": {"anyOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"$ref": "#/$defs/a"}}}, "$ref": "#/$defs/a"}),
        json!({"anyOf": [{"items": {"$ref": "#"}}, {"items": {"$ref": "#"}}, {"type": "string"}]}),
        json!({"$dynamicAnchor": "x", "allOf": [{"$dynamicRef": "#x"}], "unevaluatedProperties": false}),
    ] {
        let deep = (0..120).fold(json!(1), |inner, _| json!([inner]));
        let verdict = schema(&by).check(deep, 1 << 20, soon());
        assert_ne!(verdict, Err(Rejection::GaveUp), "{by}");
    }
    let by = json!({"properties": {"t": {"$ref": "#"}}, "required": ["v"], "minProperties": 2, "allOf": [{"maxProperties": 0}]});
    let deep = (0..120).fold(json!({}), |inner, _| json!({"t": inner}));
    let lines = said(&by, &deep);
    assert_eq!(lines.lines().count(), 64);
    assert!(lines.contains("\n    - at '/t/t': "), "{lines}");
    let large = json!(vec![json!({"a": "x".repeat(500)}); 5000]);
    let by = json!({"items": {"properties": {"a": {"type": "number"}}}});
    assert_eq!(
        schema(&by).check(large.clone(), 1 << 20, soon()),
        Err(Rejection::Unfit(
            "- at '/0/a': got string, want number".to_owned()
        ))
    );
    let lines = said(&by, &large);
    assert!(lines.lines().count() <= 64, "{lines}");
    let by = json!({"enum": [1]});
    assert!(said(&json!({"pattern": "^b"}), &json!("a".repeat(5000))).len() < 400);
    assert!(said(&by, &json!("a\u{0}\n\u{1b}")).is_ascii());
    let unique = json!({"uniqueItems": true});
    let many: Vec<Value> = (0..50_000).map(|n| json!({"n": n})).collect();
    assert_eq!(said(&unique, &json!(many)), "");
}

/// Bodies of a few hundred bytes whose depth doubles the work at each level.
#[test]
fn no_body_makes_validation_exponential() {
    const NEW: &str = "https://json-schema.org/draft/2020-12/schema";
    const OLD: &str = "https://json-schema.org/draft/2019-09/schema";
    let branch = |op: &str| json!({"properties": {"op": {"const": op}, "args": {"items": {"$ref": "#"}}}, "required": ["op", "args"]});
    let leaf = json!({"properties": {"field": {"type": "string"}}, "required": ["field"]});
    let each = |keyword: &str| json!({keyword: [branch("and"), branch("or"), branch("not"), leaf]});
    let child = |reference: Value| json!({"properties": {"args": {"items": reference}}});
    for by in [
        each("anyOf"),
        each("oneOf"),
        json!({"$schema": "http://json-schema.org/draft-07/schema#", "anyOf": [branch("and"), branch("or"), leaf]}),
        json!({"allOf": [child(json!({"$ref": "#"})), child(json!({"$ref": "#"}))], "required": ["x"]}),
        json!({"anyOf": [child(json!({"not": {"$ref": "#"}})), child(json!({"not": {"$ref": "#"}}))], "required": ["x"]}),
        json!({"if": child(json!({"$ref": "#"})), "then": child(json!({"$ref": "#"})), "else": child(json!({"$ref": "#"})), "required": ["x"]}),
        json!({"$schema": NEW, "$dynamicAnchor": "n", "anyOf": [child(json!({"$dynamicRef": "#n"})), child(json!({"$dynamicRef": "#n"}))], "required": ["x"]}),
        json!({"$schema": OLD, "$recursiveAnchor": true, "oneOf": [child(json!({"$recursiveRef": "#"})), child(json!({"$recursiveRef": "#"}))], "required": ["x"]}),
        json!({"allOf": [child(json!({"$ref": "#"})), child(json!({"$ref": "#"}))], "unevaluatedProperties": false}),
        json!({"dependentSchemas": {"op": child(json!({"$ref": "#"})), "args": child(json!({"$ref": "#"}))}, "required": ["x"]}),
        json!({"properties": {"args": {"contains": {"anyOf": [{"$ref": "#"}, {"$ref": "#"}]}}}, "required": ["x"]}),
    ] {
        let wrong = json!({"op": 1, "args": []});
        let deep = (0..40).fold(wrong, |inner, _| json!({"op": "or", "args": [inner]}));
        let length = deep.to_string().len();
        let started = Instant::now();
        let rejection = schema(&by).check(deep, length, soon()).err();
        let Some(Rejection::Unfit(_) | Rejection::Costly) = rejection else {
            panic!("{by}: {rejection:?}");
        };
        assert!(started.elapsed() < Duration::from_secs(20), "{by}");
    }
}

#[test]
fn a_filter_of_common_size_is_validated_and_reported() {
    let by = json!({"anyOf": [
        {"type": "object", "properties": {"and": {"type": "array", "items": {"$ref": "#"}}}, "required": ["and"]},
        {"type": "object", "properties": {"field": {"type": "string"}}, "required": ["field"]},
    ]});
    let wide = json!({"and": vec![json!({"and": [{"field": "a"}, {"field": "b"}]}); 500]});
    assert_eq!(said(&by, &wide), "");
    let wrong = json!({"and": [{"field": 1}]});
    let lines = said(&by, &wrong);
    assert!(
        lines.contains("at '/and/0/field': got number, want string"),
        "{lines}"
    );
}

/// Failures of each level once held a copy of all that is below: here 100 lists of 300,000 numbers, several gigabytes.
#[test]
fn failures_hold_no_copies_of_the_values_around_them() {
    let branches = |keyword: &str| {
        json!({keyword: [
            {"type": "object", "required": ["not"], "additionalProperties": false, "properties": {"not": {"$ref": "#"}}},
            {"type": "object", "properties": {"not": {"$ref": "#"}}, "required": ["not"], "maxProperties": 1},
            {"type": "string"},
        ]})
    };
    let large = json!(vec![5; 300_000]);
    let deep = (0..100).fold(large, |inner, _| json!({ "not": inner }));
    for by in [branches("oneOf"), branches("anyOf")] {
        let started = Instant::now();
        let rejection = schema(&by).check(deep.clone(), 600_000, soon());
        assert!(matches!(rejection, Err(Rejection::Unfit(_))), "{by}");
        assert!(started.elapsed() < Duration::from_secs(20), "{by}");
    }
    // The places of failures are as large as the names in them.
    let named = json!({"n".repeat(30_000): vec![json!(5); 15_000]});
    let by = json!({"anyOf": [{"additionalProperties": {"items": {"type": "string"}}}, {"type": "string"}]});
    let started = Instant::now();
    assert!(said(&by, &named).len() < 100_000);
    assert!(started.elapsed() < Duration::from_secs(20));
}

#[test]
fn failures_of_lists_and_objects_tell_about_the_value() {
    let inner = json!({"anyOf": [
        {"maxItems": 1, "items": {"type": "string"}}, {"type": "object", "required": ["x"]}
    ]});
    let lines = said(
        &json!({"properties": {"a/b": inner}}),
        &json!({"a/b": [1, null, 3]}),
    );
    for line in ["maxItems: got 3, want 1", "got array, want object"] {
        assert!(lines.contains(line), "{lines}");
    }
    let by = json!({"properties": {"l": {"contains": {"maxProperties": 1}}}});
    let lines = said(&by, &json!({"l": [{"a": 1, "b": 2}]}));
    assert!(lines.contains("got 2, want 1"), "{lines}");
    let by = json!({"type": "string"});
    assert!(said(&by, &json!(null)).contains("got null, want string"));
}

#[test]
fn validation_ends_at_the_deadline() {
    let by = json!({"items": {"pattern": "^(a|b)*c$"}});
    let many = json!(vec!["ab".repeat(50); 20_000]);
    let late = Heavy::until(Instant::now());
    assert_eq!(
        schema(&by).check(many, 1 << 20, late),
        Err(Rejection::Cut(Cut::Deadline))
    );
}

#[tokio::test]
async fn a_body_is_one_json_value() {
    let mut file = File::new(r#"{"type": ["object", "array", "string", "null"]}"#);
    let EndpointPart::Piped { steps, pipes } = file.endpoint(&ENDPOINT, "/e") else {
        panic!("no step");
    };
    assert!(steps.is_empty() && pipes[0].needs_body());
    let deep = format!("{}{}", "[".repeat(200), "]".repeat(200));
    for (body, expected) in [
        (&b"{}"[..], ""),
        (b" null ", ""),
        (b"\"\xff\"", ""),
        (br#"["\ud800", "\udc00x", "\ud83d\ude00", "\\ud800"]"#, ""),
        (br#"["\ud800\u0041\udbff"]"#, ""),
        (b"", "could not validate an empty body"),
        (b" ", "EOF"),
        (b"{", "unexpected EOF"),
        (
            b"name=Ann",
            "invalid character 'a' in literal null (expecting 'u')",
        ),
        (b"{\"a\":1} x", "invalid character after top-level value"),
        (b"{} {}", "invalid character after top-level value"),
        (
            b"1",
            "- at '': got number, want null or string or array or object",
        ),
        (b"[1e999]", "number out of range at line 1 column 6"),
        (
            deep.as_bytes(),
            "recursion limit exceeded at line 1 column 128",
        ),
    ] {
        let mut request = pipe_request(Bytes::copy_from_slice(body));
        let rejected = pipes[0].before(&mut request).await.err();
        let text = rejected.map(|failure| {
            assert_eq!(failure.status, StatusCode::BAD_REQUEST);
            failure.to_string()
        });
        assert_eq!(text.unwrap_or_default(), expected);
        assert_eq!(request.body, body);
    }
}
