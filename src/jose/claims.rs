//! The claims of a token: registered claims are checked and typed, the rest is kept as it was sent.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::jose::reason::{Reason, Rejection};
use crate::jose::strict_json::{self, StrictError};
use crate::jose::weight;

/// The claims of a token (RFC 7519 §4).
///
/// Only types are checked here. Whether a claim has an acceptable value depends on the endpoint and on the time, so
/// [`Rules`](crate::jose::Rules) checks it for every request.
#[derive(Clone, PartialEq)]
pub struct Claims {
    /// If `iss`, `sub`, `jti` and `aud` are present, they have the right types.
    map: Map<String, Value>,
    /// `iss` again, which is compared for each request.
    issuer: Option<Box<str>>,
    expiry: Option<NumericDate>,
    not_before: Option<NumericDate>,
    issued_at: Option<NumericDate>,
}

/// Whole seconds since the Unix epoch (RFC 7519 §2). Fractions are truncated, as in KrakenD.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct NumericDate(i64);

impl NumericDate {
    /// Above this value, floating point cannot distinguish one second from the next. Such a date means "far in the
    /// future".
    const FAR: f64 = (1_u64 << 53) as f64;

    fn of(number: &serde_json::Number) -> NumericDate {
        if let Some(seconds) = number.as_i64()
            && seconds.unsigned_abs() <= 1 << 53
        {
            return NumericDate(seconds);
        }
        let seconds = number.as_f64().unwrap_or(f64::INFINITY);
        // The limit itself is included: the conversion to floating point may have rounded down to it.
        if seconds >= NumericDate::FAR {
            return NumericDate(i64::MAX);
        }
        // A float-to-integer cast saturates, so a date far in the past stays there.
        NumericDate(seconds as i64)
    }

    /// The date in nanoseconds, wide enough for any date and any leeway.
    pub(super) fn nanos(self) -> i128 {
        i128::from(self.0) * 1_000_000_000
    }

    /// The date as the time since the epoch. Earlier dates become the epoch.
    pub fn since_epoch(self) -> Duration {
        Duration::from_secs(u64::try_from(self.0).unwrap_or(0))
    }
}

impl Claims {
    /// Parses a payload: a JSON object without duplicate names, whose registered claims have the right types.
    pub fn parse(payload: &[u8]) -> Result<Claims, Rejection> {
        let map = strict_json::object(payload).map_err(|fault| {
            let detail = match fault {
                StrictError::NotObject => {
                    "json: cannot unmarshal a value that is no object into Go value of type jwt.Claims".into()
                }
                other => other.to_string(),
            };
            Rejection::new(Reason::Malformed, detail)
        })?;
        for name in ["sub", "jti"] {
            // As in KrakenD, null means absent. This does not hold for `iss`, because we compare it.
            check_string(&map, name, Null::Absent)?;
        }
        check_string(&map, "iss", Null::Rejected)?;
        check_audience(&map)?;
        Ok(Claims {
            // A token without an end omits `exp`. A null is more likely a value that the issuer failed to fill in, so
            // it is rejected. `nbf` and `iat` are optional statements about the past, where null means absent.
            expiry: date(&map, "exp", Null::Rejected)?,
            not_before: date(&map, "nbf", Null::Absent)?,
            issued_at: date(&map, "iat", Null::Absent)?,
            issuer: issuer_in(&map),
            map,
        })
    }

    /// All claims by name.
    pub fn map(&self) -> &Map<String, Value> {
        &self.map
    }

    /// The claim with exactly this name.
    pub fn claim(&self, name: &str) -> Option<&Value> {
        self.map.get(name)
    }

    /// `iss`
    pub fn issuer(&self) -> Option<&str> {
        self.issuer.as_deref()
    }

    /// The same claims, with this `iss` if they have none.
    pub fn or_issuer(mut self, issuer: &str) -> Claims {
        self.map.entry("iss").or_insert_with(|| Value::from(issuer));
        self.issuer = issuer_in(&self.map);
        self
    }

    /// `sub`
    pub fn subject(&self) -> Option<&str> {
        self.map.get("sub").and_then(Value::as_str)
    }

