//! The secret parts of a `url_pattern`: values from the configuration that only the backend may see.

use std::borrow::Cow;

use crate::telemetry::mask::{MASK, is_credential, is_secret};

/// Of a value that is longer, only the start is compared: a long text may have been cut.
const MAX_START: usize = 64;

/// Values in a `url_pattern` that must not be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct UrlSecrets {
    /// Query parameters with a configured value.
    names: Box<[Box<str>]>,
    /// Parts of a pattern that came from the environment or from a file.
    parts: Box<[Box<str>]>,
    /// The segments of the path with a placeholder whose name is that of a credential: `{resp0_access_token}`.
    path: Option<Box<SecretPath>>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct SecretPath {
    /// Their numbers in the pattern.
    segments: Box<[usize]>,
    /// The number of all segments of the pattern.
    length: usize,
    /// Their starts in a target.
    starts: Box<[Box<str>]>,
}

impl SecretPath {
    /// `None` if there are none.
    fn of(path: &str) -> Option<Box<SecretPath>> {
        let segments = path.split('/').enumerate();
        let segments = segments.filter(|(_, segment)| has_secret_placeholder(segment));
        let segments: Box<[usize]> = segments.map(|(index, _)| index).collect();
        let length = path.split('/').count();
        (!segments.is_empty()).then(|| {
            Box::new(SecretPath {
                segments,
                length,
                starts: Box::default(),
            })
        })
    }

    fn in_target(&self, target: &str) -> SecretPath {
        let path = target.split('?').next().unwrap_or_default();
        let first = self.segments.first().copied().unwrap_or_default();
        // A value may have slashes.
        let is_same = path.split('/').count() == self.length;
        let is_secret = |index: usize| {
            if is_same {
                self.segments.contains(&index)
            } else {
                index >= first
            }
        };
        let secret = path.split('/').enumerate();
        let secret = secret.filter(|(index, segment)| is_secret(*index) && !segment.is_empty());
        let starts = secret
            .map(|(_, segment)| Box::from(&segment[..segment.floor_char_boundary(MAX_START)]));
        SecretPath {
            starts: starts.collect(),
            ..self.clone()
        }
    }
}

impl UrlSecrets {
    /// The configured values of query parameters: those of credentials, and all longer ones, whose meaning only the
    /// backend knows. Words of up to five letters and digits are not secrets. Of the path, the segments that look like
    /// a key. The segments and parameters with placeholders that are named like a credential count, too.
    pub fn of(pattern: &str) -> UrlSecrets {
        let (path, query) = pattern.split_once('?').unwrap_or((pattern, ""));
        let names = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, value)| !value.is_empty() && is_hidden(name, value))
            .map(|(name, _)| name.into());
        UrlSecrets {
            names: names.collect(),
            parts: keys_in(path).map(Box::from).collect(),
            path: SecretPath::of(path),
        }
    }

    /// The same for texts with this target, which was made from the pattern. `None` if its path has no further secrets.
    pub fn in_target(&self, target: &str) -> Option<Box<UrlSecrets>> {
        let path = self.path.as_ref()?.in_target(target);
        Some(Box::new(UrlSecrets {
            path: Some(Box::new(path)),
            ..self.clone()
        }))
    }

    /// The same for a pattern of which any part may be secret.
    pub fn all_of(pattern: &str) -> UrlSecrets {
        const LEAST: usize = 4;
        let parts = pattern
            .split(['{', '}'])
            .step_by(2)
            .filter(|part| part.len() >= LEAST)
            .map(Box::from);
        UrlSecrets {
            parts: parts.collect(),
            ..UrlSecrets::of(pattern)
        }
    }

    /// `text`, which is a pattern, a URL, or a sentence that contains one, without the secrets.
    pub fn clean<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let mut text = Cow::Borrowed(text);
        for part in &self.parts {
            if text.contains(&**part) {
                text = Cow::Owned(text.replace(&**part, "[redacted]"));
            }
        }
        for start in self.path.iter().flat_map(|path| &path.starts) {
            if let Some(cleaned) = without_segment(&text, start) {
                text = Cow::Owned(cleaned);
            }
        }
        for name in &self.names {
            if let Some(cleaned) = without_value(&text, name) {
                text = Cow::Owned(cleaned);
            }
        }
        text
    }
}

