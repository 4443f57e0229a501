//! `run` and `reload`: serves a configuration.

mod admin_listeners;
mod loader;
mod status_page;

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::cli::findings::Paint;
use crate::cli::gateway_state::{AccessPlace, GatewayState};
use crate::cli::{ReloadArgs, RunArgs, check, findings};
use crate::config::Environment;
use crate::jose;
use crate::server::admin::AdminListener;
use crate::server::control_client;
use crate::server::new_process::NewProcess;
use crate::server::process::{self, RunError, RunOptions};
use crate::server::start::{self, Prepared};
use crate::server::upgrade_report::Starter;
use crate::telemetry::logger::{self, Logger};
use crate::telemetry::metrics::Metrics;
use crate::telemetry::panics;
use crate::upstream::{Clients, DnsTable};
use loader::FileLoader;

/// How long the end of the process waits for log lines to be written.
const FLUSH: Duration = Duration::from_secs(1);
/// How long the end of the process waits for exporters to collectors.
const SEND: Duration = Duration::from_secs(5);

/// What the demo adds to a served configuration.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) admin_listeners: Vec<AdminListener>,
    /// Printed when the gateway listens.
    pub(super) ready: Option<String>,
    /// Does not print what is served, and where.
    pub(super) quiet: bool,
    /// Called before the process ends.
    pub(super) end: Option<Box<dyn Fn() + Send + Sync>>,
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

pub(super) fn run(args: RunArgs, prepared: Result<Prepared, RunError>) -> ExitCode {
    let prepared = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return not_started(&error),
    };
    let options = RunOptions {
        upgrade: args.upgrade,
        starter: args.upgrade.then(Starter::of_this_process).flatten(),
        watch: args.watch.then(Arc::default),
        new_process: NewProcess::of_this_process(),
    };
    serve(
        prepared,
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
    let prepared = match start::prepare() {
        Ok(prepared) => prepared,
        Err(error) => return not_started(&error),
    };
    serve(
        prepared,
        Source::Text(text.to_owned()),
        None,
        false,
        Environment::process(),
        RunOptions::default(),
        extras,
    )
}

pub(super) fn reload(args: &ReloadArgs) -> ExitCode {
    let file = args.config.path();
    let outcome = check::outcome(file);
    let of_file = outcome.compiled.map(|good| good.listen.address.port());
    // An invalid configuration may not contain its port. The gateway is called nevertheless, so that it counts and
    // logs the rejection.
    let port = args
        .port
        .or(of_file)
        .or_else(|| control_client::port_of(file));
    let reload = |port| control_client::reload(port, |text| eprintln!("{text}"));
    let mut asked = port.map(reload);
    if let (Some(control_client::Outcome::NotRunning(_)), None) = (&asked, args.port) {
        // `run --port` wins over the file.
        let elsewhere = control_client::port_of(file).map(reload);
        asked = elsewhere.or(asked);
    }
    match asked {
        Some(control_client::Outcome::Done) => {
            super::say("reloaded\n");
            return ExitCode::SUCCESS;
        }
        Some(control_client::Outcome::Rejected(reason)) => eprintln!("{reason}"),
        Some(control_client::Outcome::NotRunning(reason)) if of_file.is_some() => {
            eprintln!("{reason}")
        }
        // The configuration itself must be corrected first.
        _ => eprint!(
            "{}",
            findings::painted_rejection(
                Paint::of_stderr(),
                &check::shown_name(file),
                &outcome.findings
            )
        ),
    }
    ExitCode::FAILURE
}

fn serve(
    prepared: Prepared,
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
        Err(error) => return fail(&format!("the log cannot be written: {error}")),
    };
    // This is the only logger of the process, so installing it cannot fail.
    let _ = Logger::install(&logger);
    panics::install();
    let metrics = Metrics::new();
    let dns = Arc::new(DnsTable::default());
    let access = AccessPlace::default();
    let loader = Arc::new(FileLoader {
        name: source.name(),
        source,
        port,
        debug,
        environment,
        watch: options.watch.clone(),
        clients: Arc::new(Clients::new(Arc::clone(&dns))),
        reload_state: Arc::default(),
        metrics: Arc::clone(&metrics),
        extras,
        logger: Arc::clone(&logger),
        told: Arc::new(GatewayState::new(&metrics, &logger, &access)),
        pages: Arc::default(),
        history: Arc::default(),
        looking: AtomicBool::new(false),
        access,
        served: Mutex::default(),
        rejected: Mutex::default(),
        starter: options.starter,
    });
    let first = process::load(&*loader).and_then(|(loaded, adopt)| adopt().map(|()| loaded));
    let mut loaded = match first {
        Ok(loaded) => loaded,
        Err(report) => {
            if loader.is_told_to_starter(&report) {
                return ExitCode::FAILURE;
            }
            logger.flush_within(FLUSH);
            eprint!("{}", loader.painted(report));
            return ExitCode::FAILURE;
        }
    };
    loaded.tasks.push(Box::pin(async move {
        // The table lives as long as the process, so its task ends with the runtime.
        let (_keep, forever) = tokio::sync::watch::channel(false);
        dns.run(forever).await;
    }));
    let starter = options.starter;
    match start::run(prepared, loaded, loader, metrics, options) {
        Ok(never) => match never {},
        Err(error) => {
            if starter.is_some_and(|starter| starter.tell(&[error.to_string()])) {
                logger.flush_within(FLUSH);
                return ExitCode::FAILURE;
            }
            log::error!("[SERVICE: Gateway] {error}");
            logger.flush_within(FLUSH);
            if logger.prints_errors() && outputs_are_one() {
                return ExitCode::FAILURE;
            }
            not_started(&error)
        }
    }
}

/// Whether standard output and standard error go to the same place, such as one terminal or the journal.
fn outputs_are_one() -> bool {
    use std::os::unix::fs::MetadataExt as _;
    let place = |number: u8| {
        let file = std::fs::metadata(format!("/proc/self/fd/{number}")).ok()?;
        Some((file.dev(), file.ino(), file.rdev()))
    };
    place(1).is_some_and(|output| Some(output) == place(2))
}

fn not_started(error: &RunError) -> ExitCode {
    fail(&format!("ERROR starting the gateway: {error}"))
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}
