//! Rotating Bloom filters that hold the revoked tokens of `auth/revoker`.
//!
//! A filter may report a token as revoked that is not, with the probability that the configuration sets. It never
//! misses a revoked token. Sizes and hashes are those of KrakenD, so filters that KrakenD clients send have the same
//! meaning here.

mod bytes;
mod frozen;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use md5::{Digest, Md5};
use smallvec::SmallVec;

pub(crate) use frozen::FrozenTokens;

/// How an element is mapped to bit positions (`hash_name`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BloomHash {
    /// One FNV-1 hash, whose two halves are combined (Kirsch and Mitzenmacher).
    Optimal,
    /// The words of up to five independent hashes.
    Default,
}

impl BloomHash {
    /// The hash with this name.
    pub fn parse(name: &str) -> Option<BloomHash> {
        match name {
            "optimal" => Some(BloomHash::Optimal),
            "default" => Some(BloomHash::Default),
            _ => None,
        }
    }

    /// The name of [`BloomHash::parse`].
    pub fn name(self) -> &'static str {
        match self {
            BloomHash::Optimal => "optimal",
            BloomHash::Default => "default",
        }
    }
}

/// The dimensions of a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BloomShape {
    /// Number of bits (m).
    pub bits: u64,
    /// Number of hash functions (k).
    pub hashes: u32,
    pub hash: BloomHash,
}

/// Why a filter cannot be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BloomError {
    #[error("the number of elements must be at least 1")]
    Elements,
    #[error("the probability of false positives must lie between 0 and 1")]
    Probability,
    #[error("the filter would need more than {} MiB", MAX_BITS / 8 / 1024 / 1024)]
    Size,
    #[error("the rotation period must be at least one second")]
    Period,
}

/// 1 GiB for one filter. Three filters are allocated.
const MAX_BITS: u64 = 1 << 33;

impl BloomShape {
    /// The smallest filter that holds `elements` with at most this rate of false positives.
    pub fn new(
        elements: u64,
        false_positives: f64,
        hash: BloomHash,
    ) -> Result<BloomShape, BloomError> {
        if elements == 0 {
            return Err(BloomError::Elements);
        }
        if !(false_positives > 0.0 && false_positives < 1.0) {
            return Err(BloomError::Probability);
        }
        let (n, ln2) = (elements as f64, std::f64::consts::LN_2);
        let bits = (-n * false_positives.ln() / (2_f64.powf(ln2)).ln()).ceil();
        if bits > MAX_BITS as f64 {
            return Err(BloomError::Size);
        }
        Ok(BloomShape {
            bits: bits as u64,
            hashes: (ln2 * bits / n).ceil() as u32,
            hash,
        })
    }

    /// The bit positions of an element. The call keeps no state, so calls may run concurrently.
    pub fn positions(&self, element: &[u8]) -> SmallVec<[u64; 32]> {
        match self.hash {
            BloomHash::Optimal => {
                let digest = fnv1_128(element).to_be_bytes();
                let mut halves = words(&digest);
                let (first, second) = (halves.next().unwrap_or(0), halves.next().unwrap_or(0));
                (0..u64::from(self.hashes))
                    .map(|i| first.wrapping_add(i.wrapping_mul(second)) % self.bits)
                    .collect()
            }
            BloomHash::Default => {
                let digests = [
                    Hasher::Md5,
                    Hasher::Crc64,
                    Hasher::Sha1,
                    Hasher::Fnv64,
                    Hasher::Fnv128,
                ];
                let mut positions = SmallVec::new();
                for hasher in digests.into_iter().take(self.hashes as usize) {
                    positions.extend(words(&hasher.digest(element)).map(|word| word % self.bits));
                }
                positions
            }
        }
    }
}

/// Three filters that are used in rotation. An element that is added counts for at least two periods and less than
/// three.
///
/// Lookups take no lock: the caller computes from the time which two filters count. The caller passes the time, which
/// must not go back by more than a period.
#[derive(Debug)]
pub struct RevokedTokens {
    shape: BloomShape,
    period: Duration,
    start: Duration,
    filters: [Filter; 3],
    /// Held while bits are written, so that a filter is cleared only once.
    writing: Mutex<()>,
}

