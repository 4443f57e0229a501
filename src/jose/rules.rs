//! What an endpoint demands of a token's claims, asked anew for every request.

use std::time::Duration;

use serde_json::Value;

use crate::jose::claims::{ClaimPath, Claims, NumericDate};
use crate::jose::reason::{Reason, Refusal};

/// The demands of one endpoint. Everything that is empty or `None` demands nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Exact, letter case and trailing slash included (RFC 7519 §4.1.1).
    pub issuer: Option<Box<str>>,
    /// All of these must be among the token's.
    pub audience: Box<[Box<str>]>,
    /// Tolerance towards other people's clocks, for `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// One of these must be among the token's roles.
    pub roles: Box<[Box<str>]>,
    pub roles_path: ClaimPath,
    pub scopes: Box<[Box<str>]>,
    pub scopes_path: ClaimPath,
    pub scopes_matcher: ScopeMatcher,
}

impl Default for Rules {
    /// Demands nothing but a valid time, with KrakenD's leeway of one second.
    fn default() -> Rules {
        Rules {
            issuer: None,
            audience: Box::default(),
            leeway: Duration::from_secs(1),
            roles: Box::default(),
            roles_path: ClaimPath::literal("roles"),
            scopes: Box::default(),
            scopes_path: ClaimPath::literal("scope"),
            scopes_matcher: ScopeMatcher::Any,
        }
    }
}

/// How many of the configured scopes a token must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeMatcher {
    Any,
    All,
}

/// One demand, with a name, so that `token explain` can print the verdict on each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    Issuer,
    Audience,
    NotBefore,
    Expiry,
    IssuedAt,
    Roles,
    Scopes,
}

impl Check {
    /// Whether the token is to be believed, in KrakenD's order. Failures are 401.
    pub const IDENTITY: [Check; 5] = [
        Check::Issuer,
        Check::Audience,
        Check::NotBefore,
        Check::Expiry,
        Check::IssuedAt,
    ];

    /// Whether its holder may come in; after revocation and the file's own expressions. Failures are 403.
    pub const ACCESS: [Check; 2] = [Check::Roles, Check::Scopes];

    /// A word for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Check::Issuer => "issuer",
            Check::Audience => "audience",
            Check::NotBefore => "not before",
            Check::Expiry => "expiry",
            Check::IssuedAt => "issued at",
            Check::Roles => "roles",
            Check::Scopes => "scopes",
        }
    }
}

impl Rules {
    /// Every check, in order; the first failure answers.
    pub fn check(&self, claims: &Claims, now: Duration) -> Result<(), Refusal> {
        self.check_identity(claims, now)?;
        self.check_access(claims)
    }

    /// The checks that answer 401.
    pub fn check_identity(&self, claims: &Claims, now: Duration) -> Result<(), Refusal> {
        for check in Check::IDENTITY {
            self.run(check, claims, now)?;
        }
        Ok(())
    }

    /// The checks that answer 403.
    pub fn check_access(&self, claims: &Claims) -> Result<(), Refusal> {
        for check in Check::ACCESS {
            self.run(check, claims, Duration::ZERO)?;
        }
        Ok(())
    }

    /// One check by itself. `now` is the time since the Unix epoch; roles and scopes do not look at it.
    pub fn run(&self, check: Check, claims: &Claims, now: Duration) -> Result<(), Refusal> {
        if self.holds(check, claims, now) {
            return Ok(());
        }
        let (reason, detail) = match check {
            Check::Issuer => (
                Reason::WrongIssuer,
                "go-jose/go-jose/jwt: validation failed, invalid issuer claim (iss)",
            ),
            Check::Audience => (
                Reason::WrongAudience,
                "go-jose/go-jose/jwt: validation failed, invalid audience claim (aud)",
            ),
            Check::NotBefore => (
                Reason::NotYetValid,
                "go-jose/go-jose/jwt: validation failed, token not valid yet (nbf)",
            ),
            Check::Expiry => (
                Reason::Expired,
                "go-jose/go-jose/jwt: validation failed, token is expired (exp)",
            ),
            Check::IssuedAt => (
                Reason::NotYetValid,
                "go-jose/go-jose/jwt: validation field, token issued in the future (iat)",
            ),
            Check::Roles => (
                Reason::MissingRole,
                "Token sent by client does not have sufficient roles",
            ),
            Check::Scopes => (
                Reason::MissingScope,
                "Token sent by client does not have the required scopes",
            ),
        };
        Err(Refusal::new(reason, detail))
    }

