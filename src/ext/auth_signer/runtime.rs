//! The signing key, how it comes, and the signature of an answer.

use std::future::Future;
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::sync::watch;

use crate::jose::algorithm::Algorithm;
use crate::jose::sealed::Passphrase;
use crate::jose::sign::{Serialization, SignError, Signer};
use crate::runtime::failure::{Failure, Kind};
use crate::runtime::json::{self, Style, Value};
use crate::runtime::request::{Head, Notes};
use crate::runtime::signing::ResponseSigner;
use crate::runtime::step::{EndpointStep, Gate};
use crate::upstream::SideClient;
use crate::upstream::keys::SealedFile;

/// The types under which key sets are published.
const KEY_SET_TYPES: [&str; 2] = ["application/json", "application/jwk-set+json"];

/// Between two attempts to fetch the key: doubles from the first to the second.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// A signing key that is there, or will be.
#[derive(Debug)]
pub struct SigningKey {
    signer: OnceLock<Signer>,
    /// Whether there was an attempt to get it, good or bad.
    attempted: watch::Sender<bool>,
}

impl SigningKey {
    /// A key that is there.
    pub fn here(signer: Signer) -> SigningKey {
        SigningKey {
            signer: OnceLock::from(signer),
            attempted: watch::Sender::new(true),
        }
    }

    /// A key that never comes: the file asks for one over an insecure connection without saying so.
    pub fn never() -> SigningKey {
        SigningKey {
            signer: OnceLock::new(),
            attempted: watch::Sender::new(true),
        }
    }

    /// A key that [`fetch`] will bring.
    pub fn awaited() -> SigningKey {
        SigningKey {
            signer: OnceLock::new(),
            attempted: watch::Sender::new(false),
        }
    }

    fn is_here(&self) -> bool {
        self.signer.get().is_some()
    }
}

/// What a key must be to be the right one.
#[derive(Debug, Clone)]
pub struct KeyFetch {
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
    /// It is not there, or is not what it should be.
    pub fn signer(&self, document: &[u8]) -> Result<Signer, SignError> {
        Signer::from_key_set(
            document,
            &self.kid,
            self.algorithm,
            &self.typ,
            self.serialization,
        )
    }
}

/// Where the key set with the key comes from.
#[derive(Debug)]
pub enum Origin {
    Url(String),
    /// An encrypted file, and its passphrase once that is known.
    Sealed(SealedFile, Arc<OnceLock<Passphrase>>),
}

/// Fetches the key until it is there, or nobody wants it any more.
pub async fn fetch(key: Weak<SigningKey>, what: KeyFetch, origin: Origin, client: SideClient) {
    let mut pause = RETRY.0;
    loop {
        let outcome = attempt(&what, &origin, &client).await;
        let Some(key) = key.upgrade() else { return };
        let failed = match outcome {
            Ok(signer) => {
                // Nobody else sets it.
                let _ = key.signer.set(signer);
                None
            }
            Err(reason) => Some(reason),
        };
        key.attempted.send_replace(true);
        let Some(reason) = failed else { return };
        drop(key);
        log::error!(
            "[ENDPOINT: {}][JWTSigner] Unable to create the signer: {reason}",
            what.endpoint
        );
        tokio::time::sleep(pause).await;
        pause = (2 * pause).min(RETRY.1);
    }
}

async fn attempt(what: &KeyFetch, origin: &Origin, client: &SideClient) -> Result<Signer, String> {
    let document = match origin {
        Origin::Url(url) => {
            let answer = client.get(url, &KEY_SET_TYPES).await;
            answer.map_err(|error| error.to_string())?.body
        }
        Origin::Sealed(file, passphrase) => {
            let document = file.document(client, passphrase).await;
            document.map_err(|error| error.to_string())?
        }
    };
    what.signer(&document).map_err(|error| error.to_string())
}

/// Requests that come before the first attempt to get the key has ended wait for its end. Whether there is a key then
/// is the pipeline's question.
#[derive(Debug)]
pub struct FirstAttempt(pub Arc<SigningKey>);

impl FirstAttempt {
    fn wait(&self) -> impl Future<Output = ()> + Send + use<> {
        let mut attempted = self.0.attempted.subscribe();
        async move {
            // The sender is gone only when the endpoint is.
            let _ = attempted.wait_for(|attempted| *attempted).await;
        }
    }
}

impl EndpointStep for FirstAttempt {
    fn check<'a>(&'a self, _head: &Head<'_>, _notes: &mut Notes, attempt: u8) -> Gate<'a> {
        if attempt > 0 || self.0.is_here() || *self.0.attempted.borrow() {
            return Gate::Pass;
        }
        Gate::Wait(Box::pin(self.wait()))
    }
}

/// Signs members of an answer.
#[derive(Debug)]
pub struct AnswerSigner {
    pub key: Arc<SigningKey>,
    pub members: Box<[Box<str>]>,
}

impl ResponseSigner for AnswerSigner {
    fn ready(&self) -> bool {
        self.key.is_here()
    }

    fn sign(&self, data: &mut Value) -> Result<(), Failure> {
        let failed = |text: String| Failure::new(Kind::Refused, text);
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
            let payload = json::to_bytes(value, Style::Canonical);
            let token = signer
                .sign(&payload)
                .map_err(|error| failed(error.to_string()))?;
            *value = Value::string(token);
        }
        Ok(())
    }
}
