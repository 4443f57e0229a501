//! The token of one client, and the calls that wait for it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::HeaderValue;
use tokio::time::Instant;

use super::request::{AuthStyle, ClientCredentials, token_request};
use super::response::{Sent, Token, TokenError, token};
use crate::telemetry::mask::without_values;
use crate::upstream::passed::{self, Lines, Passed};
use crate::upstream::shared_work::SharedWork;
use crate::upstream::side::{MAX_TIME, SideClient};

/// As in KrakenD, a token is not sent if its remaining life is shorter, unless no new one can be had.
const MARGIN: Duration = Duration::from_secs(10);
/// How long before that a token is renewed, if its life allows.
const AHEAD: Duration = Duration::from_secs(5);
/// How long a call waits for a new token while the old one has not ended.
const PATIENCE: Duration = Duration::from_millis(250);
/// How long a failure is returned without a new fetch.
const BACK_OFF: Duration = Duration::from_secs(1);
/// The kind of the lines with tokens.
pub(super) const KIND: &str = "token";

/// The token of one client, kept fresh by [`super::TokenStore::run`].
#[derive(Debug)]
pub struct TokenSource {
    pub(super) credentials: ClientCredentials,
    side: SideClient,
    pub(super) shared_work: SharedWork,
    current: ArcSwapOption<Current>,
    /// Whether the current token was used. An unused token is not renewed.
    used: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    style: Option<AuthStyle>,
    failure: Option<(Instant, TokenError)>,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

struct Current {
    token: Token,
    fetched: Instant,
}

impl Current {
    /// The rest of its life. `None` if it has ended.
    fn left(&self) -> Option<Duration> {
        let life = self.token.life.unwrap_or(Duration::MAX);
        let left = life.checked_sub(self.fetched.elapsed());
        left.filter(|left| !left.is_zero())
    }
}

impl std::fmt::Debug for Current {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("[redacted]")
    }
}