#[derive(Debug)]
struct Filter {
    /// The number of the rotation that these bits belong to, plus one. 0 means that the filter is unused.
    turn: AtomicU64,
    /// The number of elements that have set a new bit. Those that have set none are in the filter as well.
    elements: AtomicU64,
    bits: Box<[AtomicU64]>,
}

impl RevokedTokens {
    /// An empty list. `period` is the `TTL` of the configuration.
    pub fn new(
        shape: BloomShape,
        period: Duration,
        now: Duration,
    ) -> Result<RevokedTokens, BloomError> {
        if period < Duration::from_secs(1) {
            return Err(BloomError::Period);
        }
        let words = usize::try_from(shape.bits.div_ceil(64)).map_err(|_| BloomError::Size)?;
        let filter = || Filter {
            turn: AtomicU64::new(0),
            elements: AtomicU64::new(0),
            bits: (0..words).map(|_| AtomicU64::new(0)).collect(),
        };
        Ok(RevokedTokens {
            shape,
            period,
            start: now,
            filters: [filter(), filter(), filter()],
            writing: Mutex::new(()),
        })
    }

    /// Adds an element such as `jti-J1`. Returns whether a filter now has exactly one more than `most` elements.
    pub fn add(&self, element: &[u8], now: Duration, most: u64) -> bool {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let positions = self.shape.positions(element);
        let turn = self.turn(now);
        let mut is_full = false;
        for counts_at in [turn, turn + 1] {
            let filter = self.open(counts_at);
            let mut is_new = false;
            for position in &positions {
                if let Some((word, mask)) = filter.bit(*position) {
                    is_new |= word.fetch_or(mask, Ordering::Release) & mask == 0;
                }
            }
            if is_new {
                is_full |= filter.elements.fetch_add(1, Ordering::Relaxed) == most;
            }
        }
        is_full
    }

    /// Whether the element was added in this period or in one of the two before it.
    pub fn contains(&self, element: &[u8], now: Duration) -> bool {
        let counting = self.counting(now);
        // Hashing costs more than these two loads, and most lists are empty most of the time.
        if counting.iter().all(Option::is_none) {
            return false;
        }
        let positions = self.shape.positions(element);
        counting.into_iter().flatten().any(|filter| {
            positions.iter().all(|position| {
                filter
                    .bit(*position)
                    .is_some_and(|(word, mask)| word.load(Ordering::Acquire) & mask != 0)
            })
        })
    }

    /// The dimensions of the filters.
    pub fn shape(&self) -> BloomShape {
        self.shape
    }

    /// How long the last element still counts. `None` if there is none.
    pub fn life(&self, now: Duration) -> Option<Duration> {
        let turns = self.filters.iter();
        let after_last = turns
            .map(|filter| filter.turn.load(Ordering::Acquire))
            .max()
            .filter(|turn| *turn > 0)?;
        // A filter counts in its own period and in the one after.
        let periods = u32::try_from(after_last + 1).unwrap_or(u32::MAX);
        let ends = self
            .start
            .saturating_add(self.period.saturating_mul(periods));
        ends.checked_sub(now).filter(|life| !life.is_zero())
    }

    /// The filter of this rotation, emptied if it belonged to another one. Only for the one who writes.
    fn open(&self, counts_at: u64) -> &Filter {
        let filter = self.filter(counts_at);
        if filter.turn.load(Ordering::Relaxed) != counts_at + 1 {
            // No lookup reads this filter now: it last counted two rotations ago.
            filter.turn.store(0, Ordering::Release);
            filter.elements.store(0, Ordering::Relaxed);
            filter
                .bits
                .iter()
                .for_each(|word| word.store(0, Ordering::Relaxed));
            filter.turn.store(counts_at + 1, Ordering::Release);
        }
        filter
    }

