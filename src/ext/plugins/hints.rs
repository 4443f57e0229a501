//! Hints for plugins that are not built in, chosen by their names.

use super::names::PluginKind;

/// Words in names of plugins, and what does the same work here. The order counts: the first word found decides.
///
/// The kinds are those seen most often in public files: loggers and debuggers, authentication, rewriting of headers
/// and bodies, metering, queues, caches, validation, limits.
const WORDS: &[(&[&str], &str)] = &[
    (
        &["debug", "logger", "logging", "access-log", "accesslog"],
        "\"telemetry/logging\" with level DEBUG logs calls, \"portcullis/access-log\" writes one line per request",
    ),
    (
        &["kafka", "amqp", "rabbit", "queue", "sqs", "pubsub"],
        "put a small HTTP service in front of the queue; \"telemetry/gelf\" and \"portcullis/access-log\" write elsewhere",
    ),
    (
        &["api-key", "apikey", "api_key"],
        "\"auth/api-keys\" checks keys",
    ),
    (
        &[
            "auth",
            "jwt",
            "oauth",
            "oidc",
            "token",
            "login",
            "session",
            "introspect",
            "keycloak",
        ],
        "\"auth/validator\" checks tokens, \"auth/basic\" passwords; \"modifier/lua-endpoint\" may call another service",
    ),
    (
        &[
            "meter",
            "usage",
            "metric",
            "prometheus",
            "analytic",
            "billing",
            "stats",
        ],
        "\"telemetry/opentelemetry\" and \"portcullis/metrics\" count requests, \"portcullis/access-log\" lists them",
    ),
    (
        &["openapi", "swagger", "schema", "valid"],
        "\"validation/json-schema\" checks bodies, \"validation/cel\" requests and responses",
    ),
    (
        &["rate", "limit", "quota", "throttle"],
        "\"qos/ratelimit/router\" limits requests, also in Redis",
    ),
    (&["cache"], "\"qos/http-cache\" keeps responses of backends"),
    (
        &["cors"],
        "\"security/cors\", in the service or in an endpoint",
    ),
    (
        &[
            "header",
            "body",
            "rewrite",
            "transform",
            "modif",
            "path",
            "url",
            "cookie",
            "request",
            "response",
        ],
        "\"modifier/martian\" changes headers and URLs, \"modifier/lua-proxy\" and \"modifier/lua-backend\" also bodies",
    ),
    (
        &["http2", "h2"],
        "\"portcullis/upstream\": {\"http_version\": \"h2\"} in the backend",
    ),
];

/// What to write instead of the plugin `name`.
pub(crate) fn hint(kind: PluginKind, name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    let of_words = WORDS
        .iter()
        .find(|(words, _)| words.iter().any(|word| name.contains(word)));
    match (of_words, kind) {
        (Some((_, hint)), _) => hint,
        (None, PluginKind::Client) => {
            "\"modifier/lua-backend\" or \"modifier/martian\" in the backend, or a native extension"
        }
        (None, PluginKind::Server) => {
            "\"modifier/lua-endpoint\" in the service, or a native extension"
        }
        (None, PluginKind::Modifier | PluginKind::Middleware) => {
            "\"modifier/lua-proxy\", \"modifier/martian\" or \"validation/cel\", or a native extension"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_plugins_have_a_replacement() {
        for (kind, name, word) in [
            (PluginKind::Server, "krakend-debugger", "telemetry/logging"),
            (PluginKind::Client, "body-logger", "telemetry/logging"),
            (PluginKind::Server, "my-auth-plugin", "auth/validator"),
            (PluginKind::Server, "api-keys", "auth/api-keys"),
            (PluginKind::Modifier, "HeaderRewriter", "modifier/martian"),
            (PluginKind::Server, "token-usage", "auth/validator"),
            (PluginKind::Server, "usage-meter", "portcullis/metrics"),
            (PluginKind::Server, "kafka-access", "queue"),
            (
                PluginKind::Modifier,
                "openapi-validator",
                "validation/json-schema",
            ),
            (PluginKind::Client, "http2", "http_version"),
            (PluginKind::Client, "x", "modifier/lua-backend"),
            (PluginKind::Middleware, "x", "validation/cel"),
        ] {
            assert!(
                hint(kind, name).contains(word),
                "{name}: {}",
                hint(kind, name)
            );
        }
    }
}
