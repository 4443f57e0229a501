//! One folder for each `extra_config` namespace, and the lists of them.
//!
//! | module | content |
//! |---|---|
//! | [`extension`] | what an extension declares, and what its block contributes |
//! | [`registry`] | the lists of extensions, and of the namespaces that `compile` reads itself |
//! | [`context`] | the context in which an extension compiles its block |
//! | [`facts`] | what a block passes to blocks that are compiled later |
//! | [`reload_state`] | state that survives a reload, and background work |
//! | `agents` | what consumers of queues do with each message |
//! | `broker` | connections to message brokers, for the drivers of NATS and RabbitMQ |
//! | `recent_map` | a bounded map that drops unused entries |
//! | `reconnect` | the pauses before a lost connection to Redis or to a broker is reopened |
//! | `inherited_steps` | steps that a block of the service adds to every endpoint |
//! | `certificates` | the certificates in the configuration, for warnings and metrics |
//! | [`identity`] | shared parts of the extensions about tokens |
//! | [`unsupported`] | namespaces of KrakenD that are not implemented |
//!
//! A new namespace needs a folder, a `mod` line here, and one line in a list of [`registry`].

#[cfg(feature = "amqp")]
mod agents;
pub(crate) mod amqp;
pub(crate) mod api_keys;
pub(crate) mod auth_revoker;
pub(crate) mod auth_signer;
pub(crate) mod auth_validator;
pub(crate) mod aws_sigv4;
pub(crate) mod backend_client;
pub(crate) mod backend_http;
pub(crate) mod basic;
pub(crate) mod body_extractor;
mod body_generator;
pub(crate) mod bot_detector;
#[cfg(any(feature = "amqp", feature = "nats"))]
mod broker;
#[cfg(feature = "cel")]
pub(crate) mod cel;
mod certificates;
pub(crate) mod circuit_breaker;
pub(crate) mod circuit_breaker_http;
pub(crate) mod client_credentials;
pub(crate) mod compat;
pub(crate) mod compression;
pub(crate) mod conditional;
pub(crate) mod context;
pub(crate) mod cors;
pub(crate) mod errors;
pub(crate) mod extension;
pub(crate) mod facts;
pub(crate) mod forward_auth;
pub(crate) mod forwarding;
pub(crate) mod geoip;
pub(crate) mod graphql;
pub(crate) mod http_cache;
pub(crate) mod identity;
mod influx;
pub(crate) mod inherited_steps;
pub(crate) mod ip_filter;
mod jmespath;
pub(crate) mod json;
#[cfg(feature = "json-schema")]
pub(crate) mod json_schema;
pub(crate) mod jwk_aggregator;
mod lambda;
pub(crate) mod limits;
pub(crate) mod logging;
#[cfg(feature = "lua")]
pub(crate) mod lua;
pub(crate) mod martian;
pub(crate) mod metrics;
pub(crate) mod metrics_page;
mod openapi;
pub(crate) mod opentelemetry;
pub(crate) mod pass_through;
pub(crate) mod plugins;
#[cfg(feature = "cel")]
pub(crate) mod policies;
pub(crate) mod proxy;
pub(crate) mod pubsub;
pub(crate) mod rate_limit;
mod recent_map;
mod reconnect;
pub(crate) mod redis;
pub(crate) mod redis_pools;
pub(crate) mod redis_ratelimit;
pub(crate) mod registry;
pub(crate) mod reload_state;
pub(crate) mod request_id;
mod response_body;
pub(crate) mod response_headers;
#[cfg(feature = "json-schema")]
mod response_json_schema;
pub(crate) mod router;
pub(crate) mod secrets;
pub(crate) mod security_http;
pub(crate) mod server;
pub(crate) mod soap;
mod staples;
pub(crate) mod static_files;
pub(crate) mod stream;
#[cfg(test)]
mod testing;
pub(crate) mod tiered;
pub(crate) mod token_exchange;
pub(crate) mod unsupported;
pub(crate) mod upstream;
mod url_rewrite;
mod virtual_host;
pub(crate) mod websocket;
mod wildcard;

pub(crate) use certificates::look as look_at_certificates;
pub(crate) use certificates::warn_if_others_write;
pub(crate) use certificates::{CertificateInUse, CertificateUse};
pub(crate) use context::{
    BackendSite, Compile, EndpointSite, ServiceFacts, ServiceLimits, ServiceResponseEdits,
    ServiceTimeout, UrlClaim,
};
pub(crate) use facts::Facts;
pub use reload_state::ReloadState;
pub(crate) use reload_state::{Open, Task};
pub(crate) use staples::{StapleEnd, StapleInUse, watched as watched_staples};