impl TokenSource {
    pub(super) fn new(credentials: ClientCredentials, side: SideClient) -> TokenSource {
        TokenSource {
            credentials,
            side,
            shared_work: SharedWork::default(),
            current: ArcSwapOption::empty(),
            used: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// The value for `Authorization`, if one is available without waiting.
    pub fn ready(&self) -> Option<HeaderValue> {
        let current = self.current.load();
        let current = current.as_ref()?;
        let left = current.left()?;
        if left <= MARGIN && !self.has_failed() {
            return None;
        }
        self.mark_used();
        Some(current.token.authorization.clone())
    }

    /// Whether the last fetch has failed.
    fn has_failed(&self) -> bool {
        self.state().failure.is_some()
    }

    fn mark_used(&self) {
        if !self.used.load(Ordering::Relaxed) {
            self.used.store(true, Ordering::Relaxed);
            self.shared_work.nudge();
        }
    }

    /// Triggers a fetch of a token, or joins the fetch in progress, and waits for at most `limit`. If there is a token that
    /// ends soon, a slow fetch is not awaited.
    ///
    /// # Errors
    /// The error of the fetch. Shortly after a failure the same error is returned without a new fetch.
    pub async fn fetch(&self, limit: Duration) -> Result<HeaderValue, TokenError> {
        let is_idle = !self.shared_work.is_pending();
        if let Some(error) = self.recent_failure().filter(|_| is_idle) {
            return Err(error);
        }
        let asked = Instant::now();
        let limit = match self.living() {
            Some(_) => limit.min(PATIENCE),
            None => limit.min(2 * MAX_TIME),
        };
        if !self.shared_work.join(limit).await {
            return self.living().ok_or(TokenError::Time);
        }
        // A token whose life is shorter than the margin is used only by the calls that waited for it.
        let current = self.current.load();
        match current.as_ref().filter(|current| current.fetched >= asked) {
            Some(current) => {
                self.mark_used();
                Ok(current.token.authorization.clone())
            }
            None => self
                .ready()
                .ok_or_else(|| self.recent_failure().unwrap_or(TokenError::Time)),
        }
    }

    /// The value of a token that has not ended.
    fn living(&self) -> Option<HeaderValue> {
        let current = self.current.load();
        let current = current
            .as_ref()
            .filter(|current| current.left().is_some())?;
        Some(current.token.authorization.clone())
    }

    /// Called when the upstream responded with 401 to `value`. Drops `value` if it is still the current token.
    /// Returns whether a retry with another token makes sense: a token that was just fetched would only be replaced
    /// by an equivalent one.
    pub fn rejected(&self, value: &HeaderValue) -> bool {
        let current = self.current.load();
        let Some(now) = current.as_ref() else {
            return true;
        };
        if now.token.authorization != *value {
            return true;
        }
        if now.fetched.elapsed() < BACK_OFF {
            return false;
        }
        self.current.compare_and_swap(&*current, None);
        true
    }

    /// Fetches once and keeps the result. For the background task.
    pub(super) async fn refresh(&self) {
        self.shared_work.begin();
        let outcome = self.request().await;
        match outcome {
            Ok(token) => {
                self.used.store(false, Ordering::Relaxed);
                let fetched = Instant::now();
                self.current
                    .store(Some(Arc::new(Current { token, fetched })));
                if self.state().failure.take().is_some() {
                    let url = without_values(&self.credentials.token_url);
                    log::info!("[SERVICE: Gateway] {url} issues tokens again");
                }
            }
            Err(error) => {
                let url = without_values(&self.credentials.token_url);
                log::warn!("[SERVICE: Gateway] no token from {url}: {error}");
                self.state().failure = Some((Instant::now(), error));
            }
        }
        self.shared_work.finish();
    }

    /// Adds the line of the current token (see `passed`). Returns `false` if there is no space for it.
    pub(super) fn give(&self, text: &mut String) -> bool {
        let current = self.current.load();
        current.as_ref().is_none_or(|current| {
            let passed = Passed {
                age: current.fetched.elapsed(),
                life: current.token.life,
                value: Bytes::copy_from_slice(current.token.authorization.as_bytes()),
            };
            passed::write(text, KIND, &self.credentials, &passed)
        })
    }

    /// Uses the token that another process has fetched, if there is none yet.
    pub(super) fn take(&self, lines: &Lines<'_>) {
        if self.current.load().is_some() {
            return;
        }
        let Some(passed) = lines.find(&self.credentials) else {
            return;
        };
        let fetched = Instant::now().checked_sub(passed.age);
        let authorization = HeaderValue::from_maybe_shared(passed.value).ok();
        if let (Some(fetched), Some(mut authorization)) = (fetched, authorization) {
            authorization.set_sensitive(true);
            let token = Token {
                authorization,
                life: passed.life,
                sent: Sent::default(),
            };
            let current = Current { token, fetched };
            self.current.store(Some(Arc::new(current)));
        }
    }

    /// When the token should be renewed, if it is in use.
    pub(super) fn renewal(&self) -> Option<Instant> {
        if !self.used.load(Ordering::Relaxed) {
            return None;
        }
        let current = self.current.load();
        let current = current.as_ref()?;
        let life = current.token.life.filter(|life| *life > MARGIN)?;
        let failed = self.state().failure.as_ref().map(|(at, _)| *at + BACK_OFF);
        let latest = life.saturating_sub(MARGIN + AHEAD).max((life - MARGIN) / 2);
        let due = current.fetched + life.mul_f64(0.8).min(latest);
        Some(failed.map_or(due, |failed| due.max(failed)))
    }

    /// Tries the header first and, after any rejection, the form, until one has worked. A server that cannot be
    /// reached is not called twice.
    async fn request(&self) -> Result<Token, TokenError> {
        let known = self.state().style;
        let first = self.post(known.unwrap_or(AuthStyle::Header)).await;
        let (style, outcome) = match (known, first) {
            (None, Err(error))
                if !matches!(error, TokenError::Unreachable(_) | TokenError::Request(_)) =>
            {
                (AuthStyle::Form, self.post(AuthStyle::Form).await)
            }
            (known, first) => (known.unwrap_or(AuthStyle::Header), first),
        };
        if outcome.is_ok() {
            self.state().style = Some(style);
        }
        outcome
    }

    async fn post(&self, style: AuthStyle) -> Result<Token, TokenError> {
        let (headers, body) = token_request(&self.credentials, style)?;
        let url = &self.credentials.token_url;
        let response = self.side.post_form(url, headers, body).await?;
        token(&response, || self.credentials.secrets())
    }

    fn recent_failure(&self) -> Option<TokenError> {
        let state = self.state();
        let (at, error) = state.failure.as_ref()?;
        (at.elapsed() < BACK_OFF).then(|| error.clone())
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::request::tests::credentials;
    use super::*;

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    /// A source of a server that nobody can reach, with a token of this age and life.
    fn source(age: Duration, life: Duration) -> TokenSource {
        let credentials = ClientCredentials {
            token_url: "http://127.0.0.1:1/token".to_owned(),
            ..credentials()
        };
        let agent = HeaderValue::from_static("test");
        let side = SideClient::without_redirects(&credentials.tls, &agent).unwrap();
        let source = TokenSource::new(credentials, side);
        let passed = Passed {
            age,
            life: Some(life),
            value: Bytes::from_static(b"Bearer T"),
        };
        let mut text = String::new();
        assert!(passed::write(&mut text, KIND, &source.credentials, &passed));
        source.take(&Lines::new(&text, KIND));
        source
    }

    #[tokio::test]
    async fn a_token_serves_to_its_end_if_no_new_one_can_be_had() {
        let source = source(seconds(3595), seconds(3600));
        assert_eq!(source.ready(), None, "a new one can be fetched");
        source.refresh().await;
        assert_eq!(source.ready().unwrap(), "Bearer T");
        assert!(source.renewal().is_some(), "it is fetched again");
        let expired = self::source(seconds(3601), seconds(3600));
        expired.refresh().await;
        assert_eq!(expired.ready(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_ends_soon_is_sent_while_the_server_hangs() {
        // Nobody does the work that a fetch requests.
        let source = source(seconds(3595), seconds(3600));
        let began = Instant::now();
        let value = source.fetch(seconds(2)).await;
        assert_eq!(value.unwrap(), "Bearer T");
        assert!(began.elapsed() < seconds(1));
        let expired = self::source(seconds(3601), seconds(3600));
        let began = Instant::now();
        assert!(matches!(
            expired.fetch(seconds(2)).await,
            Err(TokenError::Time)
        ));
        assert_eq!(began.elapsed(), seconds(2));
    }

    #[test]
    fn a_token_is_renewed_before_calls_have_to_wait_for_it() {
        let due = |life| {
            let source = source(Duration::ZERO, seconds(life));
            source.ready();
            let fetched = source.current.load().as_ref().unwrap().fetched;
            let due = source.renewal();
            due.map(|due| due.duration_since(fetched).as_secs_f64())
        };
        assert_eq!(due(3600), Some(2880.0));
        assert_eq!(due(60), Some(45.0));
        assert_eq!(due(20), Some(5.0));
        assert_eq!(due(12), Some(1.0));
        // No call uses it without waiting.
        assert_eq!(due(10), None);
    }
}
