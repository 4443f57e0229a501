//! Tokens that are bound to their holder: to a TLS certificate (RFC 8705 §3), or to a key of which the client sends a
//! proof with each request (DPoP, RFC 9449).

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{HeaderName, HeaderValue, Uri};
use ipnet::IpNet;
use serde_json::Value;
use smallvec::SmallVec;

use super::forwarded::in_header;
use super::shared_proofs::{SharedProofs, Use};
use super::used_proofs::{Admission, LongestAge, UsedProofs};
use crate::jose::dpop::Proof;
use crate::jose::{Algorithms, Claims, Reason, Rejection};
use crate::runtime::request::{Head, Notes};

/// The header with the proof (RFC 9449 §4.1).
const DPOP: HeaderName = HeaderName::from_static("dpop");

/// The header with a new nonce (RFC 9449 §8).
pub(super) const DPOP_NONCE: HeaderName = HeaderName::from_static("dpop-nonce");

/// How far ahead the clock of a client may be.
const AHEAD: Duration = Duration::from_secs(5);

/// How long a nonce is the newest. It is accepted for twice this time.
const NONCE_LIFE: u64 = 60;

/// Whether a binding is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum Demand {
    #[default]
    Off,
    /// A bound token must be with its holder; others pass.
    Optional,
    /// Only bound tokens pass.
    Required,
}

/// What an endpoint requires.
#[derive(Debug, Default)]
pub(super) struct Binding {
    pub(super) certificate: Demand,
    /// Where trusted proxies send the client's certificate.
    pub(super) header: Option<HeaderName>,
    pub(super) trusted: Box<[IpNet]>,
    pub(super) dpop: Option<Dpop>,
}

/// The settings of proofs. Without them the endpoint does not support the scheme `DPoP`.
#[derive(Debug)]
pub(super) struct Dpop {
    pub(super) required: bool,
    pub(super) algorithms: Algorithms,
    /// How old a proof may be.
    pub(super) max_age: Duration,
    /// The public addresses of the gateway, such as `https://api.example.com`. Empty: what the connection says.
    pub(super) origins: Box<[Box<str>]>,
    /// The key of nonces. `None` if proofs need none.
    pub(super) nonce: Option<hmac::Key>,
    pub(super) replays: Arc<UsedProofs>,
    /// The same memory, shared with other gateways.
    pub(super) shared: Option<Arc<SharedProofs>>,
    /// All endpoints share the memory of proofs, so it must last for the longest age of all.
    pub(super) longest_age: Arc<LongestAge>,
}

/// How the token was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Bearer,
    Dpop,
}

/// The times at which a proof is judged.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    /// Since the Unix epoch.
    pub(super) wall: Duration,
    /// Of the monotonic clock.
    pub(super) steady: Duration,
}

/// The result of a check.
#[derive(Debug, Default)]
pub(super) struct Checked {
    /// A nonce for the client's next proof, if the one of this proof ends soon.
    pub(super) nonce: Option<HeaderValue>,
    /// The proof that the other gateways must not have seen yet.
    pub(super) to_share: Option<Use>,
}

impl Binding {
    /// Whether nothing is looked at.
    pub(super) fn is_off(&self) -> bool {
        self.certificate == Demand::Off && self.dpop.is_none()
    }

    /// Checks that the client holds the key to which the token is bound. Call it last: a proof can be used only once.
    pub(super) fn check(
        &self,
        head: &Head<'_>,
        scheme: Scheme,
        token: &str,
        claims: &Claims,
        now: Now,
    ) -> Result<Checked, Rejection> {
        self.check_certificate(head, claims)?;
        match &self.dpop {
            Some(dpop) => dpop.check(head, scheme, token, claims, now),
            None => Ok(Checked::default()),
        }
    }

    /// The part of the check that needs only the claims: whether a required binding is present.
    pub(super) fn check_claims(&self, claims: &Claims) -> Result<(), Rejection> {
        if self.certificate != Demand::Off
            && confirmation(claims, "x5t#S256")?.is_none()
            && self.certificate == Demand::Required
        {
            return Err(no_certificate());
        }
        if let Some(dpop) = &self.dpop
            && confirmation(claims, "jkt")?.is_none()
            && dpop.required
        {
            return Err(no_key());
        }
        Ok(())
    }

