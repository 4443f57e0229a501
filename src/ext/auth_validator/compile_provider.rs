//! Where the keys of a provider come from, and what they verify.

use std::path::PathBuf;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE;

use super::config::Source;
use super::key_source::{Keys, has_no_host, is_here};
use super::runtime::{Proof, Provider};
use super::warnings;
use crate::config::{Block, ConfigError, Data, Node, OneOrMany, Typing, duration};
use crate::ext::context::Compile;
use crate::ext::identity::{Identity, KeyFile, keeper_tls};
use crate::ext::jwk_aggregator::Aggregator;
use crate::ext::{CertificateUse, look_at_certificates};
use crate::jose::{
    Algorithm, Algorithms, ClaimPath, KeyIdStrategy, Purpose, Rules, ScopeMatcher, Verifier,
};
use crate::telemetry::mask::without_values;
use crate::upstream::keys::{FailedKeys, Location, Schedule, SourceSpec};
use crate::upstream::{ClientError, SideTls};

/// KrakenD's message about a URL that is not `https://`.
const INSECURE: &str = "JWK client is using an insecure connection to the JWK service";

const SECOND: Duration = Duration::from_secs(1);

/// A provider, or why there is none although the start continues.
pub(super) enum Made {
    Provider(Box<Provider>),
    /// The endpoint rejects everything, as in KrakenD.
    Closed(&'static str),
    /// It has no source of keys, but introspection.
    NoKeys,
    /// An error was reported.
    ConfigError,
}

impl Made {
    /// The issuer: that of discovery, or the configured one.
    pub(super) fn issuer<'m>(&'m self, file: &Source<'m>) -> Option<&'m str> {
        match self {
            Made::Provider(provider) => provider.rules.issuer.as_deref(),
            _ => file.issuer,
        }
    }

    /// Its keys, if it has any.
    pub(super) fn keys(&self) -> Option<&Keys> {
        match self {
            Made::Provider(provider) => provider.keys(),
            Made::Closed(_) | Made::NoKeys | Made::ConfigError => None,
        }
    }
}

/// Builds a provider from a block, or from one of its `providers`. `outer` is the block around a provider: it supplies
/// the algorithm and the strategy if the provider does not set them.
pub(super) fn provider(
    file: &Source<'_>,
    outer: Option<&Source<'_>>,
    life: Option<Duration>,
    rules: &Rules,
    cx: &mut Compile<'_>,
) -> Made {
    let before = cx.report.config_errors();
    if file.has_no_keys() && file.introspection.is_some() {
        // Introspection is the only proof.
        return Made::NoKeys;
    }
    warnings::slash(file);
    warnings::slips(file);
    let algorithms = algorithms(file, outer);
    let strategy = strategy(file, outer);
    let mut rules = own_rules(file, rules);
    let schedule = schedule(file, life);
    let tls = tls(file, cx);
    let failed = at_least_a_second(file.failed_jwk_key_cooldown.as_ref()).map(FailedKeys::new);
    let location = location(file, &mut rules, tls.insecure, cx);
    let (Some(algorithms), true) = (
        algorithms,
        file.sound && cx.report.config_errors() == before,
    ) else {
        return Made::ConfigError;
    };
    let location = match location {
        Ok(Some(location)) => location,
        Ok(None) => return Made::ConfigError,
        Err(closed) => return Made::Closed(closed),
    };
    let tls = match location {
        Location::Sealed(_) => keeper_tls(tls, cx),
        // `disable_jwk_security` was about the way to the plugin, and not about the origins behind it.
        Location::Union(_) => SideTls {
            insecure: false,
            ..tls
        },
        _ => tls,
    };
    let spec = SourceSpec { location, tls };
    match Identity::of(cx).source(&spec, schedule) {
        Ok(source) => Made::Provider(Box::new(Provider {
            proof: Proof::Keys(Keys {
                source,
                verifier: Verifier {
                    algorithms,
                    strategy,
                    lone_key: file.lone_key || outer.is_some_and(|outer| outer.lone_key),
                    purpose: if file.declared || outer.is_some_and(|outer| outer.declared) {
                        Purpose::DeclaredAccess
                    } else {
                        Purpose::Access
                    },
                },
                failed,
            }),
            rules,
        })),
        Err(error) => {
            culprit(file, &spec.location, &error).invalid(error.to_string());
            Made::ConfigError
        }
    }
}

/// A provider of the service itself, with its issuer and audience. `None` after an error, which is reported.
pub(in crate::ext) fn standalone(block: Block<'_>, cx: &mut Compile<'_>) -> Option<Provider> {
    let file = Source::read(block);
    for (name, is_there) in [
        ("issuer", file.issuer.is_some()),
        ("audience", !file.audience.is_empty()),
    ] {
        if !is_there {
            file.block.missing(name);
        }
    }
    match provider(&file, None, None, &Rules::default(), cx) {
        Made::Provider(provider) => Some(*provider),
        Made::Closed(why) => {
            file.block.node().invalid(why);
            None
        }
        Made::NoKeys => {
            file.block.missing("jwk_url");
            None
        }
        Made::ConfigError => None,
    }
}

/// The requirements of the endpoint, with issuer and audience of the provider.
pub(super) fn own_rules(file: &Source<'_>, rules: &Rules) -> Rules {
    let mut rules = rules.clone();
    rules.issuer = file.issuer.map(Box::from);
    rules.audience = file.audience.iter().map(|one| Box::from(&**one)).collect();
    if let Some(claim) = &file.audience_key {
        rules.audience_path = claim_path(claim, &file.place("audience_key"), ClaimPath::literal);
    }
    if file.audience_matcher == Some("any") {
        rules.audience_matcher = ScopeMatcher::Any;
    }
    rules
}

/// The key that an error names if a source cannot be built.
fn culprit<'a>(file: &Source<'a>, location: &Location, error: &ClientError) -> Node<'a> {
    let suspects: &[&str] = match (location, error) {
        (Location::File(_) | Location::Inline(_), _) => &["jwk_local_path"],
        // A file of certificates. The one of the environment has no key.
        (Location::Sealed(_), ClientError::File { .. }) => &["jwk_local_ca", "secret_url"],
        (Location::Sealed(_), _) => &["cipher_suites", "jwk_local_path"],
        _ => &["jwk_local_ca", "cipher_suites", "jwk_url"],
    };
    suspects
        .iter()
        .find_map(|key| file.block.get(key))
        .unwrap_or_else(|| file.block.node().clone())
}

