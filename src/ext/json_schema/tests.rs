use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::StatusCode;
use serde_json::{Value, json};

use super::ENDPOINT;
use super::schema::{Refusal, Schema};
use crate::ext::registry::EndpointPart;
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
        Err(Refusal::Unfit(lines)) => lines,
        Err(refusal) => panic!("{by}: {refusal:?}"),
    }
}

#[test]
fn failures_use_the_words_of_krakends_validator() {
    let draft7 = "http://json-schema.org/draft-07/schema#";
    for (by, body, expected) in [
        (
            json!({"required": ["name"]}),
            json!({}),
            "- at '': missing property 'name'",
        ),
        (
            json!({"required": ["a", "b"]}),
            json!({}),
            "- at '': missing properties 'a', 'b'",
        ),
        (
            json!({"properties": {"n": {"minimum": 1}}}),
            json!({"n": 0}),
            "- at '/n': minimum: got 0, want 1",
        ),
        (
            json!({"$schema": draft7, "properties": {"e": {"format": "email"}}}),
            json!({"e": "zz"}),
            "- at '/e': 'zz' is not valid email: missing @",
        ),
        (
            json!({"maximum": 1.5}),
            json!(2),
            "- at '': maximum: got 2, want 1.5",
        ),
        (
            json!({"exclusiveMinimum": 1}),
            json!(1),
            "- at '': exclusiveMinimum: got 1, want 1",
        ),
        (
            json!({"exclusiveMaximum": 1}),
            json!(1),
            "- at '': exclusiveMaximum: got 1, want 1",
        ),
        (
            json!({"multipleOf": 2}),
            json!(5),
            "- at '': multipleOf: got 5, want 2",
        ),
        (
            json!({"type": "integer"}),
            json!(1.5),
            "- at '': got number, want integer",
        ),
        (
            json!({"type": ["string", "null"]}),
            json!([]),
            "- at '': got array, want null or string",
        ),
        (
            json!({"minLength": 2}),
            json!("ü"),
            "- at '': minLength: got 1, want 2",
        ),
        (
            json!({"maxLength": 2}),
            json!("abc"),
            "- at '': maxLength: got 3, want 2",
        ),
        (
            json!({"pattern": "^a"}),
            json!("b"),
            "- at '': 'b' does not match pattern '^a'",
        ),
        (
            json!({"minItems": 1}),
            json!([]),
            "- at '': minItems: got 0, want 1",
        ),
        (
            json!({"maxItems": 1}),
            json!([1, 2]),
            "- at '': maxItems: got 2, want 1",
        ),
        (
            json!({"minProperties": 1}),
            json!({}),
            "- at '': minProperties: got 0, want 1",
        ),
        (
            json!({"maxProperties": 0}),
            json!({"a": 1}),
            "- at '': maxProperties: got 1, want 0",
        ),
        (
            json!({"uniqueItems": true}),
            json!([1, 2, 1.0]),
            "- at '': items at 0 and 2 are equal",
        ),
        (
            json!({"enum": ["a", 1]}),
            json!("b"),
            "- at '': value must be one of 'a', 1",
        ),
        (
            json!({"enum": ["a"]}),
            json!("b"),
            "- at '': value must be 'a'",
        ),
        (json!({"enum": [[1]]}), json!("b"), "- at '': 'enum' failed"),
        (json!({"const": 1}), json!(2), "- at '': value must be 1"),
        (json!({"const": {}}), json!(2), "- at '': 'const' failed"),
        (
            json!({"additionalProperties": false, "properties": {"a": {}}}),
            json!({"a": 1, "x": 1, "y'": 2}),
            "- at '': additional properties 'x', 'y\\'' not allowed",
        ),
        (
            json!({"dependentRequired": {"a": ["b", "c"]}}),
            json!({"a": 1}),
            "- at '': properties 'b', 'c' required, if 'a' exists",
        ),
        (
            json!({"$schema": draft7, "dependencies": {"a": ["b"]}}),
            json!({"a": 1}),
            "- at '': properties 'b' required, if 'a' exists",
        ),
        (
            json!({"contains": {"const": 1}}),
            json!([2]),
            "- at '': no items match contains schema\n  - at '/0': value must be 1",
        ),
        (json!({"not": {}}), json!(1), "- at '': 'not' failed"),
        (
            json!({"anyOf": [{"type": "string"}, {"minimum": 5}]}),
            json!(1),
            "- at '': 'anyOf' failed\n  - at '': got number, want string\n  - at '': minimum: got 1, want 5",
        ),
        (
            json!({"oneOf": [{"type": "string"}, {"minimum": 5}]}),
            json!(1),
            "- at '': 'oneOf' failed, none matched\n  - at '': got number, want string\n  - at '': minimum: got 1, want 5",
        ),
        (
            json!({"oneOf": [{"type": "number"}, {"type": "string"}, {"minimum": 0}]}),
            json!(1),
            "- at '': 'oneOf' failed, subschemas 0, 2 matched",
        ),
        (
            json!({"propertyNames": {"maxLength": 1}}),
            json!({"ab": 1}),
            "- at '': invalid propertyName 'ab'\n  - at '': maxLength: got 2, want 1",
        ),
        (
            json!({"prefixItems": [{}], "items": false}),
            json!([1, 2]),
            "- at '/1': false schema",
        ),
        (
            json!({"$schema": draft7, "items": [{}], "additionalItems": false}),
            json!([1, 2, 3]),
            "- at '': last 2 additionalItem(s) not allowed",
        ),
        (
            json!({"properties": {"a": {}}, "unevaluatedProperties": false}),
            json!({"a": 1, "b/c": 1}),
            "- at '/b~1c': false schema",
        ),
        (
            json!({"if": {"required": ["a"]}, "then": {"required": ["b"]}}),
            json!({"a": 1}),
            "- at '': missing property 'b'",
        ),
        (
            json!({"properties": {"o": {"properties": {"a/b": {"items": {"type": "string"}}}}}}),
            json!({"o": {"a/b": ["x", 1]}}),
            "- at '/o/a~1b/1': got number, want string",
        ),
        (
            json!({"$defs": {"n": {"type": "string"}}, "properties": {"x": {"$ref": "#/$defs/n"}}}),
            json!({"x": 1}),
            "- at '/x': got number, want string",
        ),
        (
            json!({"required": ["a"], "properties": {"b": {"type": "string"}, "c": {"minimum": 3}}}),
            json!({"b": 1, "c": 2}),
            "- at '': missing property 'a'\n- at '/b': got number, want string\n- at '/c': minimum: got 2, want 3",
        ),
    ] {
        let found = said(&by, &body);
        assert_eq!(found, expected, "{by} {body}");
        assert_eq!(found, said(&by, &body), "stable");
    }
}

