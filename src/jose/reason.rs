//! Why a token was rejected: the label for metrics and the access log, and the sentence for the log.

use std::borrow::Cow;
use std::fmt;

/// The closed list of reasons. A reason is a metric label, a field of the access log, and determines the response
/// status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Reason {
    /// No token was sent.
    Missing,
    /// Not a compact JWS, or with JSON that cannot be parsed.
    Malformed,
    /// The `alg` in the header is not the configured one.
    AlgNotAllowed,
    /// The set has no key with that id.
    UnknownKey,
    BadSignature,
    Expired,
    /// `nbf` or `iat` is in the future.
    NotYetValid,
    WrongIssuer,
    WrongAudience,
    MissingRole,
    MissingScope,
    /// The provider left the roles out of the token because there are too many (Entra ID).
    GroupsOverage,
    Revoked,
    /// An expression of the endpoint (`validation/cel`) is false.
    Rejected,
    /// No key set is available.
    KeysUnavailable,
    /// The provider says that the token is not active (RFC 7662).
    Inactive,
    /// The provider did not say whether the token is active.
    IntrospectionUnavailable,
    /// The token is bound to another certificate or key, or is not bound although it must be (RFC 8705, RFC 9449).
    WrongBinding,
    /// The proof of possession is missing, malformed, for another request, or was used before (RFC 9449).
    BadProof,
    /// The proof of possession needs a current nonce (RFC 9449 §9).
    UseNonce,
    /// It is unknown whether another gateway has seen the proof of possession, or the memory of used proofs is full.
    ProofsUnavailable,
    /// More than one credential was sent.
    AmbiguousCredentials,
    /// `crit` is present, and we implement no extension.
    CriticalHeader,
    /// The key exists but must not verify this token: it has the wrong type, is too weak, or is for another use.
    UnusableKey,
    /// A registered claim has the wrong type, or a claim cannot be propagated.
    BadClaim,
    /// The header says that this is not an access token, but a token for another purpose (RFC 8725 §3.11).
    WrongType,
    /// Too many tokens wait for a response of their provider, or the process holds too much to evaluate the expressions.
    Overloaded,
    /// The token server does not exchange this token (RFC 8693 §2.2.2).
    ExchangeRefused,
    /// The token server gives no token for this backend in exchange.
    ExchangeForbidden,
}

impl Reason {
    /// Every reason, so that metrics can start at zero.
    pub const ALL: [Reason; 29] = [
        Reason::Missing,
        Reason::Malformed,
        Reason::AlgNotAllowed,
        Reason::UnknownKey,
        Reason::BadSignature,
        Reason::Expired,
        Reason::NotYetValid,
        Reason::WrongIssuer,
        Reason::WrongAudience,
        Reason::MissingRole,
        Reason::MissingScope,
        Reason::GroupsOverage,
        Reason::Revoked,
        Reason::Rejected,
        Reason::KeysUnavailable,
        Reason::Inactive,
        Reason::IntrospectionUnavailable,
        Reason::WrongBinding,
        Reason::BadProof,
        Reason::UseNonce,
        Reason::ProofsUnavailable,
        Reason::AmbiguousCredentials,
        Reason::CriticalHeader,
        Reason::UnusableKey,
        Reason::BadClaim,
        Reason::WrongType,
        Reason::Overloaded,
        Reason::ExchangeRefused,
        Reason::ExchangeForbidden,
    ];