    fn check_certificate(&self, head: &Head<'_>, claims: &Claims) -> Result<(), Rejection> {
        if self.certificate == Demand::Off {
            return Ok(());
        }
        let Some(bound) = confirmation(claims, "x5t#S256")? else {
            return match self.certificate {
                Demand::Required => Err(no_certificate()),
                _ => Ok(()),
            };
        };
        let shown = match &self.header {
            Some(header) if self.trusts(head) => in_header(head, header),
            _ => head
                .certificate
                .map(|thumbprint| URL_SAFE_NO_PAD.encode(thumbprint)),
        };
        match shown {
            Some(shown) if equal(&shown, bound) => Ok(()),
            Some(_) => Err(unbound("the token is bound to another certificate")),
            None => Err(unbound(
                "the token is bound to a certificate, and the client sent none",
            )),
        }
    }

    /// Removes the header with the certificate from what a client sends itself, in every spelling that a backend may
    /// read as the same header (RFC 9440 §2.4).
    pub(super) fn keep_only_of_proxies(&self, head: &Head<'_>, notes: &mut Notes) {
        let Some(header) = &self.header else {
            return;
        };
        let sent = head.headers.get_all(header).iter().cloned();
        let kept = if self.trusts(head) {
            sent.collect()
        } else {
            SmallVec::new()
        };
        notes.set_header(header, kept);
    }

    fn trusts(&self, head: &Head<'_>) -> bool {
        let peer = head.peer.to_canonical();
        self.trusted.iter().any(|net| net.contains(&peer))
    }
}

impl Dpop {
    fn check(
        &self,
        head: &Head<'_>,
        scheme: Scheme,
        token: &str,
        claims: &Claims,
        now: Now,
    ) -> Result<Checked, Rejection> {
        let bound = confirmation(claims, "jkt")?;
        match (scheme, bound) {
            // Introspection says so (RFC 9449 §6.2), but not to which key the token is bound.
            (_, None) if is_of_type_dpop(claims) => Err(no_key()),
            (Scheme::Bearer, None) if !self.required => Ok(Checked::default()),
            (Scheme::Bearer, None) => Err(no_key()),
            // RFC 9449 §7.2.
            (Scheme::Bearer, Some(_)) => Err(unbound(
                "the token is bound to a key, and was sent without the scheme DPoP",
            )),
            (Scheme::Dpop, None) => Err(no_key()),
            (Scheme::Dpop, Some(bound)) => self.check_proof(head, token, bound, now),
        }
    }

    /// The checks of RFC 9449 §4.3, in their order.
    fn check_proof(
        &self,
        head: &Head<'_>,
        token: &str,
        bound: &str,
        now: Now,
    ) -> Result<Checked, Rejection> {
        let mut sent = head.headers.get_all(&DPOP).iter();
        let text = match (sent.next(), sent.next()) {
            (Some(one), None) => one.to_str().map_err(|_| bad("the proof is not text"))?,
            (None, _) => return Err(bad("there is no proof")),
            (Some(_), Some(_)) => return Err(bad("there is more than one proof")),
        };
        let proof = Proof::verify(text, self.algorithms)?;
        if proof.text("htm") != Some(head.method.as_str()) {
            return Err(bad("the proof is for another method"));
        }
        if !proof.text("htu").is_some_and(|url| self.is_here(url, head)) {
            return Err(bad("the proof is for another URL"));
        }
        let newer = self.check_nonce(&proof, now.wall)?;
        self.check_age(&proof, now.wall)?;
        let hash = digest::digest(&digest::SHA256, token.as_bytes());
        let hash = URL_SAFE_NO_PAD.encode(hash);
        if !proof.text("ath").is_some_and(|sent| equal(sent, &hash)) {
            return Err(bad("the proof is for another token"));
        }
        if !equal(&proof.thumbprint, bound) {
            return Err(unbound("the token is bound to another key"));
        }
        // A proof from the future can be used for as much longer.
        let kept = self.longest_age.get() + AHEAD;
        match self.replays.admit(&proof, kept, now) {
            Admission::New => Ok(Checked {
                nonce: newer,
                to_share: self.shared.as_ref().map(|shared| shared.of(&proof, kept)),
            }),
            Admission::Forgotten => Err(bad("the proof is older than the memory of used proofs")),
            Admission::Seen => Err(bad("the proof was used before")),
            Admission::Full => {
                log::error!(
                    "[SERVICE: JOSE] too many proofs are remembered: new ones are rejected"
                );
                // The gateway is at fault, and not the proof.
                Err(Rejection::new(
                    Reason::ProofsUnavailable,
                    "too many proofs are remembered",
                ))
            }
        }
    }

