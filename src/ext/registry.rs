//! The lists of extensions. Their order is the order in which they take effect, outermost first.

use std::sync::Arc;

use http::HeaderName;

use crate::config::{Key, Node};
#[cfg(feature = "cel")]
use crate::ext::cel;
use crate::ext::context::{BackendSite, Compile, EndpointSite};
#[cfg(feature = "json-schema")]
use crate::ext::json_schema;
#[cfg(feature = "lua")]
use crate::ext::lua;
use crate::ext::{
    api_keys, auth_revoker, auth_signer, auth_validator, basic, bot_detector, circuit_breaker,
    client_credentials, cors, http_cache, identity, logging, martian, metrics, opentelemetry,
    rate_limit, redis, request_id, security_http,
};
use crate::runtime::pipe::{CallStep, PipeStep};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{BackendStep, Credentials, EndpointStep, ResponseCache, ServiceStep};

/// A namespace of the service's `extra_config`.
#[derive(Debug)]
pub struct ServiceExtension {
    pub namespace: &'static str,
    /// Older names, such as `github_com/devopsfaith/krakend-cors`.
    pub aliases: &'static [&'static str],
    /// Whether it is a guard: it decides who may pass, how much, or from where. An invalid block of a guard stops the
    /// start. An invalid block of any other namespace is ignored with a warning. See [`crate::config::rule`].
    pub guard: bool,
    /// One or two sentences for the documentation.
    pub doc: &'static str,
    pub keys: &'static [Key],
    /// Compiles the block and reports errors. [`ServicePart::Nothing`] means that the block has no effect or is
    /// invalid: a reported error stops the start anyway.
    pub compile: for<'a> fn(&Node<'a>, &mut Compile<'_>) -> ServicePart,
}

/// The result of a service-level block.
#[derive(Debug)]
pub enum ServicePart {
    Nothing,
    Step(Box<dyn ServiceStep>),
    /// Runs after all steps, and may wait.
    Gate(Box<dyn EndpointStep>),
}

/// A namespace of an endpoint's `extra_config`.
#[derive(Debug)]
pub struct EndpointExtension {
    pub namespace: &'static str,
    pub aliases: &'static [&'static str],
    pub guard: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
    pub compile: for<'a> fn(&Node<'a>, &EndpointSite<'_>, &mut Compile<'_>) -> EndpointPart,
}

/// The result of an endpoint-level block.
#[derive(Debug)]
pub enum EndpointPart {
    Nothing,
    Steps(Vec<Box<dyn EndpointStep>>),
    /// Steps that set these request headers (such as claims) or check their content (such as a key). Headers of the
    /// client that a backend could confuse with them (`X_User` with `X-User`) do not pass.
    Setting {
        steps: Vec<Box<dyn EndpointStep>>,
        headers: Vec<HeaderName>,
    },
    /// Steps, and wrappers of the endpoint's work. The wrappers also apply where responses are signed.
    Piped {
        steps: Vec<Box<dyn EndpointStep>>,
        pipes: Vec<Box<dyn PipeStep>>,
    },
    /// Signs the response, and replaces the extensions after it in the list. The steps run before the endpoint's
    /// work.
    Signer {
        steps: Vec<Box<dyn EndpointStep>>,
        signer: Arc<dyn ResponseSigner>,
    },
}

impl EndpointPart {
    /// The common case: one step.
    pub fn step(step: impl EndpointStep + 'static) -> EndpointPart {
        EndpointPart::Steps(vec![Box::new(step)])
    }
}

/// A namespace of a backend's `extra_config`.
#[derive(Debug)]
pub struct BackendExtension {
    pub namespace: &'static str,
    pub aliases: &'static [&'static str],
    pub guard: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
    pub compile: for<'a> fn(&Node<'a>, &BackendSite<'_>, &mut Compile<'_>) -> BackendPart,
}

/// The result of a backend-level block.
#[derive(Debug)]
pub enum BackendPart {
    Nothing,
    Step(Box<dyn BackendStep>),
    Pipe(Box<dyn PipeStep>),
    OnWire(Box<dyn CallStep>),
    Credentials(Arc<dyn Credentials>),
    Cache(Arc<dyn ResponseCache>),
}

/// Around the router, outermost first: CORS, security headers, bot detector.
pub const SERVICE: &[&ServiceExtension] = &[
    &logging::SERVICE,
    &logging::LOGSTASH,
    &logging::ACCESS,
    &metrics::SERVICE,
    // The headers come before the exporters that send them.
    &opentelemetry::SECURITY,
    &opentelemetry::SERVICE,
    &redis::SERVICE,
    // Before any step that may respond, so that every response can contain its id.
    &request_id::SERVICE,
    &cors::SERVICE,
    &security_http::SERVICE,
    &bot_detector::SERVICE,
    &identity::TOKEN_CACHE,
    &auth_validator::SERVICE,
    &auth_revoker::SERVICE,
    &api_keys::SERVICE,
    &basic::SERVICE,
    #[cfg(feature = "lua")]
    &lua::SERVICE,
];

/// Around an endpoint, outermost first: bot detector, token validation, rate limits.
pub const ENDPOINT: &[&EndpointExtension] = &[
    &cors::ENDPOINT,
    &opentelemetry::ENDPOINT,
    &bot_detector::ENDPOINT,
    &auth_validator::ENDPOINT,
    &api_keys::ENDPOINT,
    &basic::ENDPOINT,
    // The extensions below do not run where responses are signed.
    &auth_signer::ENDPOINT,
    #[cfg(feature = "lua")]
    &lua::ENDPOINT,
    &rate_limit::ENDPOINT,
    // Around the endpoint's work, outermost first.
    #[cfg(feature = "lua")]
    &lua::PROXY,
    #[cfg(feature = "cel")]
    &cel::ENDPOINT,
    #[cfg(feature = "json-schema")]
    &json_schema::ENDPOINT,
];

/// Namespaces whose block is a list of objects with the keys of their table.
pub const LISTS: &[&str] = &[
    #[cfg(feature = "cel")]
    cel::ENDPOINT.namespace,
];

/// Called for an endpoint that does not configure the extension.
pub type Unnamed = fn(&EndpointSite<'_>);

/// Extensions that log a line for endpoints that do not configure them, in this order.
pub const UNNAMED: &[(&EndpointExtension, Unnamed)] = &[
    (&auth_signer::ENDPOINT, auth_signer::unnamed),
    (&auth_validator::ENDPOINT, auth_validator::unnamed),
];

/// Around a backend call, outermost first: circuit breaker, rate limit, changes on the wire.
pub const BACKEND: &[&BackendExtension] = &[
    &opentelemetry::BACKEND,
    &circuit_breaker::BACKEND,
    &rate_limit::BACKEND,
    #[cfg(feature = "lua")]
    &lua::BACKEND,
    #[cfg(feature = "cel")]
    &cel::BACKEND,
    &martian::BACKEND,
    &client_credentials::BACKEND,
    &http_cache::BACKEND,
];
