//! Explains each check of a validator.

use std::fmt;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::Value;

use super::key_source::Keys;
use super::runtime::{Proof, Provider, Validator};
use crate::ext::identity::PublicKeys;
use crate::jose::{
    Check, Claims, KeyIdStrategy, KeySet, Reason, Rejection, Rules, ScopeMatcher, Step, Token,
};

/// The result for a token, with all checks.
#[derive(Debug, Default)]
pub struct Explanation {
    pub lines: Vec<Line>,
    /// Why the token is rejected; `None` if it is accepted.
    pub rejection: Option<Rejection>,
}

/// One check.
#[derive(Debug, PartialEq, Eq)]
pub struct Line {
    pub check: String,
    /// `None` if only the running gateway knows the result.
    pub passed: Option<bool>,
    /// What was required and what the token has. It contains claims, but nothing that could be used as a token.
    pub detail: String,
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.lines {
            let verdict = match line.passed {
                Some(true) => "ok  ",
                Some(false) => "FAIL",
                None => "?   ",
            };
            let told = format!("{verdict} {:<12} {}", line.check, line.detail);
            writeln!(f, "{}", told.trim_end())?;
        }
        match &self.rejection {
            None => writeln!(f, "=> accepted"),
            Some(rejection) => writeln!(
                f,
                "=> {} {}: {rejection}",
                rejection.reason.status(),
                rejection.reason
            ),
        }
    }
}

impl Validator {
    /// Validates a token with the same code as for a request, but without the cache.
    pub fn explain(&self, token: &str) -> Explanation {
        let mut told = Explanation::default();
        if let Err(rejection) = self.tell(token, &mut told) {
            told.rejection = Some(rejection);
        }
        told
    }

    fn tell(&self, token: &str, told: &mut Explanation) -> Result<(), Rejection> {
        let provider = self
            .provider(token)
            .inspect_err(|rejection| told.add("provider", Err(rejection), ""))?;
        if self.providers.by_issuer {
            let issuer = provider.rules.issuer.as_deref().unwrap_or_default();
            told.add("provider", Ok(()), &format!("chosen by iss {issuer:?}"));
        }
        let claims = match &provider.proof {
            Proof::Keys(keys) => keys.tell_signature(token, told)?,
            Proof::Introspection(introspection) => {
                let why = "only the running gateway asks the provider";
                told.lines.push(Line {
                    check: "introspection".to_owned(),
                    passed: None,
                    detail: format!("{}: {why}", introspection.label()),
                });
                return Err(Rejection::new(Reason::IntrospectionUnavailable, why));
            }
        };
        let now = self.clock.wall();
        for check in Check::IDENTITY {
            provider.tell_rule(check, &claims, now, told)?;
        }
        if let Some(why) = self.why_limited(provider) {
            let verdict = self.check_limited(provider, &claims);
            told.judge("has expiry", verdict, why)?;
        }
        if self.revocation.is_some() {
            self.check_revocation(&claims)
                .inspect_err(|rejection| told.add("revocation", Err(rejection), ""))?;
            told.lines.push(Line {
                check: "revocation".to_owned(),
                passed: None,
                detail: "not known here: the list is in the running gateway".to_owned(),
            });
        }
        if let Some(demand) = &self.demand {
            let refusal = demand.refusal(&claims);
            let verdict = match &refusal {
                Some(_) => Err(Rejection::rejected()),
                None => Ok(()),
            };
            let detail = refusal.as_deref().unwrap_or("all are true");
            told.judge("expressions", verdict, detail)?;
        }
        for check in Check::ACCESS {
            provider.tell_rule(check, &claims, now, told)?;
        }
        if !self.binding.is_off() {
            self.binding
                .check_claims(&claims)
                .inspect_err(|rejection| told.add("binding", Err(rejection), ""))?;
            told.lines.push(Line {
                check: "binding".to_owned(),
                passed: None,
                detail: format!(
                    "needs the certificate or the proof of a request; cnf {}",
                    shown(claims.claim("cnf"))
                ),
            });
        }
        self.tell_where_claims_go(&claims, told)
    }

