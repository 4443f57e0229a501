//! Points of edwards25519 that no valid key or signature contains.

/// Whether the first 32 bytes are a point of order 1, 2, 4 or 8, for which one signature verifies many messages, or a
/// non-canonical encoding with y ≥ p, which would give one point two encodings. RFC 8032 §5.1.7 leaves both checks to
/// the implementation. The sign bit is ignored.
pub(super) fn is_weak(bytes: &[u8]) -> bool {
    let Some(point) = bytes.first_chunk::<32>() else {
        return false;
    };
    let mut y = *point;
    y[31] &= 0x7f;
    SMALL_ORDER.contains(&y) || !is_canonical(&y)
}

/// Whether y < p = 2^255 - 19. The bytes are little-endian; the sign bit is ignored.
fn is_canonical(point: &[u8]) -> bool {
    let Some(point) = point.first_chunk::<32>() else {
        return false;
    };
    let [low, middle @ .., high] = point;
    !(high & 0x7f == 0x7f && middle.iter().all(|byte| *byte == 0xff) && *low >= 0xed)
}

/// The y coordinates of the eight points of small order on edwards25519 (8·P = identity), little-endian.
const SMALL_ORDER: [[u8; 32]; 5] = [
    [0; 32],
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98,
        0xf0, 0xd5, 0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53,
        0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67,
        0x0f, 0x2a, 0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac,
        0x03, 0x7a,
    ],
    {
        let mut minus_one = [0xff; 32];
        minus_one[0] = 0xec;
        minus_one[31] = 0x7f;
        minus_one
    },
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::reason::Reason;
    use crate::jose::testing::{public_set, token};
    use crate::jose::{Algorithm, KeyIdStrategy};

    #[test]
    fn valid_points_pass() {
        let mut largest = [0xff; 32];
        (largest[0], largest[31]) = (0xeb, 0x7f);
        assert!(!is_weak(&largest), "p - 2 is the largest sound y");
        assert!(!is_weak(&[2; 32]));
    }

    #[test]
    fn a_signature_with_a_weak_point_is_rejected_before_any_arithmetic() {
        let text = token(Algorithm::EdDsa, "{}");
        let set = public_set();
        let key = set.by_id(KeyIdStrategy::Kid, "ed25519").unwrap();
        let (message, _) = text.rsplit_once('.').unwrap();
        for point in SMALL_ORDER {
            let signature = [point, [0; 32]].concat();
            let rejection = key
                .verify(Algorithm::EdDsa, message.as_bytes(), &signature)
                .unwrap_err();
            assert_eq!(rejection.reason, Reason::BadSignature);
        }
    }
}
