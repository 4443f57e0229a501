//! `jwks`: fetches the key sets of a configuration once and prints them.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use crate::cli::{ConfigArgs, check, findings};
use crate::compile::Compiled;
use crate::ext::auth_validator::{Guarded, Provider};
use crate::ext::identity::PublicKeys;
use crate::runtime::service::Service;
use crate::upstream::keys::KeySource;

/// Longer than one fetch with discovery takes.
const TIMEOUT: Duration = Duration::from_secs(11);

const EXAMPLES: &str = "\
Examples:
  portcullis jwks krakend.json";

/// The arguments of `jwks`.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct JwksArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Prints every source of keys. The exit code is 1 if one of them provides none.
pub(super) fn jwks(args: &JwksArgs) -> ExitCode {
    match with_keys(args.config.path(), |guarded, _| {
        let sources = sources(guarded);
        if sources.is_empty() {
            super::say("no endpoint verifies tokens with a key set\n");
        }
        let mut code = ExitCode::SUCCESS;
        for source in sources {
            super::say(&text(&source));
            if source.current().is_none() {
                code = ExitCode::FAILURE;
            }
        }
        code
    }) {
        Ok(code) => code,
        Err(reason) => {
            eprint!("{reason}");
            ExitCode::FAILURE
        }
    }
}

/// Compiles `config`, fetches its key sets once, and passes its validators and its service on.
pub(super) fn with_keys<T>(
    config: &Path,
    then: impl FnOnce(&[Guarded], &Service) -> T,
) -> Result<T, String> {
    let outcome = check::outcome(config);
    let Some(compiled) = outcome.compiled else {
        return Err(findings::rejection(
            &check::shown_name(config),
            &outcome.findings,
        ));
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("{error}\n"))?;
    let guarded = compiled
        .blocks
        .validators
        .as_ref()
        .map(|all| all.list())
        .unwrap_or_default();
    let service = Arc::clone(&compiled.service);
    runtime.block_on(fetch(compiled, &sources(&guarded)));
    Ok(then(&guarded, &service))
}

async fn fetch(compiled: Compiled, sources: &[Arc<KeySource<PublicKeys>>]) {
    // This is the only background task that is run, so no other connections are opened.
    let tending = compiled
        .tasks
        .into_iter()
        .find(|task| task.name == "key sets");
    let tending = tending.map(|task| tokio::spawn(task.run));
    for source in sources {
        source.first_attempt(TIMEOUT).await;
    }
    if let Some(tending) = tending {
        tending.abort();
    }
}

fn sources(guarded: &[Guarded]) -> Vec<Arc<KeySource<PublicKeys>>> {
    let mut all: Vec<Arc<KeySource<PublicKeys>>> = Vec::new();
    let providers = guarded.iter().flat_map(|one| one.validator.providers());
    for keys in providers.filter_map(Provider::keys) {
        if !all.iter().any(|known| Arc::ptr_eq(known, &keys.source)) {
            all.push(Arc::clone(&keys.source));
        }
    }
    all
}

fn text(source: &KeySource<PublicKeys>) -> String {
    let status = source.status();
    let mut out = format!("{}\n", status.label);
    match (status.age, &status.last_error) {
        (Some(age), None) => out.push_str(&format!(
            "  {}, fetched {} s ago\n",
            number(status.keys),
            age.as_secs()
        )),
        (Some(age), Some(error)) => {
            out.push_str(&format!(
                "  {}, {} s old; the last fetch failed: {error}\n",
                number(status.keys),
                age.as_secs()
            ));
        }
        (None, error) => {
            let error = error.as_deref().unwrap_or("no response in time");
            out.push_str(&format!("  no keys: {error}\n"));
        }
    }
    if let Some(snapshot) = source.current().as_ref() {
        let PublicKeys(keys) = &*snapshot.set;
        for key in keys.keys() {
            let algorithms: Vec<_> = key.algorithms().map(|known| known.as_str()).collect();
            let kid: String = key.kid().chars().take(64).collect();
            out.push_str(&format!("  kid {kid:?}: {}\n", algorithms.join(" ")));
        }
    }
    out
}

/// `1 key`, `2 keys`
fn number(keys: usize) -> String {
    match keys {
        1 => "1 key".to_owned(),
        keys => format!("{keys} keys"),
    }
}
