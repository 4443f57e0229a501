//! The responses to rejected requests: status, challenge (RFC 6750 §3) and optionally a problem document (RFC 9457).
//!
//! All responses are built when the configuration is compiled. They never contain any part of a token.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderValue, StatusCode};
use serde_json::json;

use crate::ext::identity::ExchangeRejections;
use crate::jose::Reason;
use crate::runtime::response::Response;

/// One response for each reason. Endpoints whose responses are equal share them.
#[derive(Debug)]
pub(super) struct Challenges {
    by_reason: Box<[Challenge]>,
    /// For the backends of the endpoint.
    pub(super) exchange: Arc<ExchangeRejections>,
}

/// The parts of a response. A response has space for headers of its steps, which would be kilobytes for each endpoint.
#[derive(Debug)]
struct Challenge {
    status: StatusCode,
    bearer: Option<HeaderValue>,
    dpop: Option<HeaderValue>,
    /// Empty without `error_body`.
    problem: Bytes,
}

/// What the responses depend on.
#[derive(Debug, Default)]
pub(super) struct Wanted<'w> {
    /// The scopes that the endpoint requires.
    pub(super) scopes: &'w [Box<str>],
    /// The URL of the metadata of this resource (RFC 9728 §5.1).
    pub(super) metadata: Option<&'w str>,
    pub(super) problem: bool,
    pub(super) dpop: Option<DpopWanted>,
}

/// The algorithms of proofs, if the endpoint accepts any (RFC 9449 §7.1).
#[derive(Debug)]
pub(super) struct DpopWanted {
    pub(super) algorithms: String,
    pub(super) required: bool,
}

impl Challenges {
    pub(super) fn new(wanted: &Wanted<'_>) -> Challenges {
        let by_reason = Reason::ALL.map(|reason| Challenge::new(reason, wanted));
        let response = |reason: Reason| response(&by_reason, reason);
        let exchange = Arc::new(ExchangeRejections {
            missing: response(Reason::Missing),
            refused: response(Reason::ExchangeRefused),
            forbidden: response(Reason::ExchangeForbidden),
        });
        Challenges {
            by_reason: by_reason.into(),
            exchange,
        }
    }

    pub(super) fn response(&self, reason: Reason) -> Response {
        response(&self.by_reason, reason)
    }
}

fn response(all: &[Challenge], reason: Reason) -> Response {
    match all.get(reason as usize) {
        Some(challenge) => challenge.response(),
        None => Response::empty(StatusCode::UNAUTHORIZED),
    }
}

impl Challenge {
    fn new(reason: Reason, wanted: &Wanted<'_>) -> Challenge {
        let status = StatusCode::from_u16(reason.status()).unwrap_or(StatusCode::UNAUTHORIZED);
        let (bearer, dpop) = schemes(reason, wanted.dpop.as_ref());
        let challenge = |scheme: &'static str| {
            HeaderValue::try_from(challenge(scheme, reason, wanted))
                .unwrap_or_else(|_| HeaderValue::from_static(scheme))
        };
        let problem = wanted.problem.then(|| {
            json!({
                "type": "about:blank",
                "title": status.canonical_reason().unwrap_or_default(),
                "status": status.as_u16(),
                "detail": description(reason),
                "reason": reason.as_str(),
            })
        });
        Challenge {
            status,
            bearer: bearer.then(|| challenge("Bearer")),
            dpop: dpop.then(|| challenge("DPoP")),
            problem: problem.map_or_else(Bytes::new, |document| document.to_string().into()),
        }
    }

    fn response(&self) -> Response {
        let mut response = Response::empty(self.status);
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response = response.with(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        for challenge in [&self.bearer, &self.dpop].into_iter().flatten() {
            response = response.with(WWW_AUTHENTICATE, challenge.clone());
        }
        if !self.problem.is_empty() {
            response.body = self.problem.clone();
            response = response.with(
                CONTENT_TYPE,
                HeaderValue::from_static("application/problem+json"),
            );
        }
        response
    }
}

/// Which schemes are challenged. Another token does not help if the gateway is busy or cannot check proofs. A fault of the
/// proof concerns only one of them.
fn schemes(reason: Reason, dpop: Option<&DpopWanted>) -> (bool, bool) {
    match dpop {
        _ if matches!(reason, Reason::Overloaded | Reason::ProofsUnavailable) => (false, false),
        None => (true, false),
        Some(dpop) if dpop.required => (false, true),
        Some(_) if matches!(reason, Reason::BadProof | Reason::UseNonce) => (false, true),
        Some(_) => (true, true),
    }
}