fn algorithms(file: &Source<'_>, outer: Option<&Source<'_>>) -> Option<Algorithms> {
    let Some(node) = file.alg.as_ref().or_else(|| outer?.alg.as_ref()) else {
        unknown_algorithm(file.block.node(), "");
        return None;
    };
    let Data::List(_) = &node.value().data else {
        return algorithm(node).map(Algorithms::only);
    };
    let items = node.items();
    let known: Vec<_> = items.iter().map_while(algorithm).collect();
    if items.is_empty() {
        unknown_algorithm(node, "");
    }
    Algorithms::of(known.iter().copied()).filter(|_| known.len() == items.len())
}

fn algorithm(node: &Node<'_>) -> Option<Algorithm> {
    let name = node.text(Typing::Strict)?;
    let known = Algorithm::parse(name).or_else(|| respelled(node, name));
    if known.is_none() {
        unknown_algorithm(node, name);
    }
    known
}

fn unknown_algorithm(node: &Node<'_>, name: &str) {
    if name.trim().eq_ignore_ascii_case("ES256K") {
        node.config_error_hint(
            ConfigError::invalid("JOSE: ES256K is not supported"),
            "its curve secp256k1 is not a NIST curve and is not recommended for tokens (RFC 8812 §3.2); let the \
             provider sign with ES256 or Ed25519",
        );
        return;
    }
    let names: Vec<_> = Algorithm::ALL.iter().map(|known| known.as_str()).collect();
    node.config_error_hint(
        ConfigError::invalid(format!("JOSE: unknown algorithm {name}")),
        format!("\"alg\" is one of {}", names.join(", ")),
    );
}

/// The place of a claim. `one` reads a name that is not a list.
pub(super) fn claim_path(
    claim: &OneOrMany,
    node: &Node<'_>,
    one: fn(&str) -> ClaimPath,
) -> ClaimPath {
    match claim {
        OneOrMany::One(name) => one(name),
        OneOrMany::Many(parts) => ClaimPath::exact(parts).unwrap_or_else(|| {
            node.invalid("a list of names is expected, and this one is empty");
            one("")
        }),
    }
}

/// `rs256`, `RS256 `: KrakenD does not know them and rejects every token, but the intended value is clear.
fn respelled(node: &Node<'_>, name: &str) -> Option<Algorithm> {
    let mut all = Algorithm::ALL.iter().copied();
    let known = all.find(|known| known.as_str().eq_ignore_ascii_case(name.trim()))?;
    node.warn(ConfigError::invalid(format!(
        "{} is treated as \"{}\"",
        node.shown(),
        known.as_str()
    )));
    Some(known)
}

