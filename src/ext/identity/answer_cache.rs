//! A cache of answers, with limits on entries and bytes.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use crate::runtime::single_flights::Digest;

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

/// Answers in the order of their arrival: the oldest is evicted first.
pub(super) struct AnswerCache<A> {
    answers: HashMap<Digest, Answer<A>>,
    order: VecDeque<Digest>,
    bytes: usize,
    size: CacheSize,
}

struct Answer<A> {
    answer: A,
    dies: Duration,
    bytes: usize,
}

/// What an entry needs besides its answer, approximately: twice the key, and the times.
const ENTRY_BYTES: usize = 128;

impl<A: Clone> AnswerCache<A> {
    pub(super) fn new(size: CacheSize) -> AnswerCache<A> {
        AnswerCache {
            answers: HashMap::new(),
            order: VecDeque::new(),
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
        (self.order.len(), self.bytes)
    }

    pub(super) fn insert(&mut self, question: Digest, answer: A, dies: Duration, bytes: usize) {
        let bytes = bytes.saturating_add(ENTRY_BYTES);
        self.remove(&question);
        if bytes > self.size.bytes || self.size.entries == 0 {
            return;
        }
        while self.bytes + bytes > self.size.bytes || self.order.len() >= self.size.entries {
            let Some(oldest) = self.order.pop_front() else {
                break;
            };
            self.remove(&oldest);
        }
        self.bytes += bytes;
        self.order.push_back(question);
        self.answers.insert(
            question,
            Answer {
                answer,
                dies,
                bytes,
            },
        );
    }

    /// The place in the order stays, and is counted, until it is the oldest.
    pub(super) fn remove(&mut self, question: &Digest) {
        if let Some(gone) = self.answers.remove(question) {
            self.bytes -= gone.bytes;
        }
    }
}