/// The literal parts of a path that look like a key. Some services expect it there (`/bot123:KEY/send`, web hooks).
fn keys_in(path: &str) -> impl Iterator<Item = &str> {
    let segments = path.split('/');
    let literals = segments.flat_map(|segment| segment.split(['{', '}']).step_by(2));
    literals.flat_map(|literal| {
        let pairs = literal.split(';').filter(|pair| is_secret_pair(pair));
        let user = user_and_password(literal);
        let whole = looks_like_a_key(literal).then_some(literal);
        whole.into_iter().chain(user).chain(pairs)
    })
}

/// `token=x`, as a segment or as a parameter of one.
fn is_secret_pair(pair: &str) -> bool {
    pair.split_once('=')
        .is_some_and(|(name, value)| is_credential(name, value))
}

/// `user:password` of a segment `user:password@host`, which may be escaped.
fn user_and_password(literal: &str) -> Option<&str> {
    let at = ["@", "%40"]
        .iter()
        .filter_map(|at| literal.find(at))
        .min()?;
    let user = literal.get(..at)?;
    let has_password = [":", "%3A", "%3a"].iter().any(|colon| user.contains(colon));
    has_password.then_some(user)
}

/// At least 16 letters and digits in a row, and both of them; a UUID; 20 characters of base64url with letters in both
/// cases and digits; or a number and a password (`123:KEY`). Words are shorter, or have no digits, or one case.
pub(super) fn looks_like_a_key(literal: &str) -> bool {
    const LONG: usize = 16;
    let has = |text: &str, is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    let is_mixed = |text: &str| has(text, u8::is_ascii_digit) && has(text, u8::is_ascii_alphabetic);
    let mut runs = literal.split(|letter: char| !letter.is_ascii_alphanumeric());
    let is_pair = |(name, password): (&str, &str)| {
        name.ends_with(|last: char| last.is_ascii_digit()) && password.len() >= 6
    };
    runs.any(|run| run.len() >= LONG && is_mixed(run))
        || literal.split_once(':').is_some_and(is_pair)
        || holds_a_uuid(literal)
        || is_base64url(literal)
}

/// Whether there is a UUID in the text (RFC 9562 §4).
fn holds_a_uuid(text: &str) -> bool {
    const LENGTH: usize = 36;
    let is_uuid = |part: &[u8]| {
        part.iter().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => *byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
    };
    text.as_bytes().windows(LENGTH).any(is_uuid)
}

/// A long text of the alphabet of RFC 4648 §5 that is not a sequence of words.
fn is_base64url(text: &str) -> bool {
    const LONG: usize = 20;
    let all = |is: fn(&u8) -> bool| text.bytes().all(|byte| is(&byte));
    let has = |is: fn(&u8) -> bool| text.bytes().any(|byte| is(&byte));
    text.len() >= LONG
        && all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'='))
        && has(u8::is_ascii_uppercase)
        && has(u8::is_ascii_lowercase)
        && has(u8::is_ascii_digit)
}

fn is_hidden(name: &str, value: &str) -> bool {
    let is_placeholder = value.starts_with('{') && value.find('}') == Some(value.len() - 1);
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    has_secret_placeholder(value)
        || !is_placeholder && (is_credential(name, value) || (value.len() > 5 && !is_number))
}

/// Whether a part of a pattern has a placeholder whose name says that its value is a credential: `{resp0_o.password}`,
/// `{JWT.key}`.
fn has_secret_placeholder(part: &str) -> bool {
    let mut names = part.split(['{', '}']).skip(1).step_by(2);
    names.any(|name| {
        let response = name
            .strip_prefix("resp")
            .and_then(|rest| rest.split_once('_'));
        let path = response.map_or(name, |(_, path)| path);
        path.rsplit('.').next().is_some_and(is_secret)
    })
}

