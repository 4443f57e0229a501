//! The lists of extensions. Their order is the order in which they take effect, outermost first.

use crate::config::Namespace;
#[cfg(feature = "cel")]
use crate::ext::cel;
use crate::ext::extension::{BackendExtension, EndpointExtension, ServiceExtension, Unnamed};
#[cfg(feature = "json-schema")]
use crate::ext::json_schema;
#[cfg(feature = "lua")]
use crate::ext::lua;
#[cfg(feature = "cel")]
use crate::ext::policies;
#[cfg(feature = "json-schema")]
use crate::ext::response_json_schema;
use crate::ext::{
    amqp, api_keys, auth_revoker, auth_signer, auth_validator, aws_sigv4, backend_client,
    backend_http, basic, body_extractor, body_generator, bot_detector, circuit_breaker,
    circuit_breaker_http, client_credentials, compat, compression, conditional, cors, errors,
    forward_auth, forwarding, geoip, graphql, http_cache, identity, influx, ip_filter, jmespath,
    json, jwk_aggregator, lambda, limits, logging, martian, metrics, metrics_page, openapi,
    opentelemetry, pass_through, proxy, pubsub, rate_limit, redis, redis_pools, redis_ratelimit,
    request_id, response_body, response_headers, router, secrets, security_http, server, soap,
    static_files, stream, tiered, token_exchange, upstream, url_rewrite, virtual_host, websocket,
    wildcard,
};

/// Around the router, outermost first: CORS, security headers, bot detector.
pub(crate) const SERVICE: &[&ServiceExtension] = &[
    &logging::SERVICE,
    &logging::LOGSTASH,
    &logging::ACCESS,
    &logging::GELF,
    &metrics::SERVICE,
    &influx::SERVICE,
    // The headers come before the exporters that send them.
    &opentelemetry::SECURITY,
    &opentelemetry::SERVICE,
    &opentelemetry::OPENCENSUS,
    &redis::SERVICE,
    &redis_pools::SERVICE,
    // Before any step that may respond, so that every response can contain its id.
    &request_id::SERVICE,
    &errors::SERVICE,
    &cors::SERVICE,
    &geoip::SERVICE,
    // Before the router, so that it also covers the health endpoint.
    &ip_filter::SERVICE,
    &security_http::SERVICE,
    &bot_detector::SERVICE,
    &body_extractor::SERVICE_EARLY,
    &redis_ratelimit::SERVICE,
    &rate_limit::SERVICE,
    &rate_limit::SERVICE_REDIS,
    &tiered::SERVICE,
    &identity::TOKEN_CACHE,
    &jwk_aggregator::SERVICE,
    &auth_validator::SERVICE,
    &auth_revoker::SERVICE,
    &api_keys::SERVICE,
    &basic::SERVICE,
    // After the limits, which limit guesses too.
    &basic::EVERYWHERE,
    &url_rewrite::SERVICE,
    &wildcard::SERVICE,
    &virtual_host::SERVICE,
    &static_files::SERVICE,
    &openapi::SERVICE,
    &body_extractor::SERVICE,
    #[cfg(feature = "lua")]
    &lua::SERVICE,
];

/// Around an endpoint, outermost first: bot detector, token validation, rate limits.
pub(crate) const ENDPOINT: &[&EndpointExtension] = &[
    &cors::ENDPOINT,
    &opentelemetry::ENDPOINT,
    &ip_filter::ENDPOINT,
    &security_http::ENDPOINT,
    &bot_detector::ENDPOINT,
    &body_extractor::ENDPOINT_EARLY,
    &auth_validator::ENDPOINT,
    &api_keys::ENDPOINT,
    &basic::ENDPOINT,
    &forward_auth::ENDPOINT,
    // The extensions below do not run where responses are signed.
    &auth_signer::ENDPOINT,
    #[cfg(feature = "lua")]
    &lua::ENDPOINT,
    &rate_limit::ENDPOINT,
    &rate_limit::ENDPOINT_REDIS,
    &tiered::ENDPOINT,
    &body_extractor::ENDPOINT,
    // Around the endpoint's work, outermost first.
    #[cfg(feature = "lua")]
    &lua::PROXY,
    #[cfg(feature = "cel")]
    &policies::ENDPOINT,
    #[cfg(feature = "cel")]
    &cel::ENDPOINT,
    #[cfg(feature = "json-schema")]
    &json_schema::ENDPOINT,
    &openapi::ENDPOINT,
    &body_generator::REQUEST_ENDPOINT,
    // For responses the order is reversed: see `BACK`.
    #[cfg(feature = "json-schema")]
    &response_json_schema::ENDPOINT,
    &body_generator::RESPONSE_ENDPOINT,
    &response_body::ENDPOINT,
    &jmespath::ENDPOINT,
];

/// The last extension of an endpoint that identifies its client. Steps that a block of the service adds to every
/// endpoint follow it.
pub(crate) const LAST_IDENTITY: &EndpointExtension = &basic::ENDPOINT;

/// Namespaces of endpoints that files have in the service by error, and their meaning there.
pub(crate) const MEANT_IN_SERVICE: &[(&str, &str)] = &[
    (
        rate_limit::ENDPOINT.namespace,
        rate_limit::SERVICE.namespace,
    ),
    (
        rate_limit::ENDPOINT_REDIS.namespace,
        rate_limit::SERVICE_REDIS.namespace,
    ),
];

