//! Namespaces of KrakenD that are not implemented, and the effect of their presence.
//!
//! A namespace that only reports or documents is ignored with a warning. One that would change or protect a request
//! stops the start: running without it would not be what the configuration requires.

/// A known namespace that is not implemented.
#[derive(Debug)]
pub struct Unbuilt {
    pub namespace: &'static str,
    pub aliases: &'static [&'static str],
    pub verdict: Verdict,
    /// What to do instead.
    pub hint: &'static str,
}

/// The effect on a configuration that contains the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The gateway starts.
    Ignore,
    /// The gateway does not start.
    Refuse,
}

#[cfg(not(feature = "lua"))]
const LUA: &str =
    "this build has no Lua: take one with the feature \"lua\", which is on by default";
const PLUGINS: &str = "Go plugins (.so) cannot be loaded by this gateway: remove the block";
const QUEUES: &str = "put a small HTTP service in front of the queue";
const REMOVE: &str = "remove the block if the endpoint may run without it";

/// The list.
pub const UNBUILT: &[Unbuilt] = &[
    // Namespaces that report.
    ignore("telemetry/moesif", &[], ""),
    ignore("telemetry/newrelic", &[], ""),
    ignore("telemetry/ganalytics", &[], ""),
    ignore("telemetry/instana", &[], ""),
    // Namespaces that document.
    ignore("documentation/postman", &[], ""),
    // Namespaces that change requests and responses.
    #[cfg(not(feature = "cel"))]
    refuse(
        "validation/cel",
        &["github.com/devopsfaith/krakend-cel"],
        "this binary was built without the cargo feature \"cel\"",
    ),
    #[cfg(not(feature = "json-schema"))]
    refuse(
        "validation/json-schema",
        &["github.com/devopsfaith/krakend-jsonschema"],
        "this binary was built without the cargo feature \"json-schema\"",
    ),
    refuse("validation/response-json-schema", &[], REMOVE),
    #[cfg(not(feature = "lua"))]
    refuse(
        "modifier/lua-endpoint",
        &["github.com/devopsfaith/krakend-lua/router"],
        LUA,
    ),
    #[cfg(not(feature = "lua"))]
    refuse(
        "modifier/lua-proxy",
        &["github.com/devopsfaith/krakend-lua/proxy"],
        LUA,
    ),
    #[cfg(not(feature = "lua"))]
    refuse(
        "modifier/lua-backend",
        &["github.com/devopsfaith/krakend-lua/proxy/backend"],
        LUA,
    ),
    refuse("modifier/response-headers", &[], REMOVE),
    refuse("modifier/request-body-generator", &[], REMOVE),
    refuse("modifier/response-body-generator", &[], REMOVE),
    refuse("modifier/body-generator", &[], REMOVE),
    refuse("modifier/response-body", &[], REMOVE),
    refuse("modifier/request-body-extractor", &[], REMOVE),
    refuse("modifier/jmespath", &[], REMOVE),
    refuse(
        "plugin/http-server",
        &["github_com/devopsfaith/krakend/transport/http/server/handler"],
        PLUGINS,
    ),
    refuse(
        "plugin/http-client",
        &["github.com/devopsfaith/krakend/transport/http/client/executor"],
        PLUGINS,
    ),
    refuse(
        "plugin/req-resp-modifier",
        &["github.com/devopsfaith/krakend/proxy/plugin"],
        PLUGINS,
    ),
    refuse("plugin/middleware", &[], PLUGINS),
    // Namespaces that call something other than HTTP.
    refuse(
        "backend/lambda",
        &["github.com/devopsfaith/krakend-lambda"],
        "let the function have an HTTP address",
    ),
    refuse(
        "backend/amqp/consumer",
        &["github.com/devopsfaith/krakend-amqp/consume"],
        QUEUES,
    ),
    refuse(
        "backend/amqp/producer",
        &["github.com/devopsfaith/krakend-amqp/produce"],
        QUEUES,
    ),
    refuse(
        "backend/pubsub/subscriber",
        &["github.com/devopsfaith/krakend-pubsub/subscriber"],
        QUEUES,
    ),
    refuse(
        "backend/pubsub/publisher",
        &["github.com/devopsfaith/krakend-pubsub/publisher"],
        QUEUES,
    ),
    refuse("backend/pubsub/subscriber/kafka", &[], QUEUES),
    refuse("backend/pubsub/publisher/kafka", &[], QUEUES),
    refuse("backend/grpc", &[], REMOVE),
    refuse("backend/soap", &[], REMOVE),
    refuse("backend/conditional", &[], REMOVE),
    refuse("backend/static-filesystem", &[], REMOVE),
    refuse(
        "async/amqp",
        &["github.com/devopsfaith/krakend-amqp/agent"],
        QUEUES,
    ),
    refuse("async/kafka", &[], QUEUES),
    refuse("workflow", &[], REMOVE),
    refuse(
        "websocket",
        &[],
        "\"portcullis/stream\": {\"upgrade\": true} on a no-op endpoint passes WebSocket through",
    ),
    refuse("grpc", &[], REMOVE),
    refuse("ai/mcp", &[], REMOVE),
    refuse("ai/llm", &[], REMOVE),
    refuse("server/virtualhost", &[], REMOVE),
    refuse("server/static-filesystem", &[], REMOVE),
    // Namespaces that protect.
    refuse("security/policies", &[], REMOVE),
    refuse("auth/ntlm", &[], REMOVE),
    refuse("auth/gcp", &[], REMOVE),
    refuse("auth/aws-sigv4", &[], REMOVE),
    refuse("qos/ratelimit/service", &[], REMOVE),
    refuse("qos/ratelimit/tiered", &[], REMOVE),
    refuse("qos/ratelimit/service/redis", &[], REMOVE),
    refuse("qos/ratelimit/router/redis", &[], REMOVE),
    refuse("qos/circuit-breaker/http", &[], REMOVE),
    refuse("governance/processors", &[], REMOVE),
    refuse("governance/quota", &[], REMOVE),
];

/// The entry of a namespace, by any of its names.
pub fn unbuilt(name: &str) -> Option<&'static Unbuilt> {
    UNBUILT
        .iter()
        .find(|known| known.namespace == name || known.aliases.contains(&name))
}

const fn ignore(
    namespace: &'static str,
    aliases: &'static [&'static str],
    hint: &'static str,
) -> Unbuilt {
    Unbuilt {
        namespace,
        aliases,
        verdict: Verdict::Ignore,
        hint,
    }
}

const fn refuse(
    namespace: &'static str,
    aliases: &'static [&'static str],
    hint: &'static str,
) -> Unbuilt {
    Unbuilt {
        namespace,
        aliases,
        verdict: Verdict::Refuse,
        hint,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn namespaces_without_their_feature_are_rejected_by_name() {
        for (built, namespace, older) in [
            (
                cfg!(feature = "cel"),
                "validation/cel",
                "github.com/devopsfaith/krakend-cel",
            ),
            (
                cfg!(feature = "json-schema"),
                "validation/json-schema",
                "github.com/devopsfaith/krakend-jsonschema",
            ),
        ] {
            for name in [namespace, older] {
                let known = super::unbuilt(name);
                assert_eq!(known.is_none(), built, "{name}");
                assert!(known.is_none_or(|known| known.verdict == super::Verdict::Refuse));
            }
        }
    }
}
