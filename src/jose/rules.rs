//! What an endpoint requires of a token's claims. Checked for every request.

use std::time::Duration;

use serde_json::Value;

use crate::jose::claims::{ClaimPath, Claims, NumericDate};
use crate::jose::reason::{Reason, Rejection};

/// The requirements of one endpoint. A field that is empty or `None` requires nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rules {
    /// Compared exactly, including case and a trailing slash (RFC 7519 §4.1.1).
    pub issuer: Option<Box<str>>,
    pub audience: Box<[Box<str>]>,
    /// Where the audience is: `aud`, or `client_id` in the access tokens of Amazon Cognito.
    pub audience_path: ClaimPath,
    /// Whether the token must have all values of `audience`, or one.
    pub audience_matcher: ScopeMatcher,
    /// Tolerated clock difference for `exp`, `nbf` and `iat`.
    pub leeway: Duration,
    /// The token must have one of these roles.
    pub roles: Box<[Box<str>]>,
    pub roles_path: ClaimPath,
    /// Whether the names of an object's members count as roles, too (Zitadel).
    pub roles_as_object: bool,
    pub scopes: Box<[Box<str>]>,
    pub scopes_path: ClaimPath,
    pub scopes_matcher: ScopeMatcher,
}

impl Default for Rules {
    /// Requires only a valid time, with KrakenD's leeway of one second.
    fn default() -> Rules {
        Rules {
            issuer: None,
            audience: Box::default(),
            audience_path: ClaimPath::literal("aud"),
            audience_matcher: ScopeMatcher::All,
            leeway: Duration::from_secs(1),
            roles: Box::default(),
            roles_path: ClaimPath::literal("roles"),
            roles_as_object: false,
            scopes: Box::default(),
            scopes_path: ClaimPath::literal("scope"),
            scopes_matcher: ScopeMatcher::Any,
        }
    }
}

/// How many of the configured values a token must carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ScopeMatcher {
    Any,
    All,
}

/// One requirement, with a name, so that `token explain` can print the result of each.
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
    /// The checks of the token itself, in KrakenD's order. A failure gives 401.
    pub const IDENTITY: [Check; 5] = [
        Check::Issuer,
        Check::Audience,
        Check::NotBefore,
        Check::Expiry,
        Check::IssuedAt,
    ];

    /// The checks of permissions, made after revocation and the expressions of the configuration. A failure gives
    /// 403.
    pub const ACCESS: [Check; 2] = [Check::Roles, Check::Scopes];

    /// The name for output.
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
    /// Runs every check in order and returns the first failure.
    pub fn check(&self, claims: &Claims, now: Duration) -> Result<(), Rejection> {
        self.check_identity(claims, now)?;
        self.check_access(claims)
    }

    /// Runs the checks whose failure gives 401.
    pub fn check_identity(&self, claims: &Claims, now: Duration) -> Result<(), Rejection> {
        for check in Check::IDENTITY {
            self.run(check, claims, now)?;
        }
        Ok(())
    }

    /// Runs the checks whose failure gives 403.
    pub fn check_access(&self, claims: &Claims) -> Result<(), Rejection> {
        for check in Check::ACCESS {
            self.run(check, claims, Duration::ZERO)?;
        }
        Ok(())
    }

    /// Runs one check. `now` is the time since the Unix epoch; the checks of roles and scopes ignore it.
    pub fn run(&self, check: Check, claims: &Claims, now: Duration) -> Result<(), Rejection> {
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
            Check::Roles if self.has_overage(claims) => (
                Reason::GroupsOverage,
                "Token sent by client does not have sufficient roles: the provider left the groups out, because there are too many (groups overage)",
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
        Err(Rejection::new(reason, detail))
    }

    /// Whether the endpoint has this requirement. Without it the check always succeeds.
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
            Check::Audience => self.audience.is_empty() || self.has_audience(claims),
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

    fn has_audience(&self, claims: &Claims) -> bool {
        let sent = self.audience_path.find(claims);
        let mut wanted = self.audience.iter();
        match self.audience_matcher {
            ScopeMatcher::Any => wanted.any(|one| is_among(sent, one)),
            ScopeMatcher::All => wanted.all(|one| is_among(sent, one)),
        }
    }

    fn has_role(&self, claims: &Claims) -> bool {
        let sent = self.roles_path.find(claims);
        match sent {
            Some(Value::Object(members)) if self.roles_as_object => {
                self.roles.iter().any(|role| members.contains_key(&**role))
            }
            _ => self.roles.iter().any(|role| contains(sent, role)),
        }
    }

    /// Whether the claim with the roles is one that the provider replaced by a reference to it. Entra ID does so for
    /// users with more than 200 groups, and for more than six in the implicit flow.
    fn has_overage(&self, claims: &Claims) -> bool {
        let name = self.roles_path.name();
        if self.roles_path.find(claims).is_some() {
            return false;
        }
        let referred = claims
            .claim("_claim_names")
            .and_then(|names| names.get(name));
        let has_groups = name == "groups" && claims.claim("hasgroups") == Some(&Value::Bool(true));
        referred.is_some() || has_groups
    }

    fn has_scopes(&self, claims: &Claims) -> bool {
        let sent = self.scopes_path.find(claims);
        match self.scopes_matcher {
            ScopeMatcher::Any => self.scopes.iter().any(|scope| contains(sent, scope)),
            ScopeMatcher::All => self.scopes.iter().all(|scope| contains(sent, scope)),
        }
    }
}

