//! All clients' tokens, and the task that fetches them.

use std::sync::{Arc, Weak};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::request::ClientCredentials;
use super::source::TokenSource;
use crate::upstream::client::ClientError;
use crate::upstream::flight::Sources;
use crate::upstream::side::SideClient;

/// How often a source looks again whether anyone still uses it, and whether its token is in use.
const LOOK: Duration = Duration::from_secs(5);

/// All clients' tokens. Shared by every compiled configuration, so that a reload keeps them.
#[derive(Debug)]
pub struct TokenStore {
    sources: Sources<ClientCredentials, TokenSource>,
    user_agent: HeaderValue,
}

impl TokenStore {
    /// An empty store; its requests introduce themselves as `user_agent`.
    pub fn new(user_agent: HeaderValue) -> TokenStore {
        TokenStore {
            sources: Sources::default(),
            user_agent,
        }
    }

    /// The source for these credentials, shared by all who have them. Nothing is fetched before the first use.
    ///
    /// # Errors
    /// A CA file that cannot be used.
    pub fn source(&self, credentials: &ClientCredentials) -> Result<Arc<TokenSource>, ClientError> {
        self.sources.get(
            credentials,
            |_| Ok(()),
            || {
                // The secret is for this server, and for nobody to whom it sends us.
                let side = SideClient::without_redirects(&credentials.tls, &self.user_agent)?;
                Ok(TokenSource::new(credentials.clone(), side))
            },
        )
    }

    /// Fetches what is asked for and renews what is in use, until `shutdown` turns true. One task for the whole
    /// process; an endpoint that hangs holds up no other.
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
            () = source.flight.wanted() => {
                if source.flight.is_pending() {
                    source.refresh().await;
                }
            }
        }
    }
}
