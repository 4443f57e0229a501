//! Google's Application Default Credentials: a file of a service account or of a user, or the metadata server.

use std::path::PathBuf;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use crate::backoff::Backoff;
use crate::config::Environment;
use crate::named_file;
use crate::upstream::{SideClient, SideResponse};

const SCOPE: &str = "https://www.googleapis.com/auth/pubsub";
const METADATA: &str = "metadata.google.internal";
const TOKEN: &str = "/computeMetadata/v1/instance/service-accounts/default/token";
/// The timeout of the metadata server, which is on the same machine or absent.
const METADATA_TIME: Duration = Duration::from_secs(1);
/// How long before its end a token is replaced.
const EARLY: Duration = Duration::from_secs(300);
const PAUSE: Duration = Duration::from_secs(1);
/// The pauses while there is no token.
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(2), Duration::from_secs(60));
/// How long an assertion is valid (RFC 7523 §3).
const LIFE: u64 = 3600;

/// Where tokens come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    File(PathBuf),
    /// `http://metadata.google.internal`
    Metadata(String),
}

impl Source {
    /// The source that the environment names. The metadata server is the last resort.
    pub(super) fn find(environment: &Environment) -> Source {
        let get = |name: &str| environment.get(name).filter(|value| !value.is_empty());
        if let Some(path) = get("GOOGLE_APPLICATION_CREDENTIALS") {
            return Source::File(path.into());
        }
        let folder = get("CLOUDSDK_CONFIG").map(PathBuf::from);
        let usual = || Some(PathBuf::from(get("HOME")?).join(".config/gcloud"));
        if let Some(folder) = folder.or_else(usual) {
            let path = folder.join("application_default_credentials.json");
            if path.exists() {
                return Source::File(path);
            }
        }
        let host = get("GCE_METADATA_HOST").unwrap_or(METADATA);
        Source::Metadata(format!("http://{host}"))
    }
}

/// The current token, which a background task keeps fresh.
#[derive(Debug)]
pub(super) struct Tokens {
    source: Source,
    /// For the metadata server: without proxies.
    near: SideClient,
    /// For the token service.
    far: SideClient,
    current: ArcSwapOption<Current>,
    /// True once the first fetch has ended.
    tried: watch::Sender<bool>,
    last_error: ArcSwapOption<String>,
    /// Told when the service has rejected the current token.
    rejected: Arc<Notify>,
}

#[derive(Debug)]
struct Current {
    value: HeaderValue,
    until: Instant,
}

impl Tokens {
    pub(super) fn new(source: Source, near: SideClient, far: SideClient) -> Tokens {
        Tokens {
            source,
            near,
            far,
            current: ArcSwapOption::empty(),
            tried: watch::Sender::new(false),
            last_error: ArcSwapOption::empty(),
            rejected: Arc::default(),
        }
    }

    /// Fetches a new token soon, because the service has rejected the current one.
    pub(super) fn renew(&self) {
        self.rejected.notify_one();
    }

    /// The value of `Authorization`. The first requests wait for the first fetch, up to `limit`.
    ///
    /// # Errors
    /// There is no token. The text says why.
    pub(super) async fn value(&self, limit: Duration) -> Result<HeaderValue, String> {
        if !*self.tried.borrow() {
            let mut tried = self.tried.subscribe();
            // Either way, the token is there then or not.
            let _ = tokio::time::timeout(limit, tried.wait_for(|tried| *tried)).await;
        }
        let current = self.current.load();
        match current
            .as_ref()
            .filter(|current| Instant::now() < current.until)
        {
            Some(current) => Ok(current.value.clone()),
            None => Err(match &*self.last_error.load() {
                Some(why) => why.to_string(),
                None => "there is no token yet".to_owned(),
            }),
        }
    }

    /// Fetches tokens before they expire, until they are no longer used.
    pub(super) async fn tend(tokens: Weak<Tokens>) {
        let mut failures: u32 = 0;
        while let Some(tokens) = tokens.upgrade() {
            let wait = match tokens.fetch().await {
                Ok(current) => {
                    let life = current.until.saturating_duration_since(Instant::now());
                    tokens.current.store(Some(Arc::new(current)));
                    if tokens.last_error.swap(None).is_some() {
                        log::info!("[PubSub] Google credentials are available again");
                    }
                    failures = 0;
                    life.saturating_sub(EARLY).max(life / 2).max(PAUSE)
                }
                Err(why) => {
                    // Once for each reason: a machine without credentials has none for long.
                    if tokens
                        .last_error
                        .load()
                        .as_ref()
                        .is_none_or(|known| **known != why)
                    {
                        log::warn!("[PubSub] no Google credentials are available: {why}");
                    }
                    tokens.last_error.store(Some(Arc::new(why)));
                    failures = failures.saturating_add(1);
                    PAUSES.pause(failures)
                }
            };
            tokens.tried.send_replace(true);
            let rejected = Arc::clone(&tokens.rejected);
            drop(tokens);
            let early = async {
                tokio::time::sleep(PAUSE).await;
                rejected.notified().await;
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = early => {}
            }
        }
    }

