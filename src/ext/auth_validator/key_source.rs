//! Keys that verify tokens, and what a request may wait for.

use std::sync::Arc;
use std::time::Duration;

use crate::ext::identity::PublicKeys;
use crate::jose::{Origin, Reason, Rejection, Token, Verifier};
use crate::upstream::keys::{FailedKeys, KeySource};

/// How often a caller that waits for a key checks whether another refresh is allowed.
const LOOK_AGAIN: Duration = Duration::from_millis(200);

/// One source of keys, and how they verify tokens.
#[derive(Debug)]
pub struct Keys {
    pub source: Arc<KeySource<PublicKeys>>,
    pub verifier: Verifier,
    /// Unknown key ids that were already looked up (`failed_jwk_key_cooldown`).
    pub failed: Option<FailedKeys>,
}

/// What a request waits for.
pub(super) enum Want {
    /// There is no key set yet. The id is that of the token's key, if it has one: of a union, the set that is there first
    /// may be another one.
    Keys(Option<String>),
    /// The key set has no key with this id.
    Newer(String),
}

impl Keys {
    /// The proof that a token was verified with this generation of the source's document.
    pub(super) fn origin(&self, generation: u64) -> Origin {
        Origin(generation)
    }

    pub(super) async fn fetch(&self, want: Want, timeout: Duration) {
        match want {
            Want::Keys(id) => {
                let has = |keys: &PublicKeys| id.as_ref().is_none_or(|id| self.is_in(keys, id));
                self.source.ready(timeout, has).await;
            }
            Want::Newer(id) => {
                let has = |keys: &PublicKeys| self.is_in(keys, &id);
                let fetched = self.source.refresh_for_unknown(timeout, has).await;
                // An id counts as unknown only after it was looked up.
                if let (Some(failed), true) = (&self.failed, fetched)
                    && !self.has(&id)
                {
                    failed.insert(&id);
                }
            }
        }
    }

    /// The rejection of a token whose key is unknown, after the wait for a fetch.
    pub(super) fn still_unknown(&self, rejection: Rejection) -> Rejection {
        if self.source.is_fetching() {
            let text = "no Keys have been found, and a fetch of the key set has not ended";
            Rejection::new(Reason::UnknownKey, text)
        } else {
            rejection
        }
    }

    /// Waits until the set has the key of a token, at most `limit`. If a refresh for an unknown key is not allowed yet,
    /// the wait continues until the next one. For callers whose client does not repeat its request.
    pub(in crate::ext) async fn await_key_of(&self, token: &str, limit: Duration) {
        let waiting = async {
            while let Some(want) = self.missing(token) {
                self.fetch(want, limit).await;
                if self.missing(token).is_some() {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        };
        let _ = tokio::time::timeout(limit, waiting).await;
    }

    /// What must be fetched to verify this token. `None` if nothing would help.
    fn missing(&self, text: &str) -> Option<Want> {
        let token = Token::parse(text).ok()?;
        token.check_algorithm(self.verifier.algorithms).ok()?;
        let current = self.source.current();
        let Some(snapshot) = current.as_ref() else {
            return Some(self.first(text));
        };
        let Verifier {
            strategy, lone_key, ..
        } = self.verifier;
        let found = snapshot.set.0.find(&token, strategy, lone_key);
        match found {
            Err(rejection) if rejection.reason == Reason::UnknownKey => self.want(text),
            _ => None,
        }
    }

    fn has(&self, id: &str) -> bool {
        let current = self.source.current();
        current
            .as_ref()
            .is_some_and(|snapshot| self.is_in(&snapshot.set, id))
    }

    fn is_in(&self, keys: &PublicKeys, id: &str) -> bool {
        keys.0.by_id(self.verifier.strategy, id).is_some()
    }

    /// With `operation_debug`, the reason is logged.
    pub(super) fn keys_unavailable(&self, debug: bool) -> Rejection {
        match self.source.status().last_error {
            Some(error) if debug => Rejection::new(Reason::KeysUnavailable, error),
            _ => Rejection::keys_unavailable(),
        }
    }

    /// What to wait for if there is no key set yet.
    pub(super) fn first(&self, token: &str) -> Want {
        Want::Keys(self.key_id(token))
    }

    fn key_id(&self, token: &str) -> Option<String> {
        let token = Token::parse(token).ok()?;
        let id = token.key_id(self.verifier.strategy).ok()?;
        Some(id.into_owned())
    }

    /// What to wait for if a token has an unknown key; `None` if its id is known not to exist.
    pub(super) fn want(&self, token: &str) -> Option<Want> {
        let id = self.key_id(token)?;
        let failed = self.failed.as_ref();
        (!failed.is_some_and(|failed| failed.contains(&id))).then_some(Want::Newer(id))
    }
}

/// Whether the URL leads to this machine.
pub(super) fn is_here(url: &str) -> bool {
    let uri = url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or_default();
    let host = host.trim_matches(['[', ']']);
    let address = host.parse::<std::net::IpAddr>();
    host.eq_ignore_ascii_case("localhost") || address.is_ok_and(|ip| ip.is_loopback())
}

/// Whether there is no host in the URL, or it is not a URL.
pub(super) fn has_no_host(url: &str) -> bool {
    url.parse::<http::Uri>()
        .map_or(true, |uri| uri.host().is_none())
}
