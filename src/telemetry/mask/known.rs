//! Texts of servers that got secrets from the gateway.
//!
//! A server can quote a secret in any notation, and no list of notations is complete. So a text is only shown if it is
//! plain and has no part of a secret. Otherwise nothing of it is shown.

use std::collections::HashSet;

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD;

use super::{masked_text_of_server, percent_decode_str};
use crate::telemetry::sanitize::{is_printable, printable};

/// The most characters of a text that are shown.
const MAX_SHOWN: usize = 512;

/// The least part of a secret that counts, in bytes.
const LEAST_PART: usize = 6;

/// Fewer letters are parts of words.
const LEAST_BASE64: usize = 4;

/// The longest reference to a character in HTML, such as `&CounterClockwiseContourIntegral;`.
const MAX_REFERENCE: usize = 34;

/// Secrets that a server got from the gateway.
#[derive(Clone, Default)]
pub(crate) struct KnownSecrets {
    values: Vec<String>,
}

impl KnownSecrets {
    /// Adds a value.
    pub(crate) fn add(&mut self, secret: &str) {
        if secret.is_empty() {
            return;
        }
        self.values.push(secret.to_owned());
        // In this form it is in a Basic authentication (RFC 6749 §2.3.1).
        let encoded: String = form_urlencoded::byte_serialize(secret.as_bytes()).collect();
        if encoded != secret {
            self.values.push(encoded);
        }
    }

    /// Adds a value that may be one, unless it is so short that any text may have it.
    pub(crate) fn add_long(&mut self, value: &str) {
        if value.len() >= LEAST_PART {
            self.add(value);
        }
    }

    /// The start of a text of the server, without what its names say is a credential. `None` if it may contain a part of a
    /// secret.
    pub(crate) fn shown(&self, text: &str) -> Option<String> {
        let end = text.char_indices().nth(MAX_SHOWN).map(|(at, _)| at);
        let text = text.get(..end.unwrap_or(text.len()))?;
        self.is_clean(text).then(|| masked_text_of_server(text))
    }

    /// Whether a text may be shown whole: it has no part of a secret, also not in another notation. True if there are none.
    pub(crate) fn may_show(&self, text: &str) -> bool {
        self.values.is_empty() || self.is_clean(text)
    }

    /// Whether a text is plain and has no part of a secret.
    fn is_clean(&self, text: &str) -> bool {
        is_plain(text) && !self.is_in(text)
    }

    /// The same on one line, or a note that says why it is missing.
    pub(crate) fn shown_or_note(&self, text: &str) -> String {
        match self.shown(text) {
            Some(shown) => printable(&shown).into_owned(),
            None => "its text is not shown, because it may contain a credential".to_owned(),
        }
    }

    fn is_in(&self, text: &str) -> bool {
        let written = text.to_lowercase().into_bytes();
        let (letters, base64) = (letters(text), base64_letters(text));
        self.values.iter().any(|value| {
            let lower = value.to_lowercase();
            // Some writers replace or remove the other signs.
            shares(&written, lower.as_bytes(), LEAST_PART)
                || shares_letters(&letters, value)
                || (value.len() > 2
                    && shares(&letters, hex::encode(value).as_bytes(), 2 * LEAST_PART))
                || base64_of(value).any(|own| shares(&base64, &own, LEAST_PART * 4 / 3))
        })
    }
}

/// The letters for a value in base64, whatever stands before and after it: in Basic authentication the name of the client
/// stands before it (RFC 7617 §2).
fn base64_of(value: &str) -> impl Iterator<Item = Vec<u8>> {
    (0..3).filter_map(move |before| {
        let bytes = [&[0; 3][..before], value.as_bytes()].concat();
        let encoded = STANDARD_NO_PAD.encode(&bytes);
        let own = encoded.get((before * 4).div_ceil(3)..bytes.len() * 4 / 3)?;
        (own.len() >= LEAST_BASE64).then(|| base64_letters(own))
    })
}

/// Whether the letters of a text have a part of those of `value`.
fn shares_letters(text: &[u8], value: &str) -> bool {
    let own = letters(value);
    own.len() >= LEAST_PART && shares(text, &own, LEAST_PART)
}

/// Whether `text` has a part of `value` with this length, or all of a shorter one.
fn shares(text: &[u8], value: &[u8], length: usize) -> bool {
    let length = length.min(value.len());
    if length == 0 {
        return false;
    }
    let parts: HashSet<&[u8]> = text.windows(length).collect();
    value.windows(length).any(|part| parts.contains(part))
}

/// The letters and digits of ASCII, in lower case.
fn letters(text: &str) -> Vec<u8> {
    let bytes = text.bytes().filter(u8::is_ascii_alphanumeric);
    bytes.map(|byte| byte.to_ascii_lowercase()).collect()
}

/// The letters of both alphabets of RFC 4648, in lower case. A text may be broken into lines.
fn base64_letters(text: &str) -> Vec<u8> {
    let letters = text.bytes().filter_map(|byte| match byte {
        b'+' | b'-' => Some(b'+'),
        b'/' | b'_' => Some(b'/'),
        byte => byte
            .is_ascii_alphanumeric()
            .then(|| byte.to_ascii_lowercase()),
    });
    letters.collect()
}

/// Whether each character of a text stands for itself: there are no escapes of JSON, URLs or HTML, and nothing that is
/// not printed. RFC 6749 §5.2 allows no more in an error.
fn is_plain(text: &str) -> bool {
    let is_shown =
        |c: char| c != '\u{fffd}' && (is_printable(c) || matches!(c, '\r' | '\n' | '\t'));
    let is_reference = |(at, _): (usize, &str)| {
        let rest = text.as_bytes().get(at + 1..).unwrap_or_default();
        let end = rest
            .iter()
            .take(MAX_REFERENCE)
            .position(|byte| !byte.is_ascii_alphanumeric() && *byte != b'#');
        end.is_some_and(|end| end > 0 && rest.get(end) == Some(&b';'))
    };
    text.chars().all(is_shown)
        && !text.contains('\\')
        && percent_decode_str(text).eq(text.bytes())
        && !text.match_indices('&').any(is_reference)
}
