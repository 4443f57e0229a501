//! The keys of several URLs as one set.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};

use bytes::Bytes;
use serde_json::{Value, json};

use super::source::{KeyDocument, KeySource};
use super::spec::{Document, FetchError, Location, SourceSpec};
use super::store::Schedule;
use crate::upstream::side::SideClient;

/// The keys of one URL, as it publishes them.
#[derive(Debug)]
pub(super) struct OriginKeys(Vec<Value>);

impl KeyDocument for OriginKeys {
    type Error = String;

    fn parse(document: &Bytes) -> Result<OriginKeys, String> {
        let document: Value =
            serde_json::from_slice(document).map_err(|error| error.to_string())?;
        match document {
            Value::Object(mut members) => match members.remove("keys") {
                Some(Value::Array(keys)) => Ok(OriginKeys(keys)),
                _ => Err("there is no list \"keys\"".to_owned()),
            },
            _ => Err("it is not a key set".to_owned()),
        }
    }

    fn key_count(&self) -> usize {
        self.0.len()
    }
}

/// One source for each URL of a union. They are no sources of the store, because no validator uses them alone.
pub(super) fn origins(
    spec: &SourceSpec,
    side: &SideClient,
    schedule: Schedule,
    generations: &Arc<AtomicU64>,
) -> Vec<Arc<KeySource<OriginKeys>>> {
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
    pub(super) fn weak_origins(&self) -> Vec<Weak<KeySource<OriginKeys>>> {
        self.origins.iter().map(Arc::downgrade).collect()
    }

    /// Makes the keys of all origins the set of the union: the last good ones of each, those that are still being fetched
    /// included. An origin that fails keeps its keys as long as a set may be used.
    pub(super) fn merge(&self) {
        let sets: Vec<_> = self.origins.iter().map(|origin| origin.current()).collect();
        // In the order of the file, so that equal keys make an equal document.
        let keys: Vec<&Value> = sets
            .iter()
            .filter_map(|set| set.as_ref())
            .flat_map(|snapshot| &snapshot.set.0)
            .collect();
        let has_ended = !self.is_fetching();
        if !keys.is_empty() {
            let document = Bytes::from(json!({ "keys": keys }).to_string());
            if let Err(error) = self.keep(&Document::from(document)) {
                self.note_failure(&error);
            }
        } else if sets.iter().all(|set| set.is_none()) {
            self.current.store(None);
        } else if has_ended {
            self.note_failure(&FetchError::Document("no origin has a key".to_owned()));
        }
        if has_ended {
            self.shared_work.finish();
        } else {
            self.shared_work.progress();
        }
    }
}
