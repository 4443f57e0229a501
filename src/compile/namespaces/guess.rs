//! Recognizes unknown names that are probably meant as guards. KrakenD ignores them, which would leave an endpoint
//! unprotected.

use super::{Level, is_guard, is_known, lookup};
use crate::config::suggest::nearest;
use crate::config::{Data, Node, rule};

/// Words of a name that guards something.
const WORDS: &[&str] = &[
    "acl",
    "auth",
    "authn",
    "authz",
    "bot",
    "bots",
    "cel",
    "cors",
    "csrf",
    "firewall",
    "jose",
    "jwk",
    "jwks",
    "jwt",
    "limiter",
    "mtls",
    "oidc",
    "openid",
    "policies",
    "quota",
    "rbac",
    "revoker",
    "security",
    "throttle",
    "throttling",
    "validation",
    "waf",
];

/// Words that guard something also as a part of a word: `basicAuth`, `oauth2`, `clientRateLimit`.
const PARTS: &[&str] = &[
    "apikey",
    "authenti",
    "authoriz",
    "basicauth",
    "botdetect",
    "ipfilter",
    "jsonschema",
    "keycloak",
    "oauth",
    "ratelimit",
    "validator",
];

/// Families of namespaces that are never guards, whatever words their names contain.
const HARMLESS: &[&str] = &["telemetry/", "documentation/"];

/// Words, and the guards that people mean by them, the likeliest first.
const MEANT: &[(&[&str], &[&str])] = &[
    (
        &["ratelimit", "limiter", "throttl"],
        &[
            "qos/ratelimit/router",
            "qos/ratelimit/service",
            "qos/ratelimit/proxy",
        ],
    ),
    (&["basic"], &["auth/basic"]),
    (&["apikey"], &["auth/api-keys"]),
    (&["cors"], &["security/cors"]),
    (&["bot"], &["security/bot-detector"]),
    (&["ipfilter", "acl"], &["security/ip-filter"]),
    (&["schema"], &["validation/json-schema"]),
    (&["headers"], &["security/http"]),
    (&["polic"], &["security/policies"]),
    (&["validationcel"], &["validation/cel"]),
    (
        &[
            "jwt",
            "jose",
            "jwk",
            "oauth",
            "oidc",
            "openid",
            "validator",
            "keycloak",
            "token",
        ],
        &["auth/validator"],
    ),
];

/// The maximum depth of a name that was written as nested objects: `"auth": {"validator": {}}`.
const DEPTH: usize = 4;

/// Whether the words of an unknown name say that it guards something. All our own names are treated as guards.
pub(in crate::compile) fn may_guard(name: &str) -> bool {
    let spelled = rule::spelling(name);
    if HARMLESS.iter().any(|family| spelled.starts_with(family)) {
        return false;
    }
    let joined = letters(&spelled);
    spelled.starts_with("portcullis/")
        || PARTS.iter().any(|part| joined.contains(part))
        || spelled
            .split(|c: char| !c.is_ascii_alphanumeric())
            .any(|word| WORDS.contains(&word))
}

/// The hint for an unknown name that may be a guard.
pub(in crate::compile) fn hint(level: Level, name: &str) -> String {
    let ignore = format!("To ignore it, write \"@{name}\"");
    match (likely(level, name), elsewhere(level, name)) {
        (Some(guard), _) => format!("did you mean \"{guard}\"? {ignore}"),
        (None, Some((guard, place))) => {
            format!("did you mean \"{guard}\" in the extra_config of {place}? {ignore}")
        }
        (None, None) => ignore,
    }
}

/// The guard of this level that is meant by a name.
fn likely(level: Level, name: &str) -> Option<&'static str> {
    let known = level.known();
    // The service-level block of this guard has no rules for tokens.
    let elsewhere = |guard: &str| level == Level::Service && guard == "auth/validator";
    let mut by_word = by_word(name).filter(|guard| known.contains_key(guard));
    let by_word = by_word.find(|guard| !elsewhere(guard));
    let guards = known.values().filter(|known| known.guard);
    let near = nearest(name, guards.map(|known| known.name));
    // `qos/ratelimit/router/rediss` contains the word, but the longer name is a better match.
    let is_longer = near
        .zip(by_word)
        .is_some_and(|(near, word)| near.starts_with(word));
    let by_word = by_word.filter(|_| !is_longer).or(near);
    by_word.or_else(|| near_ending(level, name))
}

/// The guard of this level whose name without its family is nearly the last part of a name: `validatr`.
fn near_ending(level: Level, name: &str) -> Option<&'static str> {
    // Shorter ones are similar to words with another meaning.
    const SHORTEST: usize = 8;
    let known = level.known().values().filter(|known| known.guard);
    let endings = known.filter_map(|known| Some((known.name, known.name.split_once('/')?.1)));
    let endings = endings.filter(|(_, ending)| ending.len() >= SHORTEST);
    let last = name.rsplit('/').next().unwrap_or(name);
    let near = nearest(last, endings.clone().map(|(_, ending)| ending))?;
    let mut endings = endings.filter(|(_, ending)| *ending == near);
    endings.next().map(|(name, _)| name)
}

/// The guard of another level that is meant, and the words for the level.
fn elsewhere(level: Level, name: &str) -> Option<(&'static str, &'static str)> {
    let mut levels = level.others().iter();
    levels.find_map(|other| Some((likely(*other, name)?, other.words())))
}

fn by_word(name: &str) -> impl Iterator<Item = &'static str> {
    let joined = letters(&rule::spelling(name));
    let meant = MEANT
        .iter()
        .find(|(words, _)| words.iter().any(|word| joined.contains(word)));
    meant.into_iter().flat_map(|(_, guards)| *guards).copied()
}

fn letters(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).collect()
}

/// The guard whose name was written as nested objects: `"auth": {"validator": {}}` for `auth/validator`.
pub(in crate::compile) fn split(name: &str, node: &Node<'_>) -> Option<String> {
    split_at(name, node, DEPTH)
}

fn split_at(name: &str, node: &Node<'_>, depth: usize) -> Option<String> {
    if depth == 0 || lookup(name).is_some() {
        return None;
    }
    node.members().iter().find_map(|(member, inner)| {
        let joined = format!("{name}/{member}");
        if is_guard(&joined) {
            return Some(joined);
        }
        split_at(&joined, inner, depth - 1)
    })
}

/// Whether a key beside an `extra_config` may be meant as a guard in it. A word without a slash needs a block.
pub(in crate::compile) fn is_stray(name: &str, node: &Node<'_>) -> bool {
    let is_block = matches!(node.value().data, Data::Object(_) | Data::List(_));
    (name.contains('/') || is_block)
        && (may_guard(name) || near_guard(name).is_some() || is_near_ending(name))
        && !Level::ALL
            .iter()
            .any(|level| is_known(*level, name) && !is_guard(name))
}

/// Whether a key at any level may be meant as a guard.
pub(super) fn is_near_ending(name: &str) -> bool {
    let mut levels = Level::ALL.iter();
    levels.any(|level| near_ending(*level, name).is_some())
}

/// The guard of any level whose name is nearly this one: `qos/ratelimt/router`.
fn near_guard(name: &str) -> Option<&'static str> {
    let names = Level::ALL.iter().flat_map(|level| level.known().keys());
    let near = nearest(name, names.copied())?;
    (name.contains('/') && lookup(near).is_some_and(|found| found.guard)).then_some(near)
}
