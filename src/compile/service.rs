//! Compiles a configuration to a service.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};

use aws_lc_rs::digest;
use http::Method;

use crate::compile::namespaces::{Level, wanted};
use crate::compile::output::{Compiled, Metrics, Outcome, ServiceBlocks};
use crate::compile::{
    admin_listeners, agents, backend, client, endpoint, krakend3, listen, misplaced, options,
    plugins, prerouting, response_edits, summary,
};
use crate::config::flexible::Watched;
use crate::config::load::{self, Format};
use crate::config::service::SERVICE;
use crate::config::{
    Block, ConfigError, Environment, Node, Report, Service, Severity, Typing, Value,
};
use crate::ext::extension::ServicePart;
use crate::ext::identity::{IdentityStatus, Revoker};
use crate::ext::registry::SERVICE as EXTENSIONS;
use crate::ext::{
    Compile, ReloadState, ServiceFacts, ServiceLimits, ServiceTimeout, cors, inherited_steps,
    watched_staples,
};
use crate::runtime::errors::ErrorBodies;
use crate::runtime::prerouting::Prerouting;
use crate::runtime::readiness::Readiness;
use crate::runtime::router::{self, Builder, BuiltIn, Pattern, RouteError, Router};
use crate::runtime::service as runtime;
use crate::runtime::step::{EndpointStep, ServiceStep};
use crate::telemetry::access::{self, AccessFormat};
use crate::telemetry::observe::{Native, Observer};
use crate::upstream::Clients;

/// The inputs of a compilation, besides the configuration.
#[derive(Debug)]
pub struct Inputs<'i> {
    pub environment: &'i Environment,
    /// The process's clients, which keep connections across reloads.
    pub clients: &'i Arc<Clients>,
    /// The state of the configuration in use. Empty at start.
    pub before: &'i ReloadState,
    /// `--port`, which takes precedence over configuration and environment.
    pub port: Option<u16>,
    /// `--debug`: enables the debug endpoint, whatever is configured.
    pub debug: bool,
}

/// Compiles the configuration at `path`.
pub(crate) fn file(path: &Path, inputs: &Inputs<'_>) -> Outcome {
    let report = Report::new();
    let base = path.parent().map(Path::to_owned).unwrap_or_default();
    let root = load::load(path, inputs.environment, &report);
    report.depends_on(&[Watched::File(path.to_owned())]);
    outcome(root, base, inputs, report)
}

/// Compiles a text. Relative paths in it start at `base`.
pub fn text(text: &str, format: Format, base: &Path, inputs: &Inputs<'_>) -> Outcome {
    let report = Report::new();
    let root = load::parse(text, format, inputs.environment, &report);
    outcome(root, base.to_owned(), inputs, report)
}

fn outcome(root: Option<Value>, base: PathBuf, inputs: &Inputs<'_>, report: Report) -> Outcome {
    // Before anything is read, plugins that are built in become blocks of their own.
    let rewritten = root
        .as_ref()
        .and_then(|root| plugins::rewrite(&Node::root(root, &report)));
    let moved = rewritten.as_ref().map(|rewritten| &rewritten.root);
    let written = root.as_ref();
    let compiled =
        written.and_then(|root| compile(root, moved.unwrap_or(root), base, inputs, &report));
    let (rendering, watched) = (report.rendering(), report.watched());
    let good = report.config_errors() == 0;
    let mut findings = report.into_findings();
    if let Some(rewritten) = &rewritten {
        findings
            .iter_mut()
            .for_each(|finding| rewritten.locate(finding));
    }
    let rejected = inputs.environment.is_strict() && !findings.is_empty();
    if rejected {
        let findings = findings.iter_mut();
        findings.for_each(|finding| finding.severity = Severity::ConfigError);
    }
    Outcome {
        logging: compiled.as_ref().and_then(|all| all.blocks.logging.clone()),
        compiled: compiled.filter(|_| good && !rejected),
        findings,
        rendering,
        watched,
    }
}

