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
use crate::upstream::{Clients, DnsTable};

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
    let clients = Arc::new(Clients::new(Arc::new(DnsTable::default())));
    let before = Carry::default();
    let inputs =
        Inputs { environment: &environment, clients: &clients, before: &before, port: args.port, debug: false };
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
    let dns = Arc::new(DnsTable::default());
    let loader = Arc::new(FileLoader {
        name: source.name(),
        source,
        port,
        debug,
        environment: Environment::process(),
        clients: Arc::new(Clients::new(Arc::clone(&dns))),
        carry: Mutex::new(Carry::default()),
        metrics: Arc::clone(&metrics),
        extras,
    });
    let mut loaded = match loader.load() {
        Ok(loaded) => loaded,
        Err(report) => {
            eprint!("{report}");
            return ExitCode::FAILURE;
        }
    };
    loaded.tasks.push(Box::pin(async move {
        // The table lives as long as the process; ending its task is the runtime's business.
        let (_keep, forever) = tokio::sync::watch::channel(false);
        dns.run(forever).await;
    }));
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
    clients: Arc<Clients>,
    carry: Mutex<Carry>,
    metrics: Arc<Metrics>,
    extras: Extras,
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
            Source::File(path) => compile::file(path, &inputs),
            Source::Text(text) => compile::text(text, Format::Json, Path::new(""), &inputs),
        }
    }

    /// The listeners beside the gateway's own.
    fn sides(&self, compiled: &Compiled) -> Vec<SideListener> {
        let mut sides = self.extras.sides.clone();
        if let Some(metrics) = &compiled.metrics {
            let registry = Arc::clone(&self.metrics);
            let handler = page("/metrics", "text/plain; version=0.0.4; charset=utf-8", move || registry.page());
            sides.push(SideListener { address: metrics.listen, handler });
        }
        sides
    }
}

impl Loader for FileLoader {
    fn load(&self) -> Result<Loaded, String> {
        let mut carry = self.carry.lock().unwrap_or_else(PoisonError::into_inner);
        let outcome = self.compile(&carry);
        let Some(compiled) = outcome.compiled else {
            return Err(check::refusal(&self.name, &outcome.findings));
        };
        for line in check::warnings(&self.name, &outcome.findings) {
            log::warn!("{line}");
        }
        let listen = listen_of(&compiled);
        let sides = self.sides(&compiled);
        *carry = compiled.carry;
        Ok(Loaded {
            service: compiled.service,
            listen,
            sides,
            access_log: Arc::new(crate::telemetry::access::AccessLog),
            stats: None,
            tasks: compiled.tasks.into_iter().map(|task| task.run).collect(),
        })
    }

    fn ready(&self) {
        if let Some(text) = &self.extras.ready {
            println!("{text}");
        }
    }

    fn reopen_logs(&self) {}
}

/// The file's listener in the server's terms.
fn listen_of(compiled: &Compiled) -> Listen {
    let file = &compiled.listen;
    let defaults = Limits::default();
    Listen {
        address: SocketAddr::new(file.ip.unwrap_or_else(any_address), file.port),
        tls: file.tls.as_ref().map(|tls| ServerTls {
            keys: tls.keys.iter().map(|pair| (pair.certificate.clone(), pair.private_key.clone())).collect(),
            min_version: version(tls.min),
            max_version: version(tls.max),
            cipher_suites: tls.cipher_suites.clone(),
            curves: tls.curves.clone(),
            mtls: tls
                .client_auth
                .as_ref()
                .map(|auth| ClientRoots { ca_files: auth.ca_certs.clone(), system_roots: auth.system_pool }),
        }),
        limits: Limits {
            head: file.read_header_timeout,
            idle: file.idle_timeout,
            read: file.read_timeout.unwrap_or(defaults.read),
            write: file.write_timeout,
            max_header_bytes: usize::try_from(file.max_header_bytes).unwrap_or(usize::MAX),
            max_connections: file.max_connections.unwrap_or(defaults.max_connections),
            h2c: file.h2c,
            proxy_protocol: None,
        },
        threads: compiled.threads,
        drain: compiled.drain,
    }
}

fn version(version: compile::TlsVersion) -> TlsVersion {
    match version {
        compile::TlsVersion::V1_2 => TlsVersion::Tls12,
        compile::TlsVersion::V1_3 => TlsVersion::Tls13,
    }
}

/// All addresses of both families where the machine has both.
fn any_address() -> IpAddr {
    match TcpListener::bind((Ipv6Addr::UNSPECIFIED, 0)) {
        Ok(_) => Ipv6Addr::UNSPECIFIED.into(),
        Err(_) => Ipv4Addr::UNSPECIFIED.into(),
    }
}
