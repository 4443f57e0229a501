//! Compiles `introspection`.

use std::sync::Arc;
use std::time::Duration;

use super::compile_provider::own_rules;
use super::config::Source;
use super::introspection::{Asked, Introspection};
use super::key_source::Keys;
use super::runtime::{Proof, Provider};
use super::signed_introspection::Signed;
use crate::config::{Block, ConfigError};
use crate::ext::context::Compile;
use crate::ext::identity::{Server, check_secret_url, client_auth, waiting_time};
use crate::jose::Rules;
use crate::runtime::clock::Clock;
use crate::upstream::credentials::ClientAuth;

/// The defaults of `introspection`.
const ACTIVE_FOR: Duration = Duration::from_secs(60);
const INACTIVE_FOR: Duration = Duration::from_secs(10);
const ANSWER_BYTES: u64 = 32 << 20;
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);

/// The provider for introspection; `None` if there is no such block, or after an error, which is reported.
pub(super) fn introspection(
    file: &Source<'_>,
    issuer: Option<&str>,
    keys: Option<&Keys>,
    rules: &Rules,
    cx: &mut Compile<'_>,
) -> Option<Provider> {
    let block = file.introspection.as_ref()?;
    let url = block.required("url")?;
    let sound = check_secret_url(block, "url", &url, block.flag("allow_insecure"));
    let timeout = waiting_time(block, "timeout", ANSWER_TIMEOUT);
    let (auth, tls) =
        client_auth(block, &url, cx).filter(|_| sound && file.sound && !timeout.is_zero())?;
    let mut rules = own_rules(file, rules);
    rules.issuer = issuer.map(Box::from);
    let signed = if block.flag("signed_answers") {
        Some(signed(block, &auth, issuer, keys, rules.leeway)?)
    } else {
        None
    };
    let asked = Asked {
        url,
        auth,
        issuer: rules.issuer.clone(),
        active_for: block.duration("cache_duration").unwrap_or(ACTIVE_FOR),
        inactive_for: block
            .duration("inactive_cache_duration")
            .unwrap_or(INACTIVE_FOR),
        timeout,
    };
    let definition = block.node().value().to_json();
    let key = match &signed {
        None => format!("auth/validator introspection {issuer:?} {definition}"),
        Some(Signed {
            source,
            verifier,
            leeway,
            ..
        }) => {
            let label = source.status().label;
            format!(
                "auth/validator introspection {issuer:?} {label} {verifier:?} {leeway:?} {definition}"
            )
        }
    };
    let server = Server {
        kind: "introspection",
        url: &asked.url,
        definition: key,
        timeout,
        cache_bytes: block.count("cache_bytes").unwrap_or(ANSWER_BYTES),
        tls: &tls,
    };
    let (inquiry, side) = server.open(block.node(), cx)?;
    Some(Provider {
        proof: Proof::Introspection(Arc::new(Introspection {
            asked,
            side,
            signed,
            clock: Clock::system(),
            inquiry,
        })),
        rules,
    })
}

/// How signed responses are verified. `None` after an error, which is reported.
fn signed(
    block: &Block<'_>,
    auth: &ClientAuth,
    issuer: Option<&str>,
    keys: Option<&Keys>,
    leeway: Duration,
) -> Option<Signed> {
    let (Some(issuer), Some(keys)) = (issuer, keys) else {
        let at = block.get("signed_answers");
        at.unwrap_or_else(|| block.node().clone()).config_error_hint(
            ConfigError::invalid("signed responses cannot be verified without the keys and the issuer of the provider"),
            "add \"issuer\", \"alg\" and \"jwk_url\" (or \"openid_configuration\") next to \"introspection\"",
        );
        return None;
    };
    Some(Signed {
        source: Arc::clone(&keys.source),
        verifier: keys.verifier,
        issuer: issuer.into(),
        audience: auth.client_id.as_str().into(),
        leeway,
    })
}
