//! `input_headers`: the headers that pass from the client to a backend.

mod ours;
#[cfg(test)]
mod tests;

use std::io::Write as _;
use std::net::IpAddr;

use http::header::{
    ACCEPT_ENCODING, CACHE_CONTROL, CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, FORWARDED, HOST,
    InvalidHeaderName, PRAGMA, RANGE, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use smallvec::SmallVec;

use self::ours::is_ours;
use crate::runtime::request::{Head, Host, Notes};
use crate::runtime::service::Options;
use crate::telemetry::sanitize::push_address;
use crate::upstream::{Outgoing, spare_map};

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_VIA: HeaderName = HeaderName::from_static("x-forwarded-via");

/// The number of headers that the gateway usually adds to those of a client.
const MAX_ADDED: usize = 5;

/// Which headers pass: the endpoint's list, or a backend's second filter.
#[derive(Debug, Clone)]
pub struct HeaderRules {
    pass: Pass,
    /// `Content-Length` is in the list: steps see the length of the body among the headers.
    content_length: bool,
    /// Headers that only the gateway may set, or that it has checked. Many backends (CGI, WSGI, PHP) treat `X_User`
    /// and `X.User` as the same name.
    guarded: Box<[HeaderName]>,
    /// The guarded headers of this endpoint: credentials that its steps check, and what they set from them. The target
    /// of a redirect to another origin must not see them.
    private: Box<[HeaderName]>,
}

#[derive(Debug, Clone)]
enum Pass {
    /// There is no list: only the implicit `Content-Type` passes.
    Default,
    /// The listed names that have an effect.
    Listed(Box<[HeaderName]>),
    All,
}

impl HeaderRules {
    /// Compiles an endpoint's list. Names are case-insensitive, and `*` lets all headers pass.
    ///
    /// # Errors
    /// An invalid header name.
    pub fn endpoint<S: AsRef<str>>(names: &[S]) -> Result<HeaderRules, InvalidHeaderName> {
        let mut rules = HeaderRules::backend(names)?;
        rules.content_length = match &rules.pass {
            Pass::Default => false,
            Pass::Listed(listed) => listed.contains(&CONTENT_LENGTH),
            Pass::All => true,
        };
        if let Pass::Listed(listed) = &mut rules.pass {
            *listed = listed
                .iter()
                .filter(|name| !is_ours(name))
                .cloned()
                .collect();
        }
        Ok(rules)
    }

    /// Compiles a backend's list, for [`HeaderRules::narrow`].
    ///
    /// # Errors
    /// An invalid header name.
    pub fn backend<S: AsRef<str>>(names: &[S]) -> Result<HeaderRules, InvalidHeaderName> {
        let mut listed = Vec::with_capacity(names.len());
        let mut all = false;
        for name in names {
            match name.as_ref() {
                "*" => all = true,
                name => listed.push(HeaderName::from_bytes(name.as_bytes())?),
            }
        }
        listed.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        listed.dedup();
        let pass = match (all, listed.is_empty()) {
            (true, _) => Pass::All,
            (false, true) => Pass::Default,
            (false, false) => Pass::Listed(listed.into()),
        };
        Ok(HeaderRules {
            pass,
            content_length: false,
            guarded: Box::new([FORWARDED_FOR, FORWARDED_HOST, FORWARDED_PROTO]),
            private: Box::default(),
        })
    }

    /// The same rules for an endpoint whose steps set or check these headers: a client's `X_User` does not pass next
    /// to `X-User`, and vice versa.
    pub fn guarding(mut self, set_by_us: &[HeaderName]) -> HeaderRules {
        self.guarded = self.guarded.iter().chain(set_by_us).cloned().collect();
        self.private = set_by_us.into();
        let twin: Vec<HeaderName> = match &self.pass {
            Pass::Listed(listed) => listed.iter().filter(|n| self.is_twin(n)).cloned().collect(),
            Pass::Default | Pass::All => Vec::new(),
        };
        if let Pass::Listed(listed) = &mut self.pass {
            *listed = listed
                .iter()
                .filter(|n| !twin.contains(n))
                .cloned()
                .collect();
        }
        self
    }

    /// Whether steps see the length of the body, if the client sent one. It is sent to the backend in any case.
    pub fn announces_length(&self) -> bool {
        self.content_length
    }

    /// Whether a header with this name passes [`HeaderRules::narrow`].
    pub fn passes(&self, name: &HeaderName) -> bool {
        match &self.pass {
            Pass::All | Pass::Default => true,
            Pass::Listed(listed) => listed.contains(name),
        }
    }

    /// Removes headers that a backend's own list does not contain. An empty list removes nothing. Unlike in KrakenD,
    /// `*` removes nothing either.
    pub fn narrow(&self, headers: &mut HeaderMap) {
        let listed = match &self.pass {
            Pass::All | Pass::Default => return,
            Pass::Listed(listed) => listed,
        };
        let gone: SmallVec<[HeaderName; 8]> = headers
            .keys()
            .filter(|name| !listed.contains(name))
            .cloned()
            .collect();
        for name in gone {
            headers.remove(name);
        }
    }

    /// Whether a client's header is another spelling of one that only the gateway sets.
    fn is_twin(&self, name: &HeaderName) -> bool {
        self.guarded.iter().any(|guarded| alike(guarded, name)) && !self.guarded.contains(name)
    }
}

/// Whether a backend may confuse the two names, by comparing only letters and digits.
pub(crate) fn alike(one: &HeaderName, other: &HeaderName) -> bool {
    let (one, other) = (one.as_str().as_bytes(), other.as_str().as_bytes());
    let fold = |b: &u8| if b.is_ascii_alphanumeric() { *b } else { b'-' };
    one.len() == other.len() && one.iter().map(fold).eq(other.iter().map(fold))
}

/// Sets the header `name` to `value`, and removes every header that a backend may confuse with it.
pub(crate) fn set_alone(headers: &mut HeaderMap, name: &HeaderName, value: HeaderValue) {
    remove_twins(headers, name);
    headers.insert(name, value);
}

/// Removes the header `name`, and every header that a backend may confuse with it.
pub(crate) fn remove_alike(headers: &mut HeaderMap, name: &HeaderName) {
    remove_twins(headers, name);
    headers.remove(name);
}

fn remove_twins(headers: &mut HeaderMap, name: &HeaderName) {
    let twins: SmallVec<[HeaderName; 1]> = headers
        .keys()
        .filter(|known| *known != name && alike(known, name))
        .cloned()
        .collect();
    for twin in twins {
        headers.remove(twin);
    }
}

/// The headers of a call, without `Host` and without those that frame the body.
///
/// As in KrakenD: the headers in the endpoint's list, `X-Forwarded-For` with the single client address,
/// `X-Forwarded-Host`, and `User-Agent`. Unlike in KrakenD, hop-by-hop headers never pass, nor those that
/// `Connection` names (RFC 9110 §7.6.1).
pub fn outgoing(
    rules: &HeaderRules,
    options: &Options,
    head: &Head<'_>,
    notes: &Notes,
) -> HeaderMap {
    let listed = match &rules.pass {
        Pass::Default => 1,
        Pass::Listed(listed) => listed.len(),
        Pass::All => head.headers.len(),
    };
    let mut headers = spare_map::header_map(listed + MAX_ADDED);
    let nominated = Nominated::by(head.headers);
    match &rules.pass {
        Pass::Default => copy(&mut headers, rules, &CONTENT_TYPE, head, notes, &nominated),
        Pass::Listed(listed) => {
            for name in listed {
                copy(&mut headers, rules, name, head, notes, &nominated);
            }
        }
        Pass::All => copy_all(&mut headers, rules, head, notes, &nominated),
    }
    pragma(&mut headers, &rules.pass, head);
    if headers.contains_key(USER_AGENT) {
        set_alone(&mut headers, &FORWARDED_VIA, options.user_agent.clone());
    } else {
        headers.insert(USER_AGENT, options.user_agent.clone());
    }
    if let Some(value) = forwarded_for(options, head) {
        headers.insert(FORWARDED_FOR, value);
    }
    if let Some(value) = forwarded_host(head) {
        headers.insert(FORWARDED_HOST, value);
    }
    if options.client_address.proto {
        headers.insert(
            FORWARDED_PROTO,
            HeaderValue::from_static(scheme(options, head)),
        );
    }
    if options.client_address.forwarded {
        replace(&mut headers, FORWARDED, forwarded(options, head));
    }
    if let Some(id) = &notes.request_id {
        headers.insert(&id.header, id.value.clone());
    }
    headers
}

/// A client that sends only `Pragma: no-cache` means `Cache-Control: no-cache` (RFC 9111 §5.4), if that may pass.
fn pragma(headers: &mut HeaderMap, pass: &Pass, head: &Head<'_>) {
    let may_pass = match pass {
        Pass::Default => false,
        Pass::Listed(listed) => listed.contains(&CACHE_CONTROL),
        Pass::All => true,
    };
    if may_pass
        && head
            .headers
            .get(PRAGMA)
            .is_some_and(|value| value == "no-cache")
        && !head.headers.contains_key(CACHE_CONTROL)
        && !headers.contains_key(CACHE_CONTROL)
    {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    }
}

/// Adds headers that do not depend on a backend's own filter: our `User-Agent`, and `Accept-Encoding: gzip` if we
/// decode the response. Returns whether gzip was added.
///
/// As in Go, gzip is not requested with a `Range`, which counts the bytes of the client's representation, nor for
/// HEAD, which has no body, nor if the client's own `Accept-Encoding` passed. An empty `User-Agent` of the client is
/// kept, because it means that none is sent.
pub fn complete(
    headers: &mut HeaderMap,
    options: &Options,
    method: &Method,
    compression: bool,
) -> bool {
    let (mut has_agent, mut gzip) = (false, compression && *method != Method::HEAD);
    // There are few, so that this costs less than to look them up.
    for name in headers.keys() {
        has_agent |= *name == USER_AGENT;
        gzip &= *name != ACCEPT_ENCODING && *name != RANGE;
    }
    if !has_agent {
        headers.insert(USER_AGENT, options.user_agent.clone());
    }
    if gzip {
        headers.insert(ACCEPT_ENCODING, HeaderValue::from_static("gzip"));
    }
    gzip
}

/// Removes our own `Accept-Encoding` if a step turned the call into one that must not have it: see [`complete`].
/// Returns `false` if it was removed.
pub(crate) fn keeps_gzip(out: &mut Outgoing) -> bool {
    let keeps = out.method != Method::HEAD && !out.headers.contains_key(RANGE);
    if !keeps {
        out.headers.remove(ACCEPT_ENCODING);
    }
    keeps
}

/// Copies the client's header, or the value that a step set instead.
fn copy(
    to: &mut HeaderMap,
    rules: &HeaderRules,
    name: &HeaderName,
    head: &Head<'_>,
    notes: &Notes,
    nominated: &Nominated<'_>,
) {
    let replaced = notes.overrides.iter().any(|(known, _)| known == name);
    if !replaced && (nominated.contains(name) || is_beside_ours(name, notes)) {
        return;
    }
    let private = replaced || rules.private.contains(name);
    for value in notes.header_values(head, name) {
        let value = if private {
            of_a_step(value)
        } else {
            value.clone()
        };
        to.append(name, value);
    }
}

/// Whether a client's header is another spelling of one that a step has set for this request.
fn is_beside_ours(name: &HeaderName, notes: &Notes) -> bool {
    let mut ours = notes.overrides.iter();
    ours.any(|(known, _)| known != name && alike(known, name))
}

/// A value that a step set or checked. It is marked as sensitive, which keeps it from the targets of redirects and out of
/// HPACK's tables (RFC 7541 §7.1.3).
fn of_a_step(value: &HeaderValue) -> HeaderValue {
    let mut value = value.clone();
    value.set_sensitive(true);
    value
}

fn copy_all(
    to: &mut HeaderMap,
    rules: &HeaderRules,
    head: &Head<'_>,
    notes: &Notes,
    nominated: &Nominated<'_>,
) {
    for (name, value) in head.headers {
        let replaced = notes.overrides.iter().any(|(known, _)| known == name);
        if replaced || is_ours(name) || nominated.contains(name) || rules.is_twin(name) {
            continue;
        }
        if is_beside_ours(name, notes) {
            continue;
        }
        let value = if rules.private.contains(name) {
            of_a_step(value)
        } else {
            value.clone()
        };
        to.append(name, value);
    }
    for (name, values) in &notes.overrides {
        if !is_ours(name) {
            for value in values {
                to.append(name, of_a_step(value));
            }
        }
    }
}

/// The headers that `Connection` names, which are meant for the gateway and not for a backend.
struct Nominated<'h>(SmallVec<[&'h str; 2]>);

