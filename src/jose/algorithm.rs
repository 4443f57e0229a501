//! The signature algorithms of RFC 7518, RFC 8037, RFC 9864 and RFC 9964 that a configuration may name.

use std::fmt;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED,
    EcdsaVerificationAlgorithm, ML_DSA_44, ML_DSA_65, ML_DSA_87, PqdsaVerificationAlgorithm,
    RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512,
    RSA_PSS_2048_8192_SHA256, RSA_PSS_2048_8192_SHA384, RSA_PSS_2048_8192_SHA512, RsaParameters,
};

/// A signature algorithm. There is no `none`: a name that is not in this list does not parse.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    Hs256,
    Hs384,
    Hs512,
    Rs256,
    Rs384,
    Rs512,
    Ps256,
    Ps384,
    Ps512,
    Es256,
    Es384,
    Es512,
    /// Ed25519 only; Ed448 is not offered (RFC 8037 §3.1).
    EdDsa,
    /// The same algorithm under its fully specified name (RFC 9864 §2.2).
    Ed25519,
    /// Post-quantum signatures (FIPS 204), with keys of the type `AKP` (RFC 9964).
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

/// The kind of key that an algorithm needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum KeyKind {
    Secret,
    Rsa,
    P256,
    P384,
    P521,
    Ed25519,
    MlDsa44,
    MlDsa65,
    MlDsa87,
}

impl Algorithm {
    /// Every algorithm, in the order of KrakenD's documentation.
    pub const ALL: [Algorithm; 17] = [
        Algorithm::EdDsa,
        Algorithm::Ed25519,
        Algorithm::Hs256,
        Algorithm::Hs384,
        Algorithm::Hs512,
        Algorithm::Rs256,
        Algorithm::Rs384,
        Algorithm::Rs512,
        Algorithm::Es256,
        Algorithm::Es384,
        Algorithm::Es512,
        Algorithm::Ps256,
        Algorithm::Ps384,
        Algorithm::Ps512,
        Algorithm::MlDsa44,
        Algorithm::MlDsa65,
        Algorithm::MlDsa87,
    ];

    /// The names of [`Algorithm::ALL`].
    pub const NAMES: [&'static str; 17] = {
        let mut names = [""; 17];
        let mut index = 0;
        while index < names.len() {
            names[index] = Algorithm::ALL[index].as_str();
            index += 1;
        }
        names
    };

    /// The algorithm with exactly this name. Names are case-sensitive (RFC 7515 §4.1.1).
    pub fn parse(name: &str) -> Option<Algorithm> {
        Algorithm::ALL
            .into_iter()
            .find(|known| known.as_str() == name)
    }

