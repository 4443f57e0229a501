//! Explains each check of a validator.

use std::fmt;

use serde_json::Value;

use super::key_source::Keys;
use super::runtime::{Proof, Provider, Validator};
use crate::ext::identity::PublicKeys;
use crate::jose::{Check, Claims, Reason, Rejection, ScopeMatcher, Step, Token};

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
        if self.require_expiry {
            told.judge(
                "has expiry",
                self.check_limited(&claims),
                "require_exp is set",
            )?;
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
        if self.demand.is_some() {
            told.judge(
                "expressions",
                self.check_demand(&claims),
                "asked validation/cel",
            )?;
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
            &format!("{}, {} keys", status.label, status.keys),
        );
        let PublicKeys(keys) = &*snapshot.set;
        self.verifier.verify_traced(token, keys, |step, verdict| {
            let detail = self.detail(step, token);
            told.add(step.as_str(), verdict, &detail);
        })
    }

    fn detail(&self, step: Step, token: &str) -> String {
        let Ok(token) = Token::parse(token) else {
            return "three parts, base64url, a JSON header".to_owned();
        };
        match step {
            Step::Algorithm => {
                let found = token
                    .algorithm()
                    .map_or("none that we know", |known| known.as_str());
                format!("expected {}, found {found}", self.verifier.algorithms)
            }
            Step::Key => {
                let id = token.key_id(self.verifier.strategy).unwrap_or_default();
                let id: String = id.chars().take(64).collect();
                format!("{} {id:?}", self.verifier.strategy.as_str())
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
        now: std::time::Duration,
        told: &mut Explanation,
    ) -> Result<(), Rejection> {
        let verdict = self.rules.run(check, claims, now);
        if !self.rules.demands(check) {
            return verdict;
        }
        let rules = &self.rules;
        let claim = |name: &str| shown(claims.claim(name));
        let seconds = now.as_secs();
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
            Check::NotBefore => format!(
                "nbf {}, now {seconds}, leeway {:?}",
                claim("nbf"),
                rules.leeway
            ),
            Check::Expiry => format!(
                "exp {}, now {seconds}, leeway {:?}",
                claim("exp"),
                rules.leeway
            ),
            Check::IssuedAt => format!(
                "iat {}, now {seconds}, leeway {:?}",
                claim("iat"),
                rules.leeway
            ),
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

fn matcher(matcher: ScopeMatcher) -> &'static str {
    match matcher {
        ScopeMatcher::Any => "any",
        ScopeMatcher::All => "all",
    }
}

fn shown(claim: Option<&Value>) -> String {
    claim.map_or_else(|| "nothing".to_owned(), Value::to_string)
}