    /// `jti`
    pub fn token_id(&self) -> Option<&str> {
        self.map.get("jti").and_then(Value::as_str)
    }

    /// `aud`, which may have one or many values. Empty when absent.
    pub fn audience(&self) -> impl Iterator<Item = &str> {
        let values = match self.map.get("aud") {
            Some(Value::Array(many)) => many,
            Some(one) => std::slice::from_ref(one),
            None => &[],
        };
        values.iter().filter_map(Value::as_str)
    }

    /// `exp`
    pub fn expiry(&self) -> Option<NumericDate> {
        self.expiry
    }

    /// `nbf`
    pub fn not_before(&self) -> Option<NumericDate> {
        self.not_before
    }

    /// `iat`
    pub fn issued_at(&self) -> Option<NumericDate> {
        self.issued_at
    }

    /// The approximate memory that these claims use, in bytes, for bounded caches.
    pub(crate) fn weight(&self) -> usize {
        size_of::<Claims>() + weight::of_object(&self.map)
    }
}

impl fmt::Debug for Claims {
    /// Shows names only: the values are personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.map.keys()).finish()
    }
}

/// The location of a claim: a literal name, a path of object members, or either.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimPath {
    name: Box<str>,
    /// Empty if only the literal name is used.
    parts: Box<[Box<str>]>,
    /// With `parts`: a top-level claim whose name contains the dots does not count.
    path_only: bool,
}

impl ClaimPath {
    /// A top-level claim with exactly this name, dots included.
    pub fn literal(name: &str) -> ClaimPath {
        ClaimPath {
            name: name.into(),
            parts: Box::default(),
            path_only: false,
        }
    }

    /// The claim with this name if there is one, else the value at the end of the dotted path.
    pub fn dotted(name: &str) -> ClaimPath {
        let parts = if name.contains('.') {
            name.split('.').map(Box::from).collect()
        } else {
            Box::default()
        };
        ClaimPath {
            name: name.into(),
            parts,
            path_only: false,
        }
    }

    /// Only the value at the end of the dotted path: a top-level claim whose name contains the dots must not replace
    /// it. Names without dots, and names that start with `http`, are literal.
    pub fn nested(name: &str) -> ClaimPath {
        let path = ClaimPath::dotted_unless_url(name);
        ClaimPath {
            path_only: path.is_nested(),
            ..path
        }
    }

    /// The members to follow, one by one, however many dots their names have. `None` if there are none.
    pub fn exact(parts: &[String]) -> Option<ClaimPath> {
        let path = match parts {
            [] => return None,
            [one] => ClaimPath::literal(one),
            several => ClaimPath {
                name: several.join(".").into(),
                parts: several.iter().map(|part| Box::from(&**part)).collect(),
                path_only: true,
            },
        };
        Some(path)
    }

    /// Like [`ClaimPath::dotted`], except that names that start with `http` are literal: their dots belong to a host
    /// name.
    pub fn dotted_unless_url(name: &str) -> ClaimPath {
        if name.starts_with("http") {
            ClaimPath::literal(name)
        } else {
            ClaimPath::dotted(name)
        }
    }

    /// The value, if the token has it.
    pub fn find<'c>(&self, claims: &'c Claims) -> Option<&'c Value> {
        if !self.path_only
            && let Some(value) = claims.map.get(&*self.name)
        {
            return Some(value);
        }
        let (first, rest) = self.parts.split_first()?;
        rest.iter()
            .try_fold(claims.map.get(&**first)?, |value, part| {
                value.as_object()?.get(&**part)
            })
    }

    /// Whether the path may lead into objects.
    pub fn is_nested(&self) -> bool {
        !self.parts.is_empty()
    }

    /// The name as written in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Null {
    Absent,
    Rejected,
}

fn issuer_in(map: &Map<String, Value>) -> Option<Box<str>> {
    map.get("iss")?.as_str().map(Box::from)
}

fn check_string(map: &Map<String, Value>, name: &str, null: Null) -> Result<(), Rejection> {
    match map.get(name) {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Null) if null == Null::Absent => Ok(()),
        Some(other) => Err(wrong_type(name, "a string", kind(other))),
    }
}

