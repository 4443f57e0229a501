//! One folder for each `extra_config` namespace, and the lists of them.
//!
//! | module | content |
//! |---|---|
//! | [`extension`] | what an extension declares, and what its block contributes |
//! | [`registry`] | the lists of extensions, and of the namespaces that `compile` reads itself |
//! | [`context`] | the context in which an extension compiles its block |
//! | [`carry`] | state that survives a reload, and background work |
//! | `implied` | steps that a block of the service adds to every endpoint |
//! | `certificates` | the certificates in the configuration, for warnings and metrics |
//! | [`identity`] | shared parts of the extensions about tokens |
//! | [`unbuilt`] | namespaces of KrakenD that are not implemented |
//!
//! A new namespace needs a folder and one line in a list of [`registry`].

pub mod api_keys;
pub mod auth_revoker;
pub mod auth_signer;
pub mod auth_validator;
pub mod aws_sigv4;
pub mod backend_client;
pub mod backend_http;
pub mod basic;
mod body_extractor;
mod body_generator;
pub mod bot_detector;
pub mod carry;
#[cfg(feature = "cel")]
pub mod cel;
mod certificates;
pub mod circuit_breaker;
pub mod circuit_breaker_http;
pub mod client_credentials;
pub mod compat;
pub mod compression;
pub mod conditional;
pub mod context;
pub mod cors;
pub mod errors;
pub mod extension;
pub mod forward_auth;
pub mod forwarding;
pub mod geoip;
pub mod graphql;
pub mod http_cache;
pub mod identity;
pub mod implied;
mod influx;
pub mod ip_filter;
mod jmespath;
pub mod json;
#[cfg(feature = "json-schema")]
pub mod json_schema;
pub mod limits;
pub mod logging;
#[cfg(feature = "lua")]
pub mod lua;
pub mod martian;
pub mod metrics;
pub mod metrics_page;
mod openapi;
pub mod opentelemetry;
pub mod pass_through;
pub mod plugins;
#[cfg(feature = "cel")]
pub mod policies;
pub mod proxy;
pub mod rate_limit;
mod recent;
pub mod redis;
pub mod redis_pools;
pub mod redis_ratelimit;
pub mod registry;
pub mod request_id;
mod response_body;
pub mod response_headers;
#[cfg(feature = "json-schema")]
mod response_json_schema;
pub mod router;
pub mod secrets;
pub mod security_http;
pub mod server;
pub mod soap;
pub mod static_files;
pub mod stream;
#[cfg(test)]
mod testing;
pub mod tiered;
pub mod token_exchange;
pub mod unbuilt;
pub mod upstream;
mod url_rewrite;
mod virtual_host;
pub mod websocket;
mod wildcard;

pub use carry::{Carry, Open, Task};
pub use certificates::{CertificateInUse, CertificateUse, look as look_at_certificates};
pub use context::{
    BackendSite, Compile, EndpointSite, Facts, ServiceFacts, ServiceTimeout, UrlClaim,
};
pub use extension::{
    BackendExtension, BackendPart, EndpointExtension, EndpointPart, ServiceExtension, ServicePart,
};