fn strategy(file: &Source<'_>, outer: Option<&Source<'_>>) -> KeyIdStrategy {
    file.key_identify_strategy
        .or_else(|| outer?.key_identify_strategy)
        .and_then(KeyIdStrategy::parse)
        .unwrap_or(KeyIdStrategy::Kid)
}

/// `cache: false` means "download for each request" in KrakenD. Here it means the default.
fn schedule(file: &Source<'_>, shared: Option<Duration>) -> Schedule {
    let standard = Schedule::default();
    let own = file
        .cache_duration
        .and_then(|seconds| u64::try_from(seconds).ok())
        .filter(|seconds| *seconds > 0)
        .map(Duration::from_secs);
    let life = if file.cache {
        own.or(shared).unwrap_or(standard.life)
    } else {
        standard.life
    };
    Schedule {
        life,
        stale: file.stale.unwrap_or(standard.stale),
        ..standard
    }
}

/// A duration of at least one second. KrakenD ignores all others; this gateway does the same, with a warning.
pub(super) fn at_least_a_second(node: Option<&Node<'_>>) -> Option<Duration> {
    let node = node?;
    let Data::Text(text) = &node.value().data else {
        return node.duration().filter(|duration| *duration >= SECOND);
    };
    let read = duration::parse(text).ok().filter(|read| *read >= SECOND);
    if read.is_none() && !text.is_empty() {
        node.warn(ConfigError::invalid(format!(
            "{} is not a duration of at least a second, and is ignored",
            node.shown()
        )));
    }
    read
}

fn tls(file: &Source<'_>, cx: &Compile<'_>) -> SideTls {
    let mut tls = SideTls {
        insecure: file.disable_jwk_security,
        ca_certs: file
            .jwk_local_ca
            .map(|path| cx.path(path))
            .into_iter()
            .collect(),
        pins: pins(file),
        cipher_suites: cipher_suites(file),
        ..SideTls::default()
    };
    if let (Some(node), Some(path)) = (file.block.get("jwk_local_ca"), tls.ca_certs.first()) {
        look_at_certificates(&node, path, CertificateUse::Authority, cx);
    }
    let unsupported = tls.unsupported_suites();
    if !unsupported.is_empty() && unsupported.len() < tls.cipher_suites.len() {
        if let Some(node) = file.block.get("cipher_suites") {
            node.warn(ConfigError::invalid(format!(
                "suites {unsupported:?} are not supported and are ignored"
            )));
        }
        tls.cipher_suites
            .retain(|suite| !unsupported.contains(suite));
    }
    tls
}

fn cipher_suites(file: &Source<'_>) -> Vec<u16> {
    file.cipher_suites
        .iter()
        // An invalid number is replaced by a suite that does not exist.
        .map(|number| u16::try_from(*number).unwrap_or(0))
        .collect()
}

fn pins(file: &Source<'_>) -> Vec<[u8; 32]> {
    let mut pins = Vec::new();
    for (index, text) in file.jwk_fingerprints.iter().enumerate() {
        match URL_SAFE.decode(text).map(<[u8; 32]>::try_from) {
            Ok(Ok(pin)) => pins.push(pin),
            wrong => {
                let reason = match wrong {
                    Err(error) => error.to_string(),
                    Ok(_) => "a SHA-256 digest has 32 bytes".to_owned(),
                };
                if let Some(node) = file.block.get("jwk_fingerprints") {
                    node.config_error_hint(
                        ConfigError::invalid(format!("decoding fingerprint #{index}: {reason}")),
                        "base64url, with padding, of the SHA-256 of the DER SubjectPublicKeyInfo",
                    );
                }
            }
        }
    }
    pins
}

