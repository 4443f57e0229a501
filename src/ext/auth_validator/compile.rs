//! Compiles the blocks. A block that would not protect what it is meant to protect stops the start. Where KrakenD
//! starts and rejects everything (`jwk_url` without TLS), this gateway does the same.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::Method;
use http::header::AUTHORIZATION;

use super::binding::Binding;
use super::challenge::{Challenges, DpopWanted, Wanted};
use super::compile_binding::binding;
use super::compile_introspection;
use super::compile_propagation::propagate;
use super::compile_provider::{self, Made, at_least_a_second, claim_path};
use super::config;
use super::credential::Places;
use super::log::Log;
use super::resource::{Demands, Resource};
use super::runtime::{Provider, Providers, Validator};
use super::url_claims::UrlClaims;
use super::warnings;
use crate::config::{ConfigError, Node, OneOrMany, Typing};
use crate::ext::api_keys;
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::{EndpointPart, ServicePart};
use crate::ext::identity::{Identity, Requirement, Revoker, SubjectWanted};
use crate::jose::propagate::{Arrays, Elements};
use crate::jose::{Algorithm, ClaimPath, Rules, ScopeMatcher};
use crate::runtime::clock::Clock;
use crate::telemetry::mask::add_secret_name;

/// No request waits longer for keys, even if its endpoint's timeout is longer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// KrakenD's leeway if the file has no usable value.
const LEEWAY: Duration = Duration::from_secs(1);

/// How long key sets are kept if the endpoint does not set a duration.
#[derive(Debug)]
pub(in crate::ext) struct SharedLife(Duration);

/// All validators of the file, for `token explain` and `jwks`.
#[derive(Debug, Default)]
pub struct Validators(Mutex<Vec<Guarded>>);

/// An endpoint with its validator.
#[derive(Debug, Clone)]
pub struct Guarded {
    pub method: Method,
    pub pattern: Arc<str>,
    pub validator: Arc<Validator>,
}

impl Validators {
    /// In the order of the file.
    pub fn list(&self) -> Vec<Guarded> {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn add(&self, guarded: Guarded) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(guarded);
    }
}

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(file) = config::Service::read(node) else {
        return ServicePart::Nothing;
    };
    match file.shared_cache_duration.filter(|seconds| *seconds > 0) {
        Some(seconds) => cx.set_fact(Arc::new(SharedLife(Duration::from_secs(seconds)))),
        None => log::info!("[SERVICE: JOSE] Empty shared_cache_duration, using default (15m)"),
    }
    let Some(resource) = file.resource_metadata.and_then(Resource::read) else {
        return ServicePart::Nothing;
    };
    let step = resource.step();
    cx.set_fact(Arc::new(resource));
    ServicePart::Step(Box::new(step))
}

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(file) = config::Validator::read(node) else {
        return EndpointPart::Nothing;
    };
    let prefix: Box<str> = format!("[ENDPOINT: {}][JWTValidator]", site.pattern).into();
    let rules = rules(&file);
    let providers = providers(&file, &prefix, &rules, cx);
    let binding = binding(&file, cx);
    let places = places(&file, site, binding.dpop.is_some());
    let propagate = propagate(&file, site);
    let (Some(places), true) = (places, cx.report.config_errors() == before) else {
        return EndpointPart::Nothing;
    };
    cx.browsers_send(format!(
        "the token can be in the cookie {:?}, and browsers send cookies with it",
        places.cookie
    ));
    let closed = providers.list.is_empty();
    let debug = file.operation_debug;
    say(&prefix, &rules, debug);
    let identity = Identity::of(cx);
    let challenges = challenges(&file, site, &rules, &providers, &binding, cx);
    let subject = subject(&providers, &challenges, cx);
    let validator = Arc::new(Validator {
        challenges,
        binding,
        log: Log { prefix, debug },
        places,
        optional: file.optional && !closed,
        require_expiry: file.require_exp,
        providers,
        tokens: Arc::clone(&identity.tokens),
        without_expiry: Arc::clone(&identity.without_expiry),
        revocation: cx.fact::<Revoker>().map(|revoker| Arc::clone(&revoker.0)),
        demand: demand(site),
        propagate,
        subject,
        url_claims: UrlClaims::new(site, file.require_url_claims),
        arrays: if file.propagate_claims_preserve_array {
            Arrays::Repeated
        } else {
            Arrays::Joined
        },
        elements: if file.propagate_claims_as_json {
            Elements::Json
        } else {
            Elements::Go
        },
        timeout: TIMEOUT.min(site.timeout),
        clock: Clock::system(),
    });
    if !closed {
        warnings::trusts_many(node, &validator);
    }
    note(site, &validator, cx);
    part(validator)
}

/// Lets the backends of the endpoint exchange the verified token.
fn subject(
    providers: &Providers,
    challenges: &Challenges,
    cx: &mut Compile<'_>,
) -> Arc<SubjectWanted> {
    let subject = Arc::new(SubjectWanted::new(
        providers.list.iter().any(|one| one.keys().is_none()),
        Arc::clone(&challenges.exchange),
    ));
    cx.set_fact(Arc::clone(&subject));
    subject
}

