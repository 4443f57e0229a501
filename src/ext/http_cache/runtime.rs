//! The cache in front of one backend.

use std::sync::Arc;
use std::time::Duration;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, ETAG,
    IF_MODIFIED_SINCE, IF_NONE_MATCH, LAST_MODIFIED, RANGE, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};

use super::directives::{Freshness, freshness, may_be_fresh, may_stand_in, requires_upstream};
use super::entries::{Entries, Entry, Varied};
use super::key::{KeyRules, digest_of};
use super::waits::Waits;
use crate::runtime::clock::Clock;
use crate::runtime::response::Fields;
use crate::runtime::single_flights::{Patience, SingleFlights};
use crate::runtime::step::{CacheKey, CacheUsage, Lookup, ResponseCache};
use crate::upstream::budget::Budget;
use crate::upstream::cache_control::CacheControl;
use crate::upstream::{Incoming, Outgoing, content_length};

/// Stored responses of one backend, or of all backends with `shared`.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: Arc<Entries>,
    rules: KeyRules,
    /// The maximum wait of a call for an equal one. `None` means what `waits` says.
    max_wait: Option<Duration>,
    waits: Arc<Waits>,
    clock: Clock,
}

impl Cache {
    /// A cache that stores in `entries`, with keys according to `rules`.
    pub(crate) fn new(entries: Arc<Entries>, rules: KeyRules, clock: Clock) -> Cache {
        Cache {
            entries,
            rules,
            max_wait: None,
            waits: Arc::default(),
            clock,
        }
    }

    /// This cache, where no call waits longer than `max_wait` for an equal one. `waits` is what was learned before.
    pub(super) fn waiting(self, max_wait: Option<Duration>, waits: Arc<Waits>) -> Cache {
        Cache {
            max_wait,
            waits,
            ..self
        }
    }

    /// The stored response for this request, if it may be sent to its client.
    fn find(&self, key: &CacheKey, sent: &HeaderMap) -> Option<Arc<Entry>> {
        let entry = self.entries.get(&key.digest)?;
        let same = entry
            .varied
            .iter()
            .all(|(name, digest)| digest_of(name, sent) == *digest);
        (same && (entry.public || !carries_credentials(sent))).then_some(entry)
    }
}

impl ResponseCache for Cache {
    fn key(&self, origin: &str, out: &Outgoing) -> Option<CacheKey> {
        is_cacheable(&out.method, &out.headers).then(|| CacheKey {
            digest: self.rules.digest(origin, out),
            url_bytes: origin.len() + out.target.len(),
            is_get: out.method == Method::GET,
        })
    }

    fn lookup(&self, key: &CacheKey, sent: &HeaderMap) -> Lookup {
        let Some(entry) = self.find(key, sent) else {
            let asked = CacheControl::of(sent);
            return if asked.only_if_cached {
                Lookup::Rejected
            } else if asked.no_store || requires_upstream(sent, &asked) {
                // The response to an equal call would not be accepted, so it is no use to wait for it.
                Lookup::Bypass
            } else {
                Lookup::Miss
            };
        };
        match freshness(sent, &entry.response.headers, self.clock.wall()) {
            Freshness::Fresh => Lookup::Fresh(entry.response.clone()),
            Freshness::Bypass => Lookup::Bypass,
            Freshness::Stale => Lookup::Stale(conditions(&entry.response.headers)),
        }
    }

    fn space(
        &self,
        key: &CacheKey,
        sent: &HeaderMap,
        (status, headers): (StatusCode, &HeaderMap),
    ) -> Option<u64> {
        // One response must not evict all others, and then not fit: it counts twice until it is stored.
        let most = self.entries.max_bytes().min(Budget::stores().limit() / 4);
        let length = content_length(headers).filter(|_| key.is_get);
        let fits = length.is_none_or(|length| length <= most);
        if fits && is_of_use(headers) && admitted(sent, status, headers).is_some() {
            return Some(most);
        }
        self.entries.remove(&key.digest);
        None
    }

    fn store(&self, key: &CacheKey, sent: &HeaderMap, response: &Incoming, took: Duration) {
        let Some(varied) = admitted(sent, response.status, &response.headers) else {
            self.entries.remove(&key.digest);
            return;
        };
        let public = CacheControl::of(&response.headers).public;
        let mut response = response.clone();
        strip(&mut response.headers);
        // A cookie is only for the client that it was sent to, whatever the other headers say (RFC 9111 §7.3).
        response.headers.remove(SET_COOKIE);
        let entry = Entry {
            response,
            varied,
            public,
            took,
        };
        self.entries.put(key, entry);
    }

    fn revalidated(
        &self,
        key: &CacheKey,
        sent: &HeaderMap,
        response: &Incoming,
        took: Duration,
    ) -> Option<Incoming> {
        let entry = self.find(key, sent)?;
        let mut updated = entry.response.clone();
        for name in response.headers.keys().filter(|name| !is_of_one_hop(name)) {
            updated.headers.remove(name);
            for value in response.headers.get_all(name) {
                updated.headers.append(name, value.clone());
            }
        }
        self.store(key, sent, &updated, took);
        Some(updated)
    }