    fn tell_where_claims_go(
        &self,
        claims: &Claims,
        told: &mut Explanation,
    ) -> Result<(), Rejection> {
        for propagation in &self.propagate {
            let (claim, header) = (propagation.claim.name(), &propagation.header);
            let found = shown(propagation.claim.find(claims));
            let verdict = self.header_values(propagation, claims).map(drop);
            told.judge(
                "header",
                verdict,
                &format!("{header}: {claim:?}, found {found}"),
            )?;
        }
        if !self.url_claims.is_empty() {
            let found: Vec<String> = self
                .url_claims
                .names()
                .map(|name| format!("{{JWT.{name}}}, found {}", shown(claims.claim(name))))
                .collect();
            told.judge(
                "url_pattern",
                self.url_claims.check(claims),
                &found.join("; "),
            )?;
        }
        Ok(())
    }
}

impl Keys {
    fn tell_signature(&self, token: &str, told: &mut Explanation) -> Result<Claims, Rejection> {
        let status = self.source.status();
        let current = self.source.current();
        let Some(snapshot) = current.as_ref() else {
            let why = status
                .last_error
                .unwrap_or_else(|| "not fetched yet".to_owned());
            let rejection = Rejection::new(Reason::KeysUnavailable, why);
            told.add(
                "key set",
                Err(&rejection),
                &format!("{}: {rejection}", status.label),
            );
            return Err(rejection);
        };
        told.add(
            "key set",
            Ok(()),
            &match status.keys {
                1 => format!("{}, 1 key", status.label),
                keys => format!("{}, {keys} keys", status.label),
            },
        );
        let PublicKeys(keys) = &*snapshot.set;
        self.verifier.verify_traced(token, keys, |step, verdict| {
            let detail = self.detail(step, token, keys);
            told.add(step.as_str(), verdict, &detail);
        })
    }

    fn detail(&self, step: Step, text: &str, set: &KeySet) -> String {
        let token = match Token::parse(text) {
            Ok(token) => token,
            Err(rejection) => return form(text, &rejection),
        };
        match step {
            Step::Algorithm => {
                let found = match token.algorithm() {
                    Some(known) => known.as_str(),
                    None if says_none(text) => "\"none\": the token is not signed",
                    None => "an unknown one",
                };
                format!("expected {}, found {found}", self.verifier.algorithms)
            }
            Step::Key => {
                let id = token.key_id(self.verifier.strategy).unwrap_or_default();
                let is_known = set.keys().any(|key| key.kid() == id);
                let id: String = id.chars().take(64).collect();
                let strategy = self.verifier.strategy;
                let mut told = format!("{} {id:?}", strategy.as_str());
                if strategy == KeyIdStrategy::Kid && !is_known {
                    told.push_str(&format!(", the set has {}", ids(set)));
                }
                told
            }
            _ => String::new(),
        }
    }
}

impl Provider {
    fn tell_rule(
        &self,
        check: Check,
        claims: &Claims,
        now: Duration,
        told: &mut Explanation,
    ) -> Result<(), Rejection> {
        let verdict = self.rules.run(check, claims, now);
        if !self.rules.demands(check) {
            return verdict;
        }
        let rules = &self.rules;
        let claim = |name: &str| shown(claims.claim(name));
        let detail = match check {
            Check::Issuer => format!(
                "expected {:?}, found {}",
                rules.issuer.as_deref().unwrap_or_default(),
                claim("iss")
            ),
            Check::Audience => format!(
                "expected {} of {:?} in {:?}, found {}",
                matcher(rules.audience_matcher),
                rules.audience,
                rules.audience_path.name(),
                shown(rules.audience_path.find(claims))
            ),
            Check::NotBefore => rules.time("nbf", claims, now),
            Check::Expiry => rules.time("exp", claims, now),
            Check::IssuedAt => rules.time("iat", claims, now),
            Check::Roles => format!(
                "expected one of {:?} in {:?}, found {}",
                rules.roles,
                rules.roles_path.name(),
                shown(rules.roles_path.find(claims))
            ),
            Check::Scopes => format!(
                "expected {} of {:?} in {:?}, found {}",
                matcher(rules.scopes_matcher),
                rules.scopes,
                rules.scopes_path.name(),
                shown(rules.scopes_path.find(claims))
            ),
        };
        told.judge(check.as_str(), verdict, &detail)
    }
}

impl Explanation {
    fn add(&mut self, check: &str, verdict: Result<(), &Rejection>, detail: &str) {
        let detail = match (verdict, detail) {
            (Err(rejection), "") => rejection.to_string(),
            (_, detail) => detail.to_owned(),
        };
        self.lines.push(Line {
            check: check.to_owned(),
            passed: Some(verdict.is_ok()),
            detail,
        });
    }