/// Compiles `whole`, which is `written` with its plugins moved to their own namespaces.
fn compile(
    written: &Value,
    whole: &Value,
    base: PathBuf,
    inputs: &Inputs<'_>,
    report: &Report,
) -> Option<Compiled> {
    let root = Node::root(whole, report);
    // With another version, every second key would be reported as unknown.
    if version(&root)? == 4 {
        krakend3::warn(&Node::root(written, report));
    }
    misplaced::report(&root);
    let hash = hash(root.value());
    let file = Service::read(root)?;
    let mut cx = Compile::new(
        report,
        base,
        inputs.environment,
        Arc::clone(inputs.clients),
        inputs.before,
    );
    // Plugins that are named were moved, or reported.
    let names_plugins = !std::ptr::eq(written, whole);
    not_ours(&file, names_plugins, &cx);
    let mut listener = listen::listen(&file, inputs.port, &cx);
    listener.limits.h2c |= options::h2c(&file.extra);
    let (mut options, routing) = options::options(&file, inputs.debug);
    client::client(&file, &mut cx);
    set_facts(&file, &options, &mut cx);
    let metrics = metrics(&file, &mut cx);
    cx.set_fact(Arc::new(prerouting::secrets(file.block.node(), &cx)));
    let around = service_steps(&file, &mut cx);
    options.payload.gunzip |= around.gates.iter().any(|gate| gate.parses_body());
    check_ahead(&file, &around, &cx);
    observe(&mut cx);
    if let Some(tls) = &mut listener.tls {
        tls.shared_tickets = listen::shared_tickets(&file, &mut cx);
    }
    let response_edits = response_edits::service(&file, &mut cx);
    let (router, endpoints) = routes(&file, &options, routing, &mut cx);
    let agents = agents::agents(&file, &options, &mut cx);
    let unrouted = inherited_steps::unrouted(&cx);
    let readiness = readiness(&file, &mut cx);
    let names = Arc::clone(&cx.clients);
    cx.pass_on(names);
    let upgrade_states = std::mem::take(&mut cx.upgrade_states).into();
    let certificates = cx.certificates.take();
    let staples = watched_staples(&mut cx);
    let router = Arc::new(router);
    if let Some(own) = cx.fact::<cors::Own>() {
        own.fix(&router, &endpoints);
    }
    let observer = cx.fact::<Observer>();
    let (reload_state, tasks, facts) = cx.finish();
    let compiled = Compiled {
        summary: summary::lines(&file, &listener),
        name: file.name.clone(),
        hash,
        metrics,
        listen: listener,
        service: Arc::new(runtime::Service {
            router,
            endpoints,
            steps: around.steps.into(),
            gates: around.gates.into(),
            unrouted: unrouted.into(),
            readiness,
            upgrade_states,
            observer,
            options: Arc::new(options),
            errors: around.errors.map(Arc::from),
            prerouting: around.prerouting,
            response_edits: response_edits.map(Arc::from),
            agents,
        }),
        blocks: ServiceBlocks::new(&facts),
        certificates,
        staples,
        reload_state,
        tasks,
    };
    admin_listeners::report_conflicts(&compiled, whole, report);
    Some(compiled)
}

/// The settings of the page of metrics. The series of endpoints, if it has them, are kept over reloads.
fn metrics(file: &Service<'_>, cx: &mut Compile<'_>) -> Option<Metrics> {
    let page = listen::metrics(file, cx);
    if page.as_ref().is_some_and(|page| page.per_endpoint) {
        let native = cx.carry_over("portcullis/metrics series", |_| Arc::new(Native::new()));
        cx.set_fact(native);
    }
    page
}

/// Reports what the steps before the router make unreachable.
fn check_ahead(file: &Service<'_>, around: &Around, cx: &Compile<'_>) {
    prerouting::sites(file, cx);
    prerouting::paths(file, cx);
    prerouting::rewritten(file, around.prerouting.as_deref());
}