/// `text` without the segments that begin with `start`. `None` if there are none.
fn without_segment(text: &str, start: &str) -> Option<String> {
    let ends = |c: char| matches!(c, '/' | '?' | '#' | '"' | '\'') || c.is_whitespace();
    let wanted = format!("/{start}");
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(&wanted) {
        let (before, segment) = rest.split_at(at + 1);
        out.push_str(before);
        out.push_str("[redacted]");
        rest = segment.find(ends).map_or("", |end| &segment[end..]);
    }
    if out.is_empty() {
        return None;
    }
    out.push_str(rest);
    Some(out)
}

/// `text` with the values of `name` replaced wherever it follows `?` or `&`. `None` if it does not occur.
fn without_value(text: &str, name: &str) -> Option<String> {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = find_pair(rest, name) {
        let (before, from) = rest.split_at(at);
        let end = from
            .find(|c: char| matches!(c, '&' | '"' | '#' | '\'') || c.is_whitespace())
            .unwrap_or(from.len());
        // `]` closes the pattern in an error text.
        let (value, after) = from.split_at(end);
        out.push_str(before);
        out.push_str(MASK);
        if value.ends_with("]:") {
            out.push_str("]:");
        }
        rest = after;
    }
    if out.is_empty() {
        return None;
    }
    out.push_str(rest);
    Some(out)
}

