//! Masks credentials in URLs, for log lines, metrics and error texts.

mod known;
mod members;

use std::borrow::Cow;
use std::sync::Arc;

use arc_swap::ArcSwap;
use once_cell::sync::Lazy;
use percent_encoding::percent_decode_str;

use super::url_secrets::looks_like_a_key;
use members::{Origin, members_masked};

pub(crate) use known::KnownSecrets;

/// The text that replaces a value.
pub(super) const MASK: &str = "***";

/// A parameter whose name ends with one of these contains a credential: `access_token`, `idToken`, `X-Amz-Signature`. So does
/// one with the plural: `tokens`.
const SECRET_ENDINGS: [&str; 43] = [
    "token",
    "authorization",
    "secret",
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "pswd",
    "userpw",
    "secretid",
    "apikey",
    "appkey",
    "accesskey",
    "accesskeyid",
    "fastlykey",
    "mashapekey",
    "secretkey",
    "privatekey",
    "subscriptionkey",
    "authkey",
    "jwt",
    "signature",
    "credential",
    "assertion",
    "sessionid",
    "sessid",
    "sesskey",
    "sessionkey",
    "verifier",
    "samlresponse",
    "samlart",
    "passcode",
    "ticket",
    "otp",
    "tokenhint",
    "hmac",
    "licensekey",
    "licencekey",
    "clientkey",
    "functionskey",
    "devicecode",
    "usercode",
    "cookie",
];

/// Complete names that would be too short as endings. `key` is the default of `auth/api-keys`, and `code` is the
/// authorization code of RFC 6749 §4.1.2.
const SECRET_NAMES: [&str; 17] = [
    "key",
    "auth",
    "bearer",
    "sig",
    "sign",
    "pass",
    "pw",
    "psw",
    "cred",
    "code",
    "sid",
    "session",
    "pin",
    "appid",
    "sas",
    "dpop",
    "connectsid",
];

/// The start of a name that the server continues with letters of its own: `ASPSESSIONIDQQABCDEF` of ASP.
const SECRET_START: &[u8] = b"aspsessionid";

/// The [`letters`] of parameters and headers that are configured as the place of a credential. Names are added but never
/// removed, so that a reload does not reveal the values of requests in progress.
static NAMED: Lazy<ArcSwap<Vec<Box<str>>>> = Lazy::new(ArcSwap::default);

/// Adds a name of query parameters and headers whose values are masked from now on.
pub(crate) fn add_secret_name(name: &str) {
    if is_secret(name) {
        return;
    }
    NAMED.rcu(|known| {
        let mut more = Vec::clone(known);
        more.push(letters(name).map(char::from).collect());
        Arc::new(more)
    });
}

/// Appends a raw query with the values of credentials replaced, however their names are spelled.
///
/// `;` and `?` end a pair like `&`, because some backends parse them in this way.
pub(crate) fn push_query(query: &str, out: &mut Vec<u8>) {
    for part in query.split_inclusive(['&', ';', '?']) {
        let pair = part.trim_end_matches(['&', ';', '?']);
        match first_secret(pair) {
            Some(at) => {
                out.extend_from_slice(&pair.as_bytes()[..at]);
                out.extend_from_slice(MASK.as_bytes());
            }
            None => out.extend_from_slice(pair.as_bytes()),
        }
        out.extend_from_slice(&part.as_bytes()[pair.len()..]);
    }
}

/// The start of the secret part of `name=value`: after the `=`, or 0 if the name itself is secret.
fn first_secret(pair: &str) -> Option<usize> {
    let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
    if holds_a_credential(name) {
        return Some(0);
    }
    is_credential(name, value).then_some(name.len() + 1)
}

