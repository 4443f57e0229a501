//! What an extension is handed while it compiles its block.

use std::any::{Any, TypeId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, Method};

use crate::config::{Environment, Node, Report};
use crate::ext::carry::{Carry, Task};
use crate::ext::certificates::CertificateInUse;
use crate::upstream::{Client, Clients, Settings, SideTls};

/// The state of one compilation. Service-level blocks are compiled first, in the order of the list, then endpoint by
/// endpoint its own and its backends' blocks.
#[derive(Debug)]
pub struct Compile<'a> {
    /// Where mistakes go; the same one that every [`Node`] holds.
    pub report: &'a Report,
    /// The folder that relative paths in the file start from.
    pub base: PathBuf,
    /// Where the reference takes settings from that are in no file.
    pub environment: &'a Environment,
    /// The process's clients, for calls with settings of their own.
    pub clients: Arc<Clients>,
    /// The client that all backends share; `None` when it could not be made, which is reported.
    pub client: Option<Arc<Client>>,
    /// Every certificate that the file names, as far as it was looked at.
    pub certificates: RefCell<Vec<CertificateInUse>>,
    before: &'a Carry,
    carry: Carry,
    tasks: Vec<Task>,
    facts: Facts,
    /// See [`Compile::identify`].
    identity_headers: Vec<HeaderName>,
}

/// The timeout of endpoints that name none, for blocks around all of them; left by `compile`.
#[derive(Debug, Clone, Copy)]
pub struct ServiceTimeout(pub Duration);

/// What blocks left for others, one value per type.
#[derive(Debug, Default)]
pub struct Facts(HashMap<TypeId, Arc<dyn Any + Send + Sync>>);

impl Facts {
    /// What was left of this type.
    pub fn get<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.0
            .get(&TypeId::of::<T>())
            .and_then(|fact| Arc::clone(fact).downcast::<T>().ok())
    }
}

impl<'a> Compile<'a> {
    /// `before` is the registry of the file in use, empty at start.
    pub fn new(
        report: &'a Report,
        base: PathBuf,
        environment: &'a Environment,
        clients: Arc<Clients>,
        before: &'a Carry,
    ) -> Compile<'a> {
        Compile {
            report,
            base,
            environment,
            clients,
            client: None,
            certificates: RefCell::default(),
            before,
            carry: Carry::default(),
            tasks: Vec::new(),
            facts: Facts::default(),
            identity_headers: Vec::new(),
        }
    }

    /// Notes that `header` tells who sends a request to the endpoint that is compiled now: a step sets it from the
    /// client's identity, or reads a credential from it. The endpoint's backends are compiled after its own blocks.
    pub fn identify(&mut self, header: HeaderName) {
        if !self.identity_headers.contains(&header) {
            self.identity_headers.push(header);
        }
    }

    /// The headers that tell who sends a request to the endpoint that is compiled now.
    pub fn identity_headers(&self) -> &[HeaderName] {
        &self.identity_headers
    }

    /// Begins the next endpoint: what was noted about the one before does not hold for it.
    pub fn begin_endpoint(&mut self) {
        self.identity_headers.clear();
    }

    /// The state called `key`: the one of this file, or of the file before, or a new one made by `make`.
    ///
    /// The key must hold everything that the state depends on: put the namespace in front and the definition behind,
    /// for instance with [`crate::config::Value::to_json`]; two blocks share a state when their keys are equal.
    /// Background work of the new state is pushed to the list that `make` receives.
    pub fn carry<T: Any + Send + Sync>(
        &mut self,
        key: impl Into<String>,
        make: impl FnOnce(&mut Vec<Task>) -> Arc<T>,
    ) -> Arc<T> {
        let made = self.try_carry(key, |tasks| Ok::<_, Infallible>(make(tasks)));
        match made {
            Ok(state) => state,
            Err(never) => match never {},
        }
    }

    /// The same, for a state that cannot always be made.
    ///
    /// # Errors
    /// What `make` failed with.
    pub fn try_carry<T: Any + Send + Sync, E>(
        &mut self,
        key: impl Into<String>,
        make: impl FnOnce(&mut Vec<Task>) -> Result<Arc<T>, E>,
    ) -> Result<Arc<T>, E> {
        let key = key.into();
        if let Some(state) = self.carry.find::<T>(&key) {
            return Ok(state);
        }
        let state = match self.before.find::<T>(&key) {
            Some(state) => state,
            None => make(&mut self.tasks)?,
        };
        self.carry.keep(key, Arc::clone(&state));
        Ok(state)
    }

    /// Work for this file alone, carried over by no reload.
    pub fn push(&mut self, task: Task) {
        self.tasks.push(task);
    }

    /// Leaves something for the blocks that are compiled later, one value per type: a service-level block for the
    /// endpoints, for instance.
    pub fn leave<T: Any + Send + Sync>(&mut self, fact: Arc<T>) {
        self.facts.0.insert(TypeId::of::<T>(), fact);
    }

    /// What an earlier block left.
    pub fn left<T: Any + Send + Sync>(&self) -> Option<Arc<T>> {
        self.facts.get()
    }

    /// How calls of our own that belong to backends (tokens for them, calls of scripts) are verified: as the backends
    /// themselves, by `client_tls`.
    pub fn client_tls(&self) -> SideTls {
        self.left::<Settings>()
            .map_or_else(SideTls::default, |settings| SideTls::from(&settings.tls))
    }

    /// A path of the file, relative to the file's folder.
    ///
    /// As the reference does, a relative path is first looked for from the working directory.
    pub fn path(&self, text: &str) -> PathBuf {
        let path = Path::new(text);
        if path.is_absolute() || path.exists() {
            return path.to_owned();
        }
        self.base.join(path)
    }

    /// What must be kept and started when this compilation is put to use.
    pub fn finish(self) -> (Carry, Vec<Task>, Facts) {
        (self.carry, self.tasks, self.facts)
    }
}

/// The endpoint around a block.
#[derive(Debug, Clone)]
pub struct EndpointSite<'a> {
    /// As in the file: `/a/{id}`.
    pub pattern: &'a Arc<str>,
    pub method: &'a Method,
    pub timeout: Duration,
    /// The endpoint's whole `extra_config`, for blocks that depend on a neighbour.
    pub extra: Option<Node<'a>>,
    /// A `no-op` endpoint: its answer is not composed.
    pub streams: bool,
    /// What the URLs of its backends take from tokens.
    pub url_claims: &'a [UrlClaim<'a>],
}

/// A `{JWT.claim}` in the `url_pattern` of a backend.
#[derive(Debug, Clone)]
pub struct UrlClaim<'a> {
    pub name: Box<str>,
    /// In its path; else in its query.
    pub in_path: bool,
    /// The `url_pattern`.
    pub node: Node<'a>,
}

/// The backend around a block.
#[derive(Debug, Clone)]
pub struct BackendSite<'a> {
    pub endpoint: &'a EndpointSite<'a>,
    /// Its place in the endpoint's list.
    pub index: usize,
    /// `url_pattern` as the file has it.
    pub pattern: &'a Arc<str>,
    pub method: &'a Method,
    /// The hosts that it calls, sanitised.
    pub hosts: &'a [String],
}