    async fn fetch(&self) -> Result<Current, String> {
        match &self.source {
            Source::File(path) => {
                let shown = path.display();
                let text = named_file::read_text_aside(path, named_file::SMALL).await;
                let text = text.map_err(|error| format!("{shown}: {error}"))?;
                let file = serde_json::from_str::<File>(&text);
                let file = file.map_err(|_| format!("{shown} cannot be parsed"))?;
                self.of_file(file)
                    .await
                    .map_err(|why| format!("{shown}: {why}"))
            }
            Source::Metadata(base) => {
                let name = HeaderName::from_static("metadata-flavor");
                let headers = HeaderMap::from_iter([(name, HeaderValue::from_static("Google"))]);
                let url = format!("{base}{TOKEN}?scopes={SCOPE}");
                let call = self
                    .near
                    .call(Method::GET, &url, headers, Bytes::new(), METADATA_TIME);
                let none = "there is no credentials file and no metadata server";
                let response = call.await.map_err(|error| format!("{none}: {error}"))?;
                current(&response)
            }
        }
    }

    async fn of_file(&self, file: File) -> Result<Current, String> {
        let uri = file.token_uri.as_deref();
        let uri = uri.unwrap_or("https://oauth2.googleapis.com/token");
        let form = match file.kind.as_deref() {
            Some("service_account") => {
                let assertion = assertion(&file, uri, now())?;
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "urn:ietf:params:oauth:grant-type:jwt-bearer");
                form.append_pair("assertion", &assertion);
                form.finish()
            }
            Some("authorized_user") => {
                let (Some(id), Some(secret), Some(token)) =
                    (&file.client_id, &file.client_secret, &file.refresh_token)
                else {
                    return Err("client_id, client_secret or refresh_token is missing".to_owned());
                };
                let mut form = form_urlencoded::Serializer::new(String::new());
                form.append_pair("grant_type", "refresh_token");
                form.append_pair("client_id", id);
                form.append_pair("client_secret", secret);
                form.append_pair("refresh_token", token);
                form.finish()
            }
            other => {
                let kind: String = other.unwrap_or("none").chars().take(64).collect();
                return Err(format!(
                    "credentials of the type {kind:?} are not supported"
                ));
            }
        };
        let call = self.far.post_form(uri, HeaderMap::new(), form);
        current(&call.await.map_err(|error| error.to_string())?)
    }
}

/// A file of credentials.
#[derive(Deserialize)]
struct File {
    #[serde(rename = "type")]
    kind: Option<String>,
    client_email: Option<String>,
    private_key: Option<String>,
    private_key_id: Option<String>,
    token_uri: Option<String>,
    client_id: Option<String>,
    client_secret: Option<String>,
    refresh_token: Option<String>,
}

/// The assertion of a service account: RFC 7523 §3, signed with RS256.
fn assertion(file: &File, audience: &str, now: u64) -> Result<String, String> {
    let (Some(email), Some(pem)) = (&file.client_email, &file.private_key) else {
        return Err("client_email or private_key is missing".to_owned());
    };
    let unusable = || "private_key is not an RSA key in PKCS #8".to_owned();
    let key = match PrivateKeyDer::from_pem_slice(pem.as_bytes()) {
        Ok(PrivateKeyDer::Pkcs8(der)) => RsaKeyPair::from_pkcs8(der.secret_pkcs8_der()),
        _ => return Err(unusable()),
    };
    let key = key.map_err(|_| unusable())?;
    let header = json!({ "alg": "RS256", "typ": "JWT", "kid": file.private_key_id });
    let claims = json!({ "iss": email, "sub": email, "scope": SCOPE, "aud": audience,
        "iat": now, "exp": now + LIFE });
    let part = |value: serde_json::Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let text = format!("{}.{}", part(header), part(claims));
    let mut signature = vec![0; key.public_modulus_len()];
    key.sign(
        &RSA_PKCS1_SHA256,
        &SystemRandom::new(),
        text.as_bytes(),
        &mut signature,
    )
    .map_err(|_| unusable())?;
    Ok(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// A response of a token service (RFC 6749 §5.1) or of the metadata server, which has the same form.
fn current(response: &SideResponse) -> Result<Current, String> {
    #[derive(Deserialize)]
    struct Token {
        access_token: String,
        expires_in: Option<u64>,
    }
    if !response.status.is_success() {
        return Err(format!(
            "the token service responded with {}",
            response.status
        ));
    }
    let token: Token = serde_json::from_slice(&response.body)
        .map_err(|_| "the response of the token service cannot be parsed".to_owned())?;
    if token.access_token.is_empty() {
        return Err("the token service responded with an empty token".to_owned());
    }
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.access_token))
        .map_err(|_| "the token is not text".to_owned())?;
    value.set_sensitive(true);
    let life = token.expires_in.unwrap_or(LIFE).min(24 * LIFE);
    Ok(Current {
        value,
        until: Instant::now() + Duration::from_secs(life),
    })
}

fn now() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_secs()
}
