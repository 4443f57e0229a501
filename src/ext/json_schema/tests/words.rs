//! The wording and the order of failures.

use super::*;

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
