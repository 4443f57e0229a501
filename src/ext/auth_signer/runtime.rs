//! The signing key, how it is fetched, and the signature of a response.

use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::watch;

use crate::backoff::Backoff;
use crate::ext::identity::FetchedKey;
use crate::jose::algorithm::Algorithm;
use crate::jose::sealed::Passphrase;
use crate::jose::sign::{Serialization, SignError, Signer};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{self, Style, Value};
use crate::runtime::request::{Head, Notes};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::SideClient;
use crate::upstream::budget::{Charge, Full};
use crate::upstream::keys::{FetchLimiter, Location, SealedFile, SourceStatus};

/// The content types of key sets.
const KEY_SET_TYPES: [&str; 2] = ["application/json", "application/jwk-set+json"];

/// The pauses between attempts to fetch the key.
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(1), Duration::from_secs(60));

/// A signing key that is available, or will be.
#[derive(Debug)]
pub(crate) struct SigningKey {
    signer: OnceLock<Signer>,
    /// Whether there was an attempt to fetch it, successful or not.
    attempted: watch::Sender<bool>,
    /// Its name in metrics.
    label: String,
    fetches: AtomicU64,
    failures: AtomicU64,
    last_error: Mutex<Option<String>>,
    arrived: OnceLock<Instant>,
}

impl SigningKey {
    fn new(signer: OnceLock<Signer>, attempted: bool, label: String) -> SigningKey {
        SigningKey {
            signer,
            attempted: watch::Sender::new(attempted),
            label,
            fetches: AtomicU64::new(0),
            failures: AtomicU64::new(0),
            last_error: Mutex::default(),
            arrived: OnceLock::new(),
        }
    }

    /// An available key.
    pub(crate) fn here(signer: Signer) -> SigningKey {
        SigningKey::new(OnceLock::from(signer), true, String::new())
    }

    /// A key that is never available: the configuration requests it over an insecure connection without allowing
    /// this.
    pub(crate) fn never(label: String) -> SigningKey {
        SigningKey::new(OnceLock::new(), true, label)
    }

    /// A key that `fetch` will provide.
    pub(crate) fn awaited(label: String) -> SigningKey {
        SigningKey::new(OnceLock::new(), false, label)
    }

    fn note(&self, outcome: Result<Signer, String>) -> Result<(), String> {
        let error = match outcome {
            Ok(signer) => {
                // No other task sets it.
                let _ = self.signer.set(signer);
                let _ = self.arrived.set(Instant::now());
                None
            }
            Err(reason) => {
                self.failures.fetch_add(1, Ordering::Relaxed);
                Some(reason)
            }
        };
        *self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = error.clone();
        self.attempted.send_replace(true);
        error.map_or(Ok(()), Err)
    }

    fn is_here(&self) -> bool {
        self.signer.get().is_some()
    }
}

impl FetchedKey for SigningKey {
    fn has_arrived(&self) -> bool {
        self.is_here()
    }

    fn status(&self) -> SourceStatus {
        let error = self.last_error.lock();
        SourceStatus {
            label: self.label.clone(),
            age: self.arrived.get().map(Instant::elapsed),
            keys: usize::from(self.is_here()),
            generation: 0,
            fetches: self.fetches.load(Ordering::Relaxed),
            failures: self.failures.load(Ordering::Relaxed),
            last_error: error.unwrap_or_else(PoisonError::into_inner).clone(),
            stale: !self.is_here(),
        }
    }
}

/// The requirements of a key.
#[derive(Debug, Clone)]
pub(crate) struct KeyFetch {
    pub kid: String,
    pub algorithm: Algorithm,
    pub typ: String,
    pub serialization: Serialization,
    /// The endpoint, for the log.
    pub endpoint: Arc<str>,
}

impl KeyFetch {
    /// Finds the key in a set.
    ///
    /// # Errors
    /// It is missing, or does not meet the requirements.
    pub(crate) fn signer(&self, document: &[u8]) -> Result<Signer, SignError> {
        Signer::from_key_set(
            document,
            &self.kid,
            self.algorithm,
            &self.typ,
            self.serialization,
        )
    }
}

