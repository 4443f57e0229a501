//! Logout tokens (OpenID Connect Back-Channel Logout 1.0): the provider says that a session has ended, or all sessions of
//! a user. Their tokens are then revoked.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::sync::{PoisonError, RwLock};
use std::time::Duration;

use aws_lc_rs::digest;
use http::StatusCode;
use serde_json::Value;

use super::revocation_list::RevocationAccess;
use crate::ext::auth_validator::Provider;
use crate::jose::{Claims, Purpose, Reason, Rejection, Token, Verifier};
use crate::runtime::clock::Clock;

/// The member of `events` that makes a token a logout token (§2.4).
const EVENT: &str = "http://schemas.openid.net/event/backchannel-logout";

/// Elements in the list of revoked tokens: a session by issuer and `sid`, and a user by issuer and `sub`, with the time
/// of the logout. Tokens that were issued later are not concerned.
const SESSION: &str = "logout-sid-";
const USER: &str = "logout-sub@";

/// The providers whose logout tokens are accepted.
#[derive(Debug)]
pub struct Logout {
    pub(super) providers: Box<[Provider]>,
    pub(super) clock: Clock,
}

/// How long a logout token waits for its key. It is longer than the longest interval between two refreshes for unknown
/// keys, because a provider does not send a rejected logout token again.
const KEYS: Duration = Duration::from_secs(11);

impl Logout {
    /// Waits until the key of the logout token has arrived, at most [`KEYS`].
    pub async fn prepare(&self, body: &[u8]) {
        if let Some(token) = logout_token(body)
            && let Ok(provider) = self.provider(&token)
            && let Some(keys) = provider.keys()
        {
            keys.await_key_of(&token, KEYS).await;
        }
    }

    /// Handles the body of a request of a provider (§2.5): a form with `logout_token`.
    pub fn accept(&self, body: &[u8], revocations: &RevocationAccess) -> StatusCode {
        let Some(token) = logout_token(body) else {
            return StatusCode::BAD_REQUEST;
        };
        match self.element(&token) {
            Ok(element) => revoke(&element, revocations),
            Err(rejection) => {
                log::warn!("[SERVICE: Revoker] a logout token is rejected: {rejection}");
                match rejection.reason {
                    Reason::KeysUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                    _ => StatusCode::BAD_REQUEST,
                }
            }
        }
    }

    /// The element that a valid logout token revokes (§2.6).
    fn element(&self, text: &str) -> Result<String, Rejection> {
        let provider = self.provider(text)?;
        let keys = provider.keys().ok_or_else(Rejection::keys_unavailable)?;
        let current = keys.source.current();
        let snapshot = current.as_ref().ok_or_else(Rejection::keys_unavailable)?;
        let verifier = Verifier {
            purpose: Purpose::Logout,
            ..keys.verifier
        };
        let claims = verifier.verify(text, &snapshot.set.0)?;
        let now = self.clock.wall();
        provider.rules.check_identity(&claims, now)?;
        revoked(&claims)
    }

    /// The provider that the token names. This only selects the keys; it proves nothing.
    fn provider(&self, text: &str) -> Result<&Provider, Rejection> {
        let issuer = Token::parse(text)?.claims()?;
        let issuer = issuer.issuer();
        self.providers
            .iter()
            .find(|provider| issuer.is_some() && provider.rules.issuer.as_deref() == issuer)
            .ok_or_else(|| Rejection::new(Reason::WrongIssuer, "it comes from another issuer"))
    }
}

/// Revokes what a valid logout token names.
pub(super) fn revoke(element: &str, revocations: &RevocationAccess) -> StatusCode {
    match revocations.add(element.as_bytes()) {
        Ok(()) => StatusCode::OK,
        Err(_) => StatusCode::SERVICE_UNAVAILABLE,
    }
}

/// The only `logout_token` of a form.
fn logout_token(body: &[u8]) -> Option<Cow<'_, str>> {
    let mut fields = form_urlencoded::parse(body).filter(|(name, _)| name == "logout_token");
    match (fields.next(), fields.next()) {
        (Some((_, token)), None) => Some(token),
        _ => None,
    }
}

