//! The context in which an extension compiles its block.

use std::any::Any;
use std::cell::RefCell;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::config::{Environment, Node, Report};
use crate::ext::certificates::CertificateInUse;
use crate::ext::compression::Setting;
use crate::ext::extension::EndpointExtension;
use crate::ext::facts::{Fact, Facts};
use crate::ext::reload_state::{ReloadState, Task};
use crate::ext::staples::StapleInUse;
use crate::runtime::compression::Compression;
use crate::runtime::response_edits::HeaderEdits;
use crate::runtime::service::{ClientAddress, Payload};
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::{Client, Clients, Settings, SideTls};

/// The state of one compilation. Service-level blocks are compiled first, in the order of the list, and then each
/// endpoint's own blocks and those of its backends.
#[derive(Debug)]
pub(crate) struct Compile<'a> {
    /// The report for errors. Every [`Node`] uses the same one.
    pub report: &'a Report,
    /// The folder for relative paths in the configuration.
    pub base: PathBuf,
    /// The environment variables, from which KrakenD reads settings that are in no file.
    pub environment: &'a Environment,
    /// The process's clients, for calls with their own settings.
    pub clients: Arc<Clients>,
    /// The client that all backends share. `None` if it could not be created, which is reported.
    pub client: Option<Arc<Client>>,
    /// Every configured certificate that was checked so far.
    pub certificates: RefCell<Vec<CertificateInUse>>,
    /// Every configured OCSP response that was checked so far.
    pub staples: RefCell<Vec<StapleInUse>>,
    before: &'a ReloadState,
    reload_state: ReloadState,
    tasks: Vec<Task>,
    pub upgrade_states: Vec<Arc<dyn UpgradeState>>,
    facts: Facts,
    /// See [`Compile::identify`].
    identity_headers: Vec<HeaderName>,
    /// The headers that identify clients, of all endpoints that were compiled so far.
    identity_headers_of_all: Vec<HeaderName>,
    /// Those of them whose values come from the client's body.
    chosen_by_client: Vec<HeaderName>,
    /// See [`Compile::browsers_send`].
    sent_by_browsers: Vec<Box<str>>,
    /// How many of them are those of the service. Set when the first endpoint begins.
    of_service: Option<usize>,
}

/// The timeout of endpoints that set none, for blocks around all of them. Set by `compile`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceTimeout(
    #[cfg_attr(
        not(feature = "lua"),
        expect(dead_code, reason = "only scripts need it")
    )]
    pub Duration,
);

/// The limits of the service, for its endpoints. Set by `compile`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ServiceLimits {
    pub payload: Payload,
    /// The limit of bodies that are read whole.
    pub whole: u64,
    /// The limit of bodies of backends that are read whole.
    #[cfg_attr(
        not(any(feature = "amqp", feature = "nats")),
        expect(dead_code, reason = "only message brokers need it")
    )]
    pub upstream_body: u64,
}

/// What the service does to every response, for its endpoints. Set by `compile`.
#[derive(Debug)]
pub(crate) struct ServiceResponseEdits {
    pub edits: Option<Arc<HeaderEdits>>,
    pub compression: Setting,
    pub shared: Option<Arc<Compression>>,
}

/// Settings of the service itself, for the blocks of the service. Set by `compile`.
#[derive(Debug, Clone, Default)]
pub(crate) struct ServiceFacts {
    pub name: Option<String>,
    pub health_path: Option<String>,
    pub client_address: ClientAddress,
    /// Whether clients are asked for a TLS certificate (`enable_mtls`).
    pub asks_for_certificates: bool,
}