/// The source of the key set.
#[derive(Debug)]
pub(crate) enum Origin {
    Url(String),
    /// An encrypted file, and its passphrase once it is known.
    Sealed(SealedFile, Arc<OnceLock<Passphrase>>),
}

impl Origin {
    pub(super) fn location(&self) -> Location {
        match self {
            Origin::Url(url) => Location::Url(url.clone()),
            Origin::Sealed(file, _) => Location::Sealed(file.clone()),
        }
    }
}

/// Fetches the key until it is available, or no longer needed.
pub(super) async fn fetch(
    key: Weak<SigningKey>,
    what: KeyFetch,
    origin: Origin,
    client: SideClient,
    limiter: Arc<FetchLimiter>,
) {
    let mut failures: u32 = 0;
    loop {
        let turn = limiter.due().await;
        let Some(wanted) = key.upgrade() else { return };
        wanted.fetches.fetch_add(1, Ordering::Relaxed);
        drop(wanted);
        let outcome = attempt(&what, &origin, &client).await;
        drop(turn);
        let Some(key) = key.upgrade() else { return };
        let Err(reason) = key.note(outcome) else {
            return;
        };
        drop(key);
        log::error!(
            "[ENDPOINT: {}][JWTSigner] Unable to create the signer: {reason}",
            what.endpoint
        );
        failures = failures.saturating_add(1);
        tokio::time::sleep(PAUSES.pause(failures)).await;
    }
}

async fn attempt(what: &KeyFetch, origin: &Origin, client: &SideClient) -> Result<Signer, String> {
    let document = match origin {
        Origin::Url(url) => {
            let response = client.get(url, &KEY_SET_TYPES).await;
            response.map_err(|error| error.to_string())?.body
        }
        Origin::Sealed(file, passphrase) => {
            let document = file.document(client, passphrase).await;
            document.map_err(|error| error.to_string())?
        }
    };
    what.signer(&document).map_err(|error| error.to_string())
}

/// Requests that arrive before the first attempt to fetch the key has ended wait for it. The pipeline checks whether
/// there is a key then.
#[derive(Debug)]
pub(crate) struct FirstAttempt(pub Arc<SigningKey>);

impl FirstAttempt {
    fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut attempted = self.0.attempted.subscribe();
        async move {
            // The sender is dropped only with the endpoint.
            let _ = attempted.wait_for(|attempted| *attempted).await;
        }
    }
}

impl EndpointStep for FirstAttempt {
    fn name(&self) -> &'static str {
        "auth/signer"
    }

    fn check<'a>(&'a self, _head: &Head<'_>, _notes: &mut Notes) -> Gate<'a> {
        if self.0.is_here() || *self.0.attempted.borrow() {
            return Gate::Pass;
        }
        Gate::wait(self.wait(), |_, _, _| Gate::Pass)
    }
}

/// Signs members of a response.
#[derive(Debug)]
pub(crate) struct EndpointSigner {
    pub key: Arc<SigningKey>,
    pub members: Box<[Box<str>]>,
}

impl ResponseSigner for EndpointSigner {
    fn ready(&self) -> bool {
        self.key.is_here()
    }

    fn sign(&self, data: &mut Value, held: &mut Charge) -> Result<(), Failure> {
        let failed = |text: String| Failure::new(Kind::Rejected, text);
        let Some(signer) = self.key.signer.get() else {
            return Err(failed(SignError::UnknownKey.to_string()));
        };
        let Some(members) = data.as_object_mut() else {
            return Ok(());
        };
        for name in &self.members {
            let Some(value) = members.get_mut(&**name) else {
                continue;
            };
            if value.kind() != json::Kind::Object {
                continue;
            }
            let full = |Full| Failure::full();
            // It is read as a tree if it is a slice.
            let _tree = value.charge_expanded().map_err(full)?;
            let payload = json::charged_text(value, Style::Canonical).map_err(full)?;
            // Base64, in a few copies while it is signed.
            let copies = json::charge_bytes(4 * payload.len());
            held.join(copies.map_err(full)?);
            let token = signer
                .sign(&payload)
                .map_err(|error| failed(error.to_string()))?;
            *value = Value::string(token);
        }
        Ok(())
    }
}
