//! All clients' tokens, and the task that fetches them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until};

use super::request::ClientCredentials;
use super::source::TokenSource;
use crate::upstream::client::ClientError;
use crate::upstream::flight::tend_all;
use crate::upstream::side::SideClient;

/// How often a source looks again whether anyone still uses it, and whether its token is in use.
const LOOK: Duration = Duration::from_secs(5);

/// All clients' tokens. Shared by every compiled configuration, so that a reload keeps them.
#[derive(Debug)]
pub struct TokenStore {
    sources: Mutex<HashMap<ClientCredentials, Weak<TokenSource>>>,
    fresh: Mutex<Vec<Weak<TokenSource>>>,
    added: Notify,
    user_agent: HeaderValue,
}

impl TokenStore {
    /// An empty store; its requests introduce themselves as `user_agent`.
    pub fn new(user_agent: HeaderValue) -> TokenStore {
        TokenStore {
            sources: Mutex::default(),
            fresh: Mutex::default(),
            added: Notify::new(),
            user_agent,
        }
    }

    /// The source for these credentials, shared by all who have them. Nothing is fetched before the first use.
    ///
    /// # Errors
    /// A CA file that cannot be used.
    pub fn source(&self, credentials: &ClientCredentials) -> Result<Arc<TokenSource>, ClientError> {
        let mut sources = self.sources.lock().unwrap_or_else(PoisonError::into_inner);
        sources.retain(|_, source| source.strong_count() > 0);
        if let Some(source) = sources.get(credentials).and_then(Weak::upgrade) {
            return Ok(source);
        }
        let side = SideClient::new(&credentials.tls, &self.user_agent)?;
        let source = Arc::new(TokenSource::new(credentials.clone(), side));
        sources.insert(credentials.clone(), Arc::downgrade(&source));
        self.fresh
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::downgrade(&source));
        self.added.notify_one();
        Ok(source)
    }

    /// Fetches what is asked for and renews what is in use, until `shutdown` turns true. One task for the whole
    /// process; an endpoint that hangs holds up no other.
    pub async fn run(&self, shutdown: watch::Receiver<bool>) {
        tend_all(&self.fresh, &self.added, tend, shutdown).await;
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
