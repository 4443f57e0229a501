//! The validator of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::challenge::Challenges;
use super::credential::Places;
use super::url_claims::UrlClaims;
use crate::ext::identity::{Demand, PublicKeys, Revocation};
use crate::jose::propagate::{Arrays, Elements, header_values};
use crate::jose::{
    ClaimPath, Claims, Origin, Reason, Rejection, Rules, Token, TokenCache, Verified, Verifier,
};
use crate::runtime::clock::Clock;
use crate::runtime::request::{Head, Notes};
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::keys::{FailedKeys, KeySource, Snapshot};

/// How long a request waits for the first key set of a source. A slower provider may hang, and all requests would wait
/// for it. The fetch continues, and later requests use its result.
const FIRST_KEYS: Duration = Duration::from_millis(400);

/// The validator of one endpoint.
#[derive(Debug)]
pub struct Validator {
    pub(super) log: Log,
    pub(super) places: Places,
    /// Whether a request without a token passes.
    pub(super) optional: bool,
    pub(super) require_expiry: bool,
    pub(super) providers: Providers,
    pub(super) tokens: Arc<TokenCache>,
    /// Counts the tokens without an expiry.
    pub(super) without_expiry: Arc<AtomicU64>,
    pub(super) revocation: Option<Arc<dyn Revocation>>,
    /// Further requirements of the endpoint: `validation/cel`.
    pub(super) demand: Option<Arc<dyn Demand>>,
    pub(super) propagate: Box<[Propagation]>,
    pub(super) url_claims: UrlClaims,
    pub(super) arrays: Arrays,
    pub(super) elements: Elements,
    pub(super) challenges: Challenges,
    /// How long a request may wait for keys.
    pub(super) timeout: Duration,
    pub(super) clock: Clock,
}

/// The providers whose tokens are accepted. Without any, nothing can be verified, and every request is rejected.
#[derive(Debug, Default)]
pub(super) struct Providers {
    pub(super) list: Box<[Provider]>,
    /// Whether the token's `iss` selects the provider, even if there is only one.
    pub(super) by_issuer: bool,
}

/// One source of keys, and the requirements on tokens that its keys verify.
#[derive(Debug)]
pub struct Provider {
    pub source: Arc<KeySource<PublicKeys>>,
    pub verifier: Verifier,
    pub rules: Rules,
    /// Unknown key ids that were already looked up (`failed_jwk_key_cooldown`).
    pub failed: Option<FailedKeys>,
}

/// A claim that is copied to a header.
#[derive(Debug)]
pub struct Propagation {
    pub claim: ClaimPath,
    pub header: HeaderName,
}

/// The log lines of a validator.
#[derive(Debug)]
pub(super) struct Log {
    /// `[ENDPOINT: /x][JWTValidator]`
    pub(super) prefix: Box<str>,
    /// `operation_debug`
    pub(super) debug: bool,
}

/// The result of the validation, or what is missing for it.
enum Verdict<'a> {
    Claims(Arc<Claims>),
    Rejected(Rejection),
    Wait(&'a Provider, Want),
}

enum Want {
    /// There is no key set yet.
    Keys,
    /// The key set has no such key. The id, if unknown ids are remembered.
    Newer(Option<String>),
}

impl EndpointStep for Arc<Validator> {
    fn name(&self) -> &'static str {
        "auth/validator"
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        self.decide(head, notes, Keys::AsTheyAre)
    }
}

/// Whether key sets were waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Keys {
    AsTheyAre,
    /// Nothing more is waited for.
    Fetched,
}

impl Validator {
    fn decide<'a>(&'a self, head: &Head<'_>, notes: &mut Notes, keys: Keys) -> Gate<'a> {
        let token = match self.places.token(head) {
            Ok(Some(token)) => token,
            Ok(None) if self.optional && !self.url_claims.need_a_token() => {
                self.places.keep_only("", head, notes);
                return self.anonymous(notes);
            }
            Ok(None) => return self.reject(&Rejection::missing(), notes),
            Err(rejection) => return self.reject(&rejection, notes),
        };
        match self.judge(token, keys, notes) {
            Verdict::Claims(claims) => match self.hand_on(&claims, notes) {
                Ok(()) => {
                    if claims.expiry().is_none() {
                        self.without_expiry.fetch_add(1, Ordering::Relaxed);
                    }
                    self.places.keep_only(token, head, notes);
                    notes.claims = Some(claims);
                    Gate::Pass
                }
                Err(rejection) => self.reject(&rejection, notes),
            },
            Verdict::Rejected(rejection) => self.reject(&rejection, notes),
            Verdict::Wait(provider, want) => {
                let fetching = provider.fetch(want, self.timeout);
                Gate::wait(fetching, |_, head, notes| {
                    self.decide(head, notes, Keys::Fetched)
                })
            }
        }
    }
}

