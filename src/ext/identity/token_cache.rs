//! `portcullis/token-cache`, in the service: the limits of the cache of verified tokens.

use std::sync::Arc;
use std::time::Duration;

use crate::config::{Key, Kind, Node, key};
use crate::ext::context::Compile;
use crate::ext::extension::{ServiceExtension, ServicePart};
use crate::jose::CacheLimits;
use crate::upstream::budget::{self, Memory};

/// The share of the memory for tokens.
const MEMORY_SHARE: u64 = 16;

/// The configured limits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Bounds(pub CacheLimits);

pub(crate) const TOKEN_CACHE: ServiceExtension = ServiceExtension {
    namespace: "portcullis/token-cache",
    aliases: &[],
    guard: true,
    doc: "Ours: the limits of the cache of verified signatures. Time, issuer, audience, roles, scopes and revocation are still checked for every request.",
    keys: KEYS,
    compile,
};

const KEYS: &[Key] = &[
    key(
        "entries",
        Kind::Integer,
        "131072",
        "The maximum number of cached tokens.",
    ),
    key(
        "bytes",
        Kind::Integer,
        "a sixteenth of the memory, 256 MiB at most",
        "The approximate maximum memory for tokens and their claims.",
    ),
    key(
        "max_age",
        Kind::Duration,
        "1h",
        "How long a token without `exp`, or with a distant one, is cached.",
    ),
    key("off", Kind::Bool, "false", "Verify every signature again."),
];

/// The default limits. The cache must leave most of a small memory to requests.
pub(super) fn limits() -> CacheLimits {
    let standard = CacheLimits::default();
    let share = usize::try_from(budget::available() / MEMORY_SHARE).unwrap_or(usize::MAX);
    CacheLimits {
        bytes: standard.bytes.min(share),
        ..standard
    }
}

/// What the tokens take counts like what requests take.
pub(super) fn count(more: usize, fewer: usize) {
    let memory = Memory::process();
    memory.add(more as u64);
    memory.release(fewer as u64);
}

fn compile(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    let standard = limits();
    let count = |name: &str, otherwise: usize| {
        block.count(name).map_or(otherwise, |count| {
            usize::try_from(count).unwrap_or(usize::MAX)
        })
    };
    let entries = count("entries", standard.entries);
    let limits = CacheLimits {
        entries: if block.flag("off") { 0 } else { entries },
        bytes: count("bytes", standard.bytes),
        max_age: block
            .duration("max_age")
            .filter(|age| *age >= Duration::from_secs(1))
            .unwrap_or(standard.max_age),
    };
    cx.set_fact(Arc::new(Bounds(limits)));
    ServicePart::Nothing
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ext::testing::File;

    fn bounds(block: &str) -> CacheLimits {
        let mut file = File::new(block);
        file.service(&TOKEN_CACHE);
        assert_eq!(file.config_errors(), 0, "{block}");
        file.fact::<Bounds>().unwrap().0
    }

    #[test]
    fn missing_values_have_their_defaults() {
        assert_eq!(bounds("{}"), limits());
        assert!(limits().bytes <= CacheLimits::default().bytes);
        let set = bounds(r#"{"entries": 10, "bytes": 5000, "max_age": "2m"}"#);
        assert_eq!((set.entries, set.bytes), (10, 5000));
        assert_eq!(set.max_age, Duration::from_secs(120));
    }

    #[test]
    fn it_can_be_disabled() {
        assert_eq!(bounds(r#"{"off": true, "entries": 10}"#).entries, 0);
    }

    #[test]
    fn a_negative_limit_is_an_error() {
        let mut file = File::new(r#"{"entries": -1}"#);
        file.service(&TOKEN_CACHE);
        assert_eq!(file.config_errors(), 1);
    }
}