fn challenge(scheme: &str, reason: Reason, wanted: &Wanted<'_>) -> String {
    let error = error(reason);
    let description = error.map(|_| description(reason).to_owned());
    let scope = (reason == Reason::MissingScope).then(|| wanted.scopes.join(" "));
    let algorithms = wanted.dpop.as_ref().filter(|_| scheme == "DPoP");
    let parameters = [
        ("error", error.map(str::to_owned)),
        ("error_description", description),
        ("scope", scope),
        ("resource_metadata", wanted.metadata.map(str::to_owned)),
        ("algs", algorithms.map(|dpop| dpop.algorithms.clone())),
    ];
    let written: Vec<String> = parameters
        .into_iter()
        .filter_map(|(name, value)| Some(format!("{name}=\"{}\"", quoted(&value?))))
        .collect();
    if written.is_empty() {
        scheme.to_owned()
    } else {
        format!("{scheme} {}", written.join(", "))
    }
}

/// The error code of RFC 6750 §3.1. There is none for a request without a token, and none for a token that cannot be
/// verified at the moment: the client should not fetch a new one.
fn error(reason: Reason) -> Option<&'static str> {
    match reason {
        Reason::Missing
        | Reason::KeysUnavailable
        | Reason::IntrospectionUnavailable
        | Reason::ProofsUnavailable
        | Reason::Overloaded => None,
        Reason::AmbiguousCredentials => Some("invalid_request"),
        Reason::BadProof => Some("invalid_dpop_proof"),
        Reason::UseNonce => Some("use_dpop_nonce"),
        Reason::MissingRole
        | Reason::MissingScope
        | Reason::GroupsOverage
        | Reason::ExchangeForbidden => Some("insufficient_scope"),
        _ => Some("invalid_token"),
    }
}

fn description(reason: Reason) -> &'static str {
    match reason {
        Reason::Missing => "a token is required",
        Reason::Malformed => "the token is malformed",
        Reason::AlgNotAllowed => "the token is signed with another algorithm",
        Reason::UnknownKey => "the token is signed with an unknown key",
        Reason::BadSignature => "the signature is wrong",
        Reason::Expired => "the token is expired",
        Reason::NotYetValid => "the token is not valid yet",
        Reason::WrongIssuer => "the token comes from another issuer",
        Reason::WrongAudience => "the token is meant for another audience",
        Reason::MissingRole => "a role is missing",
        Reason::MissingScope => "a scope is missing",
        Reason::GroupsOverage => "the token lacks the groups, because there are too many",
        Reason::Revoked => "the token is revoked",
        Reason::Rejected => "the token is not accepted here",
        Reason::Inactive => "the token is not active",
        Reason::KeysUnavailable | Reason::IntrospectionUnavailable | Reason::ProofsUnavailable => {
            "tokens cannot be checked at the moment"
        }
        Reason::WrongBinding => "the token is not with the client to which it was issued",
        Reason::BadProof => "the proof of possession is not valid",
        Reason::UseNonce => "the proof of possession needs a nonce of this server",
        Reason::AmbiguousCredentials => "more than one token was sent",
        Reason::CriticalHeader => "the token requires an extension",
        Reason::UnusableKey => "the token is signed with an unusable key",
        Reason::BadClaim => "a claim of the token is unusable",
        Reason::WrongType => "this is not an access token",
        Reason::Overloaded => "too many tokens are being checked at the moment",
        Reason::ExchangeRefused => "the token cannot be exchanged for one of the backend",
        Reason::ExchangeForbidden => "the client may not have a token for the backend",
    }
}

/// The content of a quoted string (RFC 9110 §5.6.4). Characters that are not allowed there are left out.
fn quoted(text: &str) -> String {
    text.chars()
        .filter(|character| !character.is_control())
        .flat_map(|character| match character {
            '"' | '\\' => [Some('\\'), Some(character)],
            other => [Some(other), None],
        })
        .flatten()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_parts_of_a_response_are_a_fraction_of_it() {
        let parts = size_of::<Challenge>();
        assert!(parts <= 128, "{parts}");
    }
}
