//! A list as bytes, for the process that takes over from this one.

use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use std::time::Duration;

use smallvec::SmallVec;

use super::{Filter, RevokedTokens, words};

impl RevokedTokens {
    /// All elements that count now: their number, and the bits of the filters together, each as little-endian words of 64
    /// bits. `None` if there are none.
    pub fn to_bytes(&self, now: Duration) -> Option<Vec<u8>> {
        let counting: SmallVec<[&Filter; 2]> = self.counting(now).into_iter().flatten().collect();
        let elements = |filter: &&Filter| filter.elements.load(Ordering::Relaxed);
        let most = counting
            .iter()
            .map(elements)
            .max()
            .filter(|most| *most > 0)?;
        let words = self.filters[0].bits.len();
        let mut bytes = Vec::with_capacity(8 + 8 * words);
        bytes.extend_from_slice(&most.to_le_bytes());
        for at in 0..words {
            let word = |filter: &&Filter| {
                let word = filter.bits.get(at);
                word.map_or(0, |word| word.load(Ordering::Acquire))
            };
            let all = counting.iter().map(word).fold(0, |all, word| all | word);
            bytes.extend_from_slice(&all.to_le_bytes());
        }
        Some(bytes)
    }

    /// Adds the elements of [`RevokedTokens::to_bytes`] of a list with the same shape, as if they were all new. Returns
    /// `false` if the shape is another one.
    pub fn add_bytes(&self, bytes: &[u8], now: Duration) -> bool {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        if bytes.len() != 8 + 8 * self.filters[0].bits.len() {
            return false;
        }
        let turn = self.turn(now);
        for counts_at in [turn, turn + 1] {
            let filter = self.open(counts_at);
            let mut words = words(bytes);
            let elements = words.next().unwrap_or_default();
            filter.elements.fetch_add(elements, Ordering::Relaxed);
            for (own, word) in filter.bits.iter().zip(words) {
                own.fetch_or(word, Ordering::Release);
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::bloom::{BloomHash, BloomShape};

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn another_list_continues_with_the_elements_that_count() {
        let list = || {
            let shape = BloomShape::new(100, 1e-6, BloomHash::Optimal).unwrap();
            RevokedTokens::new(shape, at(10), at(0)).unwrap()
        };
        let old = list();
        assert_eq!(old.to_bytes(at(0)), None);
        old.add(b"first", at(0), 100);
        old.add(b"second", at(15), 100);
        let bytes = old.to_bytes(at(16)).unwrap();
        let new = list();
        assert!(new.add_bytes(&bytes, at(1)));
        for element in [&b"first"[..], b"second"] {
            assert!(new.contains(element, at(1)) && new.contains(element, at(19)));
            assert!(!new.contains(element, at(40)));
        }
        assert!(!new.contains(b"third", at(1)));
        assert!(!new.add_bytes(&bytes[1..], at(1)), "another shape");
    }
}
