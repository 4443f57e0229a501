//! The formats of `format`. KrakenD's validator has one table for all drafts, and reports why a text does not match.
//!
//! | module | content |
//! |---|---|
//! | `address` | `ipv4`, `ipv6`, `hostname`, `email` |
//! | `time` | `date`, `time`, `date-time`, `duration`, `period` |
//! | `url` | `uri`, `iri`, their references, `uri-template` |
//! | `name` | `uuid`, `json-pointer`, `relative-json-pointer`, `semver` |
//!
//! `regex` is RE2, as in patterns.

mod address;
mod name;
#[cfg(test)]
mod tests;
mod time;
mod url;

use std::borrow::Cow;

use crate::config::re2;

/// Why a text does not match a format.
pub(super) type Reason = Cow<'static, str>;

/// Checks a text.
pub(super) type Check = fn(&str) -> Result<(), Reason>;

/// Every format, for every draft.
pub(super) const ALL: [(&str, Check); 19] = [
    ("date", time::date),
    ("date-time", time::date_time),
    ("duration", time::duration),
    ("email", address::email),
    ("hostname", address::hostname),
    ("ipv4", address::ipv4),
    ("ipv6", address::ipv6),
    ("iri", url::absolute),
    ("iri-reference", url::reference),
    ("json-pointer", name::json_pointer),
    ("period", time::period),
    ("regex", regex),
    ("relative-json-pointer", name::relative_json_pointer),
    ("semver", name::semver),
    ("time", time::time),
    ("uri", url::absolute),
    ("uri-reference", url::reference),
    ("uri-template", url::template),
    ("uuid", name::uuid),
];

/// Longer expressions are rejected: parsing a Unicode class takes tens of microseconds, and a body may contain many.
const MAX_REGEX: usize = 1000;

fn regex(text: &str) -> Result<(), Reason> {
    if text.len() > MAX_REGEX {
        return err("longer than 1000 bytes");
    }
    let translated = re2::translate(text, re2::Use::Text);
    translated
        .map(drop)
        .map_err(|error| error.to_string().into())
}

/// Why `text` does not match the format called `name`.
pub(super) fn why(name: &str, text: &str) -> Reason {
    ALL.iter()
        .find(|(known, _)| *known == name)
        .and_then(|(_, check)| check(text).err())
        .unwrap_or(Cow::Borrowed("wrong syntax"))
}

/// Splits off the leading digits of a text.
fn digits(text: &str) -> (&str, &str) {
    let end = text
        .find(|letter: char| !letter.is_ascii_digit())
        .unwrap_or(text.len());
    text.split_at(end)
}

fn err<T>(reason: &'static str) -> Result<T, Reason> {
    Err(Cow::Borrowed(reason))
}

/// Prepends the checked part to the reason.
fn within(what: &str, checked: Result<(), Reason>) -> Result<(), Reason> {
    checked.map_err(|reason| format!("{what}: {reason}").into())
}
