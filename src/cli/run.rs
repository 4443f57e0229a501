//! `run` and `reload`: serves a configuration.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;
use http::header::{ACCEPT, AUTHORIZATION};
use http::{HeaderValue, Method, StatusCode};

use crate::cli::{ReloadArgs, RunArgs, check, findings};
use crate::compile::{self, Compiled, Inputs, Outcome};
use crate::config::Environment;
use crate::config::flexible;
use crate::config::load::{self, Format};
use crate::ext::auth_revoker::Api;
use crate::ext::identity::IdentityStatus;
use crate::ext::opentelemetry::{Exporters, Page, Pages};
use crate::ext::{Carry, CertificateInUse, Open};
use crate::jose;
use crate::server::admin::{Asked, Handler, SideListener, page, plain, whole};
use crate::server::control;
use crate::server::process::{self, Adopt, Loaded, Loader, RunOptions};
use crate::server::start;
use crate::server::successor::Successor;
use crate::server::watch::{WatchList, Watched};
use crate::telemetry::access::{self, AccessLog};
use crate::telemetry::held::{self, Held};
use crate::telemetry::logger::{self, Logger};
use crate::telemetry::metrics::{KeySetReport, Metrics, process_metrics};
use crate::telemetry::observe::Native;
use crate::telemetry::page::{self as people, Facts, History};
use crate::telemetry::panics;
use crate::telemetry::series::page::{Form, render, render_plain};
use crate::telemetry::stats::Stats;
use crate::upstream::budget::Budget;
use crate::upstream::{Clients, DnsTable};

/// How long the end of the process waits for log lines to be written.
const FLUSH: Duration = Duration::from_secs(1);
/// The same for exporters to collectors.
const SEND: Duration = Duration::from_secs(5);

/// What the demo adds to a served configuration.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) sides: Vec<SideListener>,
    /// Printed when the gateway listens.
    pub(super) ready: Option<String>,
    /// Does not print what is served, and where.
    pub(super) quiet: bool,
}

/// The source of the configuration.
enum Source {
    File(PathBuf),
    Text(String),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::File(path) => check::shown_name(path),
            Source::Text(_) => "the built-in configuration".to_owned(),
        }
    }
}

pub(super) fn run(args: RunArgs) -> ExitCode {
    let options = RunOptions {
        upgrade: args.upgrade,
        watch: args.watch.then(Arc::default),
        successor: Successor::of_this_process(),
    };
    serve(
        Source::File(args.config.path().to_owned()),
        args.port,
        args.debug > 0,
        check::environment(args.strict),
        options,
        Extras {
            quiet: args.quiet,
            ..Extras::default()
        },
    )
}

/// Serves a configuration that is not a file.
pub(super) fn serve_text(text: &str, extras: Extras) -> ExitCode {
    serve(
        Source::Text(text.to_owned()),
        None,
        false,
        Environment::process(),
        RunOptions::default(),
        extras,
    )
}

pub(super) fn reload(args: ReloadArgs) -> ExitCode {
    let outcome = check::outcome(&args.config);
    let of_file = outcome.compiled.map(|good| good.listen.address.port());
    // An invalid configuration may not contain its port. The gateway is called nevertheless, so that it counts and
    // logs the rejection.
    let port = args
        .port
        .or(of_file)
        .or_else(|| control::port_of(&args.config));
    let mut asked = port.map(control::reload);
    if let (Some(control::Outcome::NobodyThere(_)), None) = (&asked, args.port) {
        // `run --port` wins over the file.
        let elsewhere = control::port_of(&args.config).map(control::reload);
        asked = elsewhere.or(asked);
    }
    match asked {
        Some(control::Outcome::Done) => {
            println!("reloaded");
            return ExitCode::SUCCESS;
        }
        Some(control::Outcome::Rejected(reason)) => eprintln!("{reason}"),
        Some(control::Outcome::NobodyThere(reason)) if of_file.is_some() => eprintln!("{reason}"),
        // The configuration itself must be corrected first.
        _ => eprint!(
            "{}",
            findings::rejection(&args.config.display().to_string(), &outcome.findings)
        ),
    }
    ExitCode::FAILURE
}

