//! The key sets that a process passes to the one that takes over from it.

use super::source::{KeyDocument, KeySource};
use super::spec::{Document, Location};
use super::store::KeySetStore;
use crate::upstream::passed::{self, Lines, Passed};

const KIND: &str = "keys";

impl<S: KeyDocument> KeySetStore<S> {
    /// The fetched sets in use, a line for each (see `passed`).
    pub fn give(&self) -> String {
        let (text, left_out) = self.lines();
        passed::warn_left_out(left_out, "[SERVICE: JOSE]", "key sets");
        text
    }

    /// The lines, and the number of sets that have no space in them.
    fn lines(&self) -> (String, usize) {
        let mut text = String::new();
        let alive = self.sources.alive();
        let left_out = alive.iter().map(|source| source.give(&mut text)).sum();
        (text, left_out)
    }

    /// Uses the sets that another process has fetched, with their ages, for sources that have none yet.
    pub fn take(&self, given: &str) {
        let lines = Lines::new(given, KIND);
        for source in self.sources.alive() {
            source.take(&lines);
        }
    }
}

impl<S: KeyDocument> KeySource<S> {
    /// Adds the lines of this source. Returns the number of sets that have no space.
    fn give(&self, text: &mut String) -> usize {
        let origins = self.origins.iter();
        let left_out: usize = origins.map(|origin| origin.give(text)).sum();
        let has_space = self
            .passed()
            .is_none_or(|passed| passed::write(text, KIND, &self.spec, &passed));
        left_out + usize::from(!has_space)
    }

    /// The current document with its age, if it was fetched from elsewhere.
    fn passed(&self) -> Option<Passed> {
        let current = self.current.load();
        let snapshot = current.as_ref()?;
        Some(Passed {
            age: snapshot.fetched.elapsed(),
            life: self.log().max_age,
            value: snapshot.document.clone()?,
        })
    }

    /// Returns whether the source uses a set that was passed on.
    fn take(&self, lines: &Lines<'_>) -> bool {
        if !self.origins.is_empty() {
            let taken = self.origins.iter().filter(|origin| origin.take(lines));
            let any = taken.count() > 0;
            if any {
                self.merge();
            }
            return any;
        }
        if self.current().is_some() {
            return false;
        }
        lines
            .find(&self.spec)
            .is_some_and(|passed| self.adopt(passed))
    }

    /// Uses a set that another process has fetched, unless it is past its stale limit.
    fn adopt(&self, passed: Passed) -> bool {
        let (schedule, age) = (*self.schedule(), passed.age);
        if age >= schedule.life + schedule.stale {
            return false;
        }
        let document = Document {
            bytes: passed.value,
            max_age: passed.life,
        };
        let label = self.spec.location.label();
        match self.keep_aged(&document, age) {
            Ok(_) => {
                log::info!(
                    "[SERVICE: JOSE] key set of {label} taken over from the previous process, {} s old",
                    age.as_secs()
                );
                true
            }
            Err(error) => {
                log::warn!("[SERVICE: JOSE] key set of {label} not taken over: {error}");
                false
            }
        }
    }
}

impl Location {
    /// Whether its document comes from another process. Files are read at each start.
    pub(super) fn is_remote(&self) -> bool {
        matches!(
            self,
            Location::Url(_) | Location::Issuer { .. } | Location::Sealed(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use bytes::Bytes;
    use http::HeaderValue;

    use super::super::{Schedule, SourceSpec};
    use super::*;
    use crate::upstream::side::SideTls;

    struct Any;

    impl KeyDocument for Any {
        type Error = &'static str;

        fn parse(_: &Bytes) -> Result<Any, &'static str> {
            Ok(Any)
        }

        fn join(_: &[Arc<Any>]) -> Any {
            Any
        }

        fn key_count(&self) -> usize {
            1
        }
    }

    #[test]
    fn sets_that_have_no_space_are_counted() {
        let store = KeySetStore::<Any>::new(HeaderValue::from_static("test"));
        let document = Document::from(Bytes::from(vec![b' '; 12 << 20]));
        let fetched = |number: usize| {
            let spec = SourceSpec {
                location: Location::Url(format!("http://127.0.0.1:1/{number}")),
                tls: SideTls::default(),
            };
            let source = store.source(&spec, Schedule::default()).unwrap();
            source.keep(&document).unwrap();
            source
        };
        let _sources: Vec<_> = (0..3).map(fetched).collect();
        let (text, left_out) = store.lines();
        assert_eq!((text.lines().count(), left_out), (1, 2));
    }
}
