//! How the gateway authenticates as a client at a provider: for introspection and for token exchange.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::{AUTHORIZATION, HeaderMap};
use serde_json::json;

use super::request::basic;
use super::response::TokenError;
use crate::jose::Signer;
use crate::telemetry::mask::KnownSecrets;

/// How long a client assertion is valid. It is used at once.
const ASSERTION_LIFE: Duration = Duration::from_secs(60);

const ASSERTION_TYPE: &str = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer";

/// A client and its proof of identity (OpenID Connect Core §9).
#[derive(Clone)]
pub(crate) struct ClientAuth {
    pub client_id: String,
    pub proof: ClientProof,
}

/// The methods of client authentication.
#[derive(Clone)]
pub(crate) enum ClientProof {
    /// `client_secret_basic` (RFC 6749 §2.3.1)
    Basic(String),
    /// `client_secret_post` (RFC 6749 §2.3.1)
    Post(String),
    /// `private_key_jwt` (RFC 7523 §2.2): a signed assertion for this audience.
    Assertion {
        signer: Arc<Signer>,
        audience: String,
    },
    /// `tls_client_auth` (RFC 8705 §2): the certificate of the connection. The request only names the client.
    Certificate,
}

impl ClientAuth {
    /// Adds the client to a request. `now` is the time since the Unix epoch.
    ///
    /// # Errors
    /// The assertion cannot be signed, or the credentials cannot be sent in a header.
    pub(crate) fn apply(
        &self,
        headers: &mut HeaderMap,
        fields: &mut Vec<(Cow<'static, str>, String)>,
        now: Duration,
    ) -> Result<(), TokenError> {
        match &self.proof {
            ClientProof::Basic(secret) => {
                headers.insert(AUTHORIZATION, basic(&self.client_id, secret)?);
                return Ok(());
            }
            ClientProof::Post(secret) => fields.push(("client_secret".into(), secret.clone())),
            ClientProof::Assertion { signer, audience } => {
                fields.push(("client_assertion_type".into(), ASSERTION_TYPE.to_owned()));
                fields.push((
                    "client_assertion".into(),
                    self.assertion(signer, audience, now)?,
                ));
            }
            ClientProof::Certificate => {}
        }
        fields.push(("client_id".into(), self.client_id.clone()));
        Ok(())
    }

    /// What a request contains of this client that no log may show. An assertion is masked as any signed token.
    pub(crate) fn secrets(&self) -> KnownSecrets {
        let mut known = KnownSecrets::default();
        if let ClientProof::Basic(secret) | ClientProof::Post(secret) = &self.proof {
            known.add(secret);
        }
        known
    }

    /// The claims of RFC 7523 §3. `jti` makes each assertion unique, so that the provider can reject replays.
    fn assertion(
        &self,
        signer: &Signer,
        audience: &str,
        now: Duration,
    ) -> Result<String, TokenError> {
        let mut id = [0; 16];
        rand::fill(&mut id).map_err(|_| TokenError::Unusable("oauth2: no random numbers"))?;
        let now = now.as_secs();
        let claims = json!({
            "iss": self.client_id, "sub": self.client_id, "aud": audience,
            "iat": now, "exp": now + ASSERTION_LIFE.as_secs(), "jti": URL_SAFE_NO_PAD.encode(id),
        });
        signer
            .sign(claims.to_string().as_bytes())
            .map_err(|_| TokenError::Unusable("oauth2: the client assertion cannot be signed"))
    }
}

impl fmt::Debug for ClientAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientAuth")
            .field("client_id", &self.client_id)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::jose::testing::{public_set, signer};
    use crate::jose::{Algorithm, KeyIdStrategy, Verifier};

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn applied(proof: ClientProof) -> (HeaderMap, Vec<(String, String)>) {
        let auth = ClientAuth {
            client_id: "the id".to_owned(),
            proof,
        };
        assert!(!format!("{auth:?}").contains("s3"));
        let (mut headers, mut fields) = (HeaderMap::new(), Vec::new());
        auth.apply(&mut headers, &mut fields, NOW).unwrap();
        let fields = fields.into_iter();
        (
            headers,
            fields
                .map(|(name, value)| (name.into_owned(), value))
                .collect(),
        )
    }

    #[test]
    fn a_secret_is_in_the_header_or_in_the_form() {
        let (headers, fields) = applied(ClientProof::Basic("s3:".to_owned()));
        assert_eq!(headers[AUTHORIZATION], "Basic dGhlK2lkOnMzJTNB");
        assert_eq!(fields, []);
        let (headers, fields) = applied(ClientProof::Post("s3:".to_owned()));
        assert!(headers.is_empty());
        let sent = [("client_secret", "s3:"), ("client_id", "the id")];
        assert_eq!(
            fields,
            sent.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        let (headers, fields) = applied(ClientProof::Certificate);
        assert!(headers.is_empty());
        assert_eq!(fields, [("client_id".to_owned(), "the id".to_owned())]);
    }

    #[test]
    fn an_assertion_has_the_claims_of_rfc_7523_and_is_never_the_same() {
        let proof = ClientProof::Assertion {
            signer: Arc::new(signer(Algorithm::Es256)),
            audience: "https://as/token".to_owned(),
        };
        let mut seen = Vec::new();
        for _ in 0..2 {
            let (_, fields) = applied(proof.clone());
            assert_eq!(fields[0].1, ASSERTION_TYPE);
            let verifier = Verifier::new(Algorithm::Es256, KeyIdStrategy::Kid);
            let claims = verifier.verify(&fields[1].1, &public_set()).unwrap();
            assert_eq!(claims.issuer(), Some("the id"));
            assert_eq!(claims.subject(), Some("the id"));
            assert_eq!(claims.audience().collect::<Vec<_>>(), ["https://as/token"]);
            assert_eq!(claims.expiry().unwrap().since_epoch(), NOW + ASSERTION_LIFE);
            seen.push(claims.token_id().unwrap().to_owned());
        }
        assert_ne!(seen[0], seen[1]);
    }
}