fn serve(
    source: Source,
    port: Option<u16>,
    debug: bool,
    environment: Environment,
    options: RunOptions,
    extras: Extras,
) -> ExitCode {
    jose::install_crypto();
    let logger = match Logger::new(logger::Settings::default()) {
        Ok(logger) => Arc::new(logger),
        Err(error) => return fail(&format!("no log can be written: {error}")),
    };
    // This is the only logger of the process, so installing it cannot fail.
    let _ = Logger::install(&logger);
    panics::install();
    // Done before anything that takes time, so that signals that arrive meanwhile are kept.
    let prepared = match start::prepare() {
        Ok(prepared) => prepared,
        Err(error) => return fail(&format!("ERROR starting the gateway: {error}")),
    };
    let metrics = Metrics::new();
    let dns = Arc::new(DnsTable::default());
    let loader = Arc::new(FileLoader {
        name: source.name(),
        source,
        port,
        debug,
        environment,
        watch: options.watch.clone(),
        clients: Arc::new(Clients::new(Arc::clone(&dns))),
        upgrade: options.upgrade,
        carry: Arc::default(),
        metrics: Arc::clone(&metrics),
        extras,
        logger: Arc::clone(&logger),
        identity: Arc::default(),
        exporters: Arc::default(),
        pages: Arc::default(),
        native: Arc::default(),
        history: Arc::default(),
        looking: AtomicBool::new(false),
        access: Arc::default(),
        served: Mutex::default(),
    });
    let first = process::load(&*loader).and_then(|(loaded, adopt)| adopt().map(|()| loaded));
    let mut loaded = match first {
        Ok(loaded) => loaded,
        Err(report) => {
            logger.flush_within(FLUSH);
            eprint!("{report}");
            return ExitCode::FAILURE;
        }
    };
    loaded.tasks.push(Box::pin(async move {
        // The table lives as long as the process, so its task ends with the runtime.
        let (_keep, forever) = tokio::sync::watch::channel(false);
        dns.run(forever).await;
    }));
    match start::run(prepared, loaded, loader, metrics, options) {
        Ok(never) => match never {},
        Err(error) => {
            log::error!("[SERVICE: Gateway] {error}");
            logger.flush_within(FLUSH);
            fail(&format!("ERROR starting the gateway: {error}"))
        }
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}

/// The access log in use.
type AccessPlace = Arc<Mutex<Option<Arc<AccessLog>>>>;

/// Compiles the configuration again for each reload. State whose definition is unchanged is passed from one to the
/// next.
struct FileLoader {
    source: Source,
    name: String,
    port: Option<u16>,
    debug: bool,
    environment: Environment,
    /// The files to watch, with `--watch`.
    watch: Option<Arc<WatchList>>,
    clients: Arc<Clients>,
    /// The listeners were taken over from a running process.
    upgrade: bool,
    carry: Arc<Mutex<Carry>>,
    metrics: Arc<Metrics>,
    extras: Extras,
    logger: Arc<Logger>,
    /// Key sets and token cache of the configuration in use, for the metrics page.
    identity: Arc<ArcSwapOption<IdentityStatus>>,
    /// The exporters to collectors.
    exporters: Arc<ArcSwapOption<Exporters>>,
    /// Series for the pages of `telemetry/opentelemetry`.
    pages: Arc<ArcSwapOption<Pages>>,
    /// Our own metrics of backends.
    native: Arc<ArcSwapOption<Native>>,
    /// The last minutes, for the page for people; `looking`: somebody fills them.
    history: Arc<History>,
    looking: AtomicBool,
    /// The access log in use. A reload that does not change its settings keeps it.
    access: AccessPlace,
    /// The summary of the last loaded configuration, printed at start.
    served: Mutex<String>,
}

impl FileLoader {
    fn compile(&self, before: &Carry) -> Outcome {
        let inputs = Inputs {
            environment: &self.environment,
            clients: &self.clients,
            before,
            port: self.port,
            debug: self.debug,
        };
        match &self.source {
            Source::File(path) => {
                let outcome = compile::file(path, &inputs);
                self.watch(path, &outcome.watched);
                outcome
            }
            Source::Text(text) => compile::text(text, Format::Json, Path::new(""), &inputs),
        }
    }

    /// Also for a rejected configuration, because it will be corrected in one of these files.
    fn watch(&self, path: &Path, templates: &[flexible::Watched]) {
        let Some(list) = &self.watch else { return };
        if load::is_stdin(path) {
            return;
        }
        let templates = templates.iter().map(|it| match it {
            flexible::Watched::File(path) => Watched::File(path.clone()),
            flexible::Watched::Folder(path, end) => Watched::Folder(path.clone(), end),
        });
        let read = std::iter::once(Watched::File(path.to_owned())).chain(templates);
        list.set(read.collect(), flexible::kept_at(&self.environment));
    }

    /// Logs a start that fails as the file asks, as far as it could be read. A reload is logged by its caller.
    fn rejected_at_start(
        &self,
        logging: Option<Arc<logger::Settings>>,
        rejection: &str,
        lines: Vec<Held>,
    ) {
        let is_start = locked(&self.access).is_none();
        let logging = logging.filter(|_| is_start);
        let prepared = logging.and_then(|asked| self.logger.prepare((*asked).clone()).ok());
        let Some(prepared) = prepared else {
            return self.logger.release(lines);
        };
        self.logger.switch(prepared);
        self.logger.release(lines);
        log::error!("[SERVICE: Gateway] {}", rejection.trim_end());
    }

    /// The access log for this configuration: the one in use, if its settings are the same.
    fn access_log(&self, compiled: &Compiled) -> Result<Arc<AccessLog>, String> {
        let settings = compiled
            .facts
            .get::<access::Settings>()
            .map_or_else(Default::default, |kept| (*kept).clone());
        let current = locked(&self.access);
        if let Some(open) = current.as_ref().filter(|open| *open.settings() == settings) {
            return Ok(Arc::clone(open));
        }
        AccessLog::open(settings)
            .map(Arc::new)
            .map_err(|error| format!("the access log cannot be opened: {error}\n"))
    }

    /// The summary of a start: version, file, what is served, and where.
    fn served(&self, compiled: &Compiled) -> String {
        let counted = |count: usize, what: &str| match count {
            1 => format!("1 {what}"),
            count => format!("{count} {what}s"),
        };
        let sets = compiled.facts.get::<IdentityStatus>();
        let sets = sets.map_or(0, |status| status.key_sets().len());
        let scheme = if compiled.listen.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let mut addresses = format!("{scheme}://{}", compiled.listen.address);
        if let Some(metrics) = &compiled.metrics {
            addresses.push_str(&format!(", metrics on http://{}/metrics", metrics.listen));
        }
        format!(
            "Portcullis {}\nConfiguration: {}\n{}, {}\nListening on {addresses}\n",
            env!("CARGO_PKG_VERSION"),
            self.name,
            counted(compiled.service.endpoints.len(), "endpoint"),
            counted(sets, "key set"),
        )
    }

    /// The admin listeners.
    fn sides(&self, compiled: &Compiled) -> Vec<SideListener> {
        let mut sides = self.extras.sides.clone();
        if let Some(stats) = compiled.facts.get::<Stats>()
            && let Some(address) = stats.settings().listen.as_deref().and_then(stats_address)
        {
            let handler = page("/__stats", "application/json; charset=utf-8", move || {
                stats.render()
            });
            sides.push(SideListener {
                address,
                handler,
                optional: true,
            });
        }
        if let Some(api) = compiled.facts.get::<Api>() {
            sides.push(SideListener {
                address: api.address,
                handler: Arc::new(move |asked: &Asked| {
                    let authorization = asked.headers.get(AUTHORIZATION);
                    let (status, body) =
                        api.response(&asked.method, &asked.path, authorization, &asked.body);
                    whole(status, Api::CONTENT_TYPE, body)
                }),
                optional: false,
            });
        }
        if let Some(pages) = compiled.facts.get::<Pages>() {
            let pages_in_use = &self.pages;
            let list = pages.list.iter();
            sides.extend(list.map(|page| series_page(pages_in_use, *page)));
        }
        if let Some(metrics) = &compiled.metrics {
            let registry = Arc::clone(&self.metrics);
            let identity = Arc::clone(&self.identity);
            let (logger, access) = (Arc::clone(&self.logger), Arc::clone(&self.access));
            let (exporters, native) = (Arc::clone(&self.exporters), Arc::clone(&self.native));
            let text = move || {
                if let Some(identity) = identity.load().as_deref() {
                    report_identity(&registry, identity);
                }
                let access = access.lock().unwrap_or_else(PoisonError::into_inner);
                let lost = access.as_ref().map_or(0, |access| access.dropped());
                registry.log_dropped(logger.dropped() + lost);
                let budget = Budget::process();
                registry.buffered(budget.used(), budget.limit(), budget.rejected());
                let mut page = registry.page();
                if let Some(native) = &*native.load() {
                    page.extend_from_slice(render_plain(&native.0).as_bytes());
                }
                if let Some(exporters) = &*exporters.load() {
                    page.extend_from_slice(exporters.report().as_bytes());
                }
                page
            };
            let plain = page("/metrics", "text/plain; version=0.0.4; charset=utf-8", text);
            let handler = if metrics.page {
                self.with_people(plain)
            } else {
                plain
            };
            sides.push(SideListener {
                address: metrics.listen,
                handler,
                optional: false,
            });
        }
        sides
    }
}

impl FileLoader {
    /// The same with the page for people at `/`.
    fn with_people(&self, others: Handler) -> Handler {
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        let (identity, native) = (Arc::clone(&self.identity), Arc::clone(&self.native));
        let facts = Facts {
            version: env!("CARGO_PKG_VERSION"),
            file: self.name.clone(),
            started: Instant::now(),
        };
        Arc::new(move |asked: &Asked| {
            if asked.path != "/" || asked.method != Method::GET {
                return others(asked);
            }
            if let Some(identity) = identity.load().as_deref() {
                report_identity(&metrics, identity);
            }
            let native = native.load();
            let html = people::html(&metrics, native.as_deref(), &history, &facts);
            let mut response = whole(
                StatusCode::OK,
                "text/html; charset=utf-8",
                html.into_bytes(),
            );
            for (name, value) in [
                (
                    "content-security-policy",
                    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; frame-ancestors 'none'",
                ),
                ("cache-control", "no-store"),
                ("x-content-type-options", "nosniff"),
            ] {
                let value = HeaderValue::from_static(value);
                response.headers_mut().insert(name, value);
            }
            response
        })
    }

    /// Looks at the counters for that page, from the first configuration that has one.
    fn history(&self, compiled: &Compiled) -> Option<BoxFuture<'static, ()>> {
        let wanted = compiled.metrics.is_some_and(|metrics| metrics.page);
        if !wanted || self.looking.swap(true, Ordering::Relaxed) {
            return None;
        }
        let (metrics, history) = (Arc::clone(&self.metrics), Arc::clone(&self.history));
        Some(Box::pin(async move {
            loop {
                history.look(&metrics);
                tokio::time::sleep(people::PERIOD).await;
            }
        }))
    }
}

