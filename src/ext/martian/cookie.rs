//! Cookies: finds them, and writes them as Go's `net/http` does.

use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderValue};

use crate::runtime::failure::{Failure, Kind};
use crate::runtime::pipe::PipeRequest;

/// A cookie, serialized for both directions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Cookie {
    /// `name=value`
    pub pair: HeaderValue,
    /// Includes its attributes.
    pub set: HeaderValue,
}

impl Cookie {
    /// Appends the cookie to those of the request, in one line.
    ///
    /// # Errors
    /// The line is not a valid header value.
    pub(crate) fn send(&self, request: &mut PipeRequest) -> Result<(), Failure> {
        let lines = request.headers.get_all(COOKIE).iter();
        let mut line = Vec::new();
        for cookies in lines.filter(|line| !line.is_empty()).chain([&self.pair]) {
            if !line.is_empty() {
                line.extend_from_slice(b"; ");
            }
            line.extend_from_slice(cookies.as_bytes());
        }
        let line = HeaderValue::try_from(line)
            .map_err(|_| Failure::new(Kind::Request, "a cookie cannot be written"))?;
        request.headers.insert(COOKIE, line);
        Ok(())
    }

    /// Adds the cookie to a response.
    pub(crate) fn set(&self, headers: &mut HeaderMap) {
        headers.append(SET_COOKIE, self.set.clone());
    }
}

/// A cookie to look for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Wanted {
    pub name: Box<[u8]>,
    /// `None` matches any value.
    pub value: Option<Box<[u8]>>,
}

impl Wanted {
    /// Whether the request sends it.
    pub(crate) fn is_sent(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(COOKIE).iter();
        let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        pairs.any(|pair| self.is(pair))
    }

    /// Whether the response sets it.
    pub(crate) fn is_set(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(SET_COOKIE).iter();
        let mut pairs = lines.filter_map(|line| line.as_bytes().split(|byte| *byte == b';').next());
        pairs.any(|pair| self.is(pair))
    }

    fn is(&self, pair: &[u8]) -> bool {
        let mut parts = pair.trim_ascii().splitn(2, |byte| *byte == b'=');
        let name = parts.next().unwrap_or_default().trim_ascii();
        let value = parts.next().unwrap_or_default();
        name == &*self.name
            && self
                .value
                .as_deref()
                .is_none_or(|wanted| wanted == unquoted(value))
    }
}

fn unquoted(value: &[u8]) -> &[u8] {
    match value {
        [b'"', inner @ .., b'"'] => inner,
        _ => value,
    }
}

/// The configured attributes of a cookie.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    pub path: String,
    pub domain: String,
    /// In the format of `Expires`.
    pub expires: Option<String>,
    pub max_age: i64,
    pub http_only: bool,
    pub secure: bool,
}

impl Attributes {
    /// `name=value; Path=…`, in Go's order.
    pub(super) fn write(&self, pair: &str) -> String {
        let mut line = pair.to_owned();
        let mut add = |name: &str, value: &str| {
            if !value.is_empty() {
                line.push_str(name);
                line.push_str(value);
            }
        };
        add("; Path=", &self.path);
        // A leading dot no longer has a meaning (RFC 6265 §4.1.2.3).
        add("; Domain=", self.domain.trim_start_matches('.'));
        add("; Expires=", self.expires.as_deref().unwrap_or_default());
        match self.max_age {
            0 => {}
            ..0 => add("; Max-Age=", "0"),
            seconds => add("; Max-Age=", &seconds.to_string()),
        }
        if self.http_only {
            line.push_str("; HttpOnly");
        }
        if self.secure {
            line.push_str("; Secure");
        }
        line
    }
}

/// `name=value`, where a value with a space or a comma is quoted. `None` if a byte is invalid in a value.
pub(super) fn pair(name: &str, value: &str) -> Option<String> {
    let fits = |byte| matches!(byte, 0x20..0x7f) && !matches!(byte, b'"' | b';' | b'\\');
    if !value.bytes().all(fits) {
        return None;
    }
    Some(if value.contains([' ', ',']) {
        format!("{name}=\"{value}\"")
    } else {
        format!("{name}={value}")
    })
}

/// Whether the text is valid as an attribute of a cookie.
pub(super) fn is_attribute(text: &str) -> bool {
    text.bytes()
        .all(|byte| matches!(byte, 0x20..0x7f) && byte != b';')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all() -> Attributes {
        Attributes {
            path: "/p".into(),
            domain: ".example.com".into(),
            expires: Some("Wed, 02 Jan 2030 03:04:05 GMT".into()),
            max_age: 10,
            http_only: true,
            secure: true,
        }
    }

    #[test]
    fn a_cookie_is_written_as_in_go() {
        let line = all().write(&pair("sid", "4 2").unwrap());
        assert_eq!(
            line,
            "sid=\"4 2\"; Path=/p; Domain=example.com; Expires=Wed, 02 Jan 2030 03:04:05 GMT; Max-Age=10; HttpOnly; Secure"
        );
        let expired = Attributes {
            max_age: -5,
            ..Attributes::default()
        };
        assert_eq!(expired.write("a=b"), "a=b; Max-Age=0");
        assert_eq!(Attributes::default().write("a="), "a=");
        assert_eq!(pair("a", "x;y"), None);
        assert_eq!(pair("a", "\u{e4}"), None);
    }

    fn wanted(name: &str, value: Option<&str>) -> Wanted {
        Wanted {
            name: name.as_bytes().into(),
            value: value.map(|value| value.as_bytes().into()),
        }
    }

    #[test]
    fn a_cookie_is_found_in_any_line() {
        let mut headers = HeaderMap::new();
        headers.append(COOKIE, HeaderValue::from_static("a=1; b=\"two\""));
        headers.append(COOKIE, HeaderValue::from_static(" c ;d=x=y"));
        headers.append(SET_COOKIE, HeaderValue::from_static("e=5; a=no"));
        for (name, value) in [
            ("a", None),
            ("a", Some("1")),
            ("b", Some("two")),
            ("c", None),
            ("d", Some("x=y")),
        ] {
            assert!(wanted(name, value).is_sent(&headers), "{name}");
        }
        for (name, value) in [("a", Some("2")), ("A", None), ("e", None), ("x", None)] {
            assert!(!wanted(name, value).is_sent(&headers), "{name}");
        }
        assert!(wanted("e", Some("5")).is_set(&headers));
        assert!(!wanted("a", None).is_set(&headers));
    }

    proptest! {
        #[test]
        fn a_sent_cookie_is_found(value in "[ -~]{0,20}", before in "[ -~]{0,20}") {
            if let Some(pair) = pair("c", &value) {
                let headers = HeaderMap::from_iter([
                    (COOKIE, HeaderValue::from_str(&before).unwrap()),
                    (COOKIE, HeaderValue::from_str(&pair).unwrap()),
                ]);
                prop_assert!(wanted("c", Some(&value)).is_sent(&headers));
            }
        }
    }
}
