//! The command line: parses arguments, prints text and returns exit codes.
//!
//! Exit codes: 0 for success, 1 for an invalid configuration or an error while running, 2 for an invalid command
//! line.

mod audit;
mod check;
mod demo;
mod findings;
mod healthcheck;
mod jwks;
mod openapi;
mod run;
mod token;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

const RUN_EXAMPLES: &str = "\
Examples:
  portcullis run krakend.json
  portcullis run -c krakend.json --watch
  FC_ENABLE=1 FC_SETTINGS=settings portcullis run -c krakend.tmpl";

const CHECK_EXAMPLES: &str = "\
Examples:
  portcullis check krakend.json
  portcullis check --strict --quiet krakend.json
  portcullis check --compat krakend-3 krakend.json
  FC_ENABLE=1 portcullis check --render -c krakend.tmpl > rendered.json
  jq . krakend.json | portcullis check -c -";

const AUDIT_EXAMPLES: &str = "\
Examples:
  portcullis audit krakend.json
  portcullis audit -s CRITICAL,HIGH -i 2.1.2 krakend.json
  portcullis audit --format json krakend.json";

/// The command line.
#[derive(Debug, Parser)]
#[command(
    name = "portcullis",
    version,
    about = "An API gateway on Pingora that reads KrakenD files"
)]
struct Cli {
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Serve a configuration
    Run(RunArgs),
    /// Check a configuration: all mistakes at once, nothing is started
    #[command(alias = "validate")]
    Check(CheckArgs),
    /// Say what a configuration could do better: security, limits, deprecated parts
    Audit(AuditArgs),
    /// Make the running gateway read its configuration again
    Reload(ReloadArgs),
    /// Try everything in one command: gateway, development issuer, sample upstream
    Demo(DemoArgs),
    /// What the gateway thinks of a token
    Token(token::TokenArgs),
    /// Fetch the key sets of a configuration once and print them
    Jwks(jwks::JwksArgs),
    /// Make an OpenAPI document of a configuration, or a configuration of one
    Openapi(openapi::OpenapiArgs),
    /// Ask a running gateway whether it is well
    Healthcheck(HealthcheckArgs),
    /// Print a JSON Schema of the configuration, with which editors complete and explain keys
    Schema,
    /// Print the version
    Version,
    /// Print shell completions
    Completions { shell: clap_complete::Shell },
    /// Print the man page, or write the pages of all commands into a folder
    Man {
        /// The folder for the pages of all commands
        #[arg(long, value_name = "FOLDER")]
        dir: Option<PathBuf>,
    },
    /// Go plugins cannot be loaded by this gateway
    #[command(hide = true, name = "check-plugin")]
    CheckPlugin {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<String>,
    },
    /// Go plugins cannot be loaded by this gateway
    #[command(hide = true, name = "test-plugin")]
    TestPlugin {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        _rest: Vec<String>,
    },
}

/// The configuration of a command.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
pub(crate) struct ConfigArgs {
    /// Path to the configuration file; "-" reads standard input
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The same without -c
    #[arg(value_name = "FILE")]
    file: Option<PathBuf>,
}

impl ConfigArgs {
    pub(crate) fn path(&self) -> &Path {
        let given = self.config.as_deref().or(self.file.as_deref());
        // The command line requires one of them.
        given.unwrap_or(Path::new("-"))
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = RUN_EXAMPLES)]
pub(crate) struct RunArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Listen on this port instead of the file's
    #[arg(short, long)]
    port: Option<u16>,
    /// Switch the debug endpoint on
    #[arg(short, long, action = clap::ArgAction::Count)]
    debug: u8,
    /// Reload when the file changes, or anything that its templates read
    #[arg(long)]
    watch: bool,
    /// Do not start with warnings (PORTCULLIS_STRICT=1 does the same)
    #[arg(long)]
    strict: bool,
    /// Do not print what is served, and where
    #[arg(short, long)]
    quiet: bool,
    /// Take the listening sockets over from the running gateway, then send it SIGQUIT
    #[arg(long)]
    upgrade: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Say more of what the file defines; repeat for details
    #[arg(short, long, action = clap::ArgAction::Count)]
    debug: u8,
    /// Try the addresses, too: is the port free? Routes are always tested
    #[arg(short = 't', long = "test-gin-routes")]
    test_routes: bool,
    /// Text to indent the summary with
    #[arg(short, long, default_value = "\t")]
    indent: String,
    /// Accepted for compatibility: unknown keys are always reported
    #[arg(short, long)]
    lint: bool,
    /// Accepted for compatibility: the network is never used
    #[arg(short = 'n', long = "lint-no-network")]
    lint_no_network: bool,
    /// Accepted for compatibility: the keys that this program knows are the schema
    #[arg(short = 's', long = "lint-schema", value_name = "PATH_OR_URL")]
    lint_schema: Option<String>,
    /// How to print what was found
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Refuse a file with warnings (PORTCULLIS_STRICT=1 does the same)
    #[arg(long)]
    strict: bool,
    /// Print nothing but what stops a start
    #[arg(short, long)]
    quiet: bool,
    /// Say what of the file another version would drop
    #[arg(long, value_enum, value_name = "VERSION")]
    compat: Option<Compat>,
    /// Print what the templates render to (with FC_ENABLE) on standard output
    #[arg(long)]
    render: bool,
    /// With --render, print values of environment variables on a terminal, too
    #[arg(long, requires = "render")]
    show_secrets: bool,
}

/// Another program that reads the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compat {
    /// KrakenD 3.0, whose configurations have version 4.
    #[value(name = "krakend-3")]
    Krakend3,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Format {
    Text,
    Json,
}

