//! The keys of several URLs as one set.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::spec::{Document, FetchError, Location, key_set};
use super::store::{Schedule, Turns};
use crate::upstream::side::SideClient;

/// When the origins are called again after one of them failed.
const AGAIN: Duration = Duration::from_secs(60);

/// The last good keys of each origin. An origin that fails keeps them, as long as a set may be used.
#[derive(Debug)]
pub(super) struct Parts {
    most_age: Duration,
    known: Mutex<HashMap<String, Part>>,
    /// The origins whose last fetch failed.
    failing: Mutex<HashSet<String>>,
}

#[derive(Debug)]
struct Part {
    keys: Vec<Value>,
    at: Instant,
}

/// The keys of one document and how long they may be kept, or why there are none.
type Fetched = Result<(Vec<Value>, Option<Duration>), FetchError>;

impl Parts {
    pub(super) fn new(schedule: Schedule) -> Parts {
        Parts {
            most_age: schedule.life + schedule.stale,
            known: Mutex::default(),
            failing: Mutex::default(),
        }
    }

    /// Fetches all origins at the same time, and joins their keys.
    ///
    /// # Errors
    /// All of them failed.
    pub(super) async fn fetch(
        &self,
        side: &SideClient,
        urls: &[String],
        turns: Turns<'_>,
    ) -> Result<Document, FetchError> {
        let calls = urls.iter().map(|url| async move {
            let _turn = turns.next().await;
            let document = key_set(side, url).await?;
            let keys = keys(&document.bytes)?;
            Ok((keys, document.max_age))
        });
        let fetched: Vec<Result<_, FetchError>> = join_all(calls).await;
        self.join(urls, fetched)
    }

    fn join(&self, urls: &[String], fetched: Vec<Fetched>) -> Result<Document, FetchError> {
        let now = Instant::now();
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut max_age, mut failed, mut any) = (None, None, false);
        for (url, result) in urls.iter().zip(fetched) {
            self.note(url, result.as_ref().err());
            match result {
                Ok((keys, age)) => {
                    any = true;
                    max_age = soonest(max_age, age);
                    known.insert(url.clone(), Part { keys, at: now });
                }
                Err(error) => failed = Some(error),
            }
        }
        known.retain(|_, part| now.duration_since(part.at) < self.most_age);
        if let Some(error) = failed {
            if !any {
                return Err(error);
            }
            max_age = soonest(max_age, Some(AGAIN));
        }
        // In the order of the file, so that equal keys make an equal document.
        let parts = urls.iter().filter_map(|url| known.get(url));
        let keys: Vec<&Value> = parts.flat_map(|part| &part.keys).collect();
        Ok(Document {
            bytes: Bytes::from(json!({ "keys": keys }).to_string()),
            max_age,
        })
    }
}

impl Parts {
    /// Logs each failure of an origin, and once that it works again.
    fn note(&self, url: &str, error: Option<&FetchError>) {
        let label = || Location::Url(url.to_owned()).label();
        let mut failing = self.failing.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            Some(error) => {
                failing.insert(url.to_owned());
                log::warn!(
                    "[SERVICE: JOSE] key set of {} not refreshed: {error}",
                    label()
                );
            }
            None if failing.remove(url) => {
                log::info!("[SERVICE: JOSE] key set of {} is available again", label())
            }
            None => {}
        }
    }
}

fn soonest(one: Option<Duration>, other: Option<Duration>) -> Option<Duration> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}

/// The keys of a key set.
fn keys(document: &Bytes) -> Result<Vec<Value>, FetchError> {
    let wrong = |reason: String| FetchError::Document(reason);
    let document: Value =
        serde_json::from_slice(document).map_err(|error| wrong(error.to_string()))?;
    match document {
        Value::Object(mut members) => match members.remove("keys") {
            Some(Value::Array(keys)) => Ok(keys),
            _ => Err(wrong("there is no list \"keys\"".to_owned())),
        },
        _ => Err(wrong("it is not a key set".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn joined(parts: &Parts, fetched: Vec<Fetched>) -> Result<(String, Option<Duration>), String> {
        let urls = ["https://a/".to_owned(), "https://b/".to_owned()];
        let document = parts.join(&urls, fetched);
        document
            .map(|document| {
                let text = String::from_utf8(document.bytes.to_vec()).unwrap();
                (text, document.max_age)
            })
            .map_err(|error| error.to_string())
    }

    fn failed() -> Result<(Vec<Value>, Option<Duration>), FetchError> {
        Err(FetchError::Document("down".to_owned()))
    }

    #[tokio::test(start_paused = true)]
    async fn an_origin_that_fails_keeps_its_last_keys_for_a_time() {
        let parts = Parts::new(Schedule {
            life: Duration::from_secs(100),
            stale: Duration::from_secs(900),
            ..Schedule::default()
        });
        let key = |id: &str| vec![json!({ "kid": id })];
        let age = |seconds| Some(Duration::from_secs(seconds));
        assert_eq!(
            joined(&parts, vec![failed(), failed()]),
            Err("down".to_owned())
        );
        let first = joined(
            &parts,
            vec![Ok((key("a"), age(300))), Ok((key("b"), age(200)))],
        );
        let both = r#"{"keys":[{"kid":"a"},{"kid":"b"}]}"#.to_owned();
        assert_eq!(first, Ok((both.clone(), age(200))));
        tokio::time::advance(Duration::from_secs(999)).await;
        let second = joined(&parts, vec![Ok((key("a"), None)), failed()]);
        assert_eq!(second, Ok((both, age(60))));
        tokio::time::advance(Duration::from_secs(2)).await;
        let third = joined(&parts, vec![Ok((key("a"), None)), failed()]);
        assert_eq!(third, Ok((r#"{"keys":[{"kid":"a"}]}"#.to_owned(), age(60))));
    }

    #[test]
    fn an_invalid_key_set_is_an_error() {
        for text in ["", "[]", "{}", r#"{"keys": {}}"#, "<html>"] {
            assert!(
                keys(&Bytes::from_static(text.as_bytes())).is_err(),
                "{text}"
            );
        }
    }
}