impl Loader for FileLoader {
    fn load(&self) -> Result<(Loaded, Adopt), String> {
        let (outcome, lines) = held::hold(|| self.compile(&locked(&self.carry)));
        let Some(mut compiled) = outcome.compiled else {
            let rejection = findings::rejection(&self.name, &outcome.findings);
            self.rejected_at_start(outcome.logging, &rejection, lines);
            return Err(rejection);
        };
        let access_log = self.access_log(&compiled)?;
        let logging = compiled
            .facts
            .get::<logger::Settings>()
            .map_or_else(Default::default, |kept| (*kept).clone());
        let logging = self
            .logger
            .prepare(logging)
            .map_err(|error| format!("the log cannot be changed: {error}\n"))?;
        let sides = self.sides(&compiled);
        *locked(&self.served) = self.served(&compiled);
        let history = self.history(&compiled);
        let tasks = compiled.tasks.iter_mut();
        let change = Change {
            opens: tasks.filter_map(|task| task.open.take()).collect(),
            upgrade: self.upgrade,
            logger: (Arc::clone(&self.logger), logging),
            access: (Arc::clone(&self.access), Arc::clone(&access_log)),
            identity: (
                Arc::clone(&self.identity),
                compiled.facts.get::<IdentityStatus>(),
            ),
            exporters: (
                Arc::clone(&self.exporters),
                compiled.facts.get::<Exporters>(),
            ),
            pages: (Arc::clone(&self.pages), compiled.facts.get::<Pages>()),
            native: (Arc::clone(&self.native), compiled.facts.get::<Native>()),
            carry: (Arc::clone(&self.carry), compiled.carry),
            metrics: Arc::clone(&self.metrics),
            per_endpoint: compiled.metrics.is_none_or(|page| page.per_endpoint),
            certificates: compiled.certificates,
            lines,
            warnings: findings::warnings(&self.name, &outcome.findings),
        };
        let loaded = Loaded {
            sides,
            service: compiled.service,
            listen: compiled.listen,
            access_log,
            stats: compiled.facts.get::<Stats>(),
            tasks: compiled
                .tasks
                .into_iter()
                .map(|task| task.run)
                .chain(history)
                .collect(),
        };
        Ok((loaded, Box::new(|| change.apply())))
    }

