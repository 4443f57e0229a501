//! What a block of the configuration passes to blocks that are compiled later.
//!
//! A block calls [`Compile::set_fact`](super::context::Compile::set_fact), a later one
//! [`Compile::fact`](super::context::Compile::fact). The list below names every value, the block that sets it, and the
//! blocks that read it.

use std::sync::Arc;

use super::auth_revoker::{Api, RpcAddress};
use super::auth_validator::Validators;
use super::context::{ServiceFacts, ServiceLimits, ServiceResponseEdits, ServiceTimeout};
use super::identity::{Bounds, Identity, IdentityStatus, Revoker, SubjectWanted};
#[cfg(feature = "lua")]
use super::lua;
use super::opentelemetry::{Exporters, Pages};
use super::redis::SharedStore;
use super::{
    api_keys, auth_validator, basic, body_extractor, cors, geoip, http_cache, inherited_steps,
    jwk_aggregator, logging, opentelemetry, redis_pools, request_id, static_files, upstream,
};
use crate::runtime::address::Ipv6Prefix;
use crate::runtime::prerouting::{Hosts, Wildcards};
use crate::telemetry::observe::{Native, Observer};
use crate::telemetry::stats::Stats;
use crate::telemetry::{access, logger};
use crate::upstream::{HostRules, Settings};

/// A value that has a place in [`Facts`].
pub(crate) trait Fact: Sized {
    /// The place of this value.
    fn place(facts: &Facts) -> &Option<Arc<Self>>;

    /// The place of this value, to set it.
    fn place_mut(facts: &mut Facts) -> &mut Option<Arc<Self>>;
}

macro_rules! facts {
    ($($(#[$meta:meta])* $name:ident: $fact:ty,)*) => {
        /// The values that blocks passed on.
        #[derive(Debug, Default)]
        pub(crate) struct Facts {
            $($(#[$meta])* $name: Option<Arc<$fact>>,)*
        }

        $($(#[$meta])* impl Fact for $fact {
            fn place(facts: &Facts) -> &Option<Arc<Self>> {
                &facts.$name
            }

            fn place_mut(facts: &mut Facts) -> &mut Option<Arc<Self>> {
                &mut facts.$name
            }
        })*
    };
}

impl Facts {
    /// The value of this type.
    pub(crate) fn get<T: Fact>(&self) -> Option<Arc<T>> {
        T::place(self).clone()
    }
}

facts! {
    /// Set by `compile`; read by blocks that need the name, the health path or the client's address.
    service: ServiceFacts,
    /// `timeout` of the service. Set by `compile`; read by scripts around all endpoints.
    timeout: ServiceTimeout,
    /// Set by `compile` from the limits of the service; read by it for endpoints.
    limits: ServiceLimits,
    /// Set by `compile` from the headers and the compression of the service; read by it for endpoints.
    response_edits: ServiceResponseEdits,
    /// The settings of the shared client. Set by `compile`; read for our own calls and for clients of one backend.
    client: Settings,
    /// The rules of redirects of the service, or of the current backend. Set by `compile`; read by scripts.
    redirects: HostRules,
    /// Set by `compile`; read by limits and `auth/basic`.
    ipv6_prefix: Ipv6Prefix,
    /// The files that must not be published. Set by `compile`; read by static files.
    secret_files: static_files::SecretFiles,
    /// Steps for every endpoint. Set by blocks of the service; read by `compile`.
    inherited_steps: inherited_steps::InheritedSteps,

    /// Set by `telemetry/logging`; read when the logger is opened.
    logger: logger::Settings,
    /// The prefix of `telemetry/logging`. Read by `telemetry/logstash`.
    log_prefix: logging::Prefix,
    /// Set by `portcullis/access-log` or `telemetry/logging`; read when the log is opened.
    access_log: access::Settings,
    /// Set by `telemetry/metrics`; read by `telemetry/influx` and backends.
    stats: Stats,
    /// Our own series of backends. Set by `compile`; read by telemetry and the metrics page.
    native: Native,
    /// Set by `telemetry/opentelemetry`, `telemetry/opencensus` or `compile`; read by endpoints and backends.
    observer: Observer,
    /// The secret headers of exporters. Set by `telemetry/opentelemetry-security`; read by `telemetry/opentelemetry`.
    exporter_headers: opentelemetry::Secrets,
    /// Set by `telemetry/opentelemetry`; read when exporters are started.
    exporters: Exporters,
    /// Set by `telemetry/opentelemetry`; read when the pages are opened.
    pages: Pages,
    /// The current endpoint's own settings of telemetry; read by its backends.
    observed_endpoint: opentelemetry::OfEndpoint,
    /// The current backend's own settings of telemetry.
    observed_backend: opentelemetry::OfBackend,

    /// Set by `portcullis/token-cache`; read when the first block uses tokens.
    token_cache: Bounds,
    /// Set by the first block that uses tokens; read by all others.
    identity: Identity,
    /// The state of the tokens, for reports.
    identity_status: IdentityStatus,
    /// `shared_cache_duration` of `auth/validator`; read by its endpoints.
    shared_life: auth_validator::SharedLife,
    /// Set and read by `auth/validator` of endpoints.
    longest_age: auth_validator::LongestAge,
    /// Set by the service's `auth/validator`; read by its endpoints.
    resource: auth_validator::Resource,
    /// The validators so far. Set by endpoints; read by reports and `token explain`.
    validators: Validators,
    /// Whether a backend of the current endpoint needs the token. Set by `auth/validator`; read by
    subject: SubjectWanted,
    /// Set by `auth/revoker`; read by `auth/validator`.
    revoker: Revoker,
    /// Set by `auth/revoker`; read when its listener is opened.
    revoker_api: Api,
    /// Set by `auth/revoker`; read by `check -t`.
    revoker_port: RpcAddress,
    /// Set by the service's `auth/api-keys`; read by its endpoints.
    api_keys: api_keys::Keys,
    /// Set by the service's `auth/basic`; read by its endpoints.
    basic: basic::Shared,
    /// Set by `portcullis/jwk-aggregator`; read by `auth/validator` of endpoints.
    jwk_aggregator: jwk_aggregator::Aggregator,
    /// The headers that the service's body extractors set; read by endpoints.
    taken: body_extractor::TakenByService,
    /// Set by `portcullis/request-id`; read by endpoints and caches.
    request_id: request_id::IdHeader,
    /// Set by the service's `security/cors`; read by its endpoints.
    cors: cors::Own,
    /// Set by `portcullis/geoip`; read by policies and conditions.
    geoip: geoip::Locator,

    /// Set by `portcullis/redis`; read by limits, revocation and TLS tickets.
    redis: SharedStore,
    /// Set by `redis`; read by limits.
    redis_pools: redis_pools::Pools,
    /// The shared cache of backends with `shared`, with a bound. Set and read by `qos/http-cache`.
    cache: http_cache::Limited,
    /// The shared cache of backends with `shared`, without a bound.
    unlimited_cache: http_cache::Unlimited,
    /// The interpreters. Set by the first script; read by all others.
    #[cfg(feature = "lua")]
    lua: lua::Pool,
    /// Set by static files; read by `compile`.
    sites: static_files::Sites,
    /// Set by wildcards; read by `compile`.
    wildcards: Wildcards,
    /// What decides about the hosts of the current endpoint's backends. Set and read by `compile`.
    sticky: upstream::StickyRules,
    /// Set by virtual hosts; read by `compile`.
    virtual_hosts: Hosts,
}
