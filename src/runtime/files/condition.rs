//! Validators of a file, preconditions of a request (RFC 9110 §13), and the encodings that a client accepts.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::header::{
    ACCEPT_ENCODING, IF_MATCH, IF_MODIFIED_SINCE, IF_NONE_MATCH, IF_RANGE, IF_UNMODIFIED_SINCE,
};
use http::{HeaderMap, HeaderName, StatusCode};

/// Distinguishes the versions of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Validators {
    /// A strong entity tag, with its quotes.
    pub(super) tag: String,
    /// In whole seconds, as HTTP has it.
    pub(super) modified: SystemTime,
}

impl Validators {
    pub(super) fn of(about: &Metadata) -> Validators {
        let seconds = u64::try_from(about.mtime()).unwrap_or_default();
        Validators {
            tag: format!(
                "\"{seconds:x}.{:x}-{:x}-{:x}\"",
                about.mtime_nsec(),
                about.size(),
                about.ino()
            ),
            modified: UNIX_EPOCH + Duration::from_secs(seconds),
        }
    }
}

/// The status that the preconditions of a request lead to, in the order of RFC 9110 §13.2.2. `None` if the file is to be
/// sent.
pub(super) fn precondition(headers: &HeaderMap, file: &Validators) -> Option<StatusCode> {
    if headers.contains_key(IF_MATCH) {
        if !lists(headers, &IF_MATCH, &file.tag, false) {
            return Some(StatusCode::PRECONDITION_FAILED);
        }
    } else if date(headers, &IF_UNMODIFIED_SINCE).is_some_and(|since| file.modified > since) {
        return Some(StatusCode::PRECONDITION_FAILED);
    }
    let is_known = if headers.contains_key(IF_NONE_MATCH) {
        lists(headers, &IF_NONE_MATCH, &file.tag, true)
    } else {
        date(headers, &IF_MODIFIED_SINCE).is_some_and(|since| file.modified <= since)
    };
    is_known.then_some(StatusCode::NOT_MODIFIED)
}

/// Whether a range is of the version that the client has (RFC 9110 §13.1.5). Without `If-Range`, it is.
pub(super) fn range_is_current(headers: &HeaderMap, file: &Validators) -> bool {
    let Some(value) = headers.get(IF_RANGE) else {
        return true;
    };
    match value.to_str() {
        Ok(tag) if tag.starts_with('"') => tag == file.tag,
        _ => date(headers, &IF_RANGE).is_some_and(|since| since == file.modified),
    }
}

/// Whether a list of entity tags contains `tag`. The weak comparison ignores `W/`.
fn lists(headers: &HeaderMap, name: &HeaderName, tag: &str, weakly: bool) -> bool {
    let lines = headers.get_all(name).iter();
    let mut tags = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    tags.any(|one| {
        let one = one.trim();
        let strong = one.strip_prefix("W/").filter(|_| weakly);
        let one = strong.unwrap_or(one);
        one == "*" || one == tag
    })
}

fn date(headers: &HeaderMap, name: &HeaderName) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// The endings of encoded siblings of a file, and the names of their encodings, best first.
pub(super) const ENCODED: [(&str, &str); 3] = [(".br", "br"), (".zst", "zstd"), (".gz", "gzip")];

/// How much a client wants an encoding, in thousandths. 0 means not at all (RFC 9110 §12.5.3).
pub(super) fn weight(headers: &HeaderMap, encoding: &str) -> u16 {
    let lines = headers.get_all(ACCEPT_ENCODING).iter();
    let items = lines
        .filter_map(|line| line.to_str().ok())
        .flat_map(|line| line.split(','));
    let mut any = 0;
    for item in items {
        let mut parts = item.split(';');
        let name = parts.next().unwrap_or_default().trim();
        let weight = parts.find_map(|part| {
            let (key, value) = part.split_once('=')?;
            key.trim()
                .eq_ignore_ascii_case("q")
                .then(|| value.trim().parse::<f32>().ok())?
        });
        let weight = (weight.unwrap_or(1.0).clamp(0.0, 1.0) * 1000.0) as u16;
        if name.eq_ignore_ascii_case(encoding) {
            return weight;
        }
        if name == "*" {
            any = weight;
        }
    }
    any
}
