//! `token explain`: each check of a token, with its result.

use std::io::Read;
use std::path::PathBuf;
use std::process::ExitCode;

use crate::cli::jwks::with_keys;
use crate::ext::auth_validator::Guarded;
use crate::jose;

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
struct ExplainArgs {
    /// Path to the configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// The endpoint as it is written in the file: /orders/{id}
    #[arg(short, long)]
    endpoint: String,
    /// The method of the endpoint
    #[arg(short, long, default_value = "GET")]
    method: String,
    /// The token, with or without "Bearer"; "-" reads it from standard input, so that it is not in the shell history
    token: String,
}

/// Runs `token …`.
pub(super) fn token(args: &TokenArgs) -> ExitCode {
    let TokenCommand::Explain(args) = &args.command;
    let told = read(&args.token).and_then(|token| explain(args, &token));
    match told {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("{}", reason.trim_end());
            ExitCode::FAILURE
        }
    }
}

/// The exit code is 0 for a token that the endpoint accepts, and 1 for one that it rejects.
fn explain(args: &ExplainArgs, token: &str) -> Result<ExitCode, String> {
    with_keys(&args.config, |guarded| {
        let guarded = find(args, guarded)?;
        let told = guarded.validator.explain(token);
        super::say(&told.to_string());
        Ok(match told.rejection {
            None => ExitCode::SUCCESS,
            Some(_) => ExitCode::FAILURE,
        })
    })?
}

fn find<'g>(args: &ExplainArgs, guarded: &'g [Guarded]) -> Result<&'g Guarded, String> {
    let wanted = |one: &&Guarded| {
        *one.pattern == *args.endpoint && one.method.as_str().eq_ignore_ascii_case(&args.method)
    };
    guarded.iter().find(wanted).ok_or_else(|| {
        let known: Vec<String> = guarded
            .iter()
            .map(|one| format!("  {} {}", one.method, one.pattern))
            .collect();
        format!(
            "{} {} has no validator; these endpoints have one:\n{}",
            args.method,
            args.endpoint,
            known.join("\n")
        )
    })
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
