//! `run` and `reload`: a file becomes a serving process.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::{Arc, Mutex, PoisonError};

use crate::cli::{ReloadArgs, RunArgs, check};
use crate::compile::{self, Compiled, Inputs, Outcome};
use crate::config::Environment;
use crate::config::load::Format;
use crate::ext::Carry;
use crate::jose;
use crate::runtime::listen::{ClientRoots, Limits, Listen, ServerTls, TlsVersion};
use crate::server::admin::{SideListener, page};
use crate::server::control;
use crate::server::process::{self, Loaded, Loader, RunOptions};
use crate::telemetry::metrics::Metrics;

/// What the demo adds to a served configuration.
#[derive(Default)]
pub(super) struct Extras {
    pub(super) sides: Vec<SideListener>,
    /// Printed once the gateway listens.
    pub(super) ready: Option<String>,
}

/// Where the configuration comes from.
enum Source {
    File(PathBuf),
    Text(String),
}

impl Source {
    fn name(&self) -> String {
        match self {
            Source::File(path) => path.display().to_string(),
            Source::Text(_) => "the built-in configuration".to_owned(),
        }
    }
}

pub(super) fn run(args: RunArgs) -> ExitCode {
    let watch = if args.watch { vec![args.config.clone()] } else { Vec::new() };
    let options = RunOptions { upgrade: args.upgrade, watch };
    serve(Source::File(args.config), args.port, args.debug > 0, options, Extras::default())
}

/// Serves a configuration that is no file.
pub(super) fn serve_text(text: &str, extras: Extras) -> ExitCode {
    serve(Source::Text(text.to_owned()), None, false, RunOptions::default(), extras)
}

pub(super) fn reload(args: ReloadArgs) -> ExitCode {
    let environment = Environment::process();
    let before = Carry::default();
    let inputs = Inputs { environment: &environment, before: &before, port: args.port, debug: false };
    let outcome = compile::file(&args.config, &inputs);
    let Some(compiled) = outcome.compiled else {
        eprint!("{}", check::refusal(&args.config.display().to_string(), &outcome.findings));
        return ExitCode::FAILURE;
    };
    match control::reload(listen_of(&compiled).address) {
        Ok(()) => {
            println!("reloaded");
            ExitCode::SUCCESS
        }
        Err(reason) => {
            eprintln!("{reason}");
            ExitCode::FAILURE
        }
    }
}

fn serve(source: Source, port: Option<u16>, debug: bool, options: RunOptions, extras: Extras) -> ExitCode {
    jose::install_crypto();
    let metrics = Metrics::new();
    let loader = Arc::new(FileLoader {
        name: source.name(),
        source,
        port,
        debug,
        environment: Environment::process(),
        carry: Mutex::new(Carry::default()),
        metrics: Arc::clone(&metrics),
        extras,
    });
    let loaded = match loader.load() {
        Ok(loaded) => loaded,
        Err(report) => {
            eprint!("{report}");
            return ExitCode::FAILURE;
        }
    };
    match process::run(loaded, loader, metrics, options) {
        Ok(never) => match never {},
        Err(error) => {
            eprintln!("ERROR starting the gateway: {error}");
            log::logger().flush();
            ExitCode::FAILURE
        }
    }
}

/// Compiles the file anew for each reload; state whose definition has not changed goes from one to the next.
struct FileLoader {
    source: Source,
    name: String,
    port: Option<u16>,
    debug: bool,
    environment: Environment,
    carry: Mutex<Carry>,
    metrics: Arc<Metrics>,
    extras: Extras,
}

impl FileLoader {
    fn compile(&self, before: &Carry) -> Outcome {
        let inputs = Inputs { environment: &self.environment, before, port: self.port, debug: self.debug };
        match &self.source {
            Source::File(path) => compile::file(path, &inputs),
            Source::Text(text) => compile::text(text, Format::Json, Path::new(""), &inputs),
        }
    }
}