fn check_audience(map: &Map<String, Value>) -> Result<(), Rejection> {
    const EXPECTED: &str = "a string or a list of strings";
    match map.get("aud") {
        None | Some(Value::String(_)) => Ok(()),
        Some(Value::Array(many)) => match many.iter().find(|one| !one.is_string()) {
            None => Ok(()),
            Some(other) => {
                let found = format!("a list with {} in it", kind(other));
                Err(wrong_type("aud", EXPECTED, &found))
            }
        },
        Some(other) => Err(wrong_type("aud", EXPECTED, kind(other))),
    }
}

fn date(
    map: &Map<String, Value>,
    name: &str,
    null: Null,
) -> Result<Option<NumericDate>, Rejection> {
    match map.get(name) {
        None => Ok(None),
        Some(Value::Null) if null == Null::Absent => Ok(None),
        Some(Value::Number(number)) => Ok(Some(NumericDate::of(number))),
        Some(other) => Err(wrong_type(name, "a number", kind(other))),
    }
}

/// Names the claim, the type that RFC 7519 requires and the type that was found, but never the value.
fn wrong_type(name: &str, expected: &str, found: &str) -> Rejection {
    Rejection::new(
        Reason::BadClaim,
        format!("json: cannot unmarshal claim {name:?}: expected {expected}, found {found}"),
    )
}

