//! The cache in front of one backend.

use std::sync::Arc;

use http::header::{
    AUTHORIZATION, CONNECTION, CONTENT_ENCODING, CONTENT_LENGTH, COOKIE, ETAG, IF_MODIFIED_SINCE,
    IF_NONE_MATCH, LAST_MODIFIED, RANGE, SET_COOKIE, TRANSFER_ENCODING, VARY,
};
use http::{HeaderMap, HeaderName, Method, StatusCode};

use super::directives::{Directives, Freshness, freshness, may_stand_in};
use super::entries::{Entries, Entry, Varied};
use crate::runtime::answer::Fields;
use crate::runtime::clock::Clock;
use crate::runtime::step::{Lookup, ResponseCache};
use crate::upstream::{Incoming, budget};

/// Who must not share stored answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identities {
    /// Whoever sends the same in these fields is the same client: the targets of propagated claims.
    Apart(Box<[HeaderName]>),
    /// All clients are one, as in KrakenD; credentials still are not.
    Shared,
}

/// Answers of one backend, or of all backends with `shared`.
#[derive(Debug)]
pub struct Cache {
    entries: Arc<Entries>,
    identities: Identities,
    clock: Clock,
}

impl Cache {
    /// A cache that stores in `entries`.
    pub fn new(entries: Arc<Entries>, identities: Identities, clock: Clock) -> Cache {
        Cache {
            entries,
            identities,
            clock,
        }
    }

    /// The URL, with the method in front unless it is GET, and who asks behind a blank, which no URL has.
    fn key(&self, method: &Method, url: &str, sent: &HeaderMap) -> String {
        let mut key = match *method {
            Method::GET => url.to_owned(),
            _ => format!("{method} {url}"),
        };
        if let Identities::Apart(names) = &self.identities {
            for name in names {
                // One blank for each name, there or not: the same value under two names is two clients.
                key.push(' ');
                for value in sent.get_all(name) {
                    key.push_str(&value.len().to_string());
                    key.push(':');
                    key.push_str(&String::from_utf8_lossy(value.as_bytes()));
                }
            }
        }
        key
    }

    /// What is stored for this request and may be given to whoever sent it.
    fn find(&self, method: &Method, url: &str, sent: &HeaderMap) -> Option<Arc<Entry>> {
        let entry = self.entries.get(&self.key(method, url, sent))?;
        let same = entry
            .varied
            .iter()
            .all(|(name, value)| sent.get(name) == value.as_ref());
        (same && (entry.public || !carries_credentials(sent))).then_some(entry)
    }
}

impl ResponseCache for Cache {
    fn lookup(&self, method: &Method, url: &str, headers: &HeaderMap) -> Lookup {
        if !is_cacheable(method, headers) {
            return Lookup::Miss;
        }
        let Some(entry) = self.find(method, url, headers) else {
            return match Directives::of(headers).only_if_cached {
                true => Lookup::Refused,
                false => Lookup::Miss,
            };
        };
        match freshness(headers, &entry.answer.headers, self.clock.wall()) {
            Freshness::Fresh => Lookup::Fresh(entry.answer.clone()),
            Freshness::Bypass => Lookup::Miss,
            Freshness::Stale => Lookup::Stale(conditions(headers, &entry.answer.headers)),
        }
    }

    fn store(&self, method: &Method, url: &str, sent: &HeaderMap, answer: &Incoming) {
        if !is_cacheable(method, sent) {
            return;
        }
        let key = self.key(method, url, sent);
        let (asked, given) = (Directives::of(sent), Directives::of(&answer.headers));
        let personal = carries_credentials(sent) || answer.headers.contains_key(SET_COOKIE);
        // As in KrakenD, `private` by itself keeps nobody's answer from others: it only takes back a `public`.
        let public = given.public && !given.private;
        let varied = varied(sent, &answer.headers);
        let refused = asked.no_store
            || given.no_store
            || (personal && !public)
            || answer.status == StatusCode::PARTIAL_CONTENT
            || answer.status == StatusCode::NOT_MODIFIED;
        let Some(varied) = varied.filter(|_| !refused) else {
            self.entries.remove(&key);
            return;
        };
        let mut answer = answer.clone();
        strip(&mut answer.headers);
        answer.body = budget::apart(&answer.body);
        self.entries.put(
            &key,
            Entry {
                answer,
                varied,
                public,
            },
        );
    }

    fn revalidated(
        &self,
        method: &Method,
        url: &str,
        sent: &HeaderMap,
        answer: &Incoming,
    ) -> Option<Incoming> {
        let entry = self.find(method, url, sent)?;
        let mut updated = entry.answer.clone();
        for name in answer.headers.keys().filter(|name| !is_of_one_hop(name)) {
            updated.headers.remove(name);
            for value in answer.headers.get_all(name) {
                updated.headers.append(name, value.clone());
            }
        }
        self.store(method, url, sent, &updated);
        Some(updated)
    }

    fn on_error(&self, method: &Method, url: &str, sent: &HeaderMap) -> Option<Incoming> {
        if *method != Method::GET || !is_cacheable(method, sent) {
            return None;
        }
        let entry = self.find(method, url, sent)?;
        may_stand_in(sent, &entry.answer.headers, self.clock.wall()).then(|| entry.answer.clone())
    }
}

fn is_cacheable(method: &Method, sent: &HeaderMap) -> bool {
    matches!(*method, Method::GET | Method::HEAD) && !sent.contains_key(RANGE)
}

/// Such a request's answer is for its sender alone, unless the answer says `public` (RFC 9111 §3.5).
fn carries_credentials(sent: &HeaderMap) -> bool {
    sent.contains_key(AUTHORIZATION) || sent.contains_key(COOKIE)
}

/// The conditions that let the upstream answer 304; the client's own ones stay.
fn conditions(sent: &HeaderMap, stored: &HeaderMap) -> Fields {
    let mut fields = Fields::new();
    if sent.contains_key(IF_NONE_MATCH) || sent.contains_key(IF_MODIFIED_SINCE) {
        return fields;
    }
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

/// What the answer depends on, and `None` for one that depends on everything (`Vary: *`).
fn varied(sent: &HeaderMap, answer: &HeaderMap) -> Option<Varied> {
    let mut varied = Vec::new();
    for line in answer.get_all(VARY) {
        for name in line.to_str().ok()?.split(',').map(str::trim) {
            if name.is_empty() {
                continue;
            }
            if name == "*" {
                return None;
            }
            let name = HeaderName::try_from(name).ok()?;
            let value = sent.get(&name).cloned();
            varied.push((name, value));
        }
    }
    Some(varied.into())
}

/// The stored body is whole and decoded; what described its way here no longer holds.
fn strip(headers: &mut HeaderMap) {
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
