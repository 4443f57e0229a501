//! Compiles `binding`.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::{hmac, rand};

use super::binding::{Binding, Demand as Bound, Dpop, parts};
use super::config;
use super::shared_proofs::SharedProofs;
use super::used_proofs::{LongestAge, UsedProofs};
use crate::config::{Block, ConfigError};
use crate::ext::context::{Compile, ServiceFacts};
use crate::ext::redis::SharedStore;
use crate::jose::{Algorithm, Algorithms};

/// The algorithms of proofs if the file names none.
const PROOF_ALGORITHMS: [Algorithm; 6] = [
    Algorithm::Es256,
    Algorithm::Es384,
    Algorithm::EdDsa,
    Algorithm::Ed25519,
    Algorithm::Rs256,
    Algorithm::Ps256,
];

const PROOF_AGE: Duration = Duration::from_secs(60);

/// Keys that mean nothing without `dpop`.
const DPOP_KEYS: [&str; 7] = [
    "dpop_algs",
    "dpop_max_age",
    "dpop_origins",
    "dpop_nonce",
    "dpop_nonce_secret",
    "dpop_redis",
    "dpop_redis_on_failure",
];

/// The longest age: all proofs of this time are remembered.
const MAX_PROOF_AGE: Duration = Duration::from_secs(600);

/// A shorter secret could be guessed from a nonce.
const MIN_NONCE_SECRET: usize = 32;

pub(super) fn binding(file: &config::Validator<'_>, cx: &mut Compile<'_>) -> Binding {
    let Some(block) = &file.binding else {
        return Binding::default();
    };
    let demand = |key: &str| match block.choice(key) {
        Some("optional") => Bound::Optional,
        Some("required") => Bound::Required,
        _ => Bound::Off,
    };
    let at = |key: &str| block.get(key).unwrap_or_else(|| block.node().clone());
    let header_name = block.text("certificate_header");
    let facts = cx.fact::<ServiceFacts>();
    let trusted = facts.map_or_else(Box::default, |facts| facts.client_address.trusted.clone());
    if header_name.is_some() && trusted.is_empty() {
        at("certificate_header").config_error_hint(
            ConfigError::invalid("no proxy is trusted, so this header is always ignored"),
            "list the addresses of your proxies in \"trusted_proxies\" of \"router\"",
        );
    }
    doubts(block, cx);
    Binding {
        certificate: demand("certificate"),
        header: header_name.and_then(|name| at("certificate_header").header_name(name)),
        trusted,
        dpop: match demand("dpop") {
            Bound::Off => None,
            dpop => proofs(block, dpop == Bound::Required, cx),
        },
    }
}

/// Settings without effect, and one with which no request passes.
fn doubts(block: &Block<'_>, cx: &Compile<'_>) {
    let is_on = |key: &str| matches!(block.choice(key), Some("optional" | "required"));
    for key in DPOP_KEYS {
        if let (Some(node), false) = (block.get(key), is_on("dpop")) {
            node.warn_hint(
                ConfigError::invalid("ignored, because no proof is checked without \"dpop\""),
                "\"dpop\": \"required\" or \"optional\"",
            );
        }
    }
    if let (Some(node), false) = (block.get("certificate_header"), is_on("certificate")) {
        node.warn_hint(
            ConfigError::invalid(
                "ignored, because no certificate is checked without \"certificate\"",
            ),
            "\"certificate\": \"required\" or \"optional\"",
        );
    }
    let mtls = cx
        .fact::<ServiceFacts>()
        .is_some_and(|facts| facts.asks_for_certificates);
    if is_on("certificate")
        && !mtls
        && !block.has("certificate_header")
        && let Some(node) = block.get("certificate")
    {
        node.warn_hint(
            ConfigError::invalid(
                "the gateway never sees a certificate of a client: every token that is bound to one is rejected",
            ),
            "\"enable_mtls\" in \"tls\", or \"certificate_header\" behind a proxy that terminates TLS",
        );
    }
}

