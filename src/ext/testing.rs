//! Shared parts of the tests of extensions: a block in a configuration, and requests.

use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, Method};

use crate::config::{Environment, Node, Report, Rule, Value};
use crate::ext::extension::{
    BackendExtension, BackendPart, EndpointExtension, EndpointPart, ServiceExtension, ServicePart,
};
use crate::ext::{BackendSite, Compile, EndpointSite, ReloadState};
use crate::runtime::request::{Head, Host};
use crate::upstream::{Clients, DnsTable};

/// One block and its compilation. The memory is leaked, because tests are short.
pub(super) struct File {
    value: &'static Value,
    report: &'static Report,
    compile: Compile<'static>,
}

impl File {
    /// A configuration whose block is `text`, in JSON.
    pub(super) fn new(text: &str) -> File {
        File::after(text, Box::leak(Box::default()))
    }

    /// A configuration that is loaded after another one.
    pub(super) fn after(text: &str, before: &'static ReloadState) -> File {
        File::with(text, Environment::default(), before)
    }

    /// A configuration that is loaded with these environment variables.
    pub(super) fn in_environment<const N: usize>(text: &str, variables: [(&str, &str); N]) -> File {
        let environment = Environment::of(variables);
        File::with(text, environment, Box::leak(Box::default()))
    }

    fn with(text: &str, environment: Environment, before: &'static ReloadState) -> File {
        let report: &'static Report = Box::leak(Box::new(Report::new()));
        File {
            value: parse(text, report),
            report,
            compile: Compile::new(
                report,
                PathBuf::from("."),
                Box::leak(Box::new(environment)),
                clients(),
                before,
            ),
        }
    }

    pub(super) fn service(&mut self, extension: &ServiceExtension) -> ServicePart {
        let node = guarded(self.value, self.report);
        (extension.compile)(&node, &mut self.compile)
    }

    pub(super) fn endpoint(
        &mut self,
        extension: &EndpointExtension,
        pattern: &str,
    ) -> EndpointPart {
        let text = self.value.to_json();
        self.endpoint_with(extension, &text, pattern, Method::GET)
    }

    pub(super) fn endpoint_with(
        &mut self,
        extension: &EndpointExtension,
        block: &str,
        pattern: &str,
        method: Method,
    ) -> EndpointPart {
        let value = parse(block, self.report);
        let pattern: Arc<str> = pattern.into();
        let site = site(&pattern, &method, None);
        (extension.compile)(&guarded(value, self.report), &site, &mut self.compile)
    }

    /// `extra` is the `extra_config` of the endpoint that contains the backend.
    pub(super) fn backend(&mut self, extension: &BackendExtension, extra: &str) -> BackendPart {
        let pattern: Arc<str> = "/e".into();
        let extra = Node::root(parse(extra, self.report), self.report);
        let site = BackendSite {
            endpoint: &site(&pattern, &Method::GET, Some(extra)),
            index: 0,
            pattern: &pattern,
            method: &Method::GET,
            hosts: &[],
        };
        let node = guarded(self.value, self.report);
        (extension.compile)(&node, &site, &mut self.compile)
    }

    pub(super) fn set_fact<T: super::facts::Fact>(&mut self, fact: T) {
        self.compile.set_fact(Arc::new(fact));
    }

    pub(super) fn fact<T: super::facts::Fact>(&self) -> Option<Arc<T>> {
        self.compile.fact::<T>()
    }

    pub(super) fn config_errors(&self) -> usize {
        self.report.config_errors()
    }

    /// All findings, as they would be printed.
    pub(super) fn findings(&self) -> String {
        format!("{:?}", self.report)
    }

    /// The hints of all findings.
    pub(super) fn hints(&self) -> Vec<String> {
        self.report.shown_hints()
    }

    /// `pointer: text` of each error.
    pub(super) fn config_error_lines(&self) -> Vec<String> {
        self.report.shown_config_errors()
    }

    /// The background work of this configuration.
    pub(super) fn into_tasks(self) -> Vec<crate::ext::Task> {
        self.compile.finish().1
    }

    /// The block.
    pub(super) fn node(&self) -> Node<'static> {
        guarded(self.value, self.report)
    }

    /// The compilation itself.
    pub(super) fn compile(&mut self) -> &mut Compile<'static> {
        &mut self.compile
    }

    /// Ends the compilation. Returns the state, which must be kept, and the background work to start.
    pub(super) fn work(self) -> (ReloadState, Vec<crate::ext::Task>) {
        let (reload_state, tasks, _) = self.compile.finish();
        (reload_state, tasks)
    }

    /// Ends the compilation. Returns the state for the next configuration.
    pub(super) fn finish(self) -> &'static ReloadState {
        let (reload_state, ..) = self.compile.finish();
        Box::leak(Box::new(reload_state))
    }
}

fn clients() -> Arc<Clients> {
    Arc::new(Clients::new(Arc::new(DnsTable::with_resolver(None))))
}

fn site<'a>(
    pattern: &'a Arc<str>,
    method: &'a Method,
    extra: Option<Node<'a>>,
) -> EndpointSite<'a> {
    EndpointSite {
        pattern,
        method,
        timeout: Duration::from_secs(2),
        extra,
        streams: false,
        url_claims: &[],
        inputs: None,
    }
}

fn parse(text: &str, report: &'static Report) -> &'static Value {
    Box::leak(Box::new(
        crate::config::json::parse(text, report).expect("JSON"),
    ))
}

/// A request from 127.0.0.1 for `path`, without TLS.
pub(super) fn head<'a>(method: &'a Method, path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    Head {
        method,
        path,
        query,
        headers,
        host: Host::Sent(Some("gateway")),
        peer: IpAddr::from([127, 0, 0, 1]),
        client: IpAddr::from([127, 0, 0, 1]),
        secure: false,
        certificate: None,
    }
}

/// `POST /e` with this body, as a pipe step sees it.
pub(super) fn pipe_request(body: bytes::Bytes) -> crate::runtime::pipe::PipeRequest {
    crate::runtime::pipe::PipeRequest {
        peer: None,
        method: Method::POST,
        origin: None,
        path: "/e".into(),
        query: None,
        params: Default::default(),
        headers: HeaderMap::new(),
        body,
        claims: None,
        client: IpAddr::from([127, 0, 0, 1]),
        deadline: tokio::time::Instant::now() + Duration::from_secs(2),
    }
}

/// A block with the strict rule: an unclear value is an error, whether or not the namespace is a guard.
fn guarded(value: &'static Value, report: &'static Report) -> Node<'static> {
    Node::root(value, report).ruled(Rule::Guard)
}
