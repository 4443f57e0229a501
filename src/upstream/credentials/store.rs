//! The tokens of all clients, and the task that fetches them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::request::ClientCredentials;
use super::source::{self, TokenSource};
use crate::upstream::client::ClientError;
use crate::upstream::passed::{self, Lines};
use crate::upstream::shared_work::Sources;
use crate::upstream::side::SideClient;

/// How often a source checks whether it is still referenced and whether its token is in use.
const LOOK: Duration = Duration::from_secs(5);

/// The tokens of all clients. Shared by all compiled configurations, so that a reload keeps them.
#[derive(Debug)]
pub struct TokenStore {
    sources: Sources<ClientCredentials, TokenSource>,
    user_agent: HeaderValue,
}

impl TokenStore {
    /// An empty store, whose requests send this `User-Agent`.
    pub fn new(user_agent: HeaderValue) -> TokenStore {
        TokenStore {
            sources: Sources::default(),
            user_agent,
        }
    }

    /// The source for these credentials, shared by all backends that use them. Nothing is fetched before the first
    /// use.
    ///
    /// # Errors
    /// A CA file is not usable.
    pub fn source(&self, credentials: &ClientCredentials) -> Result<Arc<TokenSource>, ClientError> {
        self.sources.get(
            credentials,
            |_| Ok(()),
            || {
                // The secret is meant for this server only, so redirects are not followed.
                let side = SideClient::without_redirects(&credentials.tls, &self.user_agent)?;
                Ok(TokenSource::new(credentials.clone(), side))
            },
        )
    }

    /// The tokens in use, a line for each (see `passed`).
    pub fn give(&self) -> String {
        let mut text = String::new();
        let alive = self.sources.alive();
        let left_out = alive.iter().filter(|source| !source.give(&mut text));
        passed::warn_left_out(left_out.count(), "[SERVICE: Gateway]", "tokens");
        text
    }

    /// Uses the tokens that another process has fetched, where there is none yet.
    pub fn take(&self, given: &str) {
        let lines = Lines::new(given, source::KIND);
        for source in self.sources.alive() {
            source.take(&lines);
        }
    }

    /// Fetches requested tokens and renews used ones, until `shutdown` becomes true. One task runs for the whole
    /// process. An endpoint that hangs does not delay others.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        self.sources.tend_all(tend, shutdown).await;
    }
}

async fn tend(source: Weak<TokenSource>) {
    while let Some(source) = source.upgrade() {
        let now = Instant::now();
        let due = source.renewal();
        if due.is_some_and(|due| due <= now) {
            source.refresh().await;
            continue;
        }
        let wake = (now + LOOK).min(due.unwrap_or(now + LOOK));
        tokio::select! {
            () = sleep_until(wake) => {}
            () = source.shared_work.wanted() => {
                if source.shared_work.is_pending() {
                    source.refresh().await;
                }
            }
        }
    }
}