/// A path without credentials, which it may have in an encoded query (`/a%3Faccess_token=x`) or as a segment.
pub(crate) fn masked_path(path: &str) -> Cow<'_, str> {
    // One look at each byte: most paths have none of these.
    let is_marked = |byte| matches!(byte, b'=' | b'%' | b';' | b'@' | b'J');
    if !path.bytes().any(is_marked) || !secret_segments(path).any(|(_, is_secret)| is_secret) {
        return Cow::Borrowed(path);
    }
    let segments = secret_segments(path).map(|(segment, is_secret)| {
        if !is_secret {
            return Cow::Borrowed(segment);
        }
        let ends = ["?", ";", "%3F", "%3f", "%3B", "%3b"];
        let end = ends
            .iter()
            .filter_map(|end| Some(segment.find(end)? + end.len()));
        let kept = end.min().and_then(|end| segment.get(..end));
        Cow::Owned(format!("{}{MASK}", kept.unwrap_or_default()))
    });
    Cow::Owned(segments.collect::<Vec<_>>().join("/"))
}

/// The segments of a path, and whether each holds a credential. A path may begin with an authority, or contain a URL, whose
/// `//` may have become `/`: `//user:password@host/`, `/proxy/https:/user:password@host/`.
fn secret_segments(path: &str) -> impl Iterator<Item = (&str, bool)> {
    let mut before = "";
    path.split('/').enumerate().map(move |(index, segment)| {
        // The path begins with a slash, so its first segment is always empty.
        let starts_url = (index > 1 && before.is_empty()) || before.ends_with(':');
        before = segment;
        let mut is_secret = holds_a_credential(segment);
        if starts_url && !is_secret {
            is_secret = has_user(&percent_decode_str(segment).decode_utf8_lossy());
        }
        (segment, is_secret)
    })
}

/// A text of another server, without what its names say is a credential.
fn masked_text_of_server(text: &str) -> String {
    words_masked(&members_masked(text, Origin::Server))
}

/// A sentence of ours that may quote a URL, a query or JSON, without the credentials in it.
pub(crate) fn masked_text(text: &str) -> Cow<'_, str> {
    match members_masked(text, Origin::Gateway) {
        Cow::Borrowed(text) => parts_masked(text),
        Cow::Owned(text) => Cow::Owned(parts_masked(&text).into_owned()),
    }
}

fn parts_masked(text: &str) -> Cow<'_, str> {
    const ENDS: [char; 12] = ['&', ';', '?', '#', '"', '\'', '<', '>', '(', ')', ',', '\\'];
    if !text.contains(['=', '@', '%']) && !text.contains("eyJ") {
        return Cow::Borrowed(text);
    }
    let is_end = |c: char| c.is_whitespace() || ENDS.contains(&c);
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(is_end) {
        let pair = part.trim_end_matches(is_end);
        let end = &part[pair.len()..];
        // A URL keeps its host.
        let pair = if pair.contains("://") {
            without_password(pair)
        } else {
            Cow::Borrowed(pair)
        };
        match first_secret(&pair) {
            Some(at) => {
                out.push_str(&pair[..at]);
                out.push_str(MASK);
            }
            None => out.push_str(&pair),
        }
        out.push_str(end);
    }
    Cow::Owned(out)
}

/// A raw query with the values of credentials replaced.
pub(crate) fn masked_query(query: &str) -> String {
    let mut out = Vec::with_capacity(query.len());
    push_query(query, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// `url` without the credentials in its query and before its host, for log lines and error texts.
pub(crate) fn masked(url: &str) -> Cow<'_, str> {
    let url = without_password(url);
    match url.split_once('?') {
        Some((before, query)) => Cow::Owned(format!("{before}?{}", masked_query(query))),
        None => url,
    }
}

/// `http://user:password@host/` as `http://user:***@host/`, as in Go. A user name without a password is masked too,
/// because it may be a token.
pub(crate) fn without_password(url: &str) -> Cow<'_, str> {
    let start = url.find("://").map_or(0, |at| at + 3);
    let (scheme, rest) = url.split_at(start);
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(end);
    let Some((user, host)) = authority.rsplit_once('@') else {
        return Cow::Borrowed(url);
    };
    match user.split_once(':') {
        Some((name, _)) => Cow::Owned(format!("{scheme}{name}:{MASK}@{host}{path}")),
        None => Cow::Owned(format!("{scheme}{MASK}@{host}{path}")),
    }
}

