//! Bounded collections of revocations, as texts.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use tokio::time::Instant;

/// The most elements of a collection.
const MAX_ELEMENTS: usize = 100_000;

/// The most bytes of all elements of a collection.
const MAX_BYTES: usize = 16 * 1024 * 1024;

/// Elements that wait for Redis, oldest first.
#[derive(Default)]
pub(super) struct Waiting {
    elements: VecDeque<Arc<str>>,
    bytes: usize,
    dropped: u64,
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        self.elements.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.elements.is_empty()
    }

    /// Adds an element. If there is no room, the oldest one is dropped.
    pub(super) fn push(&mut self, element: Arc<str>) {
        self.bytes += element.len();
        self.elements.push_back(element);
        while self.elements.len() > MAX_ELEMENTS || self.bytes > MAX_BYTES {
            let Some(oldest) = self.elements.pop_front() else {
                break;
            };
            self.bytes -= oldest.len();
            self.dropped += 1;
        }
    }

    /// Removes the oldest elements: at most `most`, and at most `bytes` or a single one.
    pub(super) fn take(&mut self, most: usize, bytes: usize) -> Vec<Arc<str>> {
        let (mut taken, mut size) = (Vec::new(), 0);
        while taken.len() < most
            && let Some(next) = self.elements.front()
            && (taken.is_empty() || size + next.len() <= bytes)
            && let Some(next) = self.elements.pop_front()
        {
            size += next.len();
            taken.push(next);
        }
        self.bytes -= size;
        taken
    }

    /// Returns elements that were taken. They are the oldest ones again.
    pub(super) fn put_back(&mut self, taken: Vec<Arc<str>>) {
        for element in taken.into_iter().rev() {
            self.bytes += element.len();
            self.elements.push_front(element);
        }
    }

    /// All of them. They still wait.
    pub(super) fn all(&self) -> Vec<Arc<str>> {
        self.elements.iter().cloned().collect()
    }

    /// How many elements were dropped since the last call.
    pub(super) fn dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }
}

/// Elements that are remembered for a time, oldest first.
#[derive(Default)]
pub(super) struct Heard {
    elements: VecDeque<(Instant, Arc<str>)>,
    known: HashSet<Arc<str>>,
    bytes: usize,
}

impl Heard {
    /// Remembers an element until `ends`, which is not before that of an earlier element. If there is no room, the oldest
    /// one is forgotten. If it is known, nothing changes.
    pub(super) fn push(&mut self, element: Arc<str>, ends: Instant) {
        if self.known.contains(&element) {
            return;
        }
        self.bytes += element.len();
        self.known.insert(Arc::clone(&element));
        self.elements.push_back((ends, element));
        while self.elements.len() > MAX_ELEMENTS || self.bytes > MAX_BYTES {
            self.pop();
        }
    }

    /// The elements that have not ended.
    pub(super) fn current(&mut self, now: Instant) -> VecDeque<Arc<str>> {
        let elements = self.all(now).into_iter();
        elements.map(|(_, element)| element).collect()
    }

    /// The elements that have not ended, and when they end.
    pub(super) fn all(&mut self, now: Instant) -> Vec<(Instant, Arc<str>)> {
        while self.elements.front().is_some_and(|(ends, _)| *ends <= now) {
            self.pop();
        }
        self.elements.iter().cloned().collect()
    }

    #[cfg(test)]
    pub(super) fn end_all(&mut self) {
        let now = Instant::now();
        for (ends, _) in &mut self.elements {
            *ends = now;
        }
    }

    fn pop(&mut self) {
        if let Some((_, element)) = self.elements.pop_front() {
            self.bytes -= element.len();
            self.known.remove(&element);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn waiting_elements_keep_their_order_and_the_oldest_are_dropped() {
        let mut waiting = Waiting::default();
        for number in 0..MAX_ELEMENTS + 3 {
            waiting.push(number.to_string().into());
        }
        assert_eq!((waiting.len(), waiting.dropped()), (MAX_ELEMENTS, 3));
        assert_eq!(waiting.dropped(), 0);
        let taken = waiting.take(2, 1_000);
        assert_eq!(taken, ["3", "4"].map(Arc::from));
        waiting.put_back(taken);
        assert_eq!(waiting.take(10, 3), ["3", "4", "5"].map(Arc::from));
        let long: Arc<str> = "x".repeat(1024 * 1024).into();
        for _ in 0..20 {
            waiting.push(Arc::clone(&long));
        }
        assert_eq!(waiting.len(), MAX_BYTES / long.len());
        assert_eq!(waiting.take(10, 1).len(), 1, "one at least");
    }

    #[test]
    fn elements_are_remembered_until_they_end() {
        let mut heard = Heard::default();
        let now = Instant::now();
        let after = |seconds| now + Duration::from_secs(seconds);
        heard.push("a".into(), after(1));
        heard.push("b".into(), after(2));
        heard.push("a".into(), after(3));
        assert_eq!(heard.current(now), ["a", "b"].map(Arc::from));
        assert_eq!(heard.current(after(1)), ["b"].map(Arc::from));
        for number in 0..MAX_ELEMENTS {
            heard.push(number.to_string().into(), after(4));
        }
        let current = heard.current(now);
        assert_eq!((current.len(), &*current[0]), (MAX_ELEMENTS, "0"));
        assert_eq!(heard.known.len(), MAX_ELEMENTS);
    }
}
