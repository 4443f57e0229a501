//! Consistent hashing: calls with the same key go to the same host, and a host that is lost moves only its own keys.
//!
//! This is rendezvous hashing: each host has a score for each key, and the highest one wins. Gateways with the same
//! hosts make the same choice, because nothing here is random.

use std::num::NonZeroU64;

/// The key of a call: what a client always sends, hashed.
pub(crate) type AffinityKey = NonZeroU64;

/// The key of a value.
pub(crate) fn affinity(value: &[u8]) -> AffinityKey {
    NonZeroU64::new(hash(value)).unwrap_or(NonZeroU64::MIN)
}

/// FNV-1a with the finalizer of MurmurHash3, so that similar texts have nothing in common.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let fold = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x0000_0100_0000_01b3);
    mixed(bytes.iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

fn mixed(mut hash: u64) -> u64 {
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash ^= hash >> 33;
    hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

/// The score of a host for a key: weight / -ln(u), with u between 0 and 1. A host with twice the weight wins twice as
/// many keys.
pub(super) fn score(key: AffinityKey, host: u64, weight: u32) -> f64 {
    let bits = mixed(key.get() ^ host.rotate_left(32)) >> 11;
    let between = (bits as f64 + 0.5) / (1_u64 << 53) as f64;
    f64::from(weight) / -between.ln()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn best(key: u32, hosts: &[(u64, u32)]) -> u64 {
        let key = affinity(&key.to_be_bytes());
        let scored = hosts
            .iter()
            .map(|(host, weight)| (score(key, *host, *weight), *host));
        scored.max_by(|a, b| a.0.total_cmp(&b.0)).unwrap().1
    }

    fn hosts(weights: &[u32]) -> Vec<(u64, u32)> {
        let named = weights.iter().enumerate();
        named
            .map(|(index, weight)| {
                (
                    hash(format!("http://10.0.0.{index}:8080").as_bytes()),
                    *weight,
                )
            })
            .collect()
    }

    #[test]
    fn a_lost_host_moves_only_its_own_keys() {
        let all = hosts(&[1, 1, 1, 1]);
        let rest = &all[..3];
        let mut moved = 0;
        for key in 0..20_000 {
            let before = best(key, &all);
            let after = best(key, rest);
            if before == all[3].0 {
                moved += 1;
            } else {
                assert_eq!(before, after);
            }
        }
        assert!((4_500..5_500).contains(&moved), "{moved}");
    }

    #[test]
    fn keys_are_shared_by_weight() {
        let all = hosts(&[3, 1]);
        let first = (0..20_000)
            .filter(|key| best(*key, &all) == all[0].0)
            .count();
        assert!((14_500..15_500).contains(&first), "{first}");
    }
}