/// Removes secrets from a line of a library, whose meaning is unknown: every value of a query, every password of a
/// URL and every credential of an `Authorization` is replaced.
pub(crate) fn scrubbed(text: &str) -> Cow<'_, str> {
    let suspicious = ["?", "@", "earer ", "EARER ", "asic ", "ASIC "];
    if !suspicious.iter().any(|part| text.contains(part)) {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut after_scheme = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        let space = &word[bare.len()..];
        if after_scheme {
            out.push_str(MASK)
        } else {
            out.push_str(&values_gone(&without_password(bare)))
        }
        out.push_str(space);
        let letters = bare.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        after_scheme = ["bearer", "basic"]
            .iter()
            .any(|scheme| letters.eq_ignore_ascii_case(scheme));
    }
    Cow::Owned(out)
}

/// `url` without a password and without any value of its query, for calls with a configured URL.
pub(crate) fn without_values(url: &str) -> String {
    values_gone(&without_password(url)).into_owned()
}

/// A word with all values after its first `?` replaced.
fn values_gone(word: &str) -> Cow<'_, str> {
    let Some((before, query)) = word.split_once('?') else {
        return Cow::Borrowed(word);
    };
    let mut out = format!("{before}?");
    for pair in query.split_inclusive(['&', ';']) {
        match pair.split_once('=') {
            Some((name, value)) => {
                out.extend([name, "=", MASK]);
                let end = value.chars().next_back();
                out.extend(end.filter(|end| matches!(end, '&' | ';' | ',')));
            }
            None => out.push_str(pair),
        }
    }
    Cow::Owned(out)
}

/// The value of a header field for logs and spans: without credentials, those in a URL included (`Referer`).
///
/// A proxy in between may have renamed a field: `X-Forwarded-Authorization`, `X-Original-Cookie`.
pub(crate) fn shown_header<'v>(name: &str, value: &'v str) -> Cow<'v, str> {
    let own = name.strip_prefix("x-").unwrap_or(name);
    if own.ends_with("cookie") || own == "api-key" || is_secret(name) || is_secret(own) {
        return Cow::Borrowed(MASK);
    }
    if name == "sec-websocket-protocol" {
        return Cow::Owned(protocols_masked(value));
    }
    let suspicious = ["@", "=", "%", "\"", "eyJ", "earer ", "EARER "];
    if !suspicious.iter().any(|part| value.contains(part)) {
        return Cow::Borrowed(value);
    }
    let shown = words_masked(value);
    // A name whose value is masked says nothing more: `token=***)`.
    if holds_a_credential(&shown.replace("=***", " ").replace(MASK, "")) {
        Cow::Borrowed(MASK)
    } else {
        Cow::Owned(shown)
    }
}

