//! The secret parts of a `url_pattern`: values from the configuration that only the backend may see.

use std::borrow::Cow;

use crate::telemetry::mask::{MASK, is_credential};

/// Values in a `url_pattern` that must not be shown.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Hidden {
    /// Query parameters with a configured value.
    names: Box<[Box<str>]>,
    /// Parts of a pattern that came from the environment or from a file.
    parts: Box<[Box<str>]>,
}

impl Hidden {
    /// The configured values of query parameters: those of credentials, and all longer ones, whose meaning only the
    /// backend knows. Words of up to five letters and digits are not secrets.
    pub fn of(pattern: &str) -> Hidden {
        let query = pattern.split_once('?').map_or("", |(_, query)| query);
        let names = query
            .split('&')
            .filter_map(|pair| pair.split_once('='))
            .filter(|(name, value)| !value.is_empty() && is_hidden(name, value))
            .map(|(name, _)| name.into());
        Hidden {
            names: names.collect(),
            parts: Box::default(),
        }
    }

    /// The same for a pattern of which any part may be secret.
    pub fn all_of(pattern: &str) -> Hidden {
        const LEAST: usize = 4;
        let parts = pattern
            .split(['{', '}'])
            .step_by(2)
            .filter(|part| part.len() >= LEAST)
            .map(Box::from);
        Hidden {
            parts: parts.collect(),
            ..Hidden::of(pattern)
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
        for name in &self.names {
            if let Some(cleaned) = without_value(&text, name) {
                text = Cow::Owned(cleaned);
            }
        }
        text
    }
}

fn is_hidden(name: &str, value: &str) -> bool {
    let is_placeholder = value.starts_with('{') && value.find('}') == Some(value.len() - 1);
    let is_number = value.bytes().all(|byte| byte.is_ascii_digit());
    !is_placeholder && (is_credential(name, value) || (value.len() > 5 && !is_number))
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
        let hidden = Hidden::of(
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
        assert!(matches!(Hidden::default().clean("x"), Cow::Borrowed("x")));
    }

    #[test]
    fn a_pattern_from_the_environment_is_hidden_completely() {
        let hidden = Hidden::all_of("/bot12:SECRET/send{id}/x");
        assert_eq!(
            hidden.clean("Get \"http://h/bot12:SECRET/send5/x\": EOF"),
            "Get \"http://h[redacted]5/x\": EOF"
        );
    }

    proptest! {
        #[test]
        fn arbitrary_patterns_can_be_hidden_in_arbitrary_texts(pattern in any::<String>(), text in any::<String>()) {
            let _ = Hidden::of(&pattern).clean(&text);
            let cleaned = Hidden::all_of("/abcd/{id}?k=secret-value");
            let text = format!("{text}/abcd/5?k=secret-value");
            prop_assert!(!cleaned.clean(&text).contains("secret-value"));
            let _ = Hidden::all_of(&pattern).clean(&text);
        }
    }
}