impl<'a> Compile<'a> {
    /// `before` is the registry of the configuration in use. It is empty at start.
    pub(crate) fn new(
        report: &'a Report,
        base: PathBuf,
        environment: &'a Environment,
        clients: Arc<Clients>,
        before: &'a ReloadState,
    ) -> Compile<'a> {
        Compile {
            report,
            base,
            environment,
            clients,
            client: None,
            certificates: RefCell::default(),
            staples: RefCell::default(),
            before,
            reload_state: ReloadState::default(),
            tasks: Vec::new(),
            upgrade_states: Vec::new(),
            facts: Facts::default(),
            identity_headers: Vec::new(),
            identity_headers_of_all: Vec::new(),
            chosen_by_client: Vec::new(),
            sent_by_browsers: Vec::new(),
            of_service: None,
        }
    }

    /// Records that `header` identifies the client of requests to the current endpoint: a step sets it from the
    /// client's identity, or reads a credential from it. An endpoint's backends are compiled after its own blocks.
    pub(crate) fn identify(&mut self, header: HeaderName) {
        if !self.identity_headers_of_all.contains(&header) {
            self.identity_headers_of_all.push(header.clone());
        }
        self.identify_here(header);
    }

    /// Records a header that identifies the client by a value from the client's body: the client chooses who it is.
    pub(crate) fn identify_by_client(&mut self, header: HeaderName) {
        self.chosen_by_client.push(header.clone());
        self.identify_here(header);
    }

    fn identify_here(&mut self, header: HeaderName) {
        if !self.identity_headers.contains(&header) {
            self.identity_headers.push(header);
        }
    }

    /// Whether a step of the current endpoint so far sets `header`, to a value that the client cannot choose.
    pub(crate) fn is_set_by_gateway(&self, header: &HeaderName) -> bool {
        self.identity_headers.contains(header) && !self.chosen_by_client.contains(header)
    }

    /// Whether `header` identifies the client at any endpoint so far, by a value that the client cannot choose.
    pub(crate) fn identifies(&self, header: &HeaderName) -> bool {
        self.identity_headers_of_all.contains(header)
    }

    /// The headers that identify the client of requests to the current endpoint.
    pub(crate) fn identity_headers(&self) -> &[HeaderName] {
        &self.identity_headers
    }

    /// Records that a guard of the current endpoint, or of all endpoints, uses something that browsers add to requests
    /// of any web page, such as cookies. `what` says what it is.
    pub(crate) fn browsers_send(&mut self, what: impl Into<Box<str>>) {
        self.sent_by_browsers.push(what.into());
    }

    /// What browsers add to requests of any web page and guards of the current endpoint use.
    pub(crate) fn sent_by_browsers(&self) -> &[Box<str>] {
        &self.sent_by_browsers
    }

    /// Starts the next endpoint and clears the records of the previous one.
    pub(crate) fn begin_endpoint(&mut self) {
        self.identity_headers.clear();
        self.chosen_by_client.clear();
        let all = self.sent_by_browsers.len();
        let shared = *self.of_service.get_or_insert(all);
        self.sent_by_browsers.truncate(shared);
    }

    /// The state with this `key`: that of this configuration, or of the previous one, or a new one created by `make`.
    ///
    /// The key must contain everything that the state depends on: the namespace first, followed by the definition,
    /// for example from [`crate::config::Value::to_json`]. Two blocks share a state if their keys are equal.
    /// Background work of a new state is added to the list that `make` receives.
    pub(crate) fn carry_over<T: Any + Send + Sync>(
        &mut self,
        key: impl Into<String>,
        make: impl FnOnce(&mut Vec<Task>) -> Arc<T>,
    ) -> Arc<T> {
        let made = self.try_carry_over(key, |tasks| Ok::<_, Infallible>(make(tasks)));
        match made {
            Ok(state) => state,
            Err(never) => match never {},
        }
    }

    /// Like [`Compile::carry_over`], for a state whose creation may fail.
    ///
    /// # Errors
    /// The error of `make`.
    pub(crate) fn try_carry_over<T: Any + Send + Sync, E>(
        &mut self,
        key: impl Into<String>,
        make: impl FnOnce(&mut Vec<Task>) -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        let key = key.into();
        if let Some(state) = self.reload_state.find::<T>(&key) {
            return Ok(state);
        }
        let state = match self.before.find::<T>(&key) {
            Some(state) => state,
            None => make(&mut self.tasks)?,
        };
        self.reload_state.keep(key, Arc::clone(&state));
        Ok(state)
    }

    /// Work for this configuration only, which a reload does not carry over.
    pub(crate) fn push(&mut self, task: Task) {
        self.tasks.push(task);
    }

    /// State that an upgrade passes to the new process. It may be added more than once.
    pub(crate) fn pass_on(&mut self, state: Arc<dyn UpgradeState>) {
        if !self
            .upgrade_states
            .iter()
            .any(|known| Arc::ptr_eq(known, &state))
        {
            self.upgrade_states.push(state);
        }
    }

    /// Passes a value to the blocks that are compiled later: for example from a service-level block to the endpoints.
    pub(crate) fn set_fact<T: Fact>(&mut self, fact: Arc<T>) {
        *T::place_mut(&mut self.facts) = Some(fact);
    }

    /// The value that an earlier block passed.
    pub(crate) fn fact<T: Fact>(&self) -> Option<Arc<T>> {
        self.facts.get()
    }

    /// The TLS settings of our own calls on behalf of backends (tokens, calls of scripts). They are verified like the
    /// backends themselves, by `client_tls`.
    pub(crate) fn client_tls(&self) -> SideTls {
        self.fact::<Settings>()
            .map_or_else(SideTls::default, |settings| SideTls::from(&settings.tls))
    }

    /// The TLS settings of our own calls where the server's certificate is always checked. For servers that say who may
    /// pass: a switch for the certificates of backends must not open the gateway.
    pub(crate) fn verified_tls(&self) -> SideTls {
        SideTls {
            insecure: false,
            ..self.client_tls()
        }
    }

    /// A configured path, relative to the folder of the configuration.
    ///
    /// As in KrakenD, a relative path is first looked up in the working directory.
    pub(crate) fn path(&self, text: &str) -> PathBuf {
        let path = Path::new(text);
        if path.is_absolute() || path.exists() {
            return path.to_owned();
        }
        self.base.join(path)
    }

    /// The state to keep and the work to start when this compilation is put to use.
    pub(crate) fn finish(self) -> (ReloadState, Vec<Task>, Facts) {
        (self.reload_state, self.tasks, self.facts)
    }
}

