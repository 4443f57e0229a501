//! The schedule of lookups.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};

use tokio::time::Instant;

/// Entries ordered by their due time. No operation walks over all entries.
#[derive(Debug)]
pub(super) struct DueQueue<E> {
    /// An item is valid if `entries` has the entry with the same time. Otherwise the entry was rescheduled.
    queue: BinaryHeap<Reverse<(Instant, u64)>>,
    entries: HashMap<u64, (Instant, E)>,
}

impl<E> Default for DueQueue<E> {
    fn default() -> DueQueue<E> {
        DueQueue {
            queue: BinaryHeap::new(),
            entries: HashMap::new(),
        }
    }
}

impl<E> DueQueue<E> {
    /// Schedules `entry` for `due` and replaces any earlier time under its `id`.
    pub(super) fn put(&mut self, id: u64, due: Instant, entry: E) {
        self.entries.insert(id, (due, entry));
        self.queue.push(Reverse((due, id)));
    }

    /// Removes and returns an entry that is due at `now`.
    pub(super) fn take(&mut self, now: Instant) -> Option<E> {
        self.skip_put_off();
        let Reverse((due, id)) = *self.queue.peek()?;
        if due > now {
            return None;
        }
        self.queue.pop();
        self.entries.remove(&id).map(|(_, entry)| entry)
    }

    /// When the next entry is due.
    pub(super) fn next(&mut self) -> Option<Instant> {
        self.skip_put_off();
        self.queue.peek().map(|Reverse((due, _))| *due)
    }

    fn skip_put_off(&mut self) {
        while let Some(Reverse((due, id))) = self.queue.peek() {
            if self.entries.get(id).is_some_and(|(its, _)| its == due) {
                return;
            }
            self.queue.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn entries_are_returned_once_when_due() {
        let now = Instant::now();
        let at = |seconds| now + Duration::from_secs(seconds);
        let mut agenda = DueQueue::default();
        agenda.put(1, at(9), "a");
        agenda.put(2, at(2), "b");
        agenda.put(1, at(1), "a, sooner");
        assert_eq!(agenda.take(now), None);
        assert_eq!(agenda.next(), Some(at(1)));
        assert_eq!(agenda.take(at(3)), Some("a, sooner"));
        assert_eq!(agenda.take(at(3)), Some("b"));
        assert_eq!((agenda.take(at(99)), agenda.next()), (None, None));
    }

    #[test]
    fn taking_one_entry_does_not_walk_over_all() {
        let now = Instant::now();
        let mut agenda = DueQueue::default();
        for id in 0..20_000 {
            agenda.put(id, now + Duration::from_secs(id), id);
        }
        for id in 0..20_000 {
            assert_eq!(agenda.take(now + Duration::from_secs(id)), Some(id));
            agenda.put(id, now + Duration::from_secs(20_000 + id), id);
            assert!(agenda.queue.len() <= 20_000, "nothing piles up");
        }
    }
}
