//! A filter that is only read.

use std::time::Duration;

use super::{BloomShape, MAX_BITS, RevokedTokens};

/// All elements that a list had at one time, until the last of them expires.
#[derive(Debug, Clone)]
pub struct FrozenTokens {
    shape: BloomShape,
    /// As [`RevokedTokens::to_bytes`] returns them.
    bytes: Box<[u8]>,
    ends: Duration,
}

/// The bytes before the bits: the number of elements.
const HEAD: usize = 8;

/// More hash functions than the smallest probability needs.
const MAX_HASHES: u32 = 1100;

impl RevokedTokens {
    /// The elements that count now, for reading. `None` if there are none.
    pub fn freeze(&self, now: Duration) -> Option<FrozenTokens> {
        let life = self.life(now)?;
        let bytes = self.to_bytes(now)?;
        FrozenTokens::new(self.shape, bytes, now.saturating_add(life))
    }
}

impl FrozenTokens {
    /// The elements of [`RevokedTokens::to_bytes`] of a list with this shape. `None` if the bytes are those of another one.
    pub fn new(shape: BloomShape, bytes: Vec<u8>, ends: Duration) -> Option<FrozenTokens> {
        let is_possible = (1..=MAX_BITS).contains(&shape.bits) && shape.hashes <= MAX_HASHES;
        let words = usize::try_from(shape.bits.div_ceil(64)).ok()?;
        (is_possible && bytes.len() == HEAD + 8 * words).then(|| FrozenTokens {
            shape,
            bytes: bytes.into(),
            ends,
        })
    }

    pub fn shape(&self) -> BloomShape {
        self.shape
    }

    /// As [`RevokedTokens::to_bytes`] returns them.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// How long the last element still counts. `None` if it does not.
    pub fn life(&self, now: Duration) -> Option<Duration> {
        self.ends.checked_sub(now).filter(|life| !life.is_zero())
    }

    /// Whether the element was added and counts.
    pub fn contains(&self, element: &[u8], now: Duration) -> bool {
        let is_set = |position: &u64| {
            let at = usize::try_from(position / 8).ok();
            // The words are little-endian, so the bytes have the order of the bits.
            let byte = at.and_then(|at| self.bytes.get(HEAD + at));
            byte.is_some_and(|byte| byte & (1 << (position % 8)) != 0)
        };
        now < self.ends && self.shape.positions(element).iter().all(is_set)
    }

    /// The elements of both, until the last of them expires. `None` if the shapes differ.
    pub fn joined(&self, other: &FrozenTokens) -> Option<FrozenTokens> {
        if self.shape != other.shape {
            return None;
        }
        let (count, bits) = self.bytes.split_first_chunk::<HEAD>()?;
        let (more, other_bits) = other.bytes.split_first_chunk::<HEAD>()?;
        let count = u64::from_le_bytes(*count).saturating_add(u64::from_le_bytes(*more));
        let bits = bits.iter().zip(other_bits).map(|(one, two)| one | two);
        Some(FrozenTokens {
            shape: self.shape,
            bytes: count.to_le_bytes().into_iter().chain(bits).collect(),
            ends: self.ends.max(other.ends),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::bloom::BloomHash;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn list(elements: u64, hash: BloomHash) -> RevokedTokens {
        let shape = BloomShape::new(elements, 1e-6, hash).unwrap();
        RevokedTokens::new(shape, at(10), at(5)).unwrap()
    }

    #[test]
    fn a_frozen_list_has_the_same_elements_and_ends_with_the_last() {
        for hash in [BloomHash::Optimal, BloomHash::Default] {
            let list = list(100, hash);
            assert!(list.freeze(at(5)).is_none() && list.life(at(5)).is_none());
            list.add(b"first", at(5), 100);
            list.add(b"second", at(16), 100);
            let frozen = list.freeze(at(17)).unwrap();
            for element in [&b"first"[..], b"second"] {
                assert!(frozen.contains(element, at(17)) && frozen.contains(element, at(44)));
                assert!(!frozen.contains(element, at(45)));
            }
            assert!(list.contains(b"second", at(44)) && !list.contains(b"second", at(45)));
            assert!(!frozen.contains(b"third", at(17)));
            assert_eq!(
                (frozen.life(at(17)), frozen.life(at(45))),
                (Some(at(28)), None)
            );
            assert!(list.freeze(at(45)).is_none());
        }
    }

    #[test]
    fn lists_of_one_shape_are_joined() {
        let (one, two) = (list(100, BloomHash::Optimal), list(100, BloomHash::Optimal));
        one.add(b"first", at(5), 100);
        two.add(b"second", at(25), 100);
        let (one, two) = (one.freeze(at(25)).unwrap(), two.freeze(at(25)).unwrap());
        let joined = one.joined(&two).unwrap();
        for element in [&b"first"[..], b"second"] {
            assert!(joined.contains(element, at(54)) && !joined.contains(element, at(55)));
        }
        assert!(!joined.contains(b"third", at(25)));
        let other = list(200, BloomHash::Optimal);
        other.add(b"first", at(25), 100);
        assert!(one.joined(&other.freeze(at(25)).unwrap()).is_none());
    }

    #[test]
    fn bytes_of_another_shape_are_rejected() {
        let list = list(100, BloomHash::Optimal);
        list.add(b"first", at(5), 100);
        let (shape, bytes) = (list.shape, list.to_bytes(at(5)).unwrap());
        assert!(FrozenTokens::new(shape, bytes.clone(), at(9)).is_some());
        assert!(FrozenTokens::new(shape, bytes[1..].to_vec(), at(9)).is_none());
        for wrong in [
            BloomShape { bits: 0, ..shape },
            BloomShape {
                bits: u64::MAX,
                ..shape
            },
            BloomShape {
                hashes: u32::MAX,
                ..shape
            },
        ] {
            assert!(FrozenTokens::new(wrong, bytes.clone(), at(9)).is_none());
        }
    }
}