    fn ready(&self) {
        // Standard output is reserved for the log.
        if !self.extras.quiet {
            eprint!("{}", locked(&self.served));
        }
        if let Some(text) = &self.extras.ready {
            println!("{text}");
        }
    }

    fn source(&self) -> String {
        match &self.source {
            Source::File(path) if load::is_stdin(path) => self.name.clone(),
            Source::File(path) => control::name_of(path).display().to_string(),
            Source::Text(_) => self.name.clone(),
        }
    }

    fn reopen_logs(&self) {
        if let Some(open) = &*locked(&self.access) {
            open.reopen();
        }
    }

    fn send_rest(&self) -> BoxFuture<'static, ()> {
        let exporters = self.exporters.load_full();
        Box::pin(async move {
            let end = tokio::time::Instant::now() + SEND;
            let Some(exporters) = exporters else { return };
            exporters
                .0
                .iter()
                .for_each(|exporter| exporter.finish_by(end));
            for exporter in &exporters.0 {
                exporter.finished(end).await;
            }
        })
    }

    fn flush_logs(&self) {
        self.logger.flush_within(FLUSH);
        if let Some(open) = &*locked(&self.access) {
            open.flush(FLUSH);
        }
    }
}

/// The parts outside of the server that change with a configuration.
struct Change {
    opens: Vec<Open>,
    upgrade: bool,
    logger: (Arc<Logger>, logger::Prepared),
    access: (AccessPlace, Arc<AccessLog>),
    identity: (
        Arc<ArcSwapOption<IdentityStatus>>,
        Option<Arc<IdentityStatus>>,
    ),
    exporters: (Arc<ArcSwapOption<Exporters>>, Option<Arc<Exporters>>),
    pages: (Arc<ArcSwapOption<Pages>>, Option<Arc<Pages>>),
    native: (Arc<ArcSwapOption<Native>>, Option<Arc<Native>>),
    carry: (Arc<Mutex<Carry>>, Carry),
    metrics: Arc<Metrics>,
    /// Whether each endpoint has its own metrics.
    per_endpoint: bool,
    certificates: Vec<CertificateInUse>,
    /// Log lines of the compilation.
    lines: Vec<Held>,
    warnings: Vec<String>,
}