/// The session or the user of a logout token whose signature, issuer, audience and times are right.
fn revoked(claims: &Claims) -> Result<String, Rejection> {
    let bad = |why: &'static str| Rejection::new(Reason::BadClaim, why);
    let event = claims.claim("events").and_then(|events| events.get(EVENT));
    if !event.is_some_and(Value::is_object) {
        return Err(bad("it is not a logout token: \"events\" lacks the event"));
    }
    if claims.claim("nonce").is_some() {
        return Err(bad("it has a \"nonce\", which is forbidden"));
    }
    let at = claims.issued_at().map(|at| at.since_epoch());
    let at = at.ok_or_else(|| bad("it has no \"iat\""))?;
    if claims.token_id().is_none() {
        return Err(bad("it has no \"jti\""));
    }
    // REQUIRED (§2.4). The rules check that it has not passed.
    if claims.expiry().is_none() {
        return Err(bad("it has no \"exp\""));
    }
    // An empty name matches no session and no user.
    let is_empty = |name: &str| claims.claim(name).and_then(Value::as_str) == Some("");
    if is_empty("sid") || is_empty("sub") {
        return Err(bad("its \"sid\" or \"sub\" is empty"));
    }
    let issuer = claims.issuer().unwrap_or_default();
    match (claims.claim("sid"), claims.subject()) {
        (Some(Value::String(session)), _) => Ok(format!("{SESSION}{issuer} {session}")),
        (None, Some(user)) => Ok(format!("{USER}{}-{issuer} {user}", at.as_secs())),
        _ => Err(bad("it names neither a session nor a user")),
    }
}

/// The element of the session of a token.
pub(super) fn session(issuer: &str, session: &str) -> String {
    format!("{SESSION}{issuer} {session}")
}

/// The time and the user of an element, if it is one of a user.
fn user_of(element: &[u8]) -> Option<(u64, &str)> {
    let text = std::str::from_utf8(element).ok()?.strip_prefix(USER)?;
    let (at, user) = text.split_once('-')?;
    Some((at.parse().ok()?, user))
}

/// The number of users whose logout is remembered.
const MAX_USERS: usize = 100_000;

/// The least time between two searches for logouts that can be forgotten: each one looks at all users.
const SWEEP: Duration = Duration::from_secs(1);

/// When users have logged out.
#[derive(Default)]
pub struct Logouts(RwLock<Users>);

#[derive(Default)]
struct Users {
    out: HashMap<[u8; 16], Out>,
    /// When all users may be checked again, by the monotonic clock.
    next_sweep: Duration,
}

#[derive(Debug, Clone, Copy)]
struct Out {
    /// Seconds since the Unix epoch.
    at: u64,
    /// When it is forgotten, by the monotonic clock.
    dies: Duration,
}

impl Users {
    /// Remembers a logout. An older one of the same user that comes late changes nothing.
    fn merge(&mut self, key: [u8; 16], new: Out) {
        let out = self.out.entry(key).or_insert(new);
        out.at = out.at.max(new.at);
        out.dies = out.dies.max(new.dies);
    }
}

/// Whether a logout was recorded.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Noted {
    Yes,
    /// The element is not a logout.
    No,
    /// The limit of remembered logouts is reached.
    Full,
}

impl Logouts {
    pub(super) fn note(&self, element: &[u8], now: Duration, keep: Duration) -> Noted {
        let Some((at, user)) = user_of(element) else {
            return Noted::No;
        };
        let key = key(user);
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if users.out.len() >= MAX_USERS && !users.out.contains_key(&key) {
            if now >= users.next_sweep {
                users.next_sweep = now.saturating_add(SWEEP);
                users.out.retain(|_, out| now < out.dies);
            }
            if users.out.len() >= MAX_USERS {
                return Noted::Full;
            }
        }
        let dies = now.saturating_add(keep);
        users.merge(key, Out { at, dies });
        Noted::Yes
    }

    /// Whether the token with these claims was issued before its user logged out.
    pub(super) fn concern(&self, claims: &Claims, now: Duration) -> bool {
        let (Some(issuer), Some(user)) = (claims.issuer(), claims.subject()) else {
            return false;
        };
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if users.out.is_empty() {
            return false;
        }
        let Some(out) = users.out.get(&key(&format!("{issuer} {user}"))) else {
            return false;
        };
        let issued = claims.issued_at().map(|at| at.since_epoch().as_secs());
        now < out.dies && issued.is_none_or(|issued| issued <= out.at)
    }

    /// The logouts that are remembered: for each the key of its user, when it was (seconds since the Unix epoch) and how
    /// long it is remembered (milliseconds), each number as a little-endian word of 64 bits.
    pub(super) fn to_bytes(&self, now: Duration) -> Vec<u8> {
        let users = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let counting = users.out.iter().filter(|(_, out)| now < out.dies);
        counting
            .flat_map(|(key, out)| {
                let rest = u64::try_from((out.dies - now).as_millis()).unwrap_or(u64::MAX);
                [&key[..], &out.at.to_le_bytes(), &rest.to_le_bytes()].concat()
            })
            .collect()
    }

