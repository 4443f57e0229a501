//! The order in which KrakenD's validator looks at a schema's keywords.

/// Where a keyword stands among the others.
pub(super) fn rank(keyword: &str) -> u8 {
    const ORDER: [&[&str]; 33] = [
        &["type"],
        &["const"],
        &["enum"],
        &["format"],
        &["$ref"],
        &["minProperties"],
        &["maxProperties"],
        &["required"],
        &["dependencies"],
        // Member by member.
        &["properties", "patternProperties"],
        &["additionalProperties"],
        &["propertyNames"],
        &["dependentSchemas"],
        &["dependentRequired"],
        &["minItems"],
        &["maxItems"],
        &["uniqueItems"],
        &["items", "prefixItems"],
        &["additionalItems"],
        &["contains", "minContains"],
        &["maxContains"],
        &["minLength"],
        &["maxLength"],
        &["pattern"],
        &["minimum"],
        &["maximum"],
        &["exclusiveMinimum"],
        &["exclusiveMaximum"],
        &["multipleOf"],
        &["$recursiveRef", "$dynamicRef"],
        &["not"],
        &["allOf"],
        &["anyOf"],
    ];
    let found = ORDER.iter().position(|words| words.contains(&keyword));
    let last = match keyword {
        "oneOf" => ORDER.len(),
        "if" | "then" | "else" => ORDER.len() + 1,
        "unevaluatedProperties" => ORDER.len() + 2,
        _ => ORDER.len() + 3,
    };
    u8::try_from(found.unwrap_or(last)).unwrap_or(u8::MAX)
}