impl Validator {
    /// The providers of the endpoint.
    pub fn providers(&self) -> &[Provider] {
        &self.providers.list
    }

    fn judge<'a>(&'a self, token: &str, keys: Keys, notes: &mut Notes) -> Verdict<'a> {
        let now = self.clock.wall();
        if let Some((provider, claims)) = self.remembered(token, now) {
            return self.admitted(provider, claims, now);
        }
        let provider = match self.provider(token) {
            Ok(provider) => provider,
            Err(rejection) => return Verdict::Rejected(rejection),
        };
        let current = provider.source.current();
        let Some(snapshot) = current.as_ref() else {
            return match keys {
                Keys::AsTheyAre => Verdict::Wait(provider, Want::Keys),
                Keys::Fetched => Verdict::Rejected(provider.keys_unavailable(self.log.debug)),
            };
        };
        let verified = self.verify(provider, snapshot, token, now);
        notes.computed |= verified.computed;
        match verified.verdict {
            Ok(claims) => self.admitted(provider, claims, now),
            Err(rejection) if rejection.reason == Reason::UnknownKey && keys == Keys::AsTheyAre => {
                match provider.want(token) {
                    Some(want) => Verdict::Wait(provider, want),
                    None => Verdict::Rejected(rejection),
                }
            }
            Err(rejection) => Verdict::Rejected(rejection),
        }
    }

    /// With several providers: the one that has already verified this token, so that the token need not be parsed to
    /// find its issuer. Providers can share a key set and its cached tokens, so the issuer decides here too.
    fn remembered(&self, token: &str, now: Duration) -> Option<(&Provider, Arc<Claims>)> {
        if !self.providers.by_issuer {
            return None;
        }
        self.providers.list.iter().find_map(|provider| {
            let current = provider.source.current();
            let origin = provider.origin(current.as_ref()?.generation);
            let claims = provider.verifier.recall(token, origin, &self.tokens, now)?;
            provider.issued(&claims).then_some((provider, claims))
        })
    }

    fn admitted<'a>(
        &'a self,
        provider: &'a Provider,
        claims: Arc<Claims>,
        now: Duration,
    ) -> Verdict<'a> {
        match self.admit(provider, &claims, now) {
            Ok(()) => Verdict::Claims(claims),
            Err(rejection) => Verdict::Rejected(rejection),
        }
    }

    fn verify(
        &self,
        provider: &Provider,
        snapshot: &Snapshot<PublicKeys>,
        token: &str,
        now: Duration,
    ) -> Verified {
        let PublicKeys(keys) = &*snapshot.set;
        let origin = provider.origin(snapshot.generation);
        let leeway = provider.rules.leeway;
        provider
            .verifier
            .verify_cached(token, keys, origin, &self.tokens, now, leeway)
    }

    /// The checks of the claims for every request, in KrakenD's order.
    fn admit(&self, provider: &Provider, claims: &Claims, now: Duration) -> Result<(), Rejection> {
        provider.rules.check_identity(claims, now)?;
        self.check_limited(claims)?;
        self.check_revocation(claims)?;
        self.check_demand(claims)?;
        provider.rules.check_access(claims)
    }

    pub(super) fn check_limited(&self, claims: &Claims) -> Result<(), Rejection> {
        if self.require_expiry && claims.expiry().is_none() {
            Err(Rejection::new(
                Reason::BadClaim,
                "claim \"exp\" is missing, and require_exp is set",
            ))
        } else {
            Ok(())
        }
    }

    pub(super) fn check_revocation(&self, claims: &Claims) -> Result<(), Rejection> {
        match &self.revocation {
            Some(revocation) if revocation.is_revoked(claims) => Err(Rejection::revoked()),
            _ => Ok(()),
        }
    }

    pub(super) fn check_demand(&self, claims: &Claims) -> Result<(), Rejection> {
        match &self.demand {
            Some(demand) if !demand.admits(claims) => Err(Rejection::rejected()),
            _ => Ok(()),
        }
    }

    /// With several providers: the one that the token names. This only selects the keys; it proves nothing.
    pub(super) fn provider(&self, token: &str) -> Result<&Provider, Rejection> {
        let Providers { list, by_issuer } = &self.providers;
        match &**list {
            [] => Err(Rejection::keys_unavailable()),
            [one] if !by_issuer => Ok(one),
            several => {
                let claims = Token::parse(token)?.claims()?;
                several
                    .iter()
                    .find(|provider| provider.issued(&claims))
                    .ok_or_else(wrong_issuer)
            }
        }
    }

    /// Without a token there are no claims. The client's own headers with the names of claims are removed.
    fn anonymous<'g>(&self, notes: &mut Notes) -> Gate<'g> {
        for propagation in &self.propagate {
            notes.set_header(&propagation.header, SmallVec::new());
        }
        Gate::Pass
    }

    /// Copies claims to headers and URLs for the backends.
    fn hand_on(&self, claims: &Claims, notes: &mut Notes) -> Result<(), Rejection> {
        self.propagate(claims, notes)?;
        self.url_claims.check(claims)
    }

    fn propagate(&self, claims: &Claims, notes: &mut Notes) -> Result<(), Rejection> {
        for propagation in &self.propagate {
            let values = self.header_values(propagation, claims)?;
            notes.set_header(&propagation.header, values);
        }
        Ok(())
    }

    pub(super) fn header_values(
        &self,
        propagation: &Propagation,
        claims: &Claims,
    ) -> Result<SmallVec<[HeaderValue; 1]>, Rejection> {
        let Propagation { claim, header } = propagation;
        let unfit = |why: &str| {
            let name = claim.name();
            Rejection::new(
                Reason::BadClaim,
                format!("claim {name:?} cannot stand in the header {header}: {why}"),
            )
        };
        header_values(claim.find(claims), self.arrays, self.elements)
            .map_err(|rejection| unfit(&rejection.detail))?
            .into_iter()
            .map(HeaderValue::try_from)
            .collect::<Result<_, _>>()
            .map_err(|_| unfit("no header can carry it"))
    }

    fn reject<'g>(&self, rejection: &Rejection, notes: &mut Notes) -> Gate<'g> {
        self.log.rejected(rejection);
        if rejection.reason == Reason::Missing {
            notes.errors.push(rejection.detail.clone());
        }
        notes.rejected = Some(rejection.reason.as_str());
        notes.token_rejected = true;
        Gate::Reject(self.challenges.response(rejection.reason))
    }
}

