//! The token of a backend, and the task that fetches it.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use tokio::sync::watch;

use crate::ext::reload_state::Task;
use crate::jose::SubjectToken;
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::step::Credentials;
use crate::runtime::upgrade_state::UpgradeState;
use crate::upstream::credentials::TokenError;
use crate::upstream::{ClientCredentials, ClientError, TokenSource, TokenStore};

/// All tokens of a configuration, with the task that fetches and renews them. The task ends when the last reference
/// is dropped.
#[derive(Debug)]
pub(crate) struct Tokens {
    store: Arc<TokenStore>,
    /// Never used for sending: the task notices when it is dropped.
    _running: watch::Sender<bool>,
}

impl Tokens {
    /// An empty store and its task.
    pub(crate) fn started(user_agent: HeaderValue, tasks: &mut Vec<Task>) -> Arc<Tokens> {
        let store = Arc::new(TokenStore::new(user_agent));
        let (running, ended) = watch::channel(false);
        let fetching = Arc::clone(&store);
        tasks.push(Task::new("client credentials", async move {
            fetching.run(ended).await;
        }));
        Arc::new(Tokens {
            store,
            _running: running,
        })
    }

    /// The token for these credentials, shared by all backends that use them.
    ///
    /// # Errors
    /// No client can be created.
    pub(crate) fn source(
        &self,
        credentials: &ClientCredentials,
    ) -> Result<Arc<TokenSource>, ClientError> {
        self.store.source(credentials)
    }
}

impl UpgradeState for Tokens {
    fn give(&self) -> String {
        self.store.give()
    }

    fn take(&self, given: &str) {
        self.store.take(given);
    }
}

/// `auth/client-credentials` of one backend.
#[derive(Debug)]
pub(crate) struct BackendToken {
    /// Keeps the task alive as long as a request may wait for it.
    _tokens: Arc<Tokens>,
    source: Arc<TokenSource>,
    drop_on_401: bool,
    /// `Get "http://h/x"`, the prefix of the failure's text.
    call: Box<str>,
}

impl BackendToken {
    /// The token of `source` for one backend. `call` is the name of its calls in the log.
    pub(crate) fn new(
        tokens: Arc<Tokens>,
        source: Arc<TokenSource>,
        drop_on_401: bool,
        call: String,
    ) -> BackendToken {
        BackendToken {
            _tokens: tokens,
            source,
            drop_on_401,
            call: call.into(),
        }
    }

    fn failure(&self, error: &TokenError) -> Failure {
        match error {
            TokenError::Time => Failure::deadline(),
            other => Failure::new(Kind::Credentials, format!("{}: {other}", self.call)),
        }
    }
}

impl Credentials for BackendToken {
    fn ready(&self, _: Option<&SubjectToken>) -> Option<HeaderValue> {
        self.source.ready()
    }

    fn fetch<'a>(
        &'a self,
        _: Option<&'a SubjectToken>,
        limit: Duration,
    ) -> Pin<Box<dyn Future<Output = Result<HeaderValue, Failure>> + Send + 'a>> {
        Box::pin(async move {
            let fetched = self.source.fetch(limit).await;
            fetched.map_err(|error| self.failure(&error))
        })
    }

    fn rejected(&self, _: Option<&SubjectToken>, value: &HeaderValue) -> bool {
        self.drop_on_401 && self.source.rejected(value)
    }
}
