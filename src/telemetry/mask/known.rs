//! Values that the gateway itself knows as secret, in the texts of the servers that got them.

use std::borrow::Cow;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::{MASK, masked_text_of_server};

/// Shorter values are parts of words.
const LEAST: usize = 4;

/// The least part of a value that counts at the end of a text that was cut.
const LEAST_CUT: usize = 6;

/// The longest text of one sign of a value in other notations, such as `\\\\u0026` or `&#x26;`.
const MAX_SIGN: usize = 24;

/// The unreserved characters of RFC 3986 §2.3 are not escaped.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'_')
    .remove(b'.')
    .remove(b'~');

/// Secrets that a server got from the gateway, in all forms in which it may quote them.
#[derive(Default)]
pub(crate) struct KnownSecrets {
    forms: Vec<String>,
    /// As they are.
    values: Vec<String>,
}

impl KnownSecrets {
    /// Adds a value.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.len() < LEAST {
            return;
        }
        self.push(secret);
        self.values.push(secret.to_owned());
        self.push_base64(secret);
        self.push(&hex::encode(secret));
        self.push(&hex::encode_upper(secret));
        // As a string in JSON, with the escapes that only some writers use.
        let json = serde_json::Value::from(secret).to_string();
        let json = json.trim_matches('"');
        self.push(json);
        self.push(&json.replace('/', "\\/"));
    }

    /// Adds a client and its secret, which are also sent together (RFC 7617 §2, RFC 6749 §2.3.1).
    pub(crate) fn add_client(&mut self, id: &str, secret: &str) {
        self.add(secret);
        if secret.is_empty() {
            return;
        }
        self.push_base64(&format!("{id}:{secret}"));
        let form = |text: &str| percent_encoded(text).replace("%20", "+");
        self.push_base64(&format!("{}:{}", form(id), form(secret)));
    }

    fn push_base64(&mut self, text: &str) {
        for engine in [STANDARD, URL_SAFE] {
            let encoded = engine.encode(text);
            // Not every writer pads.
            self.push(encoded.trim_end_matches('='));
        }
    }

    fn push(&mut self, form: &str) {
        let escaped = percent_encoded(form);
        let plus = escaped.replace("%20", "+");
        for form in [form, &escaped, &plus] {
            if !self.forms.iter().any(|known| known == form) {
                self.forms.push(form.to_owned());
            }
        }
    }

    /// A text of a server for the log: without these values, and without what its names say is a credential.
    pub(crate) fn masked(&self, text: &str) -> String {
        let mut text = Cow::Borrowed(text);
        // The longest first: one may be a part of another.
        let mut forms: Vec<&String> = self.forms.iter().collect();
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        for form in forms {
            if let Some(cleaned) = without(&text, form) {
                text = Cow::Owned(cleaned);
            }
        }
        for value in &self.values {
            if let Some(cleaned) = without_escaped(&text, value) {
                text = Cow::Owned(cleaned);
            }
        }
        masked_text_of_server(&text)
    }
}

/// `text` without `value` in notations that write letters and digits as they are, and other signs in any way: JSON, XML
/// and URLs, also inside each other. `None` if it has none.
fn without_escaped(text: &str, value: &str) -> Option<String> {
    let parts = value.split(|c: char| !c.is_ascii_alphanumeric());
    let parts: Vec<&str> = parts.filter(|part| !part.is_empty()).collect();
    let (first, others) = parts.split_first()?;
    let length: usize = parts.iter().map(|part| part.len()).sum();
    if others.is_empty() || length < LEAST_CUT {
        return None;
    }
    let end_of = |at: usize| {
        others.iter().try_fold(at + first.len(), |end, part| {
            let rest = text.get(end..)?;
            let is_sign = rest
                .chars()
                .next()
                .is_some_and(|c| !c.is_ascii_alphanumeric());
            let sign = rest.find(part).filter(|length| *length <= MAX_SIGN)?;
            is_sign.then_some(end + sign + part.len())
        })
    };
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.match_indices(first) {
        if let Some(end) = end_of(at).filter(|_| at >= done) {
            out.push_str(text.get(done..at)?);
            out.push_str(MASK);
            done = end;
        }
    }
    out.push_str(text.get(done..)?);
    (done > 0).then_some(out)
}

fn percent_encoded(text: &str) -> String {
    utf8_percent_encode(text, RESERVED).to_string()
}

/// `text` without `form`, and without the first part of `form` at its end. `None` if it has neither. The digits of
/// percent-encoding have two cases.
fn without(text: &str, form: &str) -> Option<String> {
    let has_two_cases = form.contains('%');
    let is_at = |at: usize| {
        let bytes = text.as_bytes().get(at..).unwrap_or_default();
        let length = bytes.len().min(form.len());
        let is_whole = length == form.len();
        let mut pairs = bytes.iter().zip(form.as_bytes());
        let is_equal = pairs.all(|(a, b)| a == b || (has_two_cases && a.eq_ignore_ascii_case(b)));
        (is_equal && (is_whole || length >= LEAST_CUT)).then_some(length)
    };
    let mut out = String::new();
    let mut done = 0;
    for (at, _) in text.char_indices() {
        if at < done {
            continue;
        }
        if let Some(length) = is_at(at).filter(|length| text.is_char_boundary(at + length)) {
            out.push_str(text.get(done..at)?);
            out.push_str(MASK);
            done = at + length;
        }
    }
    if done == 0 {
        return None;
    }
    out.push_str(text.get(done..)?);
    Some(out)
}
