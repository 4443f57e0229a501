//! Claims in the URLs of backends, `{JWT.claim}`. They are checked before any backend is called.

use serde_json::Value;

use crate::config::ConfigError;
use crate::ext::context::EndpointSite;
use crate::jose::propagate::{path_segment, url_text};
use crate::jose::{Claims, Reason, Rejection};

/// The claims that the URLs of an endpoint's backends contain.
#[derive(Debug, Default)]
pub(super) struct UrlClaims {
    list: Box<[Place]>,
    /// `require_url_claims`
    required: bool,
}

#[derive(Debug)]
struct Place {
    claim: Box<str>,
    /// In a path, a value must be a segment; in a query, it may be empty.
    in_path: bool,
}

impl UrlClaims {
    pub(super) fn new(site: &EndpointSite<'_>, required: bool) -> UrlClaims {
        let list = site.url_claims.iter().map(|one| Place {
            claim: one.name.clone(),
            in_path: one.in_path,
        });
        UrlClaims {
            list: list.collect(),
            required,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether a request without a token lacks a claim.
    pub(super) fn need_a_token(&self) -> bool {
        self.required && !self.is_empty()
    }

    pub(super) fn check(&self, claims: &Claims) -> Result<(), Rejection> {
        self.list
            .iter()
            .try_for_each(|place| place.check(claims.claim(&place.claim), self.required))
    }

    /// The names of the claims, for `token explain`.
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.list.iter().map(|place| &*place.claim)
    }
}

impl Place {
    fn check(&self, value: Option<&Value>, required: bool) -> Result<(), Rejection> {
        let Place { claim, in_path } = self;
        let usable = match value {
            None if required => return Err(bad(claim, "is missing, and a backend's URL needs it")),
            None => return Ok(()),
            Some(_) if *in_path => path_segment(value).map(drop),
            Some(value) => url_text(value).map(drop),
        };
        usable.map_err(|rejection| {
            bad(
                claim,
                &format!("cannot be part of a backend's URL: {rejection}"),
            )
        })
    }
}

fn bad(claim: &str, why: &str) -> Rejection {
    Rejection::new(Reason::BadClaim, format!("claim {claim:?} {why}"))
}

/// The warning about an endpoint without a validator.
pub(in crate::ext) fn unnamed(site: &EndpointSite<'_>) {
    let prefix = format!("[ENDPOINT: {}][JWTValidator]", site.pattern);
    log::info!("{prefix} Validator disabled for this endpoint");
    for one in site.url_claims {
        let name = &one.name;
        one.node.warn_hint(
            ConfigError::invalid(format!(
                "{{JWT.{name}}} has no value without a token: the backend gets %7B%7B.JWT.{name}%7D%7D"
            )),
            "\"auth/validator\" in the endpoint's \"extra_config\"",
        );
    }
}
