//! The validator of a request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::header::CACHE_CONTROL;
use http::{HeaderName, HeaderValue};
use smallvec::SmallVec;

use super::binding::{Binding, DPOP_NONCE, Now, Scheme};
use super::challenge::Challenges;
use super::credential::Places;
use super::introspection::Introspection;
use super::key_source::{Keys, Want};
use super::log::Log;
use super::shared_proofs::{Use, unshared};
use super::url_claims::UrlClaims;
use crate::ext::identity::{Client, PublicKeys, Requirement, Revocation, SubjectWanted};
use crate::jose::propagate::{Arrays, Elements, header_values};
use crate::jose::{
    ClaimPath, Claims, Purpose, Reason, Rejection, Rules, SubjectToken, Token, TokenCache,
    Verified, token_text,
};
use crate::runtime::clock::Clock;
use crate::runtime::request::{Head, Notes};
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::keys::Snapshot;

/// A stored response must not contain an old nonce (RFC 9449 §8.2).
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

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
    pub(super) demand: Option<Arc<dyn Requirement>>,
    pub(super) propagate: Box<[Propagation]>,
    pub(super) url_claims: UrlClaims,
    pub(super) binding: Binding,
    /// Whether a backend exchanges the token.
    pub(super) subject: Arc<SubjectWanted>,
    pub(super) arrays: Arrays,
    pub(super) elements: Elements,
    pub(super) challenges: Arc<Challenges>,
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

/// One way to prove that a token is genuine, and the requirements on its claims.
#[derive(Debug)]
pub struct Provider {
    pub proof: Proof,
    pub rules: Rules,
}

/// How a token is shown to be genuine.
#[derive(Debug)]
pub enum Proof {
    /// Its signature is verified.
    Keys(Keys),
    /// By introspection.
    Introspection(Arc<Introspection>),
}

/// A claim that is copied to a header.
#[derive(Debug)]
pub(crate) struct Propagation {
    pub claim: ClaimPath,
    pub header: HeaderName,
}

/// The result of the validation, or what must be fetched for it.
enum Verdict<'a> {
    Claims(Arc<Claims>),
    Rejected(Rejection),
    Wait(&'a Keys, Want),
    Ask(&'a Provider, &'a Arc<Introspection>),
}

impl EndpointStep for Arc<Validator> {
    fn name(&self) -> &'static str {
        "auth/validator"
    }

    fn check<'a>(&'a self, head: &Head<'_>, notes: &mut Notes) -> Gate<'a> {
        self.decide(head, notes, Waited::No)
    }
}

/// What was waited for. Nothing more is waited for then.
enum Waited<'a> {
    No,
    /// Key sets.
    Keys,
    /// The response of the provider about the token.
    Answer(&'a Provider, Result<Arc<Claims>, Rejection>),
}

