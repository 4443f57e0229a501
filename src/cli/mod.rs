//! The command line: parses arguments, prints text and returns exit codes.
//!
//! Exit codes: 0 for success, 1 for an invalid configuration or an error while running, 2 for an invalid command
//! line.

mod audit;
mod check;
mod demo;
mod findings;
mod gateway_state;
mod healthcheck;
mod jwks;
mod man;
mod openapi;
mod run;
mod token;

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{CommandFactory, Parser, Subcommand};

use crate::server::start;

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

const RELOAD_EXAMPLES: &str = "\
Examples:
  portcullis reload krakend.json
  portcullis reload -c krakend.json -p 8000";

const DEMO_EXAMPLES: &str = "\
Examples:
  portcullis demo
  portcullis demo --issuer-port 8180 --upstream-port 8181
  portcullis demo --host localhost
  portcullis demo --print-config > krakend.json";

const HEALTHCHECK_EXAMPLES: &str = "\
Examples:
  portcullis healthcheck
  portcullis healthcheck krakend.json
  portcullis healthcheck http://127.0.0.1:8000/__health";

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
    /// Check a configuration and print all errors at once, without starting anything
    #[command(alias = "validate")]
    Check(CheckArgs),
    /// Recommend improvements to a configuration: security, limits, deprecated parts
    Audit(AuditArgs),
    /// Make the running gateway reload its configuration
    Reload(ReloadArgs),
    /// Run a demo: the gateway, a development issuer and a sample backend
    Demo(DemoArgs),
    /// Explain whether the gateway accepts a token
    Token(token::TokenArgs),
    /// Fetch the key sets of a configuration once and print them
    Jwks(jwks::JwksArgs),
    /// Convert a configuration to an OpenAPI document, or a document to a configuration
    Openapi(openapi::OpenapiArgs),
    /// Check whether a running gateway is healthy
    Healthcheck(HealthcheckArgs),
    /// Print a JSON Schema of the configuration, for editors that complete and explain keys
    Schema,
    /// Print the version
    Version,
    /// Print shell completions
    Completions {
        shell: clap_complete::Shell,
        /// The name of the command to complete: a link to the program may have another one
        #[arg(long, default_value = "portcullis", value_parser = command_name)]
        name: String,
    },
    /// Print the man page, or write the man pages of all commands to a folder
    Man {
        /// The folder for the man pages of all commands
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
    /// Path to the configuration file, without -c
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
    /// Listen on this port instead of the port in the file
    #[arg(short, long)]
    port: Option<u16>,
    /// Serve the debug endpoint
    #[arg(short, long, action = clap::ArgAction::Count)]
    debug: u8,
    /// Reload when the file or a file that its templates read changes
    #[arg(long)]
    watch: bool,
    /// Do not start if there are warnings (PORTCULLIS_STRICT=1 does the same)
    #[arg(long)]
    strict: bool,
    /// Do not print the summary of endpoints and addresses at start
    #[arg(short, long)]
    quiet: bool,
    /// Take over the listening sockets of the running gateway, then send it SIGQUIT
    #[arg(long)]
    upgrade: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = CHECK_EXAMPLES)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Print a summary of what the file defines; repeat for more detail
    #[arg(short, long, action = clap::ArgAction::Count)]
    debug: u8,
    /// Also check whether the addresses are free. Routes are always tested
    #[arg(short = 't', long = "test-gin-routes")]
    test_routes: bool,
    /// Text for each level of indentation in the summary
    #[arg(short, long, default_value = "\t")]
    indent: String,
    /// Accepted for compatibility: unknown keys are always reported
    #[arg(short, long)]
    lint: bool,
    /// Accepted for compatibility: the network is never used
    #[arg(short = 'n', long = "lint-no-network")]
    lint_no_network: bool,
    /// Accepted for compatibility: the built-in schema is always used
    #[arg(short = 's', long = "lint-schema", value_name = "PATH_OR_URL")]
    lint_schema: Option<String>,
    /// Format of the output
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// Treat warnings as errors (PORTCULLIS_STRICT=1 does the same)
    #[arg(long)]
    strict: bool,
    /// Print only the errors that prevent a start
    #[arg(short, long)]
    quiet: bool,
    /// Report the parts of the file that another version would ignore or read differently
    #[arg(long, value_enum, value_name = "VERSION")]
    compat: Option<Compat>,
    /// Print the rendered templates (with FC_ENABLE) to standard output
    #[arg(long)]
    render: bool,
    /// With --render, do not mask the values of environment variables on a terminal
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
    /// Print nothing; the exit code is 1 if there are recommendations
    #[arg(short, long)]
    quiet: bool,
    /// Ids of rules to skip, separated by commas
    #[arg(short, long, value_name = "IDS", value_delimiter = ',')]
    ignore: Vec<String>,
    /// A file with ids of rules to skip, one per line
    #[arg(short = 'I', long, value_name = "FILE")]
    ignore_file: Option<PathBuf>,
    /// Severities to report, separated by commas
    #[arg(
        short,
        long,
        value_delimiter = ',',
        default_value = "CRITICAL,HIGH,MEDIUM,LOW"
    )]
    severity: Vec<String>,
    /// Format of the output
    #[arg(short, long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

