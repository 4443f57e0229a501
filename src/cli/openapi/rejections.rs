//! The responses of guards in an exported document.

use serde_json::Value;

use super::export::block;

/// The other rejections that the blocks of an endpoint cause.
pub(super) fn of(file: &Value, endpoint: &Value) -> Vec<(&'static str, &'static str)> {
    let mut found = Vec::new();
    let validator = block(endpoint, "auth/validator");
    let wants = |key: &str| {
        validator[key]
            .as_array()
            .is_some_and(|list| !list.is_empty())
    };
    if wants("roles") || wants("scopes") {
        found.push(("403", "Forbidden"));
    }
    let limits = [
        block(endpoint, "qos/ratelimit/router"),
        block(file, "qos/ratelimit/service"),
    ];
    let limited = |key: &str| limits.iter().any(|block| !block[key].is_null());
    if limited("client_max_rate") {
        found.push(("429", "Too Many Requests"));
    }
    if limited("max_rate") {
        found.push(("503", "Service Unavailable"));
    }
    found
}