/// The name of the JSON type of a value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rejected(json: &str) -> Reason {
        Claims::parse(json.as_bytes()).expect_err(json).reason
    }

    fn claims(json: &str) -> Claims {
        Claims::parse(json.as_bytes()).expect(json)
    }

    #[test]
    fn registered_claims_have_their_types() {
        for json in [
            r#"{"exp":"4102444800"}"#,
            r#"{"exp":null}"#,
            r#"{"exp":true}"#,
            r#"{"exp":[1]}"#,
            r#"{"nbf":"1"}"#,
            r#"{"iat":{}}"#,
            r#"{"iss":5}"#,
            r#"{"iss":null}"#,
            r#"{"iss":["a"]}"#,
            r#"{"sub":5}"#,
            r#"{"jti":5}"#,
            r#"{"aud":null}"#,
            r#"{"aud":5}"#,
            r#"{"aud":["a",5]}"#,
            r#"{"aud":{}}"#,
        ] {
            assert_eq!(rejected(json), Reason::BadClaim, "{json}");
        }
        assert_eq!(claims(r#"{"sub":null,"jti":null}"#).subject(), None);
        let empty = claims(r#"{"nbf":null,"iat":null}"#);
        assert_eq!((empty.not_before(), empty.issued_at()), (None, None));
        for (json, audience) in [
            (r#"{"aud":"a"}"#, &["a"][..]),
            (r#"{"aud":["a","b"]}"#, &["a", "b"]),
            (r#"{"aud":[]}"#, &[]),
            ("{}", &[]),
        ] {
            assert!(
                claims(json).audience().eq(audience.iter().copied()),
                "{json}"
            );
        }
    }

    #[test]
    fn a_rejection_names_the_claim_and_both_types_but_no_value() {
        for (json, told) in [
            (
                r#"{"iss":5}"#,
                r#"claim "iss": expected a string, found a number"#,
            ),
            (
                r#"{"iss":null}"#,
                r#"claim "iss": expected a string, found null"#,
            ),
            (
                r#"{"sub":12345}"#,
                r#"claim "sub": expected a string, found a number"#,
            ),
            (
                r#"{"jti":["secret"]}"#,
                r#"claim "jti": expected a string, found a list"#,
            ),
            (
                r#"{"aud":["a",{}]}"#,
                r#"claim "aud": expected a string or a list of strings, found a list with an object in it"#,
            ),
            (
                r#"{"aud":true}"#,
                r#"claim "aud": expected a string or a list of strings, found a boolean"#,
            ),
            (
                r#"{"exp":"4102444800"}"#,
                r#"claim "exp": expected a number, found a string"#,
            ),
            (
                r#"{"exp":null}"#,
                r#"claim "exp": expected a number, found null"#,
            ),
            (
                r#"{"nbf":"x"}"#,
                r#"claim "nbf": expected a number, found a string"#,
            ),
            (
                r#"{"iat":{}}"#,
                r#"claim "iat": expected a number, found an object"#,
            ),
        ] {
            let rejection = Claims::parse(json.as_bytes()).unwrap_err();
            assert!(rejection.to_string().ends_with(told), "{rejection}");
        }
    }

    #[test]
    fn a_payload_that_is_not_an_object_is_malformed() {
        for json in ["null", "[1]", "hello", "", "{\"a\":1,\"a\":2}"] {
            assert_eq!(rejected(json), Reason::Malformed, "{json}");
        }
    }

    #[test]
    fn dates_are_truncated_to_seconds_and_never_wrap() {
        let exp = |number: &str| claims(&format!("{{\"exp\":{number}}}")).expiry().unwrap().0;
        assert_eq!(exp("4102444800.9"), 4_102_444_800);
        assert_eq!(exp("-1.5"), -1);
        assert_eq!(exp("9007199254740992"), 1 << 53);
        for far in [
            "9007199254740993",
            "1e30",
            "18446744073709551615",
            "9223372036854775808",
            "1.7e308",
        ] {
            assert_eq!(exp(far), i64::MAX, "{far}");
        }
        assert_eq!(exp("-1e30"), i64::MIN);
        assert!(exp("-9223372036854775808") <= -(1 << 53));
        assert_eq!(rejected(r#"{"exp":1e999}"#), Reason::Malformed);
    }

    #[test]
    fn a_literal_name_takes_precedence_over_a_path() {
        let both = claims(r#"{"a.b":"literal","a":{"b":"nested","c":{"d":1}}}"#);
        assert_eq!(ClaimPath::dotted("a.b").find(&both).unwrap(), "literal");
        assert_eq!(ClaimPath::dotted("a.c.d").find(&both).unwrap(), 1);
        assert_eq!(ClaimPath::dotted("a.x.d").find(&both), None);
        assert_eq!(
            ClaimPath::dotted("a.b.d").find(&both),
            None,
            "a path ends at a scalar"
        );
        assert_eq!(ClaimPath::literal("a.c").find(&both), None);
        assert_eq!(ClaimPath::nested("a.b").find(&both).unwrap(), "nested");
        let flat = claims(
            r#"{"a.b":"flat","a.b.c":"flat","a":{"b.c":"flat"},"https://x.y":"url","one":1}"#,
        );
        for name in ["a.b", "a.b.c"] {
            assert_eq!(ClaimPath::nested(name).find(&flat), None, "{name}");
        }
        assert_eq!(ClaimPath::nested("https://x.y").find(&flat).unwrap(), "url");
        assert_eq!(ClaimPath::nested("one").find(&flat).unwrap(), 1);
        let client = claims(
            r#"{"a":{"my.client":{"roles":["x"]},"my":{"client":{"roles":["y"]}}},"a.my.client.roles":["z"]}"#,
        );
        let parts = |parts: &[&str]| {
            let parts: Vec<String> = parts.iter().map(|part| (*part).to_owned()).collect();
            ClaimPath::exact(&parts)
        };
        let exact = parts(&["a", "my.client", "roles"]).unwrap();
        assert_eq!(exact.find(&client).unwrap()[0], "x");
        assert_eq!(
            ClaimPath::nested("a.my.client.roles")
                .find(&client)
                .unwrap()[0],
            "y"
        );
        assert_eq!(parts(&["a.b"]).unwrap(), ClaimPath::literal("a.b"));
        assert_eq!(parts(&[]), None);
        let url = claims(r#"{"https://x":{"y/roles":["a"]},"http://x.y/s":"z"}"#);
        assert_eq!(
            ClaimPath::dotted_unless_url("https://x.y/roles").find(&url),
            None
        );
        assert_eq!(ClaimPath::dotted("http://x.y/s").find(&url).unwrap(), "z");
    }
}