#[derive(Debug, clap::Args)]
#[command(after_help = RELOAD_EXAMPLES)]
pub(crate) struct ReloadArgs {
    /// The configuration file of the running gateway
    #[command(flatten)]
    config: ConfigArgs,
    /// The port of the running gateway, if it differs from the file
    #[arg(short, long)]
    port: Option<u16>,
}

/// A name or an address as it stands in a URL. It becomes part of commands for a shell.
fn host_name(text: &str) -> Result<String, &'static str> {
    let is_address = text
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'))
        .is_some_and(|inner| inner.parse::<std::net::Ipv6Addr>().is_ok());
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '.' || c == '-';
    let is_name = !text.is_empty() && text.chars().all(is_plain);
    if is_address || is_name {
        Ok(text.to_owned())
    } else {
        Err("a host name, or an address such as 192.0.2.1 or [2001:db8::1], without a port")
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = DEMO_EXAMPLES)]
pub(crate) struct DemoArgs {
    /// Port of the gateway; if it is in use, another one is chosen
    #[arg(short, long, default_value_t = 8080)]
    port: u16,
    /// Port of the token issuer, which a configuration of your own can name; 8180 or, if that is in use, another one
    #[arg(long, value_name = "PORT")]
    issuer_port: Option<u16>,
    /// Port of the sample backend; 8181 or, if that is in use, another one
    #[arg(long, value_name = "PORT")]
    upstream_port: Option<u16>,
    /// Listen on all addresses instead of loopback, and print this name in the commands: for a container or another
    /// machine. Its secret is known to everybody
    #[arg(long, value_name = "NAME", value_parser = host_name)]
    host: Option<String>,
    /// Print the configuration of the demo for these ports, and start nothing
    #[arg(long)]
    print_config: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = HEALTHCHECK_EXAMPLES)]
pub(crate) struct HealthcheckArgs {
    /// URL to request, or the configuration file of the gateway; by default the health endpoint on port 8080 of this
    /// machine
    #[arg(value_name = "URL|FILE")]
    target: Option<String>,
    /// Check the gateway that runs this file, with the port, path and TLS settings of the file
    #[arg(short, long, value_name = "FILE", conflicts_with = "target")]
    config: Option<PathBuf>,
    /// Timeout in seconds
    #[arg(long, default_value_t = 3)]
    timeout: u64,
    /// Accept any certificate
    #[arg(short = 'k', long)]
    insecure: bool,
    /// Check the gateway that the first process of this container runs, with its file and port
    #[arg(long, conflicts_with_all = ["target", "config"])]
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
    let arguments = arguments(std::env::args_os());
    // Before anything else: without handlers, a signal would end a gateway that starts.
    let prepared =
        (arguments.get(1).is_some_and(|word| word == "run")).then(start::prepare_process);
    let cli = match Cli::try_parse_from(arguments) {
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
        Some(Command::Run(args)) => run::run(args, prepared.unwrap_or_else(start::prepare_process)),
        Some(Command::Check(args)) => check::check(args),
        Some(Command::Audit(args)) => audit::audit(&args),
        Some(Command::Reload(args)) => run::reload(&args),
        Some(Command::Demo(args)) => demo::demo(&args),
        Some(Command::Healthcheck(args)) => healthcheck::healthcheck(&args),
        Some(Command::Token(args)) => token::token(&args),
        Some(Command::Jwks(args)) => jwks::jwks(&args),
        Some(Command::Schema) => schema(),
        Some(Command::Openapi(args)) => openapi::openapi(&args),
        Some(Command::Version) => version(),
        Some(Command::Completions { shell, name }) => {
            let mut text = Vec::new();
            clap_complete::generate(shell, &mut shown(Cli::command()), name, &mut text);
            say(&String::from_utf8_lossy(&text));
            ExitCode::SUCCESS
        }
        Some(Command::Man { dir }) => man::man(Cli::command(), dir.as_deref()),
        Some(Command::CheckPlugin { .. } | Command::TestPlugin { .. }) => {
            eprintln!("Go plugins (.so) cannot be loaded by this gateway.");
            ExitCode::FAILURE
        }
    }
}

/// The name becomes part of a shell script.
fn command_name(text: &str) -> Result<String, String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if text.is_empty() || text.starts_with('-') || !text.bytes().all(plain) {
        return Err("letters, digits, -, _ and . only".to_owned());
    }
    Ok(text.to_owned())
}

/// The command without its hidden subcommands, which completions would offer.
fn shown(command: clap::Command) -> clap::Command {
    let mut out = clap::Command::new("portcullis")
        .version(env!("CARGO_PKG_VERSION"))
        .args(command.get_arguments().cloned());
    for subcommand in command.get_subcommands().filter(|one| !one.is_hide_set()) {
        out = out.subcommand(subcommand.clone());
    }
    out
}

/// Prints to standard output. It is not an error if the reader, such as `head`, has closed the pipe.
fn say(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

fn schema() -> ExitCode {
    say(&crate::compile::schema::text());
    ExitCode::SUCCESS
}

fn version() -> ExitCode {
    say(&format!(
        "Portcullis Version: {}\nTarget: {}-{}\n",
        env!("CARGO_PKG_VERSION"),
        std::env::consts::ARCH,
        std::env::consts::OS
    ));
    ExitCode::SUCCESS
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
        // Another process cannot read its standard input again.
        Command::Run(run) if run.config.path() != Path::new("-") => {
            Some((run.config.path().to_owned(), run.port))
        }
        _ => None,
    }
}
