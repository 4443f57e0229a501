//! `openapi export` and `openapi import`: between a configuration and an OpenAPI document.

mod export;
mod import;
mod rejections;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use serde_json::Value;

use crate::cli::{ConfigArgs, check, findings};
use crate::config::load::{self, Format};
use crate::config::{Environment, Report};
use crate::named_file;

const EXPORT_EXAMPLES: &str = "\
Examples:
  portcullis openapi export krakend.json
  portcullis openapi export -c krakend.json -a partners -o openapi.json";

const IMPORT_EXAMPLES: &str = "\
Examples:
  portcullis openapi import api.yaml --host http://users:8080
  portcullis openapi import -i api.yaml -o krakend.json";

/// The subcommands of `openapi`.
#[derive(Debug, clap::Args)]
pub(crate) struct OpenapiArgs {
    #[command(subcommand)]
    command: OpenapiCommand,
}

#[derive(Debug, clap::Subcommand)]
enum OpenapiCommand {
    /// Print an OpenAPI 3.1 document of a configuration's endpoints
    Export(ExportArgs),
    /// Print a configuration with one endpoint for each operation of an OpenAPI 3 document
    Import(ImportArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXPORT_EXAMPLES)]
struct ExportArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Only endpoints for this audience ("audience" of "documentation/openapi"); can be repeated
    #[arg(short, long, value_name = "NAME")]
    audience: Vec<String>,
    /// Leave out endpoints without "documentation/openapi"
    #[arg(long)]
    documented: bool,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = IMPORT_EXAMPLES)]
struct ImportArgs {
    #[command(flatten)]
    input: InputArgs,
    /// The backend of all endpoints instead of the document's first server: http://users:8080
    #[arg(long, value_name = "URL")]
    host: Option<String>,
    /// Write to this file instead of standard output
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

/// The OpenAPI document of a command.
#[derive(Debug, clap::Args)]
#[group(required = true, multiple = false)]
struct InputArgs {
    /// Path to the OpenAPI document: JSON, or YAML with the extension .yaml or .yml
    #[arg(short, long, value_name = "DOCUMENT")]
    input: Option<PathBuf>,
    /// Path to the OpenAPI document, without -i
    #[arg(value_name = "DOCUMENT")]
    document: Option<PathBuf>,
}

impl InputArgs {
    fn path(&self) -> &Path {
        let given = self.input.as_deref().or(self.document.as_deref());
        // The command line requires one of them.
        given.unwrap_or(Path::new(""))
    }
}

/// Runs `openapi …`.
pub(super) fn openapi(args: &OpenapiArgs) -> ExitCode {
    let (made, output) = match &args.command {
        OpenapiCommand::Export(args) => (exported(args), &args.output),
        OpenapiCommand::Import(args) => (imported(args), &args.output),
    };
    match made.and_then(|document| write(&document, output.as_deref())) {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("{}", reason.trim_end());
            ExitCode::FAILURE
        }
    }
}

fn exported(args: &ExportArgs) -> Result<Value, String> {
    let config = args.config.path();
    let outcome = check::outcome(config);
    if outcome.compiled.is_none() {
        let name = check::shown_name(config);
        return Err(findings::rejection(&name, &outcome.findings));
    }
    let report = Report::new();
    let tree = load::load(config, &Environment::process(), &report);
    let file = tree.and_then(|tree| serde_json::from_str(&tree.to_json()).ok());
    let choice = export::Choice {
        audiences: &args.audience,
        documented: args.documented,
    };
    export::document(&file.unwrap_or_default(), &choice)
}

fn imported(args: &ImportArgs) -> Result<Value, String> {
    let input = args.input.path();
    let name = input.display();
    let text = named_file::read_text(input, load::MAX_FILE_BYTES)
        .map_err(|error| format!("{name}: {error}"))?;
    let report = Report::new();
    let format = Format::of(input);
    let tree = load::parse(&text, format, &Environment::default(), &report);
    let Some(tree) = tree else {
        return Err(findings::rejection(
            &name.to_string(),
            &report.into_findings(),
        ));
    };
    let document: Value = serde_json::from_str(&tree.to_json()).map_err(|e| e.to_string())?;
    let made = import::configuration(&document, args.host.as_deref())
        .map_err(|reason| format!("{name}: {reason}"))?;
    for remark in &made.remarks {
        eprintln!("{name}: {remark}");
    }
    Ok(made.file)
}

fn write(document: &Value, output: Option<&Path>) -> Result<(), String> {
    let mut text = serde_json::to_string_pretty(document).map_err(|error| error.to_string())?;
    text.push('\n');
    match output {
        Some(path) => {
            std::fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
        }
        None => {
            // Whoever closes the pipe wants no more of it.
            let _ = std::io::stdout().write_all(text.as_bytes());
            Ok(())
        }
    }
}