/// Passes the keys of the service to the blocks, which are compiled later.
fn set_facts(file: &Service<'_>, options: &runtime::Options, cx: &mut Compile<'_>) {
    cx.set_fact(Arc::new(options::ipv6_prefix(file)));
    if let Some(timeout) = file.timeout {
        cx.set_fact(Arc::new(ServiceTimeout(timeout)));
    }
    cx.set_fact(Arc::new(ServiceFacts {
        name: file.name.clone(),
        health_path: options.health_path.as_deref().map(str::to_owned),
        client_address: options.client_address.clone(),
        asks_for_certificates: file
            .tls
            .as_ref()
            .is_some_and(|tls| tls.enable_mtls && !tls.disabled),
    }));
    cx.set_fact(Arc::new(ServiceLimits {
        payload: options.payload,
        whole: options.max_request_body_bytes,
        upstream_body: options.max_upstream_body_bytes,
    }));
}

/// The hash of the configuration with templates and variables filled in, so that gateways with the same configuration
/// have the same hash.
fn hash(root: &Value) -> String {
    let digest = digest::digest(&digest::SHA256, root.to_json().as_bytes());
    hex::encode(digest.as_ref().get(..6).unwrap_or_default())
}

/// Our own metrics and the JSON access log know of backends also without `telemetry/opentelemetry`.
fn observe(cx: &mut Compile<'_>) {
    let native = cx.fact::<Native>();
    let shown = cx
        .fact::<access::Settings>()
        .is_some_and(|log| log.format == AccessFormat::Json);
    if cx.fact::<Observer>().is_none() && (native.is_some() || shown) {
        cx.set_fact(Arc::new(Observer::quiet(native)));
    }
}

/// The gateway is ready when the key sets and the revocations of the fleet have arrived. This applies once in the life of the process
/// and of those that take over from it.
fn readiness(file: &Service<'_>, cx: &mut Compile<'_>) -> Option<Arc<Readiness>> {
    let identity = cx.fact::<IdentityStatus>()?;
    let limit = listen::ready_wait(file);
    // Without a strong reference: the list ends with the configuration that uses it.
    let revoker = cx
        .fact::<Revoker>()
        .map(|revoker| Arc::downgrade(&revoker.0));
    let readiness = cx.carry_over("portcullis/readiness", |_| {
        Arc::new(Readiness::new(limit, move || {
            let revoker = revoker.as_ref().and_then(Weak::upgrade);
            identity.key_sets_have_arrived() && revoker.is_none_or(|revoker| revoker.has_arrived())
        }))
    });
    let state = Arc::clone(&readiness);
    cx.pass_on(state);
    Some(readiness)
}

/// 3 or 4. Any other version is reported. Version 4 is that of KrakenD 3.0, which reads a subset of version 3.
fn version(root: &Node<'_>) -> Option<i64> {
    let block = Block::open_quietly(root.clone(), SERVICE, Typing::Weak)?;
    let version = match block.get("version") {
        Some(node) => node.integer(Typing::Weak).map(|version| (version, node)),
        None => Some((0, root.clone())),
    };
    match version {
        Some((version @ (3 | 4), _)) => Some(version),
        Some((version, node)) => {
            let config_error = ConfigError::Version(version);
            match version {
                0 => node.config_error_hint(config_error, "write \"version\": 3"),
                _ => node.config_error_hint(config_error, "versions 3 and 4 are read"),
            }
            None
        }
        None => None,
    }
}

/// Reports root-level features of KrakenD that are not supported.
fn not_ours(file: &Service<'_>, names_plugins: bool, cx: &Compile<'_>) {
    let Some(plugin) = &file.plugin else { return };
    let node = plugin.block.node();
    let folder = plugin.folder.as_deref().map(|folder| cx.path(folder));
    match folder.and_then(|folder| first_plugin(&folder, plugin.pattern.as_deref())) {
        Some(name) if names_plugins => node.warn(ConfigError::invalid(format!(
            "{name}: Go plugins (.so) cannot be loaded by this gateway: the folder is not read"
        ))),
        Some(name) => node.config_error_hint(
            ConfigError::invalid(format!(
                "{name}: Go plugins (.so) cannot be loaded by this gateway"
            )),
            "remove the plugin and the block",
        ),
        None => node.warn(ConfigError::invalid(
            "Go plugins cannot be loaded by this gateway; there are none in the folder",
        )),
    }
}