/// The values of a `Sec-WebSocket-Protocol`. Browsers cannot set other headers, so some services expect credentials there:
/// `bearer.TOKEN`, `access_token, TOKEN`, `base64url.bearer.authorization.k8s.io.TOKEN`.
fn protocols_masked(value: &str) -> String {
    let mut is_next = false;
    let shown = value.split(',').map(|item| {
        let name = item.trim();
        let is_named = std::mem::replace(&mut is_next, is_secret(name));
        let ends =
            name.match_indices(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
        let mut starts = ends.map(|(at, sign)| (at, at + sign.len()));
        match starts.find(|(end, _)| is_secret(&name[..*end])) {
            Some((_, at)) if at < name.len() => format!("{}{MASK}", &name[..at]),
            _ if is_named || holds_a_credential(name) || looks_like_a_key(name) => MASK.to_owned(),
            _ => name.to_owned(),
        }
    });
    shown.collect::<Vec<_>>().join(", ")
}

/// The words of a text without the passwords and credentials of the URLs among them, and without what follows `Bearer`.
fn words_masked(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut after_bearer = false;
    for word in text.split_inclusive(char::is_whitespace) {
        let bare = word.trim_end();
        if after_bearer && !bare.is_empty() {
            out.push_str(MASK);
        } else if bare.contains("://") {
            out.push_str(&masked_text(&without_password(bare)));
        } else {
            out.push_str(&masked_text(bare));
        }
        out.push_str(&word[bare.len()..]);
        let letters = bare.trim_start_matches(|c: char| !c.is_ascii_alphabetic());
        after_bearer = letters.eq_ignore_ascii_case("bearer");
    }
    out
}

/// Whether this value must be masked.
pub(super) fn is_credential(name: &str, value: &str) -> bool {
    !value.is_empty() && (is_secret(name) || holds_a_credential(value))
}

/// Whether a text is a token, or a URL or query with a credential in it, encoded up to twice: `/cb%3Faccess_token%3Dx`.
fn holds_a_credential(text: &str) -> bool {
    let mut text = Cow::Borrowed(text);
    for _ in 0..3 {
        let mut pairs = text
            .split(['&', ';', '?', '#'])
            .filter_map(|pair| pair.split_once('='));
        // `=` at the end is the padding of base64.
        if looks_like_a_token(&text)
            || has_a_url_with_user(&text)
            || matches!(members_masked(&text, Origin::Gateway), Cow::Owned(_))
            || pairs.any(|(name, value)| !value.trim_matches('=').is_empty() && is_secret(name))
        {
            return true;
        }
        if !text.contains('%') {
            return false;
        }
        let decoded = percent_decode_str(&text).decode_utf8_lossy().into_owned();
        text = Cow::Owned(decoded);
    }
    false
}

/// `//user:password@host`, or a token in the place of the user. A value that is masked already does not count.
fn has_a_url_with_user(text: &str) -> bool {
    text.match_indices("//")
        .any(|(at, _)| text.get(at + 2..).is_some_and(has_user))
}

fn has_user(url: &str) -> bool {
    let ends = |c: char| c.is_whitespace() || "/\\?#&;,\"'()<>".contains(c);
    let authority = url.split(ends).next().unwrap_or_default();
    authority.rsplit_once('@').is_some_and(|(user, _)| {
        let secret = user.split_once(':').map_or(user, |(_, password)| password);
        !secret.is_empty() && secret != MASK
    })
}

/// A compact JWS or JWE begins with the base64url of `{"` (RFC 7515 §3.1). Any text after `Bearer` counts as a token.
fn looks_like_a_token(value: &str) -> bool {
    let follows_scheme = value
        .as_bytes()
        .split_at_checked(6)
        .is_some_and(|(scheme, rest)| {
            scheme.eq_ignore_ascii_case(b"bearer")
                && matches!(rest.first(), Some(b' ' | b'+' | b'%'))
        });
    follows_scheme || (value.contains("eyJ") && value.contains('.'))
}

/// Whether the value of a query parameter or header with this name is a credential.
pub(crate) fn is_secret(name: &str) -> bool {
    // As often as values: `t%256Fken` is decoded by what decodes twice.
    let mut decoded = Cow::Borrowed(name);
    for _ in 0..2 {
        if decoded.contains('%') {
            let once = percent_decode_str(&decoded).decode_utf8_lossy();
            decoded = Cow::Owned(once.into_owned());
        }
    }
    SECRET_ENDINGS
        .iter()
        .any(|word| ends_with(&decoded, word, false))
        || SECRET_NAMES
            .iter()
            .any(|word| ends_with(&decoded, word, true))
        || decoded
            .as_bytes()
            .get(..SECRET_START.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SECRET_START))
        || NAMED
            .load()
            .iter()
            .any(|named| letters(&decoded).eq(named.bytes()))
}

/// The letters of a name, from its end. Case, separators and numbers at the end are ignored: `Access-Token`, `token[0]`.
fn letters(name: &str) -> impl Iterator<Item = u8> {
    let bytes = name.bytes().rev().filter(u8::is_ascii_alphanumeric);
    bytes
        .skip_while(u8::is_ascii_digit)
        .map(|byte| byte.to_ascii_lowercase())
}

/// Whether the letters of `name` end with `word`, or equal it if `whole` is set.
fn ends_with(name: &str, word: &str, whole: bool) -> bool {
    let mut letters = letters(name).peekable();
    if !whole && !word.ends_with('s') {
        let _ = letters.next_if_eq(&b's');
    }
    word.bytes().rev().all(|byte| letters.next() == Some(byte))
        && (!whole || letters.next().is_none())
}

#[cfg(test)]
mod tests;