impl Change {
    fn apply(self) -> Result<(), String> {
        let mut later = Vec::new();
        for open in self.opens {
            match open() {
                // The previous process still uses a resource that this one needs, and will release it soon.
                Err(reason) if self.upgrade => later.push(format!("[SERVICE: Gateway] {reason}")),
                done => done.map_err(|reason| format!("{reason}\n"))?,
            }
        }
        let (logger, logging) = self.logger;
        logger.switch(logging);
        logger.release(self.lines);
        for line in later.into_iter().chain(self.warnings) {
            log::warn!("{line}");
        }
        *locked(&self.access.0) = Some(self.access.1);
        self.identity.0.store(self.identity.1);
        self.exporters.0.store(self.exporters.1);
        self.pages.0.store(self.pages.1);
        self.native.0.store(self.native.1);
        self.metrics.set_per_endpoint(self.per_endpoint);
        self.metrics
            .certificates(self.certificates.iter().map(|one| {
                let facts = &one.facts;
                let labels = [
                    one.used_as.as_str(),
                    &one.file,
                    &facts.subject,
                    &facts.serial,
                ];
                (labels, facts.not_after)
            }));
        *locked(&self.carry.0) = self.carry.1;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The value is always replaced as a whole, so a poisoned lock is safe to use.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies counters that are kept elsewhere to the metrics page.
fn report_identity(metrics: &Metrics, identity: &IdentityStatus) {
    metrics.forget_key_sets();
    for status in identity.key_sets() {
        metrics.key_set(&KeySetReport {
            source: &status.label,
            age: status.age,
            keys: status.keys,
            fetches: status.fetches,
            errors: status.failures,
            stale: status.stale,
        });
    }
    metrics.tokens_without_expiry(identity.without_expiry());
    let cache = identity.token_cache();
    metrics.token_cache(
        cache.hits,
        cache.misses,
        cache.evictions,
        cache.entries,
        cache.bytes,
    );
}

/// A metrics page of `telemetry/opentelemetry`. As in KrakenD, any method gets a response.
fn series_page(pages: &Arc<ArcSwapOption<Pages>>, page: Page) -> SideListener {
    let pages = Arc::clone(pages);
    let handler = move |asked: &Asked| {
        if asked.path != "/metrics" {
            return plain(StatusCode::NOT_FOUND, "404 page not found");
        }
        let accept = asked
            .headers
            .get(ACCEPT)
            .and_then(|value| value.to_str().ok());
        let form = Form::accepted(accept);
        let mut text = String::new();
        if page.process {
            text.push_str(&process_metrics());
        }
        if let Some(pages) = &*pages.load() {
            text.push_str(&render(&pages.store, &pages.resource, form));
        }
        if asked.method == Method::HEAD {
            text.clear();
        }
        whole(StatusCode::OK, form.content_type(), text.into_bytes())
    };
    SideListener {
        address: page.address,
        handler: Arc::new(handler),
        optional: false,
    }
}

/// `:8090` means all addresses, as in KrakenD.
fn stats_address(listen: &str) -> Option<SocketAddr> {
    match listen.strip_prefix(':') {
        Some(port) => Some(SocketAddr::new(compile::any_address(), port.parse().ok()?)),
        None => listen.parse().ok(),
    }
}