/// `Ok(None)` if an error was reported, `Err` if the endpoint rejects everything.
fn location(
    file: &Source<'_>,
    rules: &mut Rules,
    insecure: bool,
    cx: &Compile<'_>,
) -> Result<Option<Location>, &'static str> {
    if let Some(path) = file.jwk_local_path {
        return Ok(local(file, cx.path(path), cx));
    }
    let location = match &file.openid_configuration {
        Some(node) => match discovered(node, rules)? {
            Some(location) => location,
            None => return Ok(None),
        },
        None => match file.jwk_url {
            Some(url) => match aggregated(file, url, rules, insecure, cx)? {
                Some(union) => union,
                None => Location::Url(url.to_owned()),
            },
            None => return Err("there is neither jwk_url nor jwk_local_path"),
        },
    };
    let (Location::Url(url)
    | Location::Issuer {
        document: Some(url),
        ..
    }
    | Location::Issuer { issuer: url, .. }) = &location
    else {
        return Ok(Some(location));
    };
    // As in KrakenD, the value is case-sensitive.
    if !insecure && !url.starts_with("https://") {
        return Err(INSECURE);
    }
    if insecure && !is_here(url) {
        let node = file.place("disable_jwk_security");
        node.warn_hint(
            ConfigError::invalid(
                "the keys come over an unverified connection: anyone on the network path can create tokens",
            ),
            "an https:// URL without \"disable_jwk_security\"; \"jwk_local_ca\" names a CA of your own",
        );
    }
    let node = file.place("jwk_url");
    if url.contains(['$', '{']) && !node.value().masked {
        node.warn_hint(
            ConfigError::invalid("a placeholder in it was not filled in: every request is rejected with 401"),
            "FC_ENABLE=1 renders templates, and \"portcullis/secrets\": {\"expand\": true} fills in ${NAME}",
        );
    }
    if has_no_host(url) {
        let shown = without_values(url);
        node.invalid(format!("{shown:?} is not a URL"));
        return Ok(None);
    }
    Ok(Some(location))
}

/// The key sets of `portcullis/jwk-aggregator`, if the URL is its address.
fn aggregated(
    file: &Source<'_>,
    url: &str,
    rules: &Rules,
    insecure: bool,
    cx: &Compile<'_>,
) -> Result<Option<Location>, &'static str> {
    let Some(aggregator) = cx.fact::<Aggregator>().filter(|one| one.is_at(url)) else {
        return Ok(None);
    };
    let is_plain = |origin: &String| !origin.starts_with("https://");
    if !insecure && aggregator.origins.iter().any(is_plain) {
        return Err(INSECURE);
    }
    if rules.issuer.is_none() {
        file.place("jwk_url").warn_hint(
            ConfigError::invalid(
                "any issuer of \"portcullis/jwk-aggregator\" can issue tokens for this endpoint",
            ),
            "\"issuer\", or \"providers\", which have one key set for each issuer",
        );
    }
    Ok(Some(Location::Union(aggregator.origins.clone())))
}

/// The OpenID configuration that is fetched. The tokens of its issuer must name exactly this issuer.
fn discovered(node: &Node<'_>, rules: &mut Rules) -> Result<Option<Location>, &'static str> {
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    let named = rules.issuer.as_deref();
    let (issuer, document) = match (&node.value().data, named) {
        (Data::Bool(true), Some(issuer)) => (issuer.to_owned(), None),
        (Data::Bool(true), None) => {
            node.config_error_hint(
                ConfigError::Missing("issuer"),
                "\"openid_configuration\": true needs the \
                 \"issuer\" whose configuration is fetched",
            );
            return Ok(None);
        }
        (Data::Bool(false), _) => return Err("there is neither jwk_url nor jwk_local_path"),
        (Data::Text(text), named) => {
            let bare = text.strip_suffix(DOCUMENT).unwrap_or(text);
            match named {
                // Only one of them may end with a slash. Then the issuer is right, because tokens are compared with it.
                Some(issuer) if issuer.trim_end_matches('/') == bare.trim_end_matches('/') => {
                    (issuer.to_owned(), None)
                }
                // The document must still name the issuer, so its place proves nothing and may be any.
                Some(issuer) if text.contains("/.well-known/") => {
                    (issuer.to_owned(), Some(text.to_string()))
                }
                Some(issuer) => {
                    let document = format!("{}{DOCUMENT}", text.trim_end_matches('/'));
                    (issuer.to_owned(), Some(document))
                }
                None => (bare.to_owned(), None),
            }
        }
        _ => {
            node.invalid("true, an issuer's URL or the URL of its configuration is expected");
            return Ok(None);
        }
    };
    rules.issuer = Some(issuer.as_str().into());
    Ok(Some(Location::Issuer { issuer, document }))
}

fn local(file: &Source<'_>, path: PathBuf, cx: &Compile<'_>) -> Option<Location> {
    if file.cache {
        let node = file.place("cache");
        node.config_error_hint(
            ConfigError::invalid("cache could not be used with jwk_local_path"),
            "remove \"cache\": a file is always available",
        );
        return None;
    }
    Some(match KeyFile::read(&file.block, path, cx)? {
        KeyFile::Plain(path) => Location::File(path),
        KeyFile::Opened(document) => Location::Inline(document),
        KeyFile::Sealed(file) => Location::Sealed(file),
    })
}