    /// Remembers the logouts of [`Logouts::to_bytes`].
    pub(super) fn add_bytes(&self, bytes: &[u8], now: Duration) {
        let mut users = self.0.write().unwrap_or_else(PoisonError::into_inner);
        for (key, at, rest) in bytes.as_chunks::<ENTRY>().0.iter().filter_map(entry) {
            let dies = now.saturating_add(Duration::from_millis(rest));
            if users.out.len() < MAX_USERS || users.out.contains_key(&key) {
                users.merge(key, Out { at, dies });
            }
        }
    }
}

/// The length of an entry of [`Logouts::to_bytes`].
const ENTRY: usize = 16 + 8 + 8;

fn entry(bytes: &[u8; ENTRY]) -> Option<([u8; 16], u64, u64)> {
    let (key, numbers) = bytes.split_first_chunk()?;
    let (at, rest) = numbers.split_first_chunk()?;
    let rest = rest.first_chunk()?;
    Some((*key, u64::from_le_bytes(*at), u64::from_le_bytes(*rest)))
}

fn key(user: &str) -> [u8; 16] {
    let hash = digest::digest(&digest::SHA256, user.as_bytes());
    let mut key = [0; 16];
    key.copy_from_slice(hash.as_ref().split_at(16).0);
    key
}

impl fmt::Debug for Logouts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Logouts").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOW: Duration = Duration::from_secs(1_700_000_000);

    fn claims(more: Value) -> Claims {
        let mut all = json!({"iss": "https://i", "aud": "app", "iat": NOW.as_secs(), "jti": "1",
            "exp": NOW.as_secs() + 60, "events": {EVENT: {}}});
        for (name, value) in more.as_object().unwrap() {
            all[name] = value.clone();
            if value.is_null() {
                all.as_object_mut().unwrap().remove(name);
            }
        }
        Claims::parse(all.to_string().as_bytes()).unwrap()
    }

    #[test]
    fn only_a_logout_token_revokes_its_session_or_user() {
        let read = |more: Value| revoked(&claims(more)).ok();
        assert_eq!(
            read(json!({"sid": "s1", "sub": "ada"})).as_deref(),
            Some("logout-sid-https://i s1")
        );
        assert_eq!(
            read(json!({"sub": "ada"})).as_deref(),
            Some("logout-sub@1700000000-https://i ada")
        );
        for wrong in [
            json!({}),
            json!({"sid": 5, "sub": "ada"}),
            json!({"sid": ""}),
            json!({"sub": ""}),
            json!({"sid": "", "sub": "ada"}),
            json!({"sid": "s1", "sub": ""}),
            json!({"sub": "ada", "nonce": "n"}),
            json!({"sub": "ada", "events": null}),
            json!({"sub": "ada", "events": {}}),
            json!({"sub": "ada", "events": {EVENT: true}}),
            json!({"sub": "ada", "events": [EVENT]}),
            json!({"sub": "ada", "iat": null}),
            json!({"sub": "ada", "jti": null}),
            json!({"sub": "ada", "exp": null, "iat": NOW.as_secs() - 400}),
        ] {
            assert_eq!(read(wrong.clone()), None, "{wrong}");
        }
    }

    #[test]
    fn a_logged_out_user_can_log_in_again() {
        let logouts = Logouts::default();
        let (start, keep) = (Duration::ZERO, Duration::from_secs(60));
        let at = NOW.as_secs();
        let user = format!("logout-sub@{at}-https://i ada");
        assert_eq!(logouts.note(user.as_bytes(), start, keep), Noted::Yes);
        let older = format!("logout-sub@{}-https://i ada", at - 50);
        assert_eq!(logouts.note(older.as_bytes(), start, keep), Noted::Yes);
        for other in [
            "jti-J1",
            "logout-sid-https://i s",
            "logout-sub@x-y",
            "logout-sub@5",
        ] {
            assert_eq!(
                logouts.note(other.as_bytes(), start, keep),
                Noted::No,
                "{other}"
            );
        }
        let concerned = |more: Value| logouts.concern(&claims(more), start);
        assert!(concerned(json!({"sub": "ada"})));
        assert!(concerned(json!({"sub": "ada", "iat": null})));
        assert!(
            !concerned(json!({"sub": "ada", "iat": at + 1})),
            "a new login"
        );
        assert!(!concerned(json!({"sub": "bob"})));
        assert!(!concerned(json!({"sub": "ada", "iss": "https://other"})));
        let (later, passed_on) = (Duration::from_secs(1000), Logouts::default());
        passed_on.add_bytes(&logouts.to_bytes(keep / 2), later);
        let ada = claims(json!({"sub": "ada"}));
        assert!(passed_on.concern(&ada, later + keep / 3));
        assert!(!passed_on.concern(&ada, later + keep / 2));
        assert!(!logouts.concern(&ada, keep), "forgotten");
        assert!(logouts.to_bytes(keep).is_empty());
    }
}