    /// The word, as in `portcullis_jwt_rejected_total{reason="expired"}`.
    pub fn as_str(self) -> &'static str {
        match self {
            Reason::Missing => "missing",
            Reason::Malformed => "malformed",
            Reason::AlgNotAllowed => "alg_not_allowed",
            Reason::UnknownKey => "unknown_key",
            Reason::BadSignature => "bad_signature",
            Reason::Expired => "expired",
            Reason::NotYetValid => "not_yet_valid",
            Reason::WrongIssuer => "wrong_issuer",
            Reason::WrongAudience => "wrong_audience",
            Reason::MissingRole => "missing_role",
            Reason::MissingScope => "missing_scope",
            Reason::GroupsOverage => "groups_overage",
            Reason::Revoked => "revoked",
            Reason::Rejected => "rejected",
            Reason::KeysUnavailable => "keys_unavailable",
            Reason::Inactive => "inactive",
            Reason::IntrospectionUnavailable => "introspection_unavailable",
            Reason::WrongBinding => "wrong_binding",
            Reason::BadProof => "bad_proof",
            Reason::UseNonce => "use_dpop_nonce",
            Reason::ProofsUnavailable => "proofs_unavailable",
            Reason::AmbiguousCredentials => "ambiguous_credentials",
            Reason::CriticalHeader => "critical_header",
            Reason::UnusableKey => "unusable_key",
            Reason::BadClaim => "bad_claim",
            Reason::WrongType => "wrong_type",
            Reason::Overloaded => "overloaded",
            Reason::ExchangeRefused => "exchange_refused",
            Reason::ExchangeForbidden => "exchange_forbidden",
        }
    }

    /// 403 for a valid token with insufficient permissions, 503 if the gateway is busy or cannot check a proof, 401 for everything else.
    pub fn status(self) -> u16 {
        match self {
            Reason::MissingRole
            | Reason::MissingScope
            | Reason::GroupsOverage
            | Reason::ExchangeForbidden => 403,
            Reason::Overloaded | Reason::ProofsUnavailable => 503,
            _ => 401,
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A rejected token: the reason and the sentence for the log. The sentence never contains text of the token.
///
/// A sentence that KrakenD logs too keeps its wording, because people search their logs for it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{detail}")]
pub struct Rejection {
    pub reason: Reason,
    pub detail: Cow<'static, str>,
}

impl Rejection {
    /// Creates a rejection with its sentence.
    pub fn new(reason: Reason, detail: impl Into<Cow<'static, str>>) -> Rejection {
        Rejection {
            reason,
            detail: detail.into(),
        }
    }

    /// No token was found in any of the configured places.
    pub fn missing() -> Rejection {
        Rejection::new(Reason::Missing, "Token not found")
    }

    /// The header has credentials of another scheme, such as `Basic`. The sentence is KrakenD's, which takes the whole
    /// value for a token.
    pub fn other_scheme() -> Rejection {
        Rejection::new(Reason::Missing, NOT_THREE_PARTS)
    }

    /// Two credentials in one request. It is undefined which of them an upstream would use.
    pub fn ambiguous() -> Rejection {
        Rejection::new(
            Reason::AmbiguousCredentials,
            "more than one credential in the request",
        )
    }

    /// The key server has not responded yet, or its last response is too old to be used.
    pub fn keys_unavailable() -> Rejection {
        Rejection::new(Reason::KeysUnavailable, "no key set is available")
    }

    /// The token is on the revocation list.
    pub fn revoked() -> Rejection {
        Rejection::new(Reason::Revoked, REJECTED)
    }

    /// An expression of the endpoint rejects the token.
    pub fn rejected() -> Rejection {
        Rejection::new(Reason::Rejected, REJECTED)
    }

    pub(super) fn bad_signature() -> Rejection {
        Rejection::new(Reason::BadSignature, PRIMITIVE)
    }

    pub(super) fn unusable_key() -> Rejection {
        Rejection::new(Reason::UnusableKey, PRIMITIVE)
    }
}

/// KrakenD's message for a text that is not three parts with dots between them.
pub(super) const NOT_THREE_PARTS: &str =
    "go-jose/go-jose: compact JWS format must have three parts";

/// KrakenD uses this message both for a revoked token and for one that an expression rejects.
const REJECTED: &str = "Token sent by client rejected";

/// KrakenD uses this message both for an invalid signature and for a key of the wrong type.
const PRIMITIVE: &str = "go-jose/go-jose: error in cryptographic primitive";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_missing_permissions_are_forbidden_rather_than_unauthorized() {
        let forbidden: Vec<_> = Reason::ALL
            .into_iter()
            .filter(|reason| reason.status() == 403)
            .collect();
        assert_eq!(
            forbidden,
            [
                Reason::MissingRole,
                Reason::MissingScope,
                Reason::GroupsOverage,
                Reason::ExchangeForbidden
            ]
        );
    }

    #[test]
    fn words_are_distinct() {
        let words: std::collections::HashSet<_> = Reason::ALL.iter().map(|r| r.as_str()).collect();
        assert_eq!(words.len(), Reason::ALL.len());
    }
}
