//! The order in which KrakenD's validator evaluates keywords.

/// The position of a keyword in this order.
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
        // These are evaluated member by member.
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
