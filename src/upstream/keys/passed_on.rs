//! The key sets that a process passes to the one that takes over from it.

use super::source::{KeyDocument, KeySource};
use super::spec::{Document, Location};
use super::store::KeySetStore;
use crate::upstream::passed::{self, Lines, Passed};

const KIND: &str = "keys";

impl<S: KeyDocument> KeySetStore<S> {
    /// The fetched sets in use, a line for each (see `passed`).
    pub fn give(&self) -> String {
        let mut text = String::new();
        for source in self.sources.alive() {
            source.give(&mut text);
        }
        text
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
    fn give(&self, text: &mut String) {
        for origin in &self.origins {
            origin.give(text);
        }
        if let Some(passed) = self.passed() {
            passed::write(text, KIND, &self.spec, &passed);
        }
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