    /// The registered name, as in a token's `alg`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Algorithm::Hs256 => "HS256",
            Algorithm::Hs384 => "HS384",
            Algorithm::Hs512 => "HS512",
            Algorithm::Rs256 => "RS256",
            Algorithm::Rs384 => "RS384",
            Algorithm::Rs512 => "RS512",
            Algorithm::Ps256 => "PS256",
            Algorithm::Ps384 => "PS384",
            Algorithm::Ps512 => "PS512",
            Algorithm::Es256 => "ES256",
            Algorithm::Es384 => "ES384",
            Algorithm::Es512 => "ES512",
            Algorithm::EdDsa => "EdDSA",
            Algorithm::Ed25519 => "Ed25519",
            Algorithm::MlDsa44 => "ML-DSA-44",
            Algorithm::MlDsa65 => "ML-DSA-65",
            Algorithm::MlDsa87 => "ML-DSA-87",
        }
    }

    /// Whether both names mean the same algorithm. `EdDSA` can only be Ed25519 here, so accepting `Ed25519` for it is
    /// safe (RFC 9864 §2.2). Every other name is equal only to itself.
    pub fn means(self, other: Algorithm) -> bool {
        let plain = |algorithm| match algorithm {
            Algorithm::Ed25519 => Algorithm::EdDsa,
            other => other,
        };
        plain(self) == plain(other)
    }

    /// Whether the same secret signs and verifies.
    pub fn is_symmetric(self) -> bool {
        self.key_kind() == KeyKind::Secret
    }

    /// The only kind of key that fits (RFC 8725 §3.1).
    pub fn key_kind(self) -> KeyKind {
        match self {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => KeyKind::Secret,
            Algorithm::Rs256 | Algorithm::Rs384 | Algorithm::Rs512 => KeyKind::Rsa,
            Algorithm::Ps256 | Algorithm::Ps384 | Algorithm::Ps512 => KeyKind::Rsa,
            Algorithm::Es256 => KeyKind::P256,
            Algorithm::Es384 => KeyKind::P384,
            Algorithm::Es512 => KeyKind::P521,
            Algorithm::EdDsa | Algorithm::Ed25519 => KeyKind::Ed25519,
            Algorithm::MlDsa44 => KeyKind::MlDsa44,
            Algorithm::MlDsa65 => KeyKind::MlDsa65,
            Algorithm::MlDsa87 => KeyKind::MlDsa87,
        }
    }

    /// The hash of an HMAC algorithm. Its length is also the minimum length of the secret (RFC 7518 §3.2).
    pub(super) fn hmac(self) -> Option<hmac::Algorithm> {
        match self {
            Algorithm::Hs256 => Some(hmac::HMAC_SHA256),
            Algorithm::Hs384 => Some(hmac::HMAC_SHA384),
            Algorithm::Hs512 => Some(hmac::HMAC_SHA512),
            _ => None,
        }
    }

    /// Padding, hash and key size of an RSA algorithm. With PSS the salt is as long as the hash (RFC 7518 §3.5).
    pub(super) fn rsa(self) -> Option<&'static RsaParameters> {
        match self {
            Algorithm::Rs256 => Some(&RSA_PKCS1_2048_8192_SHA256),
            Algorithm::Rs384 => Some(&RSA_PKCS1_2048_8192_SHA384),
            Algorithm::Rs512 => Some(&RSA_PKCS1_2048_8192_SHA512),
            Algorithm::Ps256 => Some(&RSA_PSS_2048_8192_SHA256),
            Algorithm::Ps384 => Some(&RSA_PSS_2048_8192_SHA384),
            Algorithm::Ps512 => Some(&RSA_PSS_2048_8192_SHA512),
            _ => None,
        }
    }

    /// Curve and hash of an ECDSA algorithm. A signature is r and s, each at the full width of the curve (RFC 7518
    /// §3.4).
    pub(super) fn ecdsa(self) -> Option<&'static EcdsaVerificationAlgorithm> {
        match self {
            Algorithm::Es256 => Some(&ECDSA_P256_SHA256_FIXED),
            Algorithm::Es384 => Some(&ECDSA_P384_SHA384_FIXED),
            Algorithm::Es512 => Some(&ECDSA_P521_SHA512_FIXED),
            _ => None,
        }
    }

    /// The parameter set of ML-DSA (RFC 9964 §3). The context is empty.
    pub(super) fn ml_dsa(self) -> Option<&'static PqdsaVerificationAlgorithm> {
        match self {
            Algorithm::MlDsa44 => Some(&ML_DSA_44),
            Algorithm::MlDsa65 => Some(&ML_DSA_65),
            Algorithm::MlDsa87 => Some(&ML_DSA_87),
            _ => None,
        }
    }

    /// The same algorithm as `jsonwebtoken` names it. `jsonwebtoken` has neither ES512 nor ML-DSA.
    pub(super) fn jsonwebtoken(self) -> Option<jsonwebtoken::Algorithm> {
        use jsonwebtoken::Algorithm as Theirs;
        Some(match self {
            Algorithm::Hs256 => Theirs::HS256,
            Algorithm::Hs384 => Theirs::HS384,
            Algorithm::Hs512 => Theirs::HS512,
            Algorithm::Rs256 => Theirs::RS256,
            Algorithm::Rs384 => Theirs::RS384,
            Algorithm::Rs512 => Theirs::RS512,
            Algorithm::Ps256 => Theirs::PS256,
            Algorithm::Ps384 => Theirs::PS384,
            Algorithm::Ps512 => Theirs::PS512,
            Algorithm::Es256 => Theirs::ES256,
            Algorithm::Es384 => Theirs::ES384,
            Algorithm::Es512 | Algorithm::MlDsa44 | Algorithm::MlDsa65 | Algorithm::MlDsa87 => {
                return None;
            }
            Algorithm::EdDsa | Algorithm::Ed25519 => Theirs::EdDSA,
        })
    }
}