    /// Whether the endpoint demands anything under this name; without a demand the check always holds.
    pub fn demands(&self, check: Check) -> bool {
        match check {
            Check::Issuer => self.issuer.is_some(),
            Check::Audience => !self.audience.is_empty(),
            Check::NotBefore | Check::Expiry | Check::IssuedAt => true,
            Check::Roles => !self.roles.is_empty(),
            Check::Scopes => !self.scopes.is_empty(),
        }
    }

    fn holds(&self, check: Check, claims: &Claims, now: Duration) -> bool {
        match check {
            Check::Issuer => match &self.issuer {
                Some(issuer) => claims.issuer() == Some(issuer),
                None => true,
            },
            Check::Audience => {
                let sent = |wanted: &str| claims.audience().any(|one| one == wanted);
                self.audience.iter().all(|wanted| sent(wanted))
            }
            Check::NotBefore => self.has_begun(claims.not_before(), now),
            Check::Expiry => self.has_not_ended(claims.expiry(), now),
            Check::IssuedAt => self.has_begun(claims.issued_at(), now),
            Check::Roles => self.roles.is_empty() || self.has_role(claims),
            Check::Scopes => self.scopes.is_empty() || self.has_scopes(claims),
        }
    }

    fn has_begun(&self, date: Option<NumericDate>, now: Duration) -> bool {
        date.is_none_or(|date| date.nanos() <= nanos(now) + nanos(self.leeway))
    }

    fn has_not_ended(&self, date: Option<NumericDate>, now: Duration) -> bool {
        date.is_none_or(|date| date.nanos() >= nanos(now) - nanos(self.leeway))
    }

    fn has_role(&self, claims: &Claims) -> bool {
        let sent = self.roles_path.find(claims);
        self.roles.iter().any(|role| contains(sent, role))
    }

    fn has_scopes(&self, claims: &Claims) -> bool {
        let sent = self.scopes_path.find(claims);
        match self.scopes_matcher {
            ScopeMatcher::Any => self.scopes.iter().any(|scope| contains(sent, scope)),
            ScopeMatcher::All => self.scopes.iter().all(|scope| contains(sent, scope)),
        }
    }
}

/// Whether a list of strings, or a text of words between single blanks, has this word. Nothing else ever matches:
/// neither other types nor the empty word, which any list with two blanks in a row would hold.
fn contains(value: Option<&Value>, word: &str) -> bool {
    if word.is_empty() {
        return false;
    }
    match value {
        Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(word)),
        Some(Value::String(text)) => text.split(' ').any(|item| item == word),
        _ => false,
    }
}