/// The endpoint that contains a block.
#[derive(Debug, Clone)]
pub(crate) struct EndpointSite<'a> {
    /// As configured: `/a/{id}`.
    pub pattern: &'a Arc<str>,
    pub method: &'a Method,
    pub timeout: Duration,
    /// The endpoint's whole `extra_config`, for blocks that depend on another one.
    pub extra: Option<Node<'a>>,
    /// A `no-op` endpoint, whose response is not composed.
    pub streams: bool,
    /// The claims that the URLs of its backends use.
    pub url_claims: &'a [UrlClaim<'a>],
    /// The inputs that pass. `None` if they are not needed.
    pub inputs: Option<EndpointInputs<'a>>,
}

impl EndpointSite<'_> {
    /// Whether the endpoint's `extra_config` names an extension, under any of its spellings.
    pub(crate) fn names(&self, extension: &EndpointExtension) -> bool {
        let mut spellings = std::iter::once(&extension.namespace).chain(extension.aliases);
        self.extra
            .as_ref()
            .is_some_and(|extra| spellings.any(|name| extra.get(name).is_some()))
    }
}

/// The names that an endpoint lets pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EndpointInputs<'a> {
    pub headers: &'a [String],
    #[cfg_attr(
        not(feature = "cel"),
        expect(dead_code, reason = "only expressions need it")
    )]
    pub query: &'a [String],
}

/// A `{JWT.claim}` in the `url_pattern` of a backend.
#[derive(Debug, Clone)]
pub(crate) struct UrlClaim<'a> {
    pub name: Box<str>,
    /// True if it is in the path, false if it is in the query.
    pub in_path: bool,
    /// The `url_pattern`.
    pub node: Node<'a>,
}

/// The backend that contains a block.
#[derive(Debug, Clone)]
pub(crate) struct BackendSite<'a> {
    pub endpoint: &'a EndpointSite<'a>,
    /// Its index in the endpoint's list.
    pub index: usize,
    /// `url_pattern` as configured.
    pub pattern: &'a Arc<str>,
    pub method: &'a Method,
    /// The sanitised hosts that it calls.
    pub hosts: &'a [String],
}

impl BackendSite<'_> {
    /// The name of the state of this backend's block. A reload that changes the block gets a new state.
    pub(crate) fn state(&self, namespace: &str, node: &Node<'_>) -> String {
        format!(
            "{namespace} {} {} {} {} {}",
            self.endpoint.method,
            self.endpoint.pattern,
            self.index,
            self.pattern,
            node.value().to_json()
        )
    }
}