#[test]
fn failures_are_in_the_order_of_krakends_validator() {
    let draft7 = "http://json-schema.org/draft-07/schema#";
    for (by, body, expected) in [
        // A wrong type, value or format hides other failures.
        (
            json!({"type": "string", "enum": ["a", "b"]}),
            json!(5),
            "- at '': got number, want string",
        ),
        (
            json!({"properties": {"a": {"const": 1, "enum": [2], "minimum": 9, "not": {}}}, "required": ["b"]}),
            json!({"a": 3}),
            "- at '': missing property 'b'\n- at '/a': value must be 1",
        ),
        (
            json!({"$schema": draft7, "format": "uuid", "minLength": 5}),
            json!("zz"),
            "- at '': 'zz' is not valid uuid: must have 5 elements",
        ),
        (
            json!({"type": "object", "properties": {"a": {"type": "object", "enum": [{}], "required": ["b"]}}}),
            json!({"a": []}),
            "- at '/a': got array, want object",
        ),
        // Several failures of a schema are below a line of their own, except those of the outermost schema.
        (
            json!({"minLength": 5, "pattern": "^a"}),
            json!("b"),
            "- at '': minLength: got 1, want 5\n- at '': 'b' does not match pattern '^a'",
        ),
        (
            json!({"properties": {"x": {"minLength": 5, "pattern": "^a"}}}),
            json!({"x": "b"}),
            "- at '/x': validation failed\n  - at '/x': minLength: got 1, want 5\n  - at '/x': 'b' does not match pattern '^a'",
        ),
        (
            json!({"$defs": {"n": {"minLength": 5, "pattern": "^a"}}, "properties": {"x": {"$ref": "#/$defs/n"}}}),
            json!({"x": "b"}),
            "- at '/x': validation failed\n  - at '/x': minLength: got 1, want 5\n  - at '/x': 'b' does not match pattern '^a'",
        ),
        (
            json!({"$defs": {"n": {"minLength": 5, "pattern": "^a"}}, "$ref": "#/$defs/n"}),
            json!("b"),
            "- at '': validation failed\n  - at '': minLength: got 1, want 5\n  - at '': 'b' does not match pattern '^a'",
        ),
        (
            json!({"items": {"minimum": 2, "multipleOf": 2}}),
            json!([1, 3, 2]),
            "- at '/0': validation failed\n  - at '/0': minimum: got 1, want 2\n  - at '/0': multipleOf: got 1, want 2\n- at '/1': multipleOf: got 3, want 2",
        ),
        (
            json!({"allOf": [{"minLength": 2}]}),
            json!("b"),
            "- at '': 'allOf' failed\n  - at '': minLength: got 1, want 2",
        ),
        (
            json!({"allOf": [{"minLength": 2, "pattern": "^a"}, {"type": "string"}, {"maxLength": 0}], "maxLength": 0}),
            json!("b"),
            "- at '': maxLength: got 1, want 0\n- at '': 'allOf' failed\n  - at '': validation failed\n    - at '': minLength: got 1, want 2\n    - at '': 'b' does not match pattern '^a'\n  - at '': maxLength: got 1, want 0",
        ),
        (
            json!({"properties": {"l": {"items": {"anyOf": [
                {"minimum": 5, "multipleOf": 2},
                {"$ref": "#/$defs/s"},
                {"allOf": [{"type": "object"}]}
            ]}}}, "$defs": {"s": {"type": "string"}}}),
            json!({"l": [6, 1, {}]}),
            "- at '/l/1': 'anyOf' failed\n  - at '/l/1': validation failed\n    - at '/l/1': minimum: got 1, want 5\n    - at '/l/1': multipleOf: got 1, want 2\n  - at '/l/1': got number, want string\n  - at '/l/1': 'allOf' failed\n    - at '/l/1': got number, want object",
        ),
        (
            json!({"properties": {"a": {"oneOf": [{"properties": {"b": {"anyOf": [{"type": "string"}, {"minimum": 9}]}}}, false]}}}),
            json!({"a": {"b": 1}}),
            "- at '/a': 'oneOf' failed, none matched\n  - at '/a/b': 'anyOf' failed\n    - at '/a/b': got number, want string\n    - at '/a/b': minimum: got 1, want 9\n  - at '/a': false schema",
        ),
        (
            json!({"if": {"required": ["a"]}, "then": {"required": ["b"], "minProperties": 2}, "not": {}}),
            json!({"a": 1}),
            "- at '': 'not' failed\n- at '': validation failed\n  - at '': minProperties: got 1, want 2\n  - at '': missing property 'b'",
        ),
        // Members.
        (
            json!({"additionalProperties": false}),
            json!({"b": 1, "c": 2}),
            "- at '': additional properties 'b', 'c' not allowed",
        ),
        (
            json!({"additionalProperties": false, "properties": {"a": {"minimum": 3}}, "required": ["q"], "minProperties": 4}),
            json!({"b": 1, "a": 2}),
            "- at '': minProperties: got 2, want 4\n- at '': missing property 'q'\n- at '/a': minimum: got 2, want 3\n- at '': additional properties 'b' not allowed",
        ),
        (
            json!({"properties": {"o": {"propertyNames": {"maxLength": 1, "pattern": "^x"}}}}),
            json!({"o": {"ab": 1}}),
            "- at '': invalid propertyName 'ab'\n  - at '': maxLength: got 2, want 1\n  - at '': 'ab' does not match pattern '^x'",
        ),
        (
            json!({"unevaluatedProperties": {"minimum": 5, "multipleOf": 2}}),
            json!({"b": 3, "c": 6}),
            "- at '/b': validation failed\n  - at '/b': minimum: got 3, want 5\n  - at '/b': multipleOf: got 3, want 2",
        ),
        // Items.
        (
            json!({"$defs": {"one": {"const": 1}}, "properties": {"a": {"contains": {"$ref": "#/$defs/one"}, "minContains": 2}}}),
            json!({"a": [1, 2]}),
            "- at '/a': min 2 items required to match contains schema, but matched 1 items at 0\n  - at '/a/1': value must be 1",
        ),
        (
            json!({"contains": {"const": 1}, "minContains": 2}),
            json!([]),
            "- at '': min 2 items required to match contains schema, but none matched",
        ),
        (
            json!({"contains": {"const": 1}, "maxContains": 1}),
            json!([1, 1]),
            "- at '': max 1 items required to match contains schema, but matched 2 items at 0 1",
        ),
        (
            json!({"items": false}),
            json!([1, 2]),
            "- at '/0': false schema\n- at '/1': false schema",
        ),
        (
            json!({"prefixItems": [{}], "unevaluatedItems": false}),
            json!([1, 1, {"a": 2}]),
            "- at '/1': false schema\n- at '/2': false schema",
        ),
        (
            json!({"prefixItems": [{}], "unevaluatedItems": {"type": "string"}}),
            json!([1, "a", 1]),
            "- at '/2': got number, want string",
        ),
        // Numbers and characters.
        (
            json!({"minimum": 1000.0}),
            json!(1.0),
            "- at '': minimum: got 1, want 1,000",
        ),
        (
            json!({"enum": [1.0, 2.5, 1_000_000]}),
            json!(3),
            "- at '': value must be one of 1, 2.5, 1000000",
        ),
        (
            json!({"const": "\u{200b}\u{1}ü"}),
            json!(3),
            "- at '': value must be '\\u200b\\x01ü'",
        ),
        (
            json!({"type": ["object", "integer", "number", "null"]}),
            json!("x"),
            "- at '': got string, want null or number or integer or object",
        ),
    ] {
        assert_eq!(said(&by, &body), expected, "{by} {body}");
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
        assert_eq!(file.mistakes(), 1, "{block}: {}", file.findings());
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
        assert_ne!(verdict, Err(Refusal::GaveUp), "{by}");
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
        Err(Refusal::Unfit(
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
        let refusal = schema(&by).check(deep, length, soon()).err();
        let Some(Refusal::Unfit(_) | Refusal::Costly) = refusal else {
            panic!("{by}: {refusal:?}");
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

#[test]
fn validation_ends_at_the_deadline() {
    let by = json!({"items": {"pattern": "^(a|b)*c$"}});
    let many = json!(vec!["ab".repeat(50); 20_000]);
    let late = Heavy::until(Instant::now());
    assert_eq!(
        schema(&by).check(many, 1 << 20, late),
        Err(Refusal::Cut(Cut::Deadline))
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
        let refused = pipes[0].before(&mut request).await.err();
        let text = refused.map(|failure| {
            assert_eq!(failure.status, StatusCode::BAD_REQUEST);
            failure.to_string()
        });
        assert_eq!(text.unwrap_or_default(), expected);
        assert_eq!(request.body, body);
    }
}
