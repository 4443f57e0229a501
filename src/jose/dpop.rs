//! Proofs of possession (RFC 9449): a token of the client's own that shows that it has the key to which an access token
//! is bound.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Map, Value};

use crate::jose::algorithm::Algorithms;
use crate::jose::claims::{Claims, NumericDate};
use crate::jose::key::Key;
use crate::jose::reason::{Reason, Rejection};
use crate::jose::strict_json;
use crate::jose::thumbprint::jwk_thumbprint;
use crate::jose::token::{Purpose, Token};

/// The longest proof. One with an RSA key of 4096 bits has about 2 kB, one with ML-DSA-65 about 8 kB.
const MAX_PROOF_BYTES: usize = 12 * 1024;

/// The members of private keys (RFC 7518 §6.2.2, §6.3.2, RFC 9964 §4): a proof must not contain any (RFC 9449 §4.2).
const PRIVATE_MEMBERS: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "priv"];

/// A proof whose signature was verified with its own key. Its claims have not been compared with the request yet.
#[derive(Debug)]
pub(crate) struct Proof {
    claims: Claims,
    /// The SHA-256 thumbprint of its key (RFC 7638), in base64url.
    pub thumbprint: String,
}

impl Proof {
    /// Checks form, type, algorithm, key and signature (RFC 9449 §4.3, numbers 2 to 7).
    ///
    /// # Errors
    /// [`Reason::BadProof`] for every fault.
    pub(crate) fn verify(text: &str, allowed: Algorithms) -> Result<Proof, Rejection> {
        if text.len() > MAX_PROOF_BYTES {
            return Err(bad("the proof is too long"));
        }
        let token = Token::parse(text).map_err(|fault| bad(format!("the proof: {fault}")))?;
        let algorithm = token
            .check_algorithm(allowed)
            .map_err(|_| bad("the proof has no algorithm that is allowed"))?;
        let mut header = header(text)?;
        token
            .check_type(Purpose::Proof)
            .map_err(|fault| bad(format!("the proof: {fault}")))?;
        let Some(Value::Object(mut jwk)) = header.remove("jwk") else {
            return Err(bad("the proof has no key"));
        };
        if PRIVATE_MEMBERS.iter().any(|name| jwk.contains_key(*name)) {
            return Err(bad("the proof's key is private"));
        }
        // Prepared for this algorithm only: anyone can send a key. A key of type AKP must name it (RFC 9964 §4).
        if jwk.get("kty").and_then(Value::as_str) != Some("AKP") {
            jwk.entry("alg")
                .or_insert_with(|| Value::from(algorithm.as_str()));
        }
        let key = Key::from_jwk(&jwk).map_err(|why| bad(format!("the proof's key: {why}")))?;
        let thumbprint =
            jwk_thumbprint(&jwk).ok_or_else(|| bad("the proof's key is not a public key"))?;
        token
            .verify(&key, allowed)
            .map_err(|fault| bad(format!("the proof: {fault}")))?;
        let claims = token
            .claims()
            .map_err(|fault| bad(format!("the proof: {fault}")))?;
        let proof = Proof { claims, thumbprint };
        let is_whole = ["htm", "htu"].iter().all(|name| proof.text(name).is_some())
            && proof.claims.issued_at().is_some()
            && proof.claims.token_id().is_some_and(|id| !id.is_empty());
        if is_whole {
            Ok(proof)
        } else {
            Err(bad("the proof lacks one of htm, htu, iat, jti"))
        }
    }

    /// The claim with this name, if it is a string: `htm`, `htu`, `ath`, `nonce`.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.claims.claim(name).and_then(Value::as_str)
    }

    /// `jti`
    pub(crate) fn id(&self) -> &str {
        self.claims.token_id().unwrap_or_default()
    }

    /// `exp`
    pub(crate) fn expiry(&self) -> Option<NumericDate> {
        self.claims.expiry()
    }

    /// `nbf`
    pub(crate) fn not_before(&self) -> Option<NumericDate> {
        self.claims.not_before()
    }

    /// `iat`
    pub(crate) fn issued_at(&self) -> Option<NumericDate> {
        self.claims.issued_at()
    }
}

/// The header once more, with its members. [`Token`] keeps only those that access tokens need.
fn header(text: &str) -> Result<Map<String, Value>, Rejection> {
    let header = text.split('.').next().unwrap_or_default();
    let json = URL_SAFE_NO_PAD
        .decode(header)
        .map_err(|_| bad("the proof is not base64url"))?;
    strict_json::object(&json).map_err(|fault| bad(format!("the proof: {fault}")))
}

fn bad(why: impl Into<std::borrow::Cow<'static, str>>) -> Rejection {
    Rejection::new(Reason::BadProof, why)
}