/// The offset of the value of the next `?name=` or `&name=`.
fn find_pair(text: &str, name: &str) -> Option<usize> {
    text.match_indices(name).find_map(|(at, _)| {
        let before = text[..at].ends_with(['?', '&']);
        let end = at + name.len();
        (before && text[end..].starts_with('=')).then_some(end + 1)
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn configured_values_are_hidden_in_any_text_with_the_url() {
        let hidden = UrlSecrets::of(
            "/a?appid=0123456789abcdef&q={city}&u=metric-system&zz=v&n=1234567&api_key=x",
        );
        assert_eq!(
            hidden.clean(
                "/a?appid=0123456789abcdef&q={city}&u=metric-system&zz=v&n=1234567&api_key=x"
            ),
            "/a?appid=***&q={city}&u=***&zz=v&n=1234567&api_key=***"
        );
        assert_eq!(
            hidden.clean(
                "invalid status code 500 [GET /a?api_key=x]: http://h/a?appid=0123&api_key=x"
            ),
            "invalid status code 500 [GET /a?api_key=***]: http://h/a?appid=***&api_key=***"
        );
        assert_eq!(
            hidden.clean("Get \"http://h/a?zz=v&appid=0123\": dial tcp h:80"),
            "Get \"http://h/a?zz=v&appid=***\": dial tcp h:80"
        );
        assert_eq!(hidden.clean("no appid=here"), "no appid=here");
        assert!(matches!(
            UrlSecrets::default().clean("x"),
            Cow::Borrowed("x")
        ));
    }

    #[test]
    fn keys_in_the_path_are_hidden_and_words_are_not() {
        for (pattern, shown) in [
            ("/bot123456:SECRETPATH/send", "/[redacted]/send"),
            ("/bot12:SECRET/send{id}", "/[redacted]/send{id}"),
            (
                "/services/T00/B00/aBcDeFgHiJ0123456789",
                "/services/T00/B00/[redacted]",
            ),
            (
                "/hook/0123456789abcdef0123/{id}?v=1",
                "/hook/[redacted]/{id}?v=1",
            ),
            ("/hooks/{id}0a1b2c3d4e5f6a7b8", "/hooks/{id}[redacted]"),
            ("/v1/models:predict", "/v1/models:predict"),
            (
                "/api/v2/customer-profiles-2024/internationalization",
                "/api/v2/customer-profiles-2024/internationalization",
            ),
            (
                "/a/3f2504e0-4f89-11d3-9a0c-0305e82c3301/b",
                "/a/[redacted]/b",
            ),
            (
                "/api/webhooks/123456789012345678/abcDEF-ghi_jkl0123456789",
                "/api/webhooks/123456789012345678/[redacted]",
            ),
            ("/x/api_key=abc/y", "/x/[redacted]/y"),
            ("/x;v=1;token=abc/y", "/x;v=1;[redacted]/y"),
            ("/x/page=abc;v=2/y={key}", "/x/page=abc;v=2/y={key}"),
            ("/ada:lovelace@x/y", "/[redacted]@x/y"),
            ("/u%3Apw%40x/y", "/[redacted]%40x/y"),
            ("/mail/ada@example.com", "/mail/ada@example.com"),
            (
                "/{customerIdentifier0123456789}",
                "/{customerIdentifier0123456789}",
            ),
        ] {
            assert_eq!(UrlSecrets::of(pattern).clean(pattern), shown);
        }
        let error = "Get \"http://h/bot12:SECRET/send5\": EOF";
        let hidden = UrlSecrets::of("/bot12:SECRET/send{id}");
        assert_eq!(
            hidden.clean(error),
            "Get \"http://h/[redacted]/send5\": EOF"
        );
    }

    #[test]
    fn values_of_placeholders_with_the_name_of_a_credential_are_hidden() {
        for (pattern, target, shown) in [
            (
                "/e?t={resp0_access_token}&b={id}",
                "/e?t=abc&b=1",
                "/e?t=***&b=1",
            ),
            ("/e?x={resp0_o.password}", "/e?x=abc", "/e?x=***"),
            ("/e?x=a{resp12_key}b", "/e?x=aabcb", "/e?x=***"),
            ("/e?x={input_headers.X-Api-Key}", "/e?x=abc", "/e?x=***"),
            (
                "/bot{resp0_access_token}/send",
                "/botabc/send",
                "/[redacted]/send",
            ),
            ("/e/{resp0_access_token}", "/e/abc", "/e/[redacted]"),
            (
                "/{token}/{id}/x",
                "/a/b/c/x",
                "/[redacted]/[redacted]/[redacted]/[redacted]",
            ),
            (
                "/e/{resp0_id}?a={resp0_keyword}",
                "/e/abc?a=b",
                "/e/abc?a=b",
            ),
        ] {
            let hidden = UrlSecrets::of(pattern);
            let text = format!("Get \"http://host{target}\": EOF");
            let of_target = hidden.in_target(target);
            let cleaned = of_target.as_deref().unwrap_or(&hidden).clean(&text);
            assert_eq!(
                cleaned,
                format!("Get \"http://host{shown}\": EOF"),
                "{pattern}"
            );
        }
        let target = format!("/{}", "abc".repeat(100));
        let hidden = UrlSecrets::of("/{token}").in_target(&target).unwrap();
        let text = format!("http://h{}… (9 bytes more)", &target[..200]);
        assert_eq!(hidden.clean(&text), "http://h/[redacted] (9 bytes more)");
    }

    #[test]
    fn a_pattern_from_the_environment_is_hidden_completely() {
        let hidden = UrlSecrets::all_of("/bot12:SECRET/send{id}/x");
        assert_eq!(
            hidden.clean("Get \"http://h/bot12:SECRET/send5/x\": EOF"),
            "Get \"http://h[redacted]5/x\": EOF"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_patterns_can_be_hidden_in_arbitrary_texts(pattern in any::<String>(), text in any::<String>()) {
            let _ = UrlSecrets::of(&pattern).clean(&text);
            let cleaned = UrlSecrets::all_of("/abcd/{id}?k=secret-value");
            let text = format!("{text}/abcd/5?k=secret-value");
            prop_assert!(!cleaned.clean(&text).contains("secret-value"));
            let _ = UrlSecrets::all_of(&pattern).clean(&text);
        }
    }
}