/// The step of the endpoint, with the headers that it sets and the header that it checks.
fn part(validator: Arc<Validator>) -> EndpointPart {
    let claims = validator.propagate.iter();
    EndpointPart::Setting {
        headers: claims.map(|claim| claim.header.clone()).collect(),
        credential: Some(validator.places.header.clone()),
        decisive: Vec::new(),
        steps: vec![Box::new(validator)],
    }
}

fn note(site: &EndpointSite<'_>, validator: &Arc<Validator>, cx: &mut Compile<'_>) {
    if cx.fact::<Validators>().is_none() {
        cx.set_fact(Arc::new(Validators::default()));
    }
    if let Some(validators) = cx.fact::<Validators>() {
        validators.add(Guarded {
            method: site.method.clone(),
            pattern: Arc::clone(site.pattern),
            validator: Arc::clone(validator),
        });
    }
}

/// The requirements of the endpoint's expressions on tokens.
#[cfg(feature = "cel")]
fn demand(site: &EndpointSite<'_>) -> Option<Arc<dyn Requirement>> {
    let all = [
        crate::ext::cel::demand(site),
        crate::ext::policies::token_demand(site),
    ];
    let mut all: Vec<Arc<dyn Requirement>> = all.into_iter().flatten().collect();
    match all.len() {
        0 | 1 => all.pop(),
        _ => Some(Arc::new(all)),
    }
}

/// Without the feature, a configuration with expressions does not start.
#[cfg(not(feature = "cel"))]
fn demand(_site: &EndpointSite<'_>) -> Option<Arc<dyn Requirement>> {
    None
}

fn providers(
    file: &config::Validator<'_>,
    prefix: &str,
    rules: &Rules,
    cx: &mut Compile<'_>,
) -> Providers {
    let life = cx.fact::<SharedLife>().map(|life| life.0);
    if let Some(sources) = &file.providers {
        return several(file, sources, life, rules, cx);
    }
    let made = compile_provider::provider(&file.source, None, life, rules, cx);
    let asked = compile_introspection::introspection(
        &file.source,
        made.issuer(&file.source),
        made.keys(),
        rules,
        cx,
    );
    match made {
        Made::Provider(provider) => Providers {
            list: std::iter::once(*provider).chain(asked).collect(),
            by_issuer: false,
        },
        Made::NoKeys => Providers {
            list: asked.into_iter().collect(),
            by_issuer: false,
        },
        Made::Closed(why) => {
            log::warn!("{prefix} Unable to parse the configuration: {why}");
            let hint = match file.source.jwk_url {
                Some(url) if !url.contains("://") => "\"jwk_url\" begins with https://",
                Some(_) => {
                    "use an https:// URL, or \"disable_jwk_security\": true in a trusted network"
                }
                None => "\"jwk_url\": the address of your provider's key set",
            };
            file.source.place("jwk_url").warn_hint(
                ConfigError::invalid(format!("{why}: every request is rejected with 401")),
                hint,
            );
            Providers::default()
        }
        Made::ConfigError => Providers::default(),
    }
}