    /// The filters that count now.
    fn counting(&self, now: Duration) -> [Option<&Filter>; 2] {
        let turn = self.turn(now);
        [Some(turn), turn.checked_sub(1)].map(|turn| {
            let turn = turn?;
            let filter = self.filter(turn);
            (filter.turn.load(Ordering::Acquire) == turn + 1).then_some(filter)
        })
    }

    fn turn(&self, now: Duration) -> u64 {
        let turns = now.saturating_sub(self.start).as_nanos() / self.period.as_nanos();
        u64::try_from(turns).unwrap_or(u64::MAX - 2)
    }

    fn filter(&self, turn: u64) -> &Filter {
        let [first, second, third] = &self.filters;
        match turn % 3 {
            0 => first,
            1 => second,
            _ => third,
        }
    }
}

impl Filter {
    fn bit(&self, position: u64) -> Option<(&AtomicU64, u64)> {
        let word = self.bits.get(usize::try_from(position / 64).ok()?)?;
        Some((word, 1 << (position % 64)))
    }
}

/// The hashes of [`BloomHash::Default`], in order.
#[derive(Clone, Copy)]
enum Hasher {
    Md5,
    Crc64,
    Sha1,
    Fnv64,
    Fnv128,
}

impl Hasher {
    fn digest(self, bytes: &[u8]) -> SmallVec<[u8; 20]> {
        match self {
            Hasher::Md5 => SmallVec::from_slice(&Md5::digest(bytes)),
            Hasher::Crc64 => SmallVec::from_slice(&crc64_ecma(bytes).to_be_bytes()),
            Hasher::Sha1 => SmallVec::from_slice(digest(&SHA1_FOR_LEGACY_USE_ONLY, bytes).as_ref()),
            Hasher::Fnv64 => SmallVec::from_slice(&fnv1_64(bytes).to_be_bytes()),
            Hasher::Fnv128 => SmallVec::from_slice(&fnv1_128(bytes).to_be_bytes()),
        }
    }
}

/// Each complete group of eight bytes, little-endian.
fn words(bytes: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let (groups, _) = bytes.as_chunks::<8>();
    groups.iter().map(|group| u64::from_le_bytes(*group))
}

/// FNV-1 with 128 bits: multiply, then xor.
pub(crate) fn fnv1_128(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |hash, byte| {
        hash.wrapping_mul(PRIME) ^ u128::from(*byte)
    })
}

/// FNV-1 with 64 bits.
fn fnv1_64(bytes: &[u8]) -> u64 {
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0000_0100_0000_01b3;
    bytes.iter().fold(BASIS, |hash, byte| {
        hash.wrapping_mul(PRIME) ^ u64::from(*byte)
    })
}