    fn judge(
        &mut self,
        check: &str,
        verdict: Result<(), Rejection>,
        detail: &str,
    ) -> Result<(), Rejection> {
        self.add(check, verdict.as_ref().copied(), detail);
        verdict
    }
}

impl Rules {
    /// A claim with a time: as a number, and relative to the clock of this machine.
    fn time(&self, name: &str, claims: &Claims, now: Duration) -> String {
        let found = claims.claim(name);
        let relative = match found.and_then(Value::as_f64) {
            Some(time) => format!(" ({})", relative(name, time - now.as_secs_f64())),
            None => String::new(),
        };
        let seconds = now.as_secs();
        format!(
            "{name} {}{relative}, now {seconds}, leeway {:?}",
            shown(found),
            self.leeway
        )
    }
}

/// `expired 102 s ago`, `expires in 59 min`; `ahead` is the distance in seconds, below zero for the past.
fn relative(name: &str, ahead: f64) -> String {
    let distance = span(ahead.abs());
    match (name, ahead < 0.0) {
        ("exp", true) => format!("expired {distance} ago"),
        ("exp", false) => format!("expires in {distance}"),
        ("iat", true) => format!("issued {distance} ago"),
        (_, true) => format!("valid since {distance}"),
        (_, false) => format!("{distance} in the future"),
    }
}

/// A number of seconds in the largest unit of which there are two or more.
fn span(seconds: f64) -> String {
    let units = [(86_400.0, "days"), (3600.0, "h"), (60.0, "min")];
    let unit = units.iter().find(|(size, _)| seconds >= 2.0 * size);
    let (size, name) = unit.copied().unwrap_or((1.0, "s"));
    format!("{:.0} {name}", (seconds / size).floor())
}

/// The most key ids that are shown.
const MAX_IDS: usize = 8;

/// The ids of the keys of a set.
fn ids(set: &KeySet) -> String {
    let mut ids: Vec<String> = set
        .keys()
        .map(|key| key.kid().chars().take(64).collect::<String>())
        .map(|id| format!("{id:?}"))
        .collect();
    let more = ids.len().saturating_sub(MAX_IDS);
    ids.truncate(MAX_IDS);
    match (ids.is_empty(), more) {
        (true, _) => "no keys".to_owned(),
        (false, 0) => ids.join(", "),
        (false, more) => format!("{} and {more} more", ids.join(", ")),
    }
}

/// Whether the header of the token says `"alg": "none"` (RFC 7519 §6).
fn says_none(token: &str) -> bool {
    let header = token.split('.').next().unwrap_or_default();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap_or_default();
    let header: Value = serde_json::from_slice(&header).unwrap_or_default();
    header["alg"]
        .as_str()
        .is_some_and(|alg| alg.eq_ignore_ascii_case("none"))
}

/// Why a text is not a signed token.
fn form(token: &str, rejection: &Rejection) -> String {
    // The other characters may be those of a token, which is a secret.
    let start: String = token
        .chars()
        .take_while(|c| !is_of_token(*c))
        .take(8)
        .collect();
    if !start.is_empty() {
        return format!("it begins with {start:?}, which is not part of a token");
    }
    if let Some((before, _)) = token.split_once([' ', ':'])
        && is_header(before)
    {
        return format!("it begins with {before:?}, which is not part of a token");
    }
    match token.split('.').count() {
        1 => "no dots: an opaque token, which only its provider can read. Request an audience (API) from the provider, or use introspection".to_owned(),
        5 => "5 parts: an encrypted token (JWE). Configure the provider to sign the tokens of this API only".to_owned(),
        3 => rejection.to_string(),
        parts => format!("{parts} parts; a signed token has 3: header.payload.signature"),
    }
}

/// The characters of base64url, and the dot between the parts.
fn is_of_token(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.')
}

/// Names that are copied together with a token.
fn is_header(name: &str) -> bool {
    let known = ["authorization", "bearer", "jwt", "token", "dpop"];
    known.iter().any(|known| name.eq_ignore_ascii_case(known))
}

fn matcher(matcher: ScopeMatcher) -> &'static str {
    match matcher {
        ScopeMatcher::Any => "any",
        ScopeMatcher::All => "all",
    }
}

fn shown(claim: Option<&Value>) -> String {
    claim.map_or_else(|| "absent".to_owned(), Value::to_string)
}