/// For the fuzzer and the property test: parses arbitrary text and must not panic.
pub fn parse_anything(text: &str) {
    if let Some(all) = Algorithms::of(crate::jose::Algorithm::ALL) {
        let _ = Proof::verify(text, all);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::jose::algorithm::Algorithm;
    use crate::jose::testing::{jwk, proof, set, signer};

    /// The example of RFC 9449 §4.1.
    const EXAMPLE: &str = "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJoRjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJqdGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0IjoxNTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg";

    fn es256() -> Algorithms {
        Algorithms::only(Algorithm::Es256)
    }

    #[test]
    fn the_example_of_the_rfc_is_valid() {
        let proof = Proof::verify(EXAMPLE, es256()).unwrap();
        assert_eq!(
            proof.thumbprint,
            "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I"
        );
        assert_eq!(proof.text("htm"), Some("POST"));
        assert_eq!(proof.text("htu"), Some("https://server.example.com/token"));
        assert_eq!(proof.id(), "-BwC3ESc6acc2lTc");
    }

    fn claims() -> Value {
        json!({"jti": "1", "htm": "GET", "htu": "https://a/b", "iat": 1_700_000_000})
    }

    #[test]
    fn proofs_of_all_asymmetric_algorithms_are_valid() {
        let all = Algorithms::of(Algorithm::ALL).unwrap();
        for algorithm in Algorithm::ALL {
            let kid = crate::jose::testing::kid(algorithm);
            let text = proof(algorithm, &jwk(kid, false), "dpop+jwt", &claims());
            let verified = Proof::verify(&text, all);
            assert_eq!(verified.is_ok(), kid != "oct", "{algorithm}");
        }
    }

    #[test]
    fn a_proof_that_breaks_a_rule_is_rejected() {
        let public = jwk("ec256", false);
        let valid = proof(Algorithm::Es256, &public, "dpop+jwt", &claims());
        assert!(Proof::verify(&valid, es256()).is_ok());
        assert!(Proof::verify(&valid, Algorithms::only(Algorithm::Es384)).is_err());
        let mut wrong = vec![
            proof(Algorithm::Es256, &public, "JWT", &claims()),
            proof(Algorithm::Es256, &public, "APPLICATION/JWT", &claims()),
            proof(Algorithm::Es256, &jwk("ec256", true), "dpop+jwt", &claims()),
            proof(
                Algorithm::Es256,
                &jwk("ec384", false),
                "dpop+jwt",
                &claims(),
            ),
            proof(Algorithm::Es256, &json!(null), "dpop+jwt", &claims()),
            proof(
                Algorithm::Es256,
                &json!({"kty": "EC"}),
                "dpop+jwt",
                &claims(),
            ),
            proof(Algorithm::Hs256, &jwk("oct", false), "dpop+jwt", &claims()),
            signer(Algorithm::Es256)
                .sign(claims().to_string().as_bytes())
                .unwrap(),
            String::from_utf8(set(std::slice::from_ref(&public))).unwrap(),
            "a".repeat(20_000),
        ];
        let mut half_private = public.clone();
        half_private["p"] = json!("AQAB");
        wrong.push(proof(
            Algorithm::Es256,
            &half_private,
            "dpop+jwt",
            &claims(),
        ));
        for name in ["jti", "htm", "htu", "iat"] {
            for value in [json!(null), json!(7.5), json!(""), json!(["x"])] {
                let mut claims = claims();
                if name == "iat" && value == json!(7.5) || value == json!("") && name != "jti" {
                    claims.as_object_mut().unwrap().remove(name);
                } else {
                    claims[name] = value;
                }
                wrong.push(proof(Algorithm::Es256, &public, "dpop+jwt", &claims));
            }
        }
        for text in &wrong {
            let rejection = Proof::verify(text, es256()).expect_err(text);
            assert_eq!(rejection.reason, Reason::BadProof);
        }
    }

    #[test]
    fn a_post_quantum_key_must_name_its_algorithm() {
        let allowed = Algorithms::only(Algorithm::MlDsa44);
        let mut key = jwk(crate::jose::testing::kid(Algorithm::MlDsa44), false);
        let sign = |key: &Value| proof(Algorithm::MlDsa44, key, "dpop+jwt", &claims());
        assert!(Proof::verify(&sign(&key), allowed).is_ok());
        key.as_object_mut().unwrap().remove("alg");
        assert!(Proof::verify(&sign(&key), allowed).is_err());
    }

    proptest! {
        #[test]
        fn no_text_panics(text: String, at in 0..EXAMPLE.len(), letter: char) {
            parse_anything(&text);
            let mut changed: Vec<char> = EXAMPLE.chars().collect();
            changed[at] = letter;
            let changed: String = changed.into_iter().collect();
            prop_assert_eq!(Proof::verify(&changed, es256()).is_ok(), changed == EXAMPLE);
        }
    }
}