/// Whether a list of strings, or a string of words separated by single spaces, contains this word. Nothing else ever
/// matches: neither other types nor the empty word, which any string with two spaces in a row would contain.
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

/// Whether a string is exactly this one, or a list contains it.
fn is_among(value: Option<&Value>, wanted: &str) -> bool {
    match value {
        Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(wanted)),
        Some(Value::String(text)) => text == wanted,
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
        rules
            .check(&claims, NOW)
            .map_err(|rejection| rejection.reason)
    }

    fn words(list: &[&str]) -> Box<[Box<str>]> {
        list.iter().map(|word| Box::from(*word)).collect()
    }

    #[test]
    fn time_is_compared_with_leeway_and_fractions_of_a_second() {
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
    fn every_configured_audience_is_required() {
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
    fn an_audience_may_be_in_another_claim_and_one_may_be_enough() {
        let cognito = Rules {
            audience: words(&["app"]),
            audience_path: ClaimPath::literal("client_id"),
            ..Rules::default()
        };
        assert_eq!(verdict(&cognito, r#"{"client_id":"app"}"#), Ok(()));
        for json in [
            r#"{"aud":"app"}"#,
            r#"{"client_id":"app x"}"#,
            r#"{"client_id":{"app":1}}"#,
        ] {
            assert_eq!(
                verdict(&cognito, json),
                Err(Reason::WrongAudience),
                "{json}"
            );
        }
        let any = Rules {
            audience: words(&["a", "b"]),
            audience_matcher: ScopeMatcher::Any,
            ..Rules::default()
        };
        assert_eq!(verdict(&any, r#"{"aud":["x","b"]}"#), Ok(()));
        for json in [r#"{"aud":"a b"}"#, r#"{"aud":[]}"#, "{}"] {
            assert_eq!(verdict(&any, json), Err(Reason::WrongAudience), "{json}");
        }
    }

    #[test]
    fn roles_may_be_the_names_of_members() {
        let rules = Rules {
            roles: words(&["admin"]),
            roles_as_object: true,
            ..Rules::default()
        };
        for json in [
            r#"{"roles":{"x":{},"admin":{"1":"d"}}}"#,
            r#"{"roles":["admin"]}"#,
        ] {
            assert_eq!(verdict(&rules, json), Ok(()), "{json}");
        }
        for json in [
            r#"{"roles":{"x":"admin"}}"#,
            r#"{"roles":{"x":{"admin":1}}}"#,
            r#"{"roles":{}}"#,
        ] {
            assert_eq!(verdict(&rules, json), Err(Reason::MissingRole), "{json}");
        }
    }

    #[test]
    fn missing_groups_are_reported_if_the_provider_omitted_them() {
        let rules = |claim: &str| Rules {
            roles: words(&["g1"]),
            roles_path: ClaimPath::literal(claim),
            ..Rules::default()
        };
        let referred = r#"{"_claim_names":{"groups":"src1"},"_claim_sources":{"src1":{}}}"#;
        for json in [referred, r#"{"hasgroups":true}"#] {
            let groups = rules("groups");
            assert_eq!(verdict(&groups, json), Err(Reason::GroupsOverage), "{json}");
            assert_eq!(
                verdict(&rules("roles"), json),
                Err(Reason::MissingRole),
                "{json}"
            );
        }
        let both = r#"{"_claim_names":{"groups":"src1"},"groups":["g2"]}"#;
        assert_eq!(verdict(&rules("groups"), both), Err(Reason::MissingRole));
        assert_eq!(
            verdict(&rules("groups"), r#"{"hasgroups":"true"}"#),
            Err(Reason::MissingRole)
        );
    }

    #[test]
    fn one_role_is_enough_and_other_types_never_match() {
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
    fn identity_is_checked_before_access() {
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