impl fmt::Display for Algorithm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The algorithms that a provider's tokens may be signed with.
///
/// With several, each key is still used only with algorithms of its own type, and only with its own `alg` if its JWK
/// has one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Algorithms(u32);

impl Algorithms {
    /// Exactly one algorithm.
    pub const fn only(algorithm: Algorithm) -> Algorithms {
        Algorithms(1 << algorithm as u32)
    }

    /// All of these. `None` if there are none.
    pub fn of(algorithms: impl IntoIterator<Item = Algorithm>) -> Option<Algorithms> {
        let bits = algorithms
            .into_iter()
            .fold(0, |bits, one| bits | Algorithms::only(one).0);
        (bits != 0).then_some(Algorithms(bits))
    }

    /// Whether a token may name this algorithm. Both names of Ed25519 are accepted if one is configured.
    pub fn accept(self, named: Algorithm) -> bool {
        let bits = match named {
            Algorithm::EdDsa | Algorithm::Ed25519 => {
                Algorithms::only(Algorithm::EdDsa).0 | Algorithms::only(Algorithm::Ed25519).0
            }
            other => Algorithms::only(other).0,
        };
        self.0 & bits != 0
    }

    /// The configured algorithms, in the order of [`Algorithm::ALL`].
    pub fn iter(self) -> impl Iterator<Item = Algorithm> {
        Algorithm::ALL
            .into_iter()
            .filter(move |one| self.0 & Algorithms::only(*one).0 != 0)
    }

    /// A number that no other set has.
    pub(super) fn bits(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Algorithms {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<_> = self.iter().map(Algorithm::as_str).collect();
        f.write_str(&names.join(" or "))
    }
}

/// Makes `jsonwebtoken` sign with aws-lc-rs. Call it before the first signature. Later calls have no effect.
pub fn install_crypto() {
    // An error only means that a provider is already installed.
    let _ = jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER.install_default();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_parses_to_its_own_algorithm() {
        for algorithm in Algorithm::ALL {
            assert_eq!(Algorithm::parse(algorithm.as_str()), Some(algorithm));
        }
    }

    #[test]
    fn similar_names_do_not_parse() {
        for name in [
            "none", "NONE", "rs256", "RS256 ", "", "ES256K", "EDDSA", "ed25519", "Ed448", "HS1",
        ] {
            assert_eq!(Algorithm::parse(name), None, "{name}");
        }
    }

    #[test]
    fn a_set_accepts_its_members_and_both_names_of_ed25519() {
        for one in Algorithm::ALL {
            for other in Algorithm::ALL {
                assert_eq!(Algorithms::only(one).accept(other), one.means(other));
            }
        }
        let two = Algorithms::of([Algorithm::Es256, Algorithm::MlDsa65]).unwrap();
        let accepted: Vec<_> = Algorithm::ALL
            .into_iter()
            .filter(|one| two.accept(*one))
            .collect();
        assert_eq!(accepted, [Algorithm::Es256, Algorithm::MlDsa65]);
        assert_eq!(two.to_string(), "ES256 or ML-DSA-65");
        assert_eq!(Algorithms::of([]), None);
    }

    #[test]
    fn only_the_two_names_of_ed25519_are_equivalent() {
        for one in Algorithm::ALL {
            for other in Algorithm::ALL {
                let both_ed25519 = [one, other]
                    .iter()
                    .all(|known| matches!(known, Algorithm::EdDsa | Algorithm::Ed25519));
                assert_eq!(one.means(other), one == other || both_ed25519);
            }
        }
    }
}