fn nanos(time: Duration) -> i128 {
    // Below 2^64 seconds, so it always fits.
    i128::try_from(time.as_nanos()).unwrap_or(i128::MAX / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::from_millis(1_700_000_000_500);

    fn verdict(rules: &Rules, json: &str) -> Result<(), Reason> {
        let claims = Claims::parse(json.as_bytes()).expect(json);
        rules.check(&claims, NOW).map_err(|refusal| refusal.reason)
    }

    fn words(list: &[&str]) -> Box<[Box<str>]> {
        list.iter().map(|word| Box::from(*word)).collect()
    }

    #[test]
    fn time_is_compared_with_leeway_and_below_the_second() {
        let rules = Rules::default();
        assert_eq!(
            verdict(&rules, "{}"),
            Ok(()),
            "without exp a token does not expire, as KrakenD does"
        );
        assert_eq!(verdict(&rules, r#"{"exp":1700000000}"#), Ok(()));
        assert_eq!(
            verdict(&rules, r#"{"exp":1699999999}"#),
            Err(Reason::Expired),
            "1.5 s ago"
        );
        assert_eq!(verdict(&rules, r#"{"exp":0}"#), Err(Reason::Expired));
        assert_eq!(verdict(&rules, r#"{"exp":-1e300}"#), Err(Reason::Expired));
        assert_eq!(verdict(&rules, r#"{"exp":1e30}"#), Ok(()), "far future");
        assert_eq!(verdict(&rules, r#"{"nbf":1700000001}"#), Ok(()));
        assert_eq!(
            verdict(&rules, r#"{"nbf":1700000002}"#),
            Err(Reason::NotYetValid)
        );
        assert_eq!(verdict(&rules, r#"{"nbf":1e30}"#), Err(Reason::NotYetValid));
        assert_eq!(
            verdict(&rules, r#"{"iat":1700000100}"#),
            Err(Reason::NotYetValid)
        );
        let patient = Rules {
            leeway: Duration::MAX,
            ..Rules::default()
        };
        assert_eq!(
            verdict(&patient, r#"{"exp":0,"nbf":1800000000}"#),
            Ok(()),
            "no overflow"
        );
    }

    #[test]
    fn the_issuer_is_exact() {
        let rules = Rules {
            issuer: Some("https://a".into()),
            ..Rules::default()
        };
        assert_eq!(verdict(&rules, r#"{"iss":"https://a"}"#), Ok(()));
        for json in [r#"{"iss":"https://a/"}"#, r#"{"iss":"https://A"}"#, "{}"] {
            assert_eq!(verdict(&rules, json), Err(Reason::WrongIssuer), "{json}");
        }
    }

    #[test]
    fn every_configured_audience_must_be_there() {
        let rules = Rules {
            audience: words(&["a", "b"]),
            ..Rules::default()
        };
        assert_eq!(verdict(&rules, r#"{"aud":["b","c","a"]}"#), Ok(()));
        for json in [
            r#"{"aud":["a"]}"#,
            r#"{"aud":"a"}"#,
            r#"{"aud":"a b"}"#,
            "{}",
        ] {
            assert_eq!(verdict(&rules, json), Err(Reason::WrongAudience), "{json}");
        }
    }

    #[test]
    fn one_role_is_enough_and_odd_types_never_match() {
        let rules = Rules {
            roles: words(&["admin", "1"]),
            roles_path: ClaimPath::nested("r.roles"),
            ..Rules::default()
        };
        for json in [
            r#"{"r":{"roles":["x","admin"]}}"#,
            r#"{"r":{"roles":"x admin"}}"#,
            r#"{"r":{"roles":[1,null,{},"admin"]}}"#,
        ] {
            assert_eq!(verdict(&rules, json), Ok(()), "{json}");
        }
        for json in [
            r#"{"r":{"roles":[1]}}"#,
            r#"{"r":{"roles":1}}"#,
            r#"{"r":{"roles":[]}}"#,
            r#"{"r":{"roles":[["admin"]]}}"#,
            r#"{"r":{"roles":"admins"}}"#,
            r#"{"r":{"roles":"x,admin"}}"#,
            r#"{"r":[]}"#,
            r#"{"r.roles":"admin"}"#,
            r#"{"r.roles":["admin"],"r":{"roles":["x"]}}"#,
            "{}",
            r#"{"r":{"roles":{"admin":1}}}"#,
        ] {
            assert_eq!(verdict(&rules, json), Err(Reason::MissingRole), "{json}");
        }
    }

    #[test]
    fn scopes_match_any_or_all() {
        let any = Rules {
            scopes: words(&["read", "write"]),
            ..Rules::default()
        };
        let all = Rules {
            scopes_matcher: ScopeMatcher::All,
            ..any.clone()
        };
        assert_eq!(verdict(&any, r#"{"scope":"x write"}"#), Ok(()));
        assert_eq!(
            verdict(&all, r#"{"scope":"x write"}"#),
            Err(Reason::MissingScope)
        );
        assert_eq!(verdict(&all, r#"{"scope":["write","read",7]}"#), Ok(()));
        for json in [
            r#"{"scope":""}"#,
            r#"{"scope":[]}"#,
            r#"{"scope":5}"#,
            r#"{"scope":"read,write"}"#,
            "{}",
        ] {
            assert_eq!(verdict(&any, json), Err(Reason::MissingScope), "{json}");
        }
    }

    #[test]
    fn identity_comes_before_access() {
        let rules = Rules {
            issuer: Some("a".into()),
            roles: words(&["x"]),
            ..Rules::default()
        };
        assert_eq!(verdict(&rules, r#"{"exp":0}"#), Err(Reason::WrongIssuer));
        assert_eq!(
            verdict(&rules, r#"{"iss":"a","exp":0}"#),
            Err(Reason::Expired)
        );
        assert_eq!(verdict(&rules, r#"{"iss":"a"}"#), Err(Reason::MissingRole));
    }
}