impl Log {
    /// A missing token is logged even without `operation_debug`, because new users see it first. The level is WARNING,
    /// at which the log limits how often one statement is written.
    fn rejected(&self, rejection: &Rejection) {
        let Log { prefix, debug } = self;
        match (rejection.reason, debug) {
            (
                Reason::MissingRole | Reason::MissingScope | Reason::Revoked | Reason::Rejected,
                true,
            ) => {
                log::error!("{prefix} {rejection}");
            }
            (_, true) => log::error!("{prefix} Unable to validate the token: {rejection}"),
            (Reason::Missing, false) => {
                log::warn!("{prefix} Unable to validate the token: {rejection}");
            }
            (Reason::BadClaim, false) => log::warn!("{prefix} Token refused: {rejection}"),
            (_, false) => {}
        }
    }
}

impl Provider {
    /// The proof that a token was verified with this generation of the source's document.
    pub(super) fn origin(&self, generation: u64) -> Origin {
        Origin(generation)
    }

    /// Whether the claims name this provider as their issuer.
    fn issued(&self, claims: &Claims) -> bool {
        let named = claims.issuer();
        named.is_some() && self.rules.issuer.as_deref() == named
    }

    async fn fetch(&self, want: Want, timeout: Duration) {
        match want {
            Want::Keys => self.source.ready(timeout.min(FIRST_KEYS)).await,
            Want::Newer(id) => {
                let fetched = self.source.refresh_for_unknown(timeout).await;
                // An id counts as unknown only after it was looked up.
                if let (Some(failed), Some(id), true) = (&self.failed, id, fetched)
                    && !self.has(&id)
                {
                    failed.insert(&id);
                }
            }
        }
    }

    fn has(&self, id: &str) -> bool {
        self.source
            .current()
            .as_ref()
            .is_some_and(|snapshot| snapshot.set.0.by_id(self.verifier.strategy, id).is_some())
    }

    /// With `operation_debug`, the reason is logged.
    fn keys_unavailable(&self, debug: bool) -> Rejection {
        match self.source.status().last_error {
            Some(error) if debug => Rejection::new(Reason::KeysUnavailable, error),
            _ => Rejection::keys_unavailable(),
        }
    }

    /// What to wait for if a token has an unknown key; `None` if its id is known not to exist.
    fn want(&self, token: &str) -> Option<Want> {
        let Some(failed) = &self.failed else {
            return Some(Want::Newer(None));
        };
        let id = Token::parse(token)
            .ok()?
            .key_id(self.verifier.strategy)
            .ok()?
            .into_owned();
        if failed.contains(&id) {
            None
        } else {
            Some(Want::Newer(Some(id)))
        }
    }
}

fn wrong_issuer() -> Rejection {
    Rejection::new(
        Reason::WrongIssuer,
        "go-jose/go-jose/jwt: validation failed, invalid issuer claim (iss)",
    )
}