    /// Whether the URL is that of the request, without query and fragment (RFC 9449 §4.3, number 9). Scheme and host
    /// are compared without case, and default ports are left out (RFC 3986 §6.2).
    fn is_here(&self, url: &str, head: &Head<'_>) -> bool {
        let Some((origin, path)) = parts(url) else {
            return false;
        };
        if path != head.path && normal_path(path) != normal_path(head.path) {
            return false;
        }
        if !self.origins.is_empty() {
            return self.origins.iter().any(|one| **one == *origin);
        }
        let scheme = if head.secure { "https" } else { "http" };
        parts(&format!("{scheme}://{}", head.host())).is_some_and(|(here, _)| here == origin)
    }

    fn check_age(&self, proof: &Proof, now: Duration) -> Result<(), Rejection> {
        // Not part of a proof, but binding wherever they occur (RFC 7519 §4.1.4, §4.1.5).
        if proof
            .expiry()
            .is_some_and(|ends| ends.since_epoch() + AHEAD <= now)
        {
            return Err(bad("the proof is expired"));
        }
        if proof
            .not_before()
            .is_some_and(|begins| begins.since_epoch() > now + AHEAD)
        {
            return Err(bad("the proof is not valid yet"));
        }
        let issued = proof.issued_at().map(|date| date.since_epoch());
        match issued {
            Some(issued) if issued > now + AHEAD => Err(bad("the proof is from the future")),
            Some(issued) if issued + self.max_age >= now => Ok(()),
            _ => Err(bad("the proof is too old")),
        }
    }

    /// A nonce is the keyed hash of the minute in which it was made, so that nothing has to be kept.
    fn check_nonce(&self, proof: &Proof, now: Duration) -> Result<Option<HeaderValue>, Rejection> {
        let Some(key) = &self.nonce else {
            return Ok(None);
        };
        let sent = proof.text("nonce").unwrap_or_default();
        let minute = now.as_secs() / NONCE_LIFE;
        if equal(sent, &nonce(key, minute)) {
            return Ok(None);
        }
        if equal(sent, &nonce(key, minute.saturating_sub(1))) {
            return Ok(self.fresh_nonce(now));
        }
        Err(Rejection::new(
            Reason::UseNonce,
            "the proof has no current nonce",
        ))
    }

    /// The nonce for the client's next proof.
    pub(super) fn fresh_nonce(&self, now: Duration) -> Option<HeaderValue> {
        let key = self.nonce.as_ref()?;
        HeaderValue::try_from(nonce(key, now.as_secs() / NONCE_LIFE)).ok()
    }
}

fn nonce(key: &hmac::Key, minute: u64) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(key, &minute.to_be_bytes()))
}

/// The origin and the path of a URL, normalized. `None` if it is not the URL of a server.
pub(super) fn parts(url: &str) -> Option<(String, &str)> {
    let bare = url.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = bare.split_once("://")?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let uri: Uri = format!("{scheme}://{authority}/").parse().ok()?;
    let scheme = scheme.to_ascii_lowercase();
    let standard = match scheme.as_str() {
        "https" => 443,
        "http" => 80,
        _ => return None,
    };
    if authority.contains('@') {
        return None;
    }
    let host = uri.host()?.to_ascii_lowercase();
    let port = match uri.port_u16() {
        Some(port) if port != standard => format!(":{port}"),
        _ => String::new(),
    };
    Some((format!("{scheme}://{host}{port}"), path))
}

