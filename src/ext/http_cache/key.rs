//! The cache key of a response: everything that is sent to its backend.

use aws_lc_rs::digest::{Context, SHA256};
use http::header::{CACHE_CONTROL, FORWARDED, IF_MODIFIED_SINCE, IF_NONE_MATCH, PRAGMA};
use http::{HeaderMap, HeaderName, HeaderValue};
use smallvec::SmallVec;

use crate::runtime::single_flights::Digest;
use crate::upstream::Outgoing;

/// Headers that are never part of a key: those that the cache itself evaluates, and those that identify a request,
/// its trace or the address of its client, which differ for each request. A response that depends on one of them must
/// name it in `Vary`.
const NEVER: [HeaderName; 13] = [
    CACHE_CONTROL,
    PRAGMA,
    IF_NONE_MATCH,
    IF_MODIFIED_SINCE,
    HeaderName::from_static("x-forwarded-for"),
    HeaderName::from_static("traceparent"),
    HeaderName::from_static("tracestate"),
    HeaderName::from_static("b3"),
    HeaderName::from_static("x-b3-traceid"),
    HeaderName::from_static("x-b3-spanid"),
    HeaderName::from_static("x-b3-parentspanid"),
    HeaderName::from_static("x-b3-sampled"),
    HeaderName::from_static("x-b3-flags"),
];

/// The rules for cache keys.
///
/// A client controls many parts of a call: for example, its `Host` is sent in `X-Forwarded-Host`. A response that
/// depends on such a part must not be sent to clients with another value.
#[derive(Debug, Clone, Default)]
pub(crate) struct KeyRules {
    /// Headers that the configuration excludes.
    pub left_out: Box<[HeaderName]>,
}

impl KeyRules {
    /// The digest of a call to `origin`.
    pub(crate) fn digest(&self, origin: &str, out: &Outgoing) -> Digest {
        let mut context = Context::new(&SHA256);
        for text in [out.method.as_str(), origin, &out.target] {
            add(&mut context, text.as_bytes());
        }
        add(&mut context, &out.body);
        // Backends that share a store but exclude different headers do not share responses.
        context.update(&(self.left_out.len() as u64).to_le_bytes());
        for name in &self.left_out {
            add(&mut context, name.as_str().as_bytes());
        }
        let mut names: SmallVec<[&HeaderName; 16]> =
            out.headers.keys().filter(|name| self.has(name)).collect();
        // The order in which a client sends its headers does not matter.
        names.sort_unstable_by(|a, b| a.as_str().cmp(b.as_str()));
        for name in names {
            add(&mut context, name.as_str().as_bytes());
            add_values(&mut context, name, &out.headers);
        }
        finished(context)
    }

    fn has(&self, name: &HeaderName) -> bool {
        !NEVER.contains(name) && !self.left_out.contains(name)
    }
}

/// The digest of all lines of `name`. A missing header differs from an empty one.
pub(super) fn digest_of(name: &HeaderName, headers: &HeaderMap) -> Digest {
    let mut context = Context::new(&SHA256);
    for value in headers.get_all(name) {
        add(&mut context, value.as_bytes());
    }
    finished(context)
}

fn add_values(context: &mut Context, name: &HeaderName, headers: &HeaderMap) {
    let values = headers.get_all(name);
    context.update(&(values.iter().count() as u64).to_le_bytes());
    for value in values {
        if *name == FORWARDED {
            add(context, &without_address(value))
        } else {
            add(context, value.as_bytes())
        }
    }
}

/// The length is included, so that different lists of parts never have the same encoding.
fn add(context: &mut Context, part: &[u8]) {
    context.update(&(part.len() as u64).to_le_bytes());
    context.update(part);
}

/// `Forwarded` without the addresses of clients (RFC 7239 §5.2). Host and scheme are kept.
fn without_address(value: &HeaderValue) -> Vec<u8> {
    let is_address = |pair: &&[u8]| {
        let name = pair.trim_ascii_start().get(..4).unwrap_or_default();
        name.eq_ignore_ascii_case(b"for=")
    };
    let pairs = value.as_bytes().split(|byte| matches!(byte, b';' | b','));
    let kept: Vec<&[u8]> = pairs.filter(|pair| !is_address(pair)).collect();
    kept.join(&b';')
}

fn finished(context: Context) -> Digest {
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}