/// Names of version 1 for guards, which KrakenD no longer reads, and the names of today.
pub(crate) const VERSION_1: &[(&str, &str)] = &[
    (
        "github.com/devopsfaith/krakend-ratelimit/juju/router",
        rate_limit::ENDPOINT.namespace,
    ),
    (
        "github.com/devopsfaith/krakend-ratelimit/juju/proxy",
        rate_limit::BACKEND.namespace,
    ),
];

/// Namespaces whose block is a list of objects with the keys of their table.
pub(crate) const LISTS: &[&str] = &[
    #[cfg(feature = "cel")]
    cel::ENDPOINT.namespace,
];

/// Extensions that log a line for endpoints that do not configure them, in this order.
pub(crate) const UNNAMED: &[(&EndpointExtension, Unnamed)] = &[
    (&auth_signer::ENDPOINT, auth_signer::unnamed),
    (&auth_validator::ENDPOINT, auth_validator::unnamed),
];

/// Around a backend call, outermost first: circuit breaker, rate limit, changes on the wire.
pub(crate) const BACKEND: &[&BackendExtension] = &[
    &opentelemetry::BACKEND,
    &conditional::BACKEND,
    &circuit_breaker::BACKEND,
    &circuit_breaker_http::BACKEND,
    &rate_limit::BACKEND,
    &ip_filter::BACKEND,
    #[cfg(feature = "lua")]
    &lua::BACKEND,
    #[cfg(feature = "cel")]
    &policies::BACKEND,
    #[cfg(feature = "cel")]
    &cel::BACKEND,
    &body_generator::REQUEST_BACKEND,
    &soap::BACKEND,
    // For responses the order is reversed: see `BACK`.
    #[cfg(feature = "json-schema")]
    &response_json_schema::BACKEND,
    &body_generator::RESPONSE_BACKEND,
    &response_body::BACKEND,
    &jmespath::BACKEND,
    &martian::BACKEND,
    &static_files::BACKEND,
    &lambda::BACKEND,
    &amqp::CONSUMER,
    &amqp::PRODUCER,
    &pubsub::SUBSCRIBER,
    &pubsub::PUBLISHER,
    &client_credentials::BACKEND,
    &aws_sigv4::BACKEND,
    &token_exchange::BACKEND,
    &http_cache::BACKEND,
];

/// The modifiers of responses in the order in which they take effect, in endpoints and in backends. The documentation of
/// KrakenD does not say it. The lists above have them in the opposite order, because what is outermost is last on the
/// way back.
#[cfg(test)]
const BACK: &[&str] = &[
    jmespath::NAME,
    response_body::NAME,
    body_generator::RESPONSE,
    #[cfg(feature = "json-schema")]
    response_json_schema::NAME,
];

/// The core's namespaces of the service.
pub(crate) const SERVICE_NAMESPACES: &[&Namespace] = &[
    &router::ROUTER,
    &secrets::SECRETS,
    &stream::STREAM,
    &json::JSON,
    &compat::COMPAT,
    &forwarding::FORWARDING,
    &limits::LIMITS,
    &metrics_page::METRICS,
    &server::SERVER,
    &upstream::UPSTREAM_SERVICE,
    &compression::COMPRESSION,
    &response_headers::RESPONSE_HEADERS,
];

/// The core's namespaces of an endpoint.
pub(crate) const ENDPOINT_NAMESPACES: &[&Namespace] = &[
    &proxy::PROXY_ENDPOINT,
    &stream::STREAM_ENDPOINT,
    &compression::COMPRESSION_ENDPOINT,
    &response_headers::RESPONSE_HEADERS_ENDPOINT,
    &websocket::WEBSOCKET,
];

/// The core's namespaces of an async agent.
pub(crate) const AGENT_NAMESPACES: &[&Namespace] = &[&amqp::AGENT, &proxy::PROXY_ENDPOINT];

/// The extensions of endpoints that async agents have, too, with their indices in [`ENDPOINT`]. They look at a request
/// and its data, and not at a client.
pub(crate) fn agent() -> impl Iterator<Item = (usize, &'static EndpointExtension)> {
    const NAMES: [&str; 5] = [
        "modifier/lua-proxy",
        "validation/cel",
        "validation/json-schema",
        "modifier/request-body-generator",
        "validation/response-json-schema",
    ];
    let all = ENDPOINT.iter().copied().enumerate();
    all.filter(|(_, extension)| NAMES.contains(&extension.namespace))
}

/// The core's namespaces of a backend.
pub(crate) const BACKEND_NAMESPACES: &[&Namespace] = &[
    &proxy::PROXY_BACKEND,
    &backend_http::HTTP,
    &backend_client::HTTP_CLIENT,
    &graphql::GRAPHQL,
    &upstream::UPSTREAM,
    &pass_through::PASS_THROUGH,
    &compat::COMPAT_BACKEND,
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modifiers_of_responses_have_one_order_everywhere() {
        let endpoint: Vec<&str> = ENDPOINT
            .iter()
            .map(|extension| extension.namespace)
            .collect();
        let backend: Vec<&str> = BACKEND
            .iter()
            .map(|extension| extension.namespace)
            .collect();
        for list in [endpoint, backend] {
            let found: Vec<&str> = list
                .into_iter()
                .rev()
                .filter(|name| BACK.contains(name))
                .collect();
            assert_eq!(found, BACK);
        }
    }
}
