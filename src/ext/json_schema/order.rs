//! The order in which KrakenD's validator looks at a schema's keywords.

/// Where a keyword stands among the others.
pub(super) fn rank(keyword: &str) -> u8 {
    const ORDER: [&[&str]; 36] = [
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
        &["oneOf"],
        &["if", "then", "else"],
        &["unevaluatedProperties"],
    ];
    let found = ORDER.iter().position(|words| words.contains(&keyword));
    u8::try_from(found.unwrap_or(ORDER.len())).unwrap_or(u8::MAX)
}