impl<'h> Nominated<'h> {
    fn by(headers: &'h HeaderMap) -> Nominated<'h> {
        let mut names = SmallVec::new();
        // Compared as bytes: a byte outside ASCII must not make the rest of its line ineffective.
        let lines = headers.get_all(CONNECTION).into_iter();
        let tokens = lines
            .flat_map(|line| line.as_bytes().split(|byte| *byte == b','))
            .filter_map(|token| std::str::from_utf8(token.trim_ascii()).ok());
        for token in tokens {
            let usual = ["close", "keep-alive"];
            let known = |known: &&str| known.eq_ignore_ascii_case(token);
            // Only names of existing headers count, and only once, so that a long list does not slow down the
            // request.
            if !usual.iter().any(known) && headers.contains_key(token) && !names.iter().any(known) {
                names.push(token);
            }
        }
        Nominated(names)
    }

    fn contains(&self, name: &HeaderName) -> bool {
        self.0
            .iter()
            .any(|token| token.eq_ignore_ascii_case(name.as_str()))
    }
}

/// One address. With `append_chain`, the chain that a trusted peer sent, followed by the address of the peer.
fn forwarded_for(options: &Options, head: &Head<'_>) -> Option<HeaderValue> {
    let rules = &options.client_address;
    let peer = head.peer.to_canonical();
    if !rules.append_chain || !rules.trusts(peer) {
        return address(head.client);
    }
    let mut text = Vec::with_capacity(96);
    for line in head.headers.get_all(FORWARDED_FOR) {
        text.extend_from_slice(line.as_bytes().trim_ascii());
        text.extend_from_slice(b", ");
    }
    push_address(peer, &mut text);
    HeaderValue::try_from(text).ok()
}

/// An address as a value, with one allocation of its length.
fn address(address: IpAddr) -> Option<HeaderValue> {
    const LONGEST: usize = "0000:0000:0000:0000:0000:ffff:255.255.255.255".len();
    let mut space = [0; LONGEST];
    let mut rest = &mut space[..];
    push_address(address, &mut rest);
    let length = LONGEST - rest.len();
    HeaderValue::from_bytes(space.get(..length)?).ok()
}

/// `https` or `http`: that of our own connection, or what a trusted peer reports about the one before it.
fn scheme(options: &Options, head: &Head<'_>) -> &'static str {
    let said = if options.client_address.trusts(head.peer.to_canonical()) {
        head.header(&FORWARDED_PROTO)
    } else {
        None
    };
    match said.map(str::trim) {
        Some(said) if said.eq_ignore_ascii_case("https") => "https",
        Some(said) if said.eq_ignore_ascii_case("http") => "http",
        _ if head.secure => "https",
        _ => "http",
    }
}

/// One element (RFC 7239 §4). With `append_chain`, after the elements that a trusted peer sent.
fn forwarded(options: &Options, head: &Head<'_>) -> Option<HeaderValue> {
    let rules = &options.client_address;
    let peer = head.peer.to_canonical();
    let mut text = Vec::with_capacity(96);
    let node = if rules.append_chain && rules.trusts(peer) {
        for line in head.headers.get_all(FORWARDED) {
            text.extend_from_slice(line.as_bytes().trim_ascii());
            text.extend_from_slice(b", ");
        }
        peer
    } else {
        head.client
    };
    // Writing to a Vec cannot fail. An IPv6 address must be in brackets and quotes (§6).
    let _ = match node {
        IpAddr::V4(v4) => write!(text, "for={v4}"),
        IpAddr::V6(v6) => write!(text, "for=\"[{v6}]\""),
    };
    let host = head.host();
    if !host.is_empty() && !host.contains(['"', '\\']) {
        let _ = write!(text, ";host=\"{host}\"");
    }
    let _ = write!(text, ";proto={}", scheme(options, head));
    HeaderValue::try_from(text).ok()
}

/// Replaces the header by `value`, or removes it.
fn replace(headers: &mut HeaderMap, name: HeaderName, value: Option<HeaderValue>) {
    match value {
        Some(value) => headers.insert(name, value),
        None => headers.remove(name),
    };
}

fn forwarded_host(head: &Head<'_>) -> Option<HeaderValue> {
    // The usual header is passed on without a copy.
    match (head.host, head.headers.get(HOST)) {
        (Host::Sent(_), Some(value)) if std::str::from_utf8(value.as_bytes()).is_ok() => {
            Some(value.clone())
        }
        _ => HeaderValue::from_str(head.host()).ok(),
    }
}