/// CRC-64 of ECMA-182, reflected, as Go's `hash/crc64` computes it.
fn crc64_ecma(bytes: &[u8]) -> u64 {
    const POLYNOMIAL: u64 = 0xc96c_5795_d787_0f42;
    !bytes.iter().fold(!0, |crc, byte| {
        (0..8).fold(crc ^ u64::from(*byte), |crc, _| match crc & 1 {
            1 => (crc >> 1) ^ POLYNOMIAL,
            _ => crc >> 1,
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(1_700_000_000 + seconds)
    }

    fn list(hash: BloomHash) -> RevokedTokens {
        let shape = BloomShape::new(1000, 1e-4, hash).unwrap();
        RevokedTokens::new(shape, Duration::from_secs(3), at(0)).unwrap()
    }

    #[test]
    fn sizes_match_krakend() {
        let small = BloomShape::new(1000, 1e-4, BloomHash::Optimal).unwrap();
        assert_eq!((small.bits, small.hashes), (19171, 14));
        let large = BloomShape::new(10_000_000, 1e-7, BloomHash::Optimal).unwrap();
        assert_eq!((large.bits, large.hashes), (335_477_044, 24));
        assert_eq!(
            BloomShape::new(0, 0.1, BloomHash::Optimal),
            Err(BloomError::Elements)
        );
        for p in [0.0, 1.0, -1.0, f64::NAN, f64::INFINITY] {
            assert_eq!(
                BloomShape::new(1, p, BloomHash::Optimal),
                Err(BloomError::Probability)
            );
        }
        assert_eq!(
            BloomShape::new(u64::MAX, 1e-9, BloomHash::Optimal),
            Err(BloomError::Size)
        );
    }

    #[test]
    fn the_optimal_hash_sets_the_same_bits_as_krakend() {
        assert_eq!(
            fnv1_128(b"jti-J1"),
            0x49e6_e832_853c_64bf_6dc5_77c9_70a8_6e2e
        );
        let shape = BloomShape::new(1000, 1e-4, BloomHash::Optimal).unwrap();
        assert_eq!(
            shape.positions(b"jti-J1").as_slice(),
            [
                15407, 5539, 17485, 7617, 16920, 7052, 16355, 9130, 18433, 8565, 17868, 8000,
                17303, 10078
            ]
        );
    }

    #[test]
    fn the_default_hash_uses_whole_words_of_the_first_hashes() {
        let shape = |hashes| BloomShape {
            bits: 1 << 20,
            hashes,
            hash: BloomHash::Default,
        };
        let lengths: Vec<_> = [1, 2, 3, 4, 5, 14]
            .map(|k| shape(k).positions(b"x").len())
            .into();
        assert_eq!(lengths, [2, 3, 5, 6, 8, 8]);
        assert_eq!(crc64_ecma(b"123456789"), 0x995d_c9bb_df19_39fa);
        assert_eq!(fnv1_64(b"a"), 0xaf63_bd4c_8601_b7be);
    }

    #[test]
    fn an_element_counts_for_two_to_three_periods() {
        for hash in [BloomHash::Optimal, BloomHash::Default] {
            for added in 0..3 {
                let revoked = list(hash);
                revoked.add(b"jti-J1", at(added), u64::MAX);
                for seconds in added..9 {
                    assert!(
                        revoked.contains(b"jti-J1", at(seconds)),
                        "{added} {seconds}"
                    );
                    assert!(!revoked.contains(b"jti-J2", at(seconds)));
                }
                assert!(!revoked.contains(b"jti-J1", at(9)));
                assert!(
                    !revoked.contains(b"jti-J1", at(18)),
                    "the filter's turn came round again"
                );
            }
        }
    }

    #[test]
    fn later_additions_do_not_shorten_the_life_of_earlier_ones() {
        let revoked = list(BloomHash::Optimal);
        for second in 0..30 {
            revoked.add(format!("jti-{second}").as_bytes(), at(second), u64::MAX);
            for earlier in 0..=second {
                let held = revoked.contains(format!("jti-{earlier}").as_bytes(), at(second));
                assert_eq!(held, second / 3 - earlier / 3 <= 2, "{earlier} at {second}");
            }
        }
    }

    #[test]
    fn concurrent_lookups_and_additions_never_miss() {
        let revoked = list(BloomHash::Optimal);
        revoked.add(b"jti-J1", at(0), u64::MAX);
        std::thread::scope(|scope| {
            for worker in 0..3 {
                let revoked = &revoked;
                scope.spawn(move || {
                    for n in 0..300 {
                        revoked.add(format!("jti-{worker}-{n}").as_bytes(), at(1), u64::MAX);
                        assert!(revoked.contains(b"jti-J1", at(4)));
                    }
                });
            }
        });
    }

    #[test]
    fn a_zero_period_is_rejected() {
        let shape = BloomShape::new(10, 0.1, BloomHash::Optimal).unwrap();
        assert_eq!(
            RevokedTokens::new(shape, Duration::ZERO, at(0)).err(),
            Some(BloomError::Period)
        );
    }

    #[test]
    fn the_element_that_is_one_too_many_is_reported_once_in_each_period() {
        let revoked = list(BloomHash::Optimal);
        let add = |n: u64, second| revoked.add(n.to_string().as_bytes(), at(second), 10);
        let reports = (0..40).filter(|n| add(n % 20, 0)).count();
        assert_eq!(reports, 1);
        let later = (0..20).filter(|n| add(100 + n, 7)).count();
        assert_eq!(later, 1);
    }
}
