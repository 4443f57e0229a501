//! The keys of several URLs as one set.

use std::convert::Infallible;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use aws_lc_rs::digest;

use super::source::{KeyDocument, KeySource};
use super::spec::{Location, SourceSpec};
use super::store::Schedule;
use crate::upstream::side::SideClient;

/// One source for each URL of a union. They are no sources of the store, because no validator uses them alone. Otherwise
/// they are like all sources: a document without a usable key is a failed fetch.
pub(super) fn origins<S: KeyDocument>(
    spec: &SourceSpec,
    side: &SideClient,
    schedule: Schedule,
    generations: &Arc<AtomicU64>,
) -> Vec<Arc<KeySource<S>>> {
    let Location::Union(urls) = &spec.location else {
        return Vec::new();
    };
    let origin = |url: &String| {
        let spec = SourceSpec {
            location: Location::Url(url.clone()),
            tls: spec.tls.clone(),
        };
        let generations = Arc::clone(generations);
        Arc::new(KeySource::new(spec, side.clone(), schedule, generations))
    };
    urls.iter().map(origin).collect()
}

impl<S: KeyDocument> KeySource<S> {
    pub(super) fn weak_origins(&self) -> Vec<Weak<KeySource<S>>> {
        self.origins.iter().map(Arc::downgrade).collect()
    }

    /// Makes the keys of all origins the set of the union: the last good ones of each. An origin that fails keeps its keys
    /// as long as a set may be used. One that never had any does not affect the others.
    pub(super) fn merge(&self) {
        let mut sets = Vec::new();
        // Generations are unique, so these say which documents the set is made of.
        let mut made_of = digest::Context::new(&digest::SHA256);
        // In the order of the file: of several keys with the same id, the last one counts.
        for origin in &self.origins {
            if let Some(snapshot) = origin.current().as_ref() {
                sets.push(Arc::clone(&snapshot.set));
                made_of.update(&snapshot.generation.to_ne_bytes());
            }
        }
        if sets.is_empty() {
            self.current.store(None);
        } else {
            let join = || Ok::<_, Infallible>(S::join(&sets));
            let Ok(_) = self.replace(made_of.finish(), join, Duration::ZERO, None);
        }
        if self.is_fetching() {
            self.shared_work.progress();
        } else {
            self.shared_work.finish();
        }
    }
}
