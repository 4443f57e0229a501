//! `token explain`: each check of a token, with its result.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use http::Method;

use crate::cli::jwks::with_keys;
use crate::ext::auth_validator::Guarded;
use crate::jose;
use crate::runtime::router::Match;
use crate::runtime::service::Service;

const USAGE: &str = "\
portcullis token explain --endpoint <PATH> <FILE> <TOKEN>
       portcullis token explain --endpoint <PATH> -c <FILE> <TOKEN>";

const EXAMPLES: &str = "\
Examples:
  portcullis token explain -c krakend.json --endpoint /orders - < token.txt
  portcullis token explain krakend.json --endpoint /orders/7 --method POST \"$TOKEN\"";

/// The subcommands of `token`.
#[derive(Debug, clap::Args)]
pub(crate) struct TokenArgs {
    #[command(subcommand)]
    command: TokenCommand,
}

#[derive(Debug, clap::Subcommand)]
enum TokenCommand {
    /// Print for each check whether the token passes it, and what was expected
    Explain(ExplainArgs),
}

#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES, override_usage = USAGE)]
struct ExplainArgs {
    /// Path to the configuration file
    #[arg(short, long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The endpoint as it is written in the file (/orders/{id}), or a path of it (/orders/7)
    #[arg(short, long, value_name = "PATH")]
    endpoint: String,
    /// The method of the endpoint
    #[arg(short, long, default_value = "GET")]
    method: String,
    /// Path to the configuration file. With -c, this argument is the token
    #[arg(value_name = "FILE")]
    first: String,
    /// The token, with or without "Bearer"; "-" reads it from standard input, so that it is not in the shell history
    #[arg(value_name = "TOKEN")]
    second: Option<String>,
}

impl ExplainArgs {
    /// The file and the token.
    fn parts(&self) -> Result<(&Path, &str), &'static str> {
        match (&self.config, &self.second) {
            (Some(file), None) => Ok((file, &self.first)),
            (None, Some(token)) => Ok((Path::new(&self.first), token)),
            (None, None) => Err("the file is missing: write -c FILE TOKEN, or FILE TOKEN"),
            (Some(_), Some(_)) => Err("with -c FILE, only the token may follow"),
        }
    }
}

/// Runs `token …`.
pub(super) fn token(args: &TokenArgs) -> ExitCode {
    let TokenCommand::Explain(args) = &args.command;
    let (file, token) = match args.parts() {
        Ok(parts) => parts,
        Err(reason) => {
            eprintln!("token explain: {reason}");
            return ExitCode::from(2);
        }
    };
    let told = read(token).and_then(|token| explain(args, file, &token));
    match told {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("{}", reason.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The exit code is 0 for a token that the endpoint accepts, and 1 for one that it rejects.
fn explain(args: &ExplainArgs, file: &Path, token: &str) -> Result<ExitCode, String> {
    with_keys(file, |guarded, service| {
        let guarded = find(args, guarded, service)?;
        let told = guarded.validator.explain(token);
        super::say(&told.to_string());
        Ok(match told.rejection {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        })
    })?
}

/// The validator of the endpoint with this pattern, or of the endpoint that handles this path.
fn find<'g>(
    args: &ExplainArgs,
    guarded: &'g [Guarded],
    service: &Service,
) -> Result<&'g Guarded, String> {
    let method = args.method.to_ascii_uppercase();
    let is_method = |one: &Method| one.as_str() == method;
    let asked = &*args.endpoint;
    let as_written = |one: &&Guarded| *one.pattern == *asked && is_method(&one.method);
    if let Some(found) = guarded.iter().find(as_written) {
        return Ok(found);
    }
    let routed = Method::from_bytes(method.as_bytes())
        .ok()
        .and_then(|method| routed(service, &method, asked));
    let of_route = |one: &&Guarded| {
        let pattern = routed.as_deref();
        pattern.is_some_and(|pattern| *one.pattern == *pattern) && is_method(&one.method)
    };
    guarded.iter().find(of_route).ok_or_else(|| {
        let others = others(service, asked);
        let why = match (&routed, others.as_slice()) {
            (Some(pattern), _) => {
                format!("{method} {pattern} has no auth/validator: it requires no token")
            }
            (None, []) => format!("{method} {asked} is not an endpoint of this file"),
            (None, others) => format!(
                "{asked} does not accept {method}, but {}: use --method",
                others.join(", ")
            ),
        };
        format!("{why}{}", known(guarded))
    })
}

/// The pattern of the endpoint that has this pattern or handles this path.
fn routed(service: &Service, method: &Method, path: &str) -> Option<Arc<str>> {
    let mut endpoints = service.endpoints.iter();
    let written = endpoints.find(|one| *one.pattern == *path && one.method == *method);
    match (written, service.router.route(method, path, None, None)) {
        (Some(endpoint), _) => Some(Arc::clone(&endpoint.pattern)),
        (None, Match::Found { endpoint, .. }) => Some(Arc::clone(&endpoint.pattern)),
        _ => None,
    }
}

/// The methods of the endpoints with this pattern.
fn others<'s>(service: &'s Service, pattern: &str) -> Vec<&'s str> {
    let endpoints = service.endpoints.iter();
    let same = endpoints.filter(|one| *one.pattern == *pattern);
    same.map(|one| one.method.as_str()).collect()
}

/// The endpoints with a validator, as lines.
fn known(guarded: &[Guarded]) -> String {
    if guarded.is_empty() {
        return "\nno endpoint of this file verifies tokens".to_owned();
    }
    let lines: Vec<String> = guarded
        .iter()
        .map(|one| format!("\n  {} {}", one.method, one.pattern))
        .collect();
    format!("\nthese endpoints verify tokens:{}", lines.concat())
}

fn read(written: &str) -> Result<String, String> {
    let mut text = written.to_owned();
    if written == "-" {
        text.clear();
        std::io::stdin()
            .read_to_string(&mut text)
            .map_err(|error| error.to_string())?;
    }
    let token = jose::bearer(text.trim().as_bytes()).map_err(|rejection| rejection.to_string())?;
    token
        .map(str::to_owned)
        .ok_or_else(|| "there is no token".to_owned())
}