fn several(
    file: &config::Validator<'_>,
    sources: &[config::Source<'_>],
    life: Option<Duration>,
    rules: &Rules,
    cx: &mut Compile<'_>,
) -> Providers {
    for key in [
        "jwk_url",
        "jwk_local_path",
        "openid_configuration",
        "issuer",
        "audience",
        "audience_key",
        "audience_matcher",
        "introspection",
    ] {
        if let Some(node) = file.source.block.get(key) {
            node.config_error_hint(
                ConfigError::invalid("an endpoint must have either \"providers\" or this key"),
                "put it into one of the providers",
            );
        }
    }
    let mut providers: Vec<Provider> = Vec::new();
    let mut asks = false;
    for one in sources {
        let made = compile_provider::provider(one, Some(&file.source), life, rules, cx);
        let issuer = made.issuer(one);
        let asked = compile_introspection::introspection(one, issuer, made.keys(), rules, cx);
        let known = |other: &Provider| other.rules.issuer.as_deref() == issuer;
        if issuer.is_none() && !matches!(made, Made::ConfigError | Made::Closed(_)) {
            one.block.missing("issuer");
        } else if providers.iter().any(known) {
            one.block.node().invalid("this issuer is listed twice");
        }
        if asked.is_some() && std::mem::replace(&mut asks, true) {
            one.place("introspection").invalid(
                "another provider also has \"introspection\": the gateway could not tell which one to ask about an \
                 opaque token",
            );
        }
        match made {
            Made::Provider(provider) => providers.push(*provider),
            Made::NoKeys => {}
            Made::Closed(why) => one.block.node().invalid(why),
            Made::ConfigError => {}
        }
        providers.extend(asked);
    }
    if sources.is_empty() && file.sound {
        file.source.block.node().invalid("\"providers\" has none");
    }
    Providers {
        list: providers.into(),
        by_issuer: true,
    }
}

/// The requirements that do not depend on the issuer.
fn rules(file: &config::Validator<'_>) -> Rules {
    let boxed = |texts: &[String]| -> Box<[Box<str>]> {
        texts.iter().map(|text| Box::from(&**text)).collect()
    };
    let scopes = boxed(&file.scopes);
    let mut scopes_key = file
        .scopes_key
        .clone()
        .unwrap_or(OneOrMany::One(String::new()));
    if !scopes.is_empty() && scopes_key == OneOrMany::One(String::new()) {
        file.source.place("scopes").warn_hint(
            ConfigError::invalid(
                "there is no \"scopes_key\": scopes are looked for in the claim \"scope\"; KrakenD would check none",
            ),
            "\"scopes_key\": \"scope\"",
        );
        // RFC 8693 §4.2.
        scopes_key = OneOrMany::One("scope".to_owned());
    }
    let roles_key = file
        .roles_key
        .clone()
        .unwrap_or_else(|| OneOrMany::One("roles".to_owned()));
    warnings::dotted(file, &roles_key);
    Rules {
        leeway: at_least_a_second(file.leeway.as_ref()).unwrap_or(LEEWAY),
        roles: boxed(&file.roles),
        roles_path: claim_path(
            &roles_key,
            &file.source.place("roles_key"),
            if file.roles_key_is_nested {
                ClaimPath::nested
            } else {
                ClaimPath::literal
            },
        ),
        roles_as_object: file.roles_as_object,
        scopes,
        scopes_path: claim_path(
            &scopes_key,
            &file.source.place("scopes_key"),
            ClaimPath::dotted,
        ),
        scopes_matcher: matcher(file),
        ..Rules::default()
    }
}

fn matcher(file: &config::Validator<'_>) -> ScopeMatcher {
    let text = file.scopes_matcher.unwrap_or_default();
    match text {
        "all" => return ScopeMatcher::All,
        "any" | "" => return ScopeMatcher::Any,
        _ => {}
    }
    let node = file.source.place("scopes_matcher");
    match text.trim().to_ascii_lowercase().as_str() {
        "all" => {
            node.warn(ConfigError::invalid(
                "treated as \"all\"; KrakenD, which compares letter case, would use \"any\"",
            ));
            ScopeMatcher::All
        }
        "any" => ScopeMatcher::Any,
        _ => {
            node.config_error(ConfigError::NotOneOf {
                found: node.shown(),
                allowed: "all, any".to_owned(),
            });
            ScopeMatcher::All
        }
    }
}

fn places(file: &config::Validator<'_>, site: &EndpointSite<'_>, dpop: bool) -> Option<Places> {
    let header = match &file.auth_header_name {
        None => Some(AUTHORIZATION),
        Some(node) => match node.text(Typing::Strict)? {
            "" => Some(AUTHORIZATION),
            name => {
                add_secret_name(name);
                node.header_name(name)
            }
        },
    };
    let cookie = file.cookie_key.unwrap_or("access_token");
    let has_keys = site.names(&api_keys::ENDPOINT);
    Some(Places {
        header: header?,
        cookie: cookie.into(),
        // An API key is checked by its own step.
        alone: !has_keys,
        dpop,
    })
}

fn challenges(
    file: &config::Validator<'_>,
    site: &EndpointSite<'_>,
    rules: &Rules,
    providers: &Providers,
    binding: &Binding,
    cx: &mut Compile<'_>,
) -> Arc<Challenges> {
    let issuers: Vec<String> = providers
        .list
        .iter()
        .filter_map(|provider| provider.rules.issuer.as_deref().map(str::to_owned))
        .collect();
    let demands = Demands {
        issuers: &issuers,
        scopes: &rules.scopes,
        binding,
    };
    let metadata = cx
        .fact::<Resource>()
        .map(|resource| resource.add(site.pattern, &demands));
    let wanted = Wanted {
        scopes: &rules.scopes,
        metadata: metadata.as_deref(),
        problem: file.error_body == Some("problem+json"),
        dpop: binding.dpop.as_ref().map(|dpop| {
            let names: Vec<_> = dpop.algorithms.iter().map(Algorithm::as_str).collect();
            DpopWanted {
                algorithms: names.join(" "),
                required: dpop.required,
            }
        }),
    };
    cx.carry_over(format!("auth/validator responses {wanted:?}"), |_| {
        Arc::new(Challenges::new(&wanted))
    })
}

/// The lines that KrakenD writes at start.
fn say(prefix: &str, rules: &Rules, debug: bool) {
    let nested = if rules.roles_path.is_nested() {
        "nested "
    } else {
        ""
    };
    log::debug!(
        "{prefix} Roles will be matched against the {nested}key: '{}'",
        rules.roles_path.name()
    );
    if rules.scopes.is_empty() {
        log::debug!("{prefix} No scope validation required");
    } else {
        let how = match rules.scopes_matcher {
            ScopeMatcher::Any => "any",
            ScopeMatcher::All => "all",
        };
        log::debug!(
            "{prefix} Constraint added: tokens must contain a claim '{}' with {how} of these scopes: [{}]",
            rules.scopes_path.name(),
            rules.scopes.join(" ")
        );
    }
    let more = if debug {
        ". Operation debug is enabled"
    } else {
        ""
    };
    log::debug!("{prefix} Validator enabled for this endpoint{more}");
}