impl Validator {
    fn decide<'a>(&'a self, head: &Head<'_>, notes: &mut Notes, waited: Waited<'a>) -> Gate<'a> {
        let (scheme, token) = match self.places.token(head) {
            Ok(Some(found)) => found,
            Ok(None) if self.optional && !self.url_claims.need_a_token() => {
                self.places.keep_only(b"", head, notes);
                self.binding.keep_only_of_proxies(head, notes);
                return self.anonymous(notes);
            }
            Ok(None) => return self.reject(&Rejection::missing(), notes),
            Err(rejection) => return self.reject(&rejection, notes),
        };
        match self.judge(token, waited, notes) {
            Verdict::Claims(claims) => match self.hand_on(&claims, head, scheme, token, notes) {
                Ok(None) => self.accept(claims, token, head, notes),
                Ok(Some(to_share)) => {
                    let token = token.to_owned();
                    let sharing = to_share.ask(self.timeout);
                    Gate::wait(sharing, move |shared, head, notes| match shared {
                        Some(Ok(())) => self.accept(claims, &token, head, notes),
                        Some(Err(rejection)) => self.reject(&rejection, notes),
                        None => self.reject(&unshared(), notes),
                    })
                }
                Err(rejection) => self.reject(&rejection, notes),
            },
            Verdict::Rejected(rejection) => self.reject(&rejection, notes),
            Verdict::Wait(keys, want) => {
                let fetching = keys.fetch(want, self.timeout);
                Gate::wait(fetching, |_, head, notes| {
                    self.decide(head, notes, Waited::Keys)
                })
            }
            Verdict::Ask(provider, introspection) => {
                let (token, timeout) = (token.to_owned(), self.timeout);
                let client = Client::at(head.client);
                let asking = async move {
                    introspection
                        .ask(token_text(&token)?, client, timeout)
                        .await
                };
                Gate::wait(asking, |answer, head, notes| {
                    let answer = answer.unwrap_or_else(|| {
                        let reason = Reason::IntrospectionUnavailable;
                        Err(Rejection::new(reason, "no response in time"))
                    });
                    self.decide(head, notes, Waited::Answer(provider, answer))
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

    fn judge<'a>(&'a self, token: &[u8], waited: Waited<'a>, notes: &mut Notes) -> Verdict<'a> {
        let now = self.clock.wall();
        if let Waited::Answer(provider, answer) = waited {
            return self.answered(provider, answer, now);
        }
        if let Some((provider, claims)) = self.remembered(token, now) {
            return self.admitted(provider, claims, now);
        }
        let found = token_text(token).and_then(|text| Ok((text, self.provider(text)?)));
        let (token, provider) = match found {
            Ok(found) => found,
            Err(rejection) => return Verdict::Rejected(rejection),
        };
        let keys = match &provider.proof {
            Proof::Keys(keys) => keys,
            Proof::Introspection(introspection) => {
                return match introspection.known(token) {
                    Some(answer) => self.answered(provider, answer, now),
                    None => Verdict::Ask(provider, introspection),
                };
            }
        };
        let current = keys.source.current();
        let Some(snapshot) = current.as_ref() else {
            return match waited {
                Waited::No => Verdict::Wait(keys, keys.first(token)),
                _ => Verdict::Rejected(keys.keys_unavailable(self.log.debug)),
            };
        };
        let leeway = provider.rules.leeway;
        let verified = self.verify(keys, snapshot, token, now, leeway);
        notes.computed |= verified.computed;
        match verified.verdict {
            Ok(claims) => self.admitted(provider, claims, now),
            Err(rejection) if rejection.reason == Reason::UnknownKey => match waited {
                Waited::No => match keys.want(token) {
                    Some(want) => Verdict::Wait(keys, want),
                    None => Verdict::Rejected(rejection),
                },
                _ => Verdict::Rejected(keys.still_unknown(rejection)),
            },
            Err(rejection) => Verdict::Rejected(rejection),
        }
    }

    /// The provider that has already verified this token, so that the token need not be read to find its issuer.
    /// Providers can share a key set and its cached tokens, so the issuer decides here too.
    fn remembered(&self, token: &[u8], now: Duration) -> Option<(&Provider, Arc<Claims>)> {
        let Providers { list, by_issuer } = &self.providers;
        // All tokens with a signature are those of the first one if the issuer does not decide.
        let last = if *by_issuer { list.len() } else { 1 };
        list.iter().take(last).find_map(|provider| {
            let Proof::Keys(keys) = &provider.proof else {
                return None;
            };
            let current = keys.source.current();
            let origin = keys.origin(current.as_ref()?.generation);
            let claims = keys.verifier.recall(token, origin, &self.tokens, now)?;
            (!by_issuer || provider.issued(&claims)).then_some((provider, claims))
        })
    }

    /// The verdict about a token after the response of the provider.
    fn answered<'a>(
        &'a self,
        provider: &'a Provider,
        answer: Result<Arc<Claims>, Rejection>,
        now: Duration,
    ) -> Verdict<'a> {
        match answer {
            Ok(claims) => self.admitted(provider, claims, now),
            Err(rejection) => Verdict::Rejected(rejection),
        }
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
        keys: &Keys,
        snapshot: &Snapshot<PublicKeys>,
        token: &str,
        now: Duration,
        leeway: Duration,
    ) -> Verified {
        let PublicKeys(set) = &*snapshot.set;
        let origin = keys.origin(snapshot.generation);
        keys.verifier
            .verify_cached(token, set, origin, &self.tokens, now, leeway)
    }

    /// The checks of the claims for every request, in KrakenD's order.
    fn admit(&self, provider: &Provider, claims: &Claims, now: Duration) -> Result<(), Rejection> {
        provider.rules.check_identity(claims, now)?;
        self.check_limited(provider, claims)?;
        self.check_revocation(claims)?;
        self.check_demand(claims)?;
        provider.rules.check_access(claims)
    }

    pub(super) fn check_limited(
        &self,
        provider: &Provider,
        claims: &Claims,
    ) -> Result<(), Rejection> {
        if claims.expiry().is_some() {
            return Ok(());
        }
        match self.why_limited(provider) {
            Some(why) => Err(Rejection::new(
                Reason::BadClaim,
                format!("claim \"exp\" is missing, and {why}"),
            )),
            None => Ok(()),
        }
    }

    /// Why a token of the provider must have an expiry. Access tokens of RFC 9068 have one (§2.2).
    pub(super) fn why_limited(&self, provider: &Provider) -> Option<&'static str> {
        if self.require_expiry {
            Some("require_exp is set")
        } else {
            provider.is_declared().then_some("typ is at+jwt")
        }
    }

    pub(super) fn check_revocation(&self, claims: &Claims) -> Result<(), Rejection> {
        match &self.revocation {
            Some(revocation) if revocation.is_revoked(claims) => Err(Rejection::revoked()),
            _ => Ok(()),
        }
    }

    pub(super) fn check_demand(&self, claims: &Claims) -> Result<(), Rejection> {
        match self.demand.as_ref().map(|demand| demand.admits(claims)) {
            None | Some(Ok(true)) => Ok(()),
            Some(Ok(false)) => Err(Rejection::rejected()),
            Some(Err(overload)) => Err(Rejection::new(Reason::Overloaded, overload.to_string())),
        }
    }

    /// With several providers: the one that the token names, or the one for opaque tokens. This only
    /// selects the proof; it proves nothing.
    pub(super) fn provider(&self, token: &str) -> Result<&Provider, Rejection> {
        let Providers { list, by_issuer } = &self.providers;
        match &**list {
            [] => Err(Rejection::keys_unavailable()),
            [one] if !by_issuer => Ok(one),
            several => match Token::parse(token) {
                Ok(_) if !by_issuer => several.first().ok_or_else(Rejection::keys_unavailable),
                Ok(jwt) => {
                    let claims = jwt.claims()?;
                    several
                        .iter()
                        .find(|provider| provider.issued(&claims))
                        .ok_or_else(wrong_issuer)
                }
                Err(rejection) => several
                    .iter()
                    .find(|provider| matches!(provider.proof, Proof::Introspection(_)))
                    .ok_or(rejection),
            },
        }
    }

    /// Without a token there are no claims. The client's own headers with the names of claims are removed.
    fn anonymous<'g>(&self, notes: &mut Notes) -> Gate<'g> {
        for propagation in &self.propagate {
            notes.set_header(&propagation.header, SmallVec::new());
        }
        Gate::Pass
    }

    /// Accepts a token that is valid and whose client holds its key, if it is bound to one.
    fn accept<'g>(
        &self,
        claims: Arc<Claims>,
        token: &[u8],
        head: &Head<'_>,
        notes: &mut Notes,
    ) -> Gate<'g> {
        if claims.expiry().is_none() {
            self.without_expiry.fetch_add(1, Ordering::Relaxed);
        }
        self.places.keep_only(token, head, notes);
        self.binding.keep_only_of_proxies(head, notes);
        if self.subject.is_wanted() {
            notes.subject = token_text(token).ok().map(SubjectToken::new);
        }
        notes.claims = Some(claims);
        Gate::Pass
    }

    /// Copies claims to headers and URLs for the backends. Returns the proof that other gateways must not have seen.
    fn hand_on(
        &self,
        claims: &Claims,
        head: &Head<'_>,
        scheme: Scheme,
        token: &[u8],
        notes: &mut Notes,
    ) -> Result<Option<Use>, Rejection> {
        self.propagate(claims, notes)?;
        self.url_claims.check(claims)?;
        if self.binding.is_off() {
            return Ok(None);
        }
        let now = Now {
            wall: self.clock.wall(),
            steady: self.clock.now(),
        };
        notes.computed |= scheme == Scheme::Dpop;
        let checked = self
            .binding
            .check(head, scheme, token_text(token)?, claims, now)?;
        if let Some(nonce) = checked.nonce {
            notes.response_fields.push((DPOP_NONCE, nonce));
            notes.response_fields.push((CACHE_CONTROL, NO_STORE));
        }
        Ok(checked.to_share)
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
                format!("claim {name:?} cannot be sent in the header {header}: {why}"),
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
        let mut response = self.challenges.response(rejection.reason);
        let dpop = self.binding.dpop.as_ref();
        if rejection.reason == Reason::UseNonce
            && let Some(nonce) = dpop.and_then(|dpop| dpop.fresh_nonce(self.clock.wall()))
        {
            response = response
                .with(DPOP_NONCE, nonce)
                .with(CACHE_CONTROL, NO_STORE);
        }
        Gate::Reject(response)
    }
}

impl Provider {
    /// The source of keys. `None` with introspection.
    pub fn keys(&self) -> Option<&Keys> {
        match &self.proof {
            Proof::Keys(keys) => Some(keys),
            Proof::Introspection(_) => None,
        }
    }

    /// Whether its tokens must be declared as access tokens (RFC 9068).
    pub(super) fn is_declared(&self) -> bool {
        let keys = self.keys();
        keys.is_some_and(|keys| keys.verifier.purpose == Purpose::DeclaredAccess)
    }

    /// Whether the claims name this provider as their issuer.
    fn issued(&self, claims: &Claims) -> bool {
        let named = claims.issuer();
        named.is_some() && self.rules.issuer.as_deref() == named
    }
}

fn wrong_issuer() -> Rejection {
    Rejection::new(
        Reason::WrongIssuer,
        "go-jose/go-jose/jwt: validation failed, invalid issuer claim (iss)",
    )
}