fn proofs(block: &Block<'_>, required: bool, cx: &mut Compile<'_>) -> Option<Dpop> {
    let before = cx.report.config_errors();
    let at = |key: &str| block.get(key).unwrap_or_else(|| block.node().clone());
    let mut algorithms: Vec<Algorithm> = Vec::new();
    for name in block.texts("dpop_algs") {
        match Algorithm::parse(&name) {
            // RFC 9449 §4.3, number 5.
            Some(known) if !known.is_symmetric() => algorithms.push(known),
            _ => at("dpop_algs").invalid(format!("{name:?} is not a public-key algorithm")),
        }
    }
    let algorithms = Algorithms::of(algorithms).or_else(|| Algorithms::of(PROOF_ALGORITHMS))?;
    let max_age = block.duration("dpop_max_age").unwrap_or(PROOF_AGE);
    if max_age.is_zero() || max_age > MAX_PROOF_AGE {
        at("dpop_max_age").config_error(ConfigError::OutOfRange {
            found: format!("{max_age:?}"),
            range: "1s to 10m".to_owned(),
        });
    }
    let mut origins: Vec<Box<str>> = Vec::new();
    for text in block.texts("dpop_origins") {
        match parts(&text) {
            Some((origin, "/")) => origins.push(origin.into()),
            _ => at("dpop_origins").config_error_hint(
                ConfigError::invalid(format!("{text:?} is not an address without a path")),
                "\"https://api.example.com\"",
            ),
        }
    }
    let secret = block.string("dpop_nonce_secret");
    if secret
        .as_ref()
        .is_some_and(|secret| secret.len() < MIN_NONCE_SECRET)
    {
        at("dpop_nonce_secret").invalid(format!(
            "a secret must have at least {MIN_NONCE_SECRET} characters"
        ));
    }
    let nonce = match (block.flag("dpop_nonce"), secret) {
        (false, _) => None,
        (true, Some(secret)) => Some(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
        (true, None) => nonce_key(block, cx),
    };
    // One memory for all endpoints and for reloads: a proof is for one URL, but nothing is gained by forgetting it.
    let replays = cx.carry_over("auth/validator proofs", |_| Arc::new(UsedProofs::default()));
    let longest_age = cx.fact::<LongestAge>().unwrap_or_else(|| {
        let longest = Arc::new(LongestAge::default());
        cx.set_fact(Arc::clone(&longest));
        longest
    });
    longest_age.include(max_age);
    let shared = shared(block, cx);
    (cx.report.config_errors() == before).then_some(Dpop {
        required,
        algorithms,
        max_age,
        origins: origins.into(),
        nonce,
        replays,
        shared,
        longest_age,
    })
}

/// The memory of proofs that all gateways share.
fn shared(block: &Block<'_>, cx: &Compile<'_>) -> Option<Arc<SharedProofs>> {
    let at = |key: &str| block.get(key).unwrap_or_else(|| block.node().clone());
    if !block.flag("dpop_redis") {
        if block.has("dpop_redis_on_failure") {
            at("dpop_redis_on_failure").warn(ConfigError::invalid(
                "without \"dpop_redis\" it has no effect",
            ));
        }
        return None;
    }
    let Some(redis) = cx.fact::<SharedStore>() else {
        at("dpop_redis").config_error_hint(
            ConfigError::invalid("there is no Redis to share proofs through"),
            "\"portcullis/redis\": {\"url\": \"redis://host:6379\"} in the service",
        );
        return None;
    };
    let is_closed = block.choice("dpop_redis_on_failure") != Some("local");
    Some(Arc::new(SharedProofs::new(redis, is_closed)))
}

/// The key of the process, which a reload keeps.
fn nonce_key(block: &Block<'_>, cx: &mut Compile<'_>) -> Option<hmac::Key> {
    let made = cx.try_carry_over("auth/validator nonce key", |_| {
        let mut key = [0; 32];
        rand::fill(&mut key).map(|()| Arc::new(hmac::Key::new(hmac::HMAC_SHA256, &key)))
    });
    match made {
        Ok(key) => Some((*key).clone()),
        Err(_) => {
            block.node().invalid("the system has no random numbers");
            None
        }
    }
}
