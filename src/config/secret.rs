//! Decides what messages may show of a configuration: no text that may be a credential.

use std::borrow::Cow;
use std::ops::Range;

use super::path::Path;
use super::value::{Data, Value};

/// The text that replaces a value.
pub(super) const MASK: &str = "[redacted]";

/// A key whose name ends with one of these has a credential as its value. A `private_key` is the path of a file.
const ENDINGS: [&str; 16] = [
    "token",
    "secret",
    "secreturl",
    "password",
    "passwd",
    "passphrase",
    "passcode",
    "apikey",
    "accesskey",
    "secretkey",
    "sharedkey",
    "licensekey",
    "credential",
    "credentials",
    "authorization",
    "dsn",
];

/// Complete names that would be too short as endings.
const NAMES: [&str; 7] = ["pass", "pwd", "pw", "pin", "auth", "bearer", "cookie"];

/// Parameters of a URL with a credential, in addition to the names above.
const PARAMETERS: [&str; 5] = ["key", "code", "sig", "signature", "jwt"];

/// Whether a key or a parameter with this name has a credential as its value, however it is spelled.
pub(super) fn is_secret_name(name: &str) -> bool {
    let name = folded(name);
    ENDINGS.iter().any(|ending| name.ends_with(ending)) || NAMES.contains(&&*name)
}

fn folded(name: &str) -> String {
    let letters = name.chars().filter(|c| !matches!(c, '_' | '-' | ' '));
    letters.map(|c| c.to_ascii_lowercase()).collect()
}

/// Whether the value at this location, or one that it is a part of, may be a credential: by the names of its keys and
/// of the block that they are in.
pub(super) fn may_be_at(path: &Path) -> bool {
    let steps: Vec<Option<&str>> = path.steps().collect();
    let is_auth = |step: &&str| step.starts_with("auth/");
    let in_auth = steps.iter().flatten().any(is_auth);
    steps.iter().enumerate().any(|(at, step)| {
        let Some(name) = *step else { return false };
        // The value is reached from here through these steps, of which the last is the nearest.
        let below = steps.get(..at).unwrap_or_default();
        if name.contains('/') {
            // A text in the place of a whole block.
            return is_auth(&name) && below.is_empty();
        }
        let name_below = below.iter().rev().find_map(|step| *step);
        match &*folded(name) {
            // A list is one of names.
            "headers" | "endpointparams" => below.is_empty() || name_below.is_some(),
            "users" | "key" if in_auth => true,
            "keys" if in_auth => name_below.is_none_or(|name| name == "key"),
            "value" => is_modifier(steps.get(at + 1).copied().flatten()),
            _ => is_secret_name(name),
        }
    })
}

/// Modifiers whose value is that of a header, a cookie or a parameter.
fn is_modifier(block: Option<&str>) -> bool {
    let kinds = ["header.", "cookie.", "querystring."];
    block.is_some_and(|name| kinds.iter().any(|kind| name.starts_with(kind)))
}

/// `text` without the texts and numbers of `value`, which may be secret.
pub(super) fn without<'t>(text: &'t str, value: &Value) -> Cow<'t, str> {
    /// Shorter values are masked in quotes only: they could be a part of any word.
    const LEAST: usize = 5;
    let mut text = Cow::Borrowed(text);
    let mut left = vec![value];
    while let Some(value) = left.pop() {
        match &value.data {
            Data::Text(secret) | Data::Number(secret) => {
                let quoted = format!("{secret:?}");
                for form in [&*quoted, &*value.to_json(), secret] {
                    let is_clear = form.len() >= LEAST || (form.starts_with('"') && form != "\"\"");
                    if is_clear && text.contains(form) {
                        text = Cow::Owned(text.replace(form, MASK));
                    }
                }
            }
            Data::List(items) => left.extend(items),
            Data::Object(members) => left.extend(members.iter().map(|member| &member.value)),
            Data::Bool(_) | Data::Null => {}
        }
    }
    text
}

/// A text of the file, or a sentence that quotes it, without keys in PEM (RFC 7468) or as JWK (RFC 7517), which may stand in
/// the place of a path, and without the credentials of URLs: those before the host, and those of parameters.
pub(super) fn masked(text: &str) -> Cow<'_, str> {
    match key_in(text).and_then(|key| Some((text.get(..key.start)?, text.get(key.end..)?))) {
        Some((before, after)) => {
            let (before, after) = (masked_urls(before), masked_urls(after));
            Cow::Owned(format!("{before}[redacted]{after}"))
        }
        None => masked_urls(text),
    }
}

/// Where the text has keys: from the beginning of the first one to the end of the last one.
fn key_in(text: &str) -> Option<Range<usize>> {
    const END: &str = "-----";
    if let Some(start) = text.find("-----BEGIN ") {
        let last = text.rfind("-----END ").filter(|last| *last > start);
        let end = last.and_then(|last| {
            let name = last + END.len();
            Some(name + text.get(name..)?.find(END)? + END.len())
        });
        return Some(start..end.unwrap_or(text.len()));
    }
    if text.contains("kty\"") || text.contains("kty\\\"") {
        let (start, last) = (text.find('{')?, text.rfind('}')?);
        return (start < last).then_some(start..last + 1);
    }
    None
}

fn masked_urls(text: &str) -> Cow<'_, str> {
    if !text.contains(['@', '=']) {
        return Cow::Borrowed(text);
    }
    let is_end = |c: char| {
        let quotes = ['"', '\'', '`', '<', '>', '(', ')', ',', '\\'];
        c.is_whitespace() || quotes.contains(&c)
    };
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(is_end) {
        let word = part.trim_end_matches(is_end);
        mask_word(word, &mut out);
        out.push_str(part.get(word.len()..).unwrap_or_default());
    }
    Cow::Owned(out)
}

fn mask_word(word: &str, out: &mut String) {
    let (user, mut rest) = word.rsplit_once('@').unwrap_or(("", word));
    let start = user.find("://").map_or(0, |at| at + 3);
    let (scheme, user) = user.split_at_checked(start).unwrap_or_default();
    // An `@` of a path is not one before a host; a password may contain a slash.
    let is_user = if start > 0 {
        user.contains(':') || !user.contains('/')
    } else {
        user.contains(':')
    };
    if is_user && !user.is_empty() {
        out.push_str(scheme);
        out.push_str(MASK);
        out.push('@');
    } else {
        rest = word;
    }
    let is_end = |c: char| matches!(c, '?' | '&' | ';' | '#');
    for part in rest.split_inclusive(is_end) {
        match part.split_once('=') {
            Some((name, value)) if is_parameter(name) && !value.is_empty() => {
                let end = part.find(is_end).unwrap_or(part.len());
                out.push_str(name);
                out.push('=');
                out.push_str(MASK);
                out.push_str(part.get(end..).unwrap_or_default());
            }
            _ => out.push_str(part),
        }
    }
}

fn is_parameter(name: &str) -> bool {
    is_secret_name(name) || PARAMETERS.contains(&&*folded(name))
}

#[cfg(test)]
mod tests;
