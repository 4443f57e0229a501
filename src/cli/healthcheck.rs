//! `healthcheck`: for containers and probes that have no HTTP client of their own.

use std::process::ExitCode;
use std::time::Duration;

use crate::cli::HealthcheckArgs;

/// Asks once; 0 when the answer is a 2xx.
pub fn healthcheck(args: &HealthcheckArgs) -> ExitCode {
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&error.to_string()),
    };
    let limit = Duration::from_secs(args.timeout.max(1));
    match runtime.block_on(probe(&args.url, limit, args.insecure)) {
        Ok(status) if (200..300).contains(&status) => ExitCode::SUCCESS,
        Ok(status) => fail(&format!("{} answered {status}", args.url)),
        Err(error) => fail(&error.to_string()),
    }
}

fn fail(reason: &str) -> ExitCode {
    eprintln!("{reason}");
    ExitCode::FAILURE
}

async fn probe(url: &str, limit: Duration, insecure: bool) -> Result<u16, reqwest::Error> {
    let client = reqwest::Client::builder()
        .timeout(limit)
        .danger_accept_invalid_certs(insecure)
        .no_proxy()
        .build()?;
    Ok(client.get(url).send().await?.status().as_u16())
}