/// A path without needless percent encoding and with encodings in capital letters (RFC 3986 §6.2.2).
fn normal_path(path: &str) -> String {
    let mut normal = String::with_capacity(path.len());
    let mut rest = path;
    while let Some((before, after)) = rest.split_once('%') {
        normal.push_str(before);
        let byte = after
            .get(..2)
            .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))
            .and_then(|digits| u8::from_str_radix(digits, 16).ok());
        rest = match byte {
            // Unreserved characters (RFC 3986 §2.3).
            Some(byte) if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => {
                normal.push(char::from(byte));
                after.get(2..).unwrap_or_default()
            }
            Some(byte) => {
                normal.push_str(&format!("%{byte:02X}"));
                after.get(2..).unwrap_or_default()
            }
            None => {
                normal.push('%');
                after
            }
        };
    }
    normal.push_str(rest);
    normal
}

/// A member of the claim `cnf` (RFC 7800 §3.1). A `cnf` that is not an object, or a member that is not text, is not a binding
/// that could be checked, so such a token is rejected.
fn confirmation<'c>(claims: &'c Claims, name: &str) -> Result<Option<&'c str>, Rejection> {
    let members = match claims.claim("cnf") {
        None => return Ok(None),
        Some(Value::Object(members)) => members,
        Some(_) => return Err(unbound("the claim \"cnf\" is not an object")),
    };
    match members.get(name) {
        None => Ok(None),
        Some(Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(unbound("a member of the claim \"cnf\" is not text")),
    }
}

/// Whether the provider says that the token can be used only with proofs.
fn is_of_type_dpop(claims: &Claims) -> bool {
    let kind = claims.claim("token_type").and_then(Value::as_str);
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("dpop"))
}

/// Compares in constant time. The client knows both texts, so this is only a precaution.
fn equal(one: &str, other: &str) -> bool {
    verify_slices_are_equal(one.as_bytes(), other.as_bytes()).is_ok()
}

fn no_certificate() -> Rejection {
    unbound("the token is bound to no certificate")
}

fn no_key() -> Rejection {
    unbound("the token is bound to no key")
}

fn unbound(why: &'static str) -> Rejection {
    Rejection::new(Reason::WrongBinding, why)
}

fn bad(why: &'static str) -> Rejection {
    Rejection::new(Reason::BadProof, why)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_compared_after_normalization() {
        for (url, origin, path) in [
            ("https://a.test/x", "https://a.test", "/x"),
            ("HTTPS://A.test:443/x?y#z", "https://a.test", "/x"),
            ("http://a.test:8080", "http://a.test:8080", "/"),
            ("http://a.test:80/", "http://a.test", "/"),
            ("https://[::1]:8443/X%2f", "https://[::1]:8443", "/X%2f"),
        ] {
            assert_eq!(parts(url), Some((origin.to_owned(), path)), "{url}");
        }
        for url in [
            "",
            "/x",
            "a.test/x",
            "ftp://a/x",
            "https://u@a/x",
            "https:///x",
            "https://a b/x",
        ] {
            assert_eq!(parts(url), None, "{url}");
        }
    }

    #[test]
    fn equal_paths_may_be_spelled_differently() {
        for (one, other) in [("/a%64", "/ad"), ("/%7euser", "/~user"), ("/%e4", "/%E4")] {
            assert_eq!(normal_path(one), normal_path(other));
        }
        for (one, other) in [
            ("/a%2fb", "/a/b"),
            ("/a%2564", "/a%64"),
            ("/%4", "/4"),
            ("/%", "/"),
        ] {
            assert_ne!(normal_path(one), normal_path(other));
        }
        assert_eq!(normal_path("/%zz%+1%é%41"), "/%zz%+1%éA");
    }
}
