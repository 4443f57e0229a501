//! Loads the configuration at the start and for each reload.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwapOption;
use futures::future::BoxFuture;

use super::{Extras, FLUSH, SEND, Source};
use crate::cli::findings::{self, Paint};
use crate::cli::gateway_state::{AccessPlace, GatewayState};
use crate::compile::{self, Compiled, Inputs, Outcome};
use crate::config::load::{self, Format};
use crate::config::{Environment, Finding, flexible};
use crate::ext::identity::IdentityStatus;
use crate::ext::opentelemetry::{Exporters, Pages};
use crate::ext::{CertificateInUse, Open, ReloadState, StapleInUse, Task};
use crate::runtime::service::Service;
use crate::server::process::{Adopt, Loaded, Loader};
use crate::server::upgrade_report::Starter;
use crate::server::watch::{WatchList, Watched};
use crate::server::{control_client, start};
use crate::telemetry::access::AccessLog;
use crate::telemetry::deferred::{self, DeferredLine};
use crate::telemetry::logger::{self, Logger};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::observe::Native;
use crate::telemetry::status_page::History;
use crate::upstream::Clients;

/// Compiles the configuration again for each reload. State whose definition is unchanged is passed from one to the
/// next.
pub(super) struct FileLoader {
    pub(super) source: Source,
    pub(super) name: String,
    pub(super) port: Option<u16>,
    pub(super) debug: bool,
    pub(super) environment: Environment,
    /// The files to watch, with `--watch`.
    pub(super) watch: Option<Arc<WatchList>>,
    pub(super) clients: Arc<Clients>,
    pub(super) reload_state: Arc<Mutex<ReloadState>>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) extras: Extras,
    pub(super) logger: Arc<Logger>,
    /// What the metrics pages show.
    pub(super) told: Arc<GatewayState>,
    /// Series for the pages of `telemetry/opentelemetry`.
    pub(super) pages: Arc<ArcSwapOption<Pages>>,
    /// The samples for the status page. `looking` is set once a task takes them.
    pub(super) history: Arc<History>,
    pub(super) looking: AtomicBool,
    /// The access log in use. A reload that does not change its settings keeps it.
    pub(super) access: AccessPlace,
    /// The summary of the last loaded configuration, for the start; and whether the file configures the log.
    pub(super) served: Mutex<(String, bool)>,
    /// The findings of the last rejection, until they are printed or logged.
    pub(super) rejected: Mutex<Vec<Finding>>,
    /// The process that has started this one for an upgrade. It logs why this one does not start.
    pub(super) starter: Option<Starter>,
}