#[derive(Debug, clap::Args)]
#[command(after_help = AUDIT_EXAMPLES)]
pub(crate) struct AuditArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print nothing; the exit code says whether there is anything to recommend
    #[arg(short, long)]
    quiet: bool,
    /// Ids of rules to leave out, separated by commas
    #[arg(short, long, value_name = "IDS", value_delimiter = ',')]
    ignore: Vec<String>,
    /// A file with ids of rules to leave out, one a line
    #[arg(short = 'I', long, value_name = "FILE")]
    ignore_file: Option<PathBuf>,
    /// Severities to look at, separated by commas
    #[arg(
        short,
        long,
        value_delimiter = ',',
        default_value = "CRITICAL,HIGH,MEDIUM,LOW"
    )]
    severity: Vec<String>,
    /// How to print what was found
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(crate) struct ReloadArgs {
    /// The configuration file of the running gateway
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The port it listens on, if not the file's
    #[arg(short, long)]
    port: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Port of the gateway; another one is taken if this one is in use
    #[arg(short, long, default_value_t = 8080)]
    port: u16,
}

#[derive(Debug, clap::Args)]
pub(crate) struct HealthcheckArgs {
    /// What to ask; by default the health endpoint at port 8080 of this machine
    url: Option<String>,
    /// Ask the gateway that runs this file: its port, its path, TLS or not
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Seconds to wait
    #[arg(long, default_value_t = 3)]
    timeout: u64,
    /// Accept any certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Ask the gateway that the first process of this container runs: its file, its port
    #[arg(long, conflicts_with_all = ["url", "config"])]
    container: bool,
}

/// Serves a configuration in JSON that comes from no file, until the process is told to stop.
///
/// For programs that run the gateway in their own process. Everything else is as with `portcullis run`: the gateway
/// reads its environment variables, writes its log, and handles `SIGTERM`, `SIGINT` and `SIGHUP`.
/// The call returns only if the gateway cannot start; the reason is then on standard error. To stop, the gateway ends
/// the process.
pub fn serve(text: &str) -> ExitCode {
    run::serve_text(text, run::Extras::default())
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse_from(arguments(std::env::args_os())) {
        Ok(cli) => cli,
        Err(error) => {
            let code = if error.use_stderr() { 2 } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match cli.command {
        None => {
            let _ = Cli::command().print_help();
            ExitCode::SUCCESS
        }
        Some(Command::Run(args)) => run::run(args),
        Some(Command::Check(args)) => check::check(args),
        Some(Command::Audit(args)) => audit::audit(&args),
        Some(Command::Reload(args)) => run::reload(args),
        Some(Command::Demo(args)) => demo::demo(&args),
        Some(Command::Healthcheck(args)) => healthcheck::healthcheck(&args),
        Some(Command::Token(args)) => token::token(&args),
        Some(Command::Jwks(args)) => jwks::jwks(&args),
        Some(Command::Schema) => schema(),
        Some(Command::Openapi(args)) => openapi::openapi(&args),
        Some(Command::Version) => version(),
        Some(Command::Completions { shell }) => {
            clap_complete::generate(
                shell,
                &mut Cli::command(),
                "portcullis",
                &mut std::io::stdout(),
            );
            ExitCode::SUCCESS
        }
        Some(Command::Man { dir }) => man(dir.as_deref()),
        Some(Command::CheckPlugin { .. } | Command::TestPlugin { .. }) => {
            eprintln!("Go plugins (.so) cannot be loaded by this gateway.");
            ExitCode::FAILURE
        }
    }
}

fn schema() -> ExitCode {
    print!("{}", crate::compile::schema::text());
    ExitCode::SUCCESS
}

fn version() -> ExitCode {
    println!("Portcullis Version: {}", env!("CARGO_PKG_VERSION"));
    println!(
        "Target: {}-{}",
        std::env::consts::ARCH,
        std::env::consts::OS
    );
    ExitCode::SUCCESS
}

fn man(dir: Option<&Path>) -> ExitCode {
    let written = match dir {
        // Names that do not depend on how this file is called.
        Some(dir) => clap_mangen::generate_to(Cli::command().bin_name("portcullis"), dir),
        None => clap_mangen::Man::new(Cli::command()).render(&mut std::io::stdout()),
    };
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("man: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The arguments without a second program name: `portcullis krakend run …` is what a container starts whose entry point
/// is this program and whose command names the program again.
fn arguments(given: impl Iterator<Item = OsString>) -> Vec<OsString> {
    let mut all: Vec<OsString> = given.collect();
    let again = all.get(1).and_then(|name| Path::new(name).file_name());
    if again.is_some_and(|name| name == "krakend" || name == "portcullis") {
        all.remove(1);
    }
    all
}

/// What another process of this program was started with, if it runs a gateway. `line` is its command line as in
/// `/proc/PID/cmdline`: arguments that end with a zero byte, perhaps behind an init program and its arguments.
pub(crate) fn run_arguments(line: &[u8]) -> Option<(PathBuf, Option<u16>)> {
    let words: Vec<&str> = line
        .split(|byte| *byte == 0)
        .map(|word| std::str::from_utf8(word).unwrap_or_default())
        .collect();
    let at = words.iter().position(|word| *word == "run")?;
    let words = std::iter::once("portcullis").chain(words.get(at..)?.iter().copied());
    // The last zero byte ends the last argument.
    let words = words.filter(|word| !word.is_empty());
    match Cli::try_parse_from(words).ok()?.command? {
        // Nobody else can read its standard input again.
        Command::Run(run) if run.config.path() != Path::new("-") => {
            Some((run.config.path().to_owned(), run.port))
        }
        _ => None,
    }
}