/// The first file that KrakenD would load.
fn first_plugin(folder: &Path, pattern: Option<&str>) -> Option<String> {
    let pattern = pattern.unwrap_or(".so");
    std::fs::read_dir(folder)
        .ok()?
        .flatten()
        .filter_map(|entry| entry.file_name().into_string().ok())
        .find(|name| name.contains(pattern))
}

/// The steps around the router, the gates after it, and the bodies of our own errors.
#[derive(Default)]
struct Around {
    steps: Vec<Box<dyn ServiceStep>>,
    gates: Vec<Box<dyn EndpointStep>>,
    errors: Option<Box<ErrorBodies>>,
    prerouting: Option<Box<Prerouting>>,
}

fn service_steps(file: &Service<'_>, cx: &mut Compile<'_>) -> Around {
    let mut around = Around::default();
    for (index, node) in wanted(Level::Service, &file.extra) {
        let Some(extension) = EXTENSIONS.get(index) else {
            continue;
        };
        match (extension.compile)(&node, cx) {
            ServicePart::Nothing => {}
            ServicePart::Step(step) => around.steps.push(step),
            ServicePart::Gate(gate) => around.gates.push(gate),
            ServicePart::Errors(errors) => around.errors = Some(errors),
            ServicePart::Ahead(part) => around.prerouting.get_or_insert_default().add(part),
        }
    }
    around
}

fn routes(
    file: &Service<'_>,
    options: &runtime::Options,
    routing: router::Options,
    cx: &mut Compile<'_>,
) -> (
    Router<Arc<runtime::Endpoint>>,
    Box<[Arc<runtime::Endpoint>]>,
) {
    let mut builder = Router::builder(routing);
    built_in(&mut builder, file.block.node(), options);
    let mut add = |method: Method, pattern: Pattern, endpoint, node: &Node<'_>| {
        if let Err(error) = builder.add(method, pattern, endpoint) {
            let hint = "each pair of method and path can be defined only once";
            node.config_error_hint(ConfigError::invalid(error.to_string()), hint);
        }
    };
    let hosts = backend::cleaned(&file.host);
    let mut endpoints = Vec::with_capacity(file.endpoints.len());
    let mut catch_all = Vec::new();
    for written in &file.endpoints {
        let node = written
            .block
            .get("endpoint")
            .unwrap_or_else(|| written.block.node().clone());
        if let Some((pattern, compiled)) =
            endpoint::endpoint(written, endpoints.len(), file, &hosts, cx)
        {
            let compiled = Arc::new(compiled);
            endpoints.push(Arc::clone(&compiled));
            if compiled.is_catch_all() {
                catch_all.push((pattern, compiled, node));
            } else {
                add(compiled.method.clone(), pattern, compiled, &node);
            }
        }
    }
    let methods = all_methods(&endpoints);
    for (pattern, endpoint, node) in &catch_all {
        for method in &methods {
            add(method.clone(), pattern.clone(), Arc::clone(endpoint), node);
        }
    }
    if let Some((pattern, endpoint, _)) = catch_all.into_iter().next() {
        builder.add_others(pattern, endpoint);
    }
    (builder.build(), endpoints.into())
}

/// Adds the routes of the gateway's own endpoints.
fn built_in<T>(builder: &mut Builder<T>, root: &Node<'_>, options: &runtime::Options) {
    let report = |result: Result<(), RouteError>| {
        if let Err(error) = result {
            root.invalid(error.to_string());
        }
    };
    if let Some(path) = &options.health_path {
        report(builder.health(path));
    }
    if options.debug_endpoint {
        report(builder.any(BuiltIn::Debug));
    }
    if options.echo_endpoint {
        report(builder.any(BuiltIn::Echo));
    }
}

/// The methods whose requests the endpoint for everything else takes beside those of other endpoints. Neither TRACE nor
/// CONNECT is ever passed on.
fn all_methods(endpoints: &[Arc<runtime::Endpoint>]) -> Vec<Method> {
    let mut methods = vec![
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::PATCH,
        Method::DELETE,
        Method::OPTIONS,
    ];
    for endpoint in endpoints {
        let is_passed = !matches!(endpoint.method, Method::TRACE | Method::CONNECT);
        if is_passed && !methods.contains(&endpoint.method) {
            methods.push(endpoint.method.clone());
        }
    }
    methods
}