impl FileLoader {
    fn compile(&self, before: &ReloadState) -> Outcome {
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
    pub(super) fn watch(&self, path: &Path, templates: &[flexible::Watched]) {
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

    /// Logs a start that fails as the file asks, as far as it could be read. A reload is logged by its caller. Returns
    /// whether no other report is needed: who reads standard error reads these lines.
    fn rejected_at_start(
        &self,
        logging: Option<&logger::Settings>,
        errors: &[String],
        lines: Vec<DeferredLine>,
    ) -> bool {
        let is_start = locked(&self.access).is_none();
        let logging = logging.filter(|_| is_start);
        let prepared = logging.and_then(|asked| self.logger.prepare(asked.clone()).ok());
        let (Some(prepared), Some(logging)) = (prepared, logging) else {
            // Without a known format, the process that logs the rejection logs only that.
            if !is_start || self.starter.is_none() {
                self.logger.release(lines);
            }
            return false;
        };
        self.logger.switch(prepared);
        self.logger.release(lines);
        if self.starter.is_some() {
            return false;
        }
        let outputs_are_one = super::outputs_are_one();
        let is_terminal = std::io::stderr().is_terminal();
        if outputs_are_one && is_terminal {
            // People get the report, which is easier to read.
            let elsewhere = logger::Settings {
                stdout: false,
                ..logging.clone()
            };
            if let Ok(prepared) = self.logger.prepare(elsewhere) {
                self.logger.flush_within(FLUSH);
                self.logger.switch(prepared);
            }
        }
        for error in errors {
            log::error!("[SERVICE: Gateway] {error}");
        }
        outputs_are_one && !is_terminal && self.logger.prints_errors()
    }

    /// Whether the process that has started this one knows and logs why this one does not start.
    pub(super) fn is_told_to_starter(&self, report: &str) -> bool {
        self.starter.is_some_and(|starter| {
            let findings = locked(&self.rejected);
            starter.tell(&lines_of(&self.name, &findings, report))
        })
    }

    /// The report of a failed start, as it is printed.
    pub(super) fn painted(&self, report: String) -> String {
        let findings = std::mem::take(&mut *locked(&self.rejected));
        if findings.is_empty() {
            return report;
        }
        findings::painted_rejection(Paint::of_stderr(), &self.name, &findings)
    }

    /// The access log for this configuration: the one in use, if its settings are the same.
    fn access_log(&self, compiled: &Compiled) -> Result<Arc<AccessLog>, String> {
        let settings = compiled
            .blocks
            .access_log
            .as_ref()
            .map_or_else(Default::default, |kept| (**kept).clone());
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
        let sets = compiled.blocks.identity.as_ref();
        let sets = sets.map_or(0, |status| status.key_sets().len());
        let scheme = if compiled.listen.tls.is_some() {
            "https"
        } else {
            "http"
        };
        let mut addresses = format!("{scheme}://{}", compiled.listen.address);
        if let Some(metrics) = &compiled.metrics {
            let scheme = if metrics.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let page = format!(", metrics on {scheme}://{}/metrics", metrics.listen);
            addresses.push_str(&page);
        }
        format!(
            "Portcullis {}\nConfiguration: {}\n{}, {}\nListening on {addresses}\n",
            env!("CARGO_PKG_VERSION"),
            self.name,
            counted(compiled.service.endpoints.len(), "endpoint"),
            counted(sets, "key set"),
        )
    }
}

impl Loader for FileLoader {
    fn load(&self) -> Result<(Loaded, Adopt), String> {
        let (outcome, lines) = deferred::hold(|| self.compile(&locked(&self.reload_state)));
        let Some(mut compiled) = outcome.compiled else {
            let rejection = findings::rejection(&self.name, &outcome.findings);
            let errors = findings::config_errors(&self.name, &outcome.findings);
            let parsing = |line| format!("ERROR parsing the configuration file: {line}");
            let errors: Vec<String> = errors.into_iter().map(parsing).collect();
            if self.rejected_at_start(outcome.logging.as_deref(), &errors, lines) {
                return Err(String::new());
            }
            *locked(&self.rejected) = outcome.findings;
            return Err(rejection);
        };
        let logging = compiled.blocks.logging.as_ref();
        let access_log = match self.access_log(&compiled) {
            Ok(open) => open,
            Err(error) => {
                let errors = [error.trim_end().to_owned()];
                let logging = logging.map(|kept| &**kept);
                let is_told = self.rejected_at_start(logging, &errors, lines);
                return Err(if is_told { String::new() } else { error });
            }
        };
        *locked(&self.served) = (self.served(&compiled), logging.is_some());
        let logging = logging.map_or_else(Default::default, |kept| (**kept).clone());
        let logging = self
            .logger
            .prepare(logging)
            .map_err(|error| format!("the log cannot be changed: {error}\n"))?;
        let admin_listeners = self.admin_listeners(&compiled);
        let history = self.history(&compiled);
        let blocks = compiled.blocks;
        let change = Change {
            opens: opens(&mut compiled.tasks),
            logger: (Arc::clone(&self.logger), logging),
            access: (Arc::clone(&self.access), Arc::clone(&access_log)),
            told: Arc::clone(&self.told),
            identity: blocks.identity,
            exporters: blocks.exporters,
            service: Arc::clone(&compiled.service),
            hash: compiled.hash,
            workers: start::workers(&compiled.listen),
            tells_collectors: compiled.metrics.is_some(),
            secure: compiled.listen.tls.is_some(),
            pages: (Arc::clone(&self.pages), blocks.pages),
            native: blocks.native,
            reload_state: (Arc::clone(&self.reload_state), compiled.reload_state),
            metrics: Arc::clone(&self.metrics),
            per_endpoint: compiled
                .metrics
                .as_ref()
                .is_none_or(|page| page.per_endpoint),
            certificates: compiled.certificates,
            staples: compiled.staples,
            lines,
            warnings: findings::warnings(&self.name, &outcome.findings),
        };
        let loaded = Loaded {
            admin_listeners,
            service: compiled.service,
            listen: compiled.listen,
            access_log,
            stats: blocks.stats,
            tasks: compiled
                .tasks
                .into_iter()
                .map(|task| task.run)
                .chain(history)
                .collect(),
        };
        Ok((loaded, Box::new(|| change.apply())))
    }

    fn rejection_lines(&self, report: &str) -> Vec<String> {
        let findings = std::mem::take(&mut *locked(&self.rejected));
        lines_of(&self.name, &findings, report)
    }

    fn ready(&self) {
        let (served, configures_log) = &*locked(&self.served);
        if *configures_log && !std::io::stderr().is_terminal() {
            // A collector may read both outputs: all lines have the level and the format that the file asks for.
            let served = served.trim_end().replace('\n', ", ");
            log::info!("[SERVICE: Gateway] {served}");
        } else if !self.extras.quiet {
            // Standard output is reserved for the log.
            eprint!("{served}");
        }
        if let Some(text) = &self.extras.ready {
            crate::cli::say(&format!("{text}\n"));
        }
    }

    fn source(&self) -> String {
        match &self.source {
            Source::File(path) if load::is_stdin(path) => self.name.clone(),
            Source::File(path) => control_client::name_of(path).display().to_string(),
            Source::Text(_) => self.name.clone(),
        }
    }

    fn reopen_logs(&self) {
        if let Some(open) = &*locked(&self.access) {
            open.reopen();
        }
    }

    fn send_rest(&self) -> BoxFuture<'static, ()> {
        let exporters = self.told.exporters.load_full();
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

    fn leave(&self) {
        if let Some(end) = &self.extras.end {
            end();
        }
        self.logger.flush_within(FLUSH);
        if let Some(open) = &*locked(&self.access) {
            open.flush(FLUSH);
        }
    }
}

/// A rejection, one line for each error.
fn lines_of(name: &str, findings: &[Finding], report: &str) -> Vec<String> {
    let lines = findings::config_errors(name, findings);
    if lines.is_empty() {
        return vec![findings::one_line(report)];
    }
    lines
}

/// What must succeed before a configuration is used. What replaces state in use comes last.
fn opens(tasks: &mut [Task]) -> Vec<Open> {
    let (replace, prepare): (Vec<_>, Vec<_>) = tasks.iter_mut().partition(|task| task.replaces);
    let tasks = prepare.into_iter().chain(replace);
    tasks.filter_map(|task| task.open.take()).collect()
}

/// The parts outside of the server that change with a configuration.
struct Change {
    opens: Vec<Open>,
    pub(super) logger: (Arc<Logger>, logger::Prepared),
    pub(super) access: (AccessPlace, Arc<AccessLog>),
    told: Arc<GatewayState>,
    identity: Option<Arc<IdentityStatus>>,
    exporters: Option<Arc<Exporters>>,
    service: Arc<Service>,
    /// Of the configuration.
    hash: String,
    workers: usize,
    /// Collectors get our own metrics.
    tells_collectors: bool,
    /// Clients speak TLS.
    secure: bool,
    pub(super) pages: (Arc<ArcSwapOption<Pages>>, Option<Arc<Pages>>),
    native: Option<Arc<Native>>,
    pub(super) reload_state: (Arc<Mutex<ReloadState>>, ReloadState),
    pub(super) metrics: Arc<Metrics>,
    /// Whether each endpoint has its own metrics.
    per_endpoint: bool,
    certificates: Vec<CertificateInUse>,
    staples: Vec<StapleInUse>,
    /// Log lines of the compilation.
    lines: Vec<DeferredLine>,
    warnings: Vec<String>,
}

impl Change {
    fn apply(self) -> Result<(), String> {
        for open in self.opens {
            open().map_err(|reason| format!("{reason}\n"))?;
        }
        let (logger, logging) = self.logger;
        logger.switch(logging);
        logger.release(self.lines);
        for line in self.warnings {
            log::warn!("{line}");
        }
        *locked(&self.access.0) = Some(self.access.1);
        self.told.secure.store(self.secure, Ordering::Relaxed);
        let own = Some(self.told.to_collectors(self.tells_collectors));
        for exporter in self.exporters.iter().flat_map(|all| &all.0) {
            exporter.send_also(own.clone());
        }
        self.told.identity.store(self.identity);
        self.told.exporters.store(self.exporters);
        self.told.native.store(self.native);
        self.told.service.store(Some(self.service));
        self.pages.0.store(self.pages.1);
        self.metrics.state.configured(&self.hash, self.workers);
        self.metrics.set_per_endpoint(self.per_endpoint);
        let staples = self.staples.iter();
        let staples = staples.map(|staple| (&*staple.file, staple.seconds()));
        self.metrics.certificates.set_staples(staples);
        self.metrics
            .certificates
            .set(self.certificates.iter().map(|one| {
                let facts = &one.facts;
                let labels = [
                    one.used_as.as_str(),
                    &one.file,
                    &facts.subject,
                    &facts.serial,
                ];
                (labels, facts.not_after)
            }));
        *locked(&self.reload_state.0) = self.reload_state.1;
        Ok(())
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // The value is always replaced as a whole, so a poisoned lock is safe to use.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_replaced_before_everything_else_has_succeeded() {
        let fails = |name: &'static str| move || Err(name.to_owned());
        let mut tasks = [
            Task::replacing("list", fails("list")),
            Task::new("upkeep", async {}),
            Task::opening("thread", fails("thread")),
        ];
        let names = opens(&mut tasks).into_iter().map(|open| open());
        let names: Vec<_> = names.filter_map(Result::err).collect();
        assert_eq!(names, ["thread", "list"]);
    }
}
