//! Namespaces of KrakenD that are not implemented, and the effect of their presence.
//!
//! A namespace that only reports or documents is ignored with a warning. One that would change or protect a request
//! stops the start: running without it would not be what the configuration requires.

/// A known namespace that is not implemented.
#[derive(Debug)]
pub(crate) struct Unsupported {
    pub namespace: &'static str,
    pub aliases: &'static [&'static str],
    pub verdict: Verdict,
    /// What to do instead.
    pub hint: &'static str,
}

/// The effect on a configuration that contains the namespace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The gateway starts.
    Ignore,
    /// The gateway does not start.
    Reject,
}

#[cfg(not(feature = "lua"))]
const LUA: &str =
    "this build has no Lua: use a build with the feature \"lua\", which is on by default";
const QUEUES: &str = "put a small HTTP service in front of the queue";
const GRPC: &str = "clients that speak gRPC pass through a \"no-op\" endpoint over HTTP/2; for JSON put a small HTTP service in front of the gRPC server";
const QUOTA: &str =
    "\"qos/ratelimit/tiered\" limits by plan, and counts in Redis; long windows are not offered";

const OTLP: &str = "\"telemetry/opentelemetry\" sends traces and metrics over OTLP, which collectors of all vendors take";

/// The list.
pub(crate) const UNSUPPORTED: &[Unsupported] = &[
    // Namespaces that report.
    ignore("telemetry/moesif", &[], OTLP),
    ignore("telemetry/newrelic", &[], OTLP),
    ignore("telemetry/ganalytics", &[], OTLP),
    ignore("telemetry/instana", &[], OTLP),
    // Namespaces that document.
    ignore(
        "documentation/postman",
        &[],
        "\"portcullis openapi export\" writes a description that Postman imports",
    ),
    // A name that files have although KrakenD does not know it.
    ignore(
        "proxy/websocket",
        &[],
        "\"websocket\" in the endpoint passes WebSockets on",
    ),
    // Namespaces that change requests and responses.
    #[cfg(not(feature = "cel"))]
    reject(
        "validation/cel",
        &["github.com/devopsfaith/krakend-cel"],
        "this binary was built without the cargo feature \"cel\"",
    ),
    #[cfg(not(feature = "json-schema"))]
    reject(
        "validation/json-schema",
        &["github.com/devopsfaith/krakend-jsonschema"],
        "this binary was built without the cargo feature \"json-schema\"",
    ),
    #[cfg(not(feature = "json-schema"))]
    reject(
        "validation/response-json-schema",
        &[],
        "this binary was built without the cargo feature \"json-schema\"",
    ),
    #[cfg(not(feature = "lua"))]
    reject(
        "modifier/lua-endpoint",
        &["github.com/devopsfaith/krakend-lua/router"],
        LUA,
    ),
    #[cfg(not(feature = "lua"))]
    reject(
        "modifier/lua-proxy",
        &["github.com/devopsfaith/krakend-lua/proxy"],
        LUA,
    ),
    #[cfg(not(feature = "lua"))]
    reject(
        "modifier/lua-backend",
        &["github.com/devopsfaith/krakend-lua/proxy/backend"],
        LUA,
    ),
    // Namespaces that call something other than HTTP.
    reject("backend/pubsub/subscriber/kafka", &[], QUEUES),
    reject("backend/pubsub/publisher/kafka", &[], QUEUES),
    reject("backend/grpc", &[], GRPC),
    reject("async/kafka", &[], QUEUES),
    reject(
        "workflow",
        &[],
        "call an endpoint of this gateway as a backend (\"host\": [\"http://127.0.0.1:PORT\"]), or use \"proxy\": {\"sequential\": true}",
    ),
    reject("grpc", &[], GRPC),
    reject(
        "ai/mcp",
        &[],
        "pass on an MCP server with a \"no-op\" endpoint",
    ),
    reject(
        "ai/llm",
        &[],
        "make the provider a backend: its host, the key by \"modifier/martian\", the body by \"modifier/request-body-generator\"",
    ),
    // Namespaces that protect.
    #[cfg(not(feature = "cel"))]
    reject(
        "security/policies",
        &[],
        "this binary was built without the cargo feature \"cel\"",
    ),
    reject(
        "auth/ntlm",
        &[],
        "put a small proxy that supports NTLM in front of the backend",
    ),
    reject(
        "auth/gcp",
        &[],
        "\"auth/client-credentials\" gets tokens from a token server; otherwise put a small proxy in front of the \
         backend",
    ),
    reject("governance/processors", &[], QUOTA),
    reject("governance/quota", &[], QUOTA),
];

/// The entry of a namespace, by any of its names.
pub(crate) fn unsupported(name: &str) -> Option<&'static Unsupported> {
    UNSUPPORTED
        .iter()
        .find(|known| known.namespace == name || known.aliases.contains(&name))
}

const fn ignore(
    namespace: &'static str,
    aliases: &'static [&'static str],
    hint: &'static str,
) -> Unsupported {
    Unsupported {
        namespace,
        aliases,
        verdict: Verdict::Ignore,
        hint,
    }
}

const fn reject(
    namespace: &'static str,
    aliases: &'static [&'static str],
    hint: &'static str,
) -> Unsupported {
    Unsupported {
        namespace,
        aliases,
        verdict: Verdict::Reject,
        hint,
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_rejection_has_a_hint() {
        for known in super::UNSUPPORTED {
            let says = !known.hint.is_empty() && !known.hint.starts_with("remove");
            let rejects = known.verdict == super::Verdict::Reject;
            assert!(says || !rejects, "{}", known.namespace);
        }
    }

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
                let known = super::unsupported(name);
                assert_eq!(known.is_none(), built, "{name}");
                assert!(known.is_none_or(|known| known.verdict == super::Verdict::Reject));
            }
        }
    }
}
