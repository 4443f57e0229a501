//! A cache of answers, with limits on entries and bytes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::runtime::single_flights::Digest;
use crate::upstream::budget::Memory;

/// The size of a cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct CacheSize {
    pub entries: usize,
    pub bytes: usize,
}

impl CacheSize {
    /// For negative answers. Every client can cause them, so they must not evict the others.
    pub(crate) const REFUSALS: CacheSize = CacheSize {
        entries: 10_000,
        bytes: 4 << 20,
    };
}

/// Answers in the order of their arrival: the oldest is evicted first. Their bytes count like what requests take.
pub(super) struct AnswerCache<A> {
    answers: HashMap<Digest, Answer<A>>,
    /// The arrivals, by number. Those of answers that were removed or replaced stay until they are the oldest, or until
    /// they are too many.
    order: VecDeque<(Digest, u64)>,
    arrivals: u64,
    bytes: usize,
    size: CacheSize,
}

struct Answer<A> {
    answer: A,
    arrival: u64,
    dies: Duration,
    bytes: usize,
}

/// The number of arrivals that are kept in addition to two for each answer.
const SPARE_ARRIVALS: usize = 64;

/// What an entry needs besides its answer, approximately: twice the key, and the times.
const ENTRY_BYTES: usize = 128;

impl<A: Clone> AnswerCache<A> {
    pub(super) fn new(size: CacheSize) -> AnswerCache<A> {
        AnswerCache {
            answers: HashMap::new(),
            order: VecDeque::new(),
            arrivals: 0,
            bytes: 0,
            size,
        }
    }

    pub(super) fn get(&self, question: &Digest, now: Duration) -> Option<A> {
        let kept = self.answers.get(question)?;
        (now < kept.dies).then(|| kept.answer.clone())
    }

    /// Whether there was such an answer that has not been evicted. It may be too old to be used.
    pub(super) fn had(&self, question: &Digest) -> bool {
        self.answers.contains_key(question)
    }

    /// The number of entries and of bytes.
    #[cfg(test)]
    pub(super) fn size(&self) -> (usize, usize) {
        (self.answers.len(), self.bytes)
    }

    pub(super) fn insert(&mut self, question: Digest, answer: A, dies: Duration, bytes: usize) {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        self.remove(&question);
        if bytes > self.size.bytes || self.size.entries == 0 {
            return;
        }
        while self.bytes + bytes > self.size.bytes || self.answers.len() >= self.size.entries {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            if is_current(&self.answers, &oldest) {
                self.remove(&oldest.0);
            }
        }
        self.bytes += bytes;
        Memory::process().add(bytes as u64);
        let arrival = self.arrivals;
        self.arrivals += 1;
        self.order.push_back((question, arrival));
        self.answers.insert(
            question,
            Answer {
                answer,
                arrival,
                dies,
                bytes,
            },
        );
        if self.order.len() > 2 * self.answers.len() + SPARE_ARRIVALS {
            let answers = &self.answers;
            self.order.retain(|arrival| is_current(answers, arrival));
        }
    }

    pub(super) fn remove(&mut self, question: &Digest) {
        if let Some(gone) = self.answers.remove(question) {
            self.bytes -= gone.bytes;
            Memory::process().release(gone.bytes as u64);
        }
    }
}

impl<A> Drop for AnswerCache<A> {
    fn drop(&mut self) {
        Memory::process().release(self.bytes as u64);
    }
}

/// Whether an answer has not been removed or replaced since it arrived.
fn is_current<A>(
    answers: &HashMap<Digest, Answer<A>>,
    (question, arrival): &(Digest, u64),
) -> bool {
    let current = answers.get(question);
    current.is_some_and(|answer| answer.arrival == *arrival)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(entries: usize) -> AnswerCache<u8> {
        AnswerCache::new(CacheSize {
            entries,
            bytes: 1 << 20,
        })
    }

    const END: Duration = Duration::from_secs(1);

    fn known(cache: &AnswerCache<u8>, question: u8) -> Option<u8> {
        cache.get(&[question; 32], Duration::ZERO)
    }

    #[test]
    fn an_answer_that_is_renewed_often_evicts_no_other() {
        let mut cache = cache(3);
        cache.insert([1; 32], 1, END, 10);
        for answer in 0..200 {
            cache.insert([2; 32], answer, END, 10);
        }
        assert_eq!(known(&cache, 1), Some(1), "there is room for three");
        assert!(cache.order.len() <= 2 * 2 + SPARE_ARRIVALS + 1);
        cache.insert([3; 32], 3, END, 10);
        cache.insert([4; 32], 4, END, 10);
        let all = [1, 2, 3, 4].map(|question| known(&cache, question));
        assert_eq!(all, [None, Some(199), Some(3), Some(4)]);
        assert_eq!(cache.size().0, 3);
    }

    #[test]
    fn an_old_arrival_does_not_evict_the_answer_that_came_later() {
        let mut cache = cache(2);
        cache.insert([1; 32], 1, END, 10);
        cache.insert([2; 32], 2, END, 10);
        cache.insert([1; 32], 3, END, 10);
        cache.insert([3; 32], 4, END, 10);
        let all = [1, 2, 3].map(|question| known(&cache, question));
        assert_eq!(all, [Some(3), None, Some(4)]);
        cache.remove(&[1; 32]);
        assert_eq!((known(&cache, 1), cache.size().0), (None, 1));
    }
}
