//! The result of a compilation.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::Finding;
use crate::config::flexible::{Rendering, Watched};
use crate::ext::auth_revoker::{Api, RpcAddress};
use crate::ext::auth_validator::Validators;
use crate::ext::identity::IdentityStatus;
use crate::ext::opentelemetry::{Exporters, Pages};
use crate::ext::{CertificateInUse, Facts, ReloadState, StapleInUse, Task};
use crate::runtime::listen::{Listen, ServerTls};
use crate::runtime::service::Service;
use crate::telemetry::observe::Native;
use crate::telemetry::stats::Stats;
use crate::telemetry::{access, logger};

/// The result for a configuration.
#[derive(Debug)]
pub struct Outcome {
    /// `None` if an error stops the start.
    pub compiled: Option<Compiled>,
    /// The settings of `telemetry/logging`, if they could be read. Also for a configuration that is rejected.
    pub logging: Option<Arc<logger::Settings>>,
    /// Errors and warnings, in the order of the configuration.
    pub findings: Vec<Finding>,
    /// The rendered text, if the configuration was a template that could be rendered.
    pub rendering: Option<Arc<Rendering>>,
    /// The files that the rendering depends on, even if it failed.
    pub watched: Vec<Watched>,
}

/// A configuration that can be served.
#[derive(Debug)]
pub struct Compiled {
    pub service: Arc<Service>,
    pub name: Option<String>,
    /// Names this configuration among others: the first digits of the SHA-256 of its content.
    pub hash: String,
    pub listen: Listen,
    /// The metrics page for Prometheus, if there is one.
    pub metrics: Option<Metrics>,
    /// What blocks of the service configure outside of requests.
    pub blocks: ServiceBlocks,
    /// Every configured certificate.
    pub certificates: Vec<CertificateInUse>,
    /// Every configured OCSP response.
    pub staples: Vec<StapleInUse>,
    /// State for the next compilation.
    pub reload_state: ReloadState,
    /// Background work to start once this configuration is used.
    pub tasks: Vec<Task>,
    /// The output of `check -d`.
    pub summary: Vec<String>,
}

/// What blocks of the service configure outside of requests: logs, metrics, admin listeners. A field is `None` if the
/// configuration has no such block.
#[derive(Debug)]
pub struct ServiceBlocks {
    /// `portcullis/access-log`, or the format in `telemetry/logging`.
    pub access_log: Option<Arc<access::Settings>>,
    pub logging: Option<Arc<logger::Settings>>,
    /// The key sets and the token cache, if an endpoint validates tokens.
    pub identity: Option<Arc<IdentityStatus>>,
    /// The validators of the endpoints.
    pub validators: Option<Arc<Validators>>,
    /// The exporters of `telemetry/opentelemetry`.
    pub exporters: Option<Arc<Exporters>>,
    /// The metrics pages of `telemetry/opentelemetry`.
    pub pages: Option<Arc<Pages>>,
    /// Our own metrics of backends.
    pub native: Option<Arc<Native>>,
    pub stats: Option<Arc<Stats>>,
    /// The HTTP interface of `auth/revoker`.
    pub revocation: Option<Arc<Api>>,
    /// The RPC port of `auth/revoker`.
    pub revoker_port: Option<Arc<RpcAddress>>,
}

impl ServiceBlocks {
    pub(super) fn new(facts: &Facts) -> ServiceBlocks {
        ServiceBlocks {
            access_log: facts.get(),
            logging: facts.get(),
            identity: facts.get(),
            validators: facts.get(),
            exporters: facts.get(),
            pages: facts.get(),
            native: facts.get(),
            stats: facts.get(),
            revocation: facts.get(),
            revoker_port: facts.get(),
        }
    }
}

/// The metrics page for Prometheus.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub listen: SocketAddr,
    /// Whether each endpoint has its own counters.
    pub per_endpoint: bool,
    /// Whether there is a status page, too.
    pub page: bool,
    pub tls: Option<ServerTls>,
}