    fn on_error(&self, key: &CacheKey, sent: &HeaderMap) -> Option<Incoming> {
        let entry = self.find(key, sent).filter(|_| key.is_get)?;
        may_stand_in(sent, &entry.response.headers, self.clock.wall())
            .then(|| entry.response.clone())
    }

    fn single_flights(&self) -> &SingleFlights {
        &self.entries.single_flights
    }

    fn usage(&self) -> Option<CacheUsage> {
        let (bytes, responses) = self.entries.usage();
        Some(CacheUsage {
            store: Arc::as_ptr(&self.entries).addr(),
            bytes,
            responses,
        })
    }

    fn learn(&self, sent: &HeaderMap, took: Duration, is_shared: bool) {
        // What a client chooses says nothing about the responses to others.
        if is_shared || !CacheControl::of(sent).no_store {
            let recent = self.waits.of(carries_credentials(sent));
            recent.learn(took, is_shared);
        }
    }

    fn wait(
        &self,
        key: &CacheKey,
        sent: &HeaderMap,
        found: &Lookup,
        remaining: Duration,
    ) -> Option<Patience> {
        if self.max_wait == Some(Duration::ZERO) {
            return None;
        }
        let known = match found {
            Lookup::Stale(_) => self.find(key, sent).map(|entry| entry.took),
            Lookup::Miss => None,
            Lookup::Fresh(_) | Lookup::Bypass | Lookup::Rejected => return None,
        };
        let recent = self.waits.of(carries_credentials(sent));
        Some(recent.wait(remaining, known, self.max_wait))
    }
}

/// The headers that a response with this head depends on. `None` if it must not be stored.
fn admitted(sent: &HeaderMap, status: StatusCode, headers: &HeaderMap) -> Option<Varied> {
    let (asked, given) = (CacheControl::of(sent), CacheControl::of(headers));
    let personal = carries_credentials(sent) || headers.contains_key(SET_COOKIE);
    let rejected = asked.no_store
        || given.no_store
        // The cache is shared by all clients (RFC 9111 §3).
        || given.private
        || (personal && !given.public)
        || status == StatusCode::PARTIAL_CONTENT
        || status == StatusCode::NOT_MODIFIED
        // The next client may not accept the coding.
        || headers.contains_key(CONTENT_ENCODING);
    varied(sent, headers).filter(|_| !rejected)
}

/// Whether a stored response could be used later, with or without asking the upstream. An event stream has no end.
fn is_of_use(headers: &HeaderMap) -> bool {
    let content_type = headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
    let is_endless = content_type.is_some_and(is_stream) && content_length(headers).is_none();
    let can_be_checked = headers.contains_key(ETAG) || headers.contains_key(LAST_MODIFIED);
    !is_endless && (can_be_checked || may_be_fresh(headers))
}

/// Media types of messages that may never end, one after the other.
const STREAMS: [&[u8]; 8] = [
    b"text/event-stream",
    b"application/x-ndjson",
    b"application/ndjson",
    b"application/jsonl",
    b"application/x-jsonlines",
    b"application/json-seq",
    b"application/stream+json",
    b"multipart/x-mixed-replace",
];

fn is_stream(content_type: &[u8]) -> bool {
    let end = content_type.iter().position(|byte| *byte == b';');
    let (media_type, _) = content_type.split_at(end.unwrap_or(content_type.len()));
    let media_type = media_type.trim_ascii();
    STREAMS
        .iter()
        .any(|stream| media_type.eq_ignore_ascii_case(stream))
}

fn is_cacheable(method: &Method, sent: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && !sent.contains_key(RANGE)
}

/// The response to such a request is only for its client, unless it is `public` (RFC 9111 §3.5).
fn carries_credentials(sent: &HeaderMap) -> bool {
    sent.contains_key(AUTHORIZATION) || sent.contains_key(COOKIE)
}

/// The conditions with which the upstream may respond with 304: those of the stored response, because a 304 for the
/// client's own ones would say nothing about it (RFC 9111 §4.3.1).
fn conditions(stored: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    let pairs = [(ETAG, IF_NONE_MATCH), (LAST_MODIFIED, IF_MODIFIED_SINCE)];
    for (validator, condition) in pairs {
        fields.extend(
            stored
                .get(validator)
                .map(|value| (condition, value.clone())),
        );
    }
    fields
}

/// The headers that the response depends on. `None` if it depends on everything (`Vary: *`).
fn varied(sent: &HeaderMap, response: &HeaderMap) -> Option<Varied> {
    let mut varied = Vec::new();
    for line in response.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim) {
            if name.is_empty() {
                continue;
            }
            if name == "*" {
                return None;
            }
            let name = HeaderName::try_from(name).ok()?;
            let digest = digest_of(&name, sent);
            varied.push((name, digest));
        }
    }
    Some(varied.into())
}

/// The stored body is complete and decoded, so headers that described its transfer are removed.
fn strip(headers: &mut HeaderMap) {
    // RFC 9111 §3.1: nor those that `Connection` names.
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|names| names.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named {
        headers.remove(name);
    }
    for name in [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        TRANSFER_ENCODING,
        CONNECTION,
    ] {
        headers.remove(name);
    }
}

fn is_of_one_hop(name: &HeaderName) -> bool {
    [
        CONTENT_LENGTH,
        CONTENT_ENCODING,
        TRANSFER_ENCODING,
        CONNECTION,
    ]
    .contains(name)
}
