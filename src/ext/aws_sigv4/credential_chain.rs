//! The keys, and their refresh.

use std::path::Path;
use std::sync::{Arc, Weak};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use chrono::DateTime;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use serde::Deserialize;
use tokio::sync::watch;

use super::credential_source::Origin;
use super::profile;
use super::signature::{self, Keys, Scope};
use crate::backoff::Backoff;
use crate::named_file;
use crate::telemetry::mask::{KnownSecrets, is_secret};
use crate::telemetry::sanitize::printable;
use crate::upstream::SideClient;

/// How long before their end keys are replaced.
const EARLY: Duration = Duration::from_secs(300);
/// How often keys without an end are read again: a file may change.
const LOOK: Duration = Duration::from_secs(300);
/// How often a file of keys is read.
const LOOK_AT_FILE: Duration = Duration::from_secs(10);
/// The shortest pause between two fetches, also after a failure.
const PAUSE: Duration = Duration::from_secs(1);
/// The pauses while there are no keys.
const PAUSES: Backoff = Backoff::doubling(Duration::from_secs(2), Duration::from_secs(60));
const METADATA_TIME: Duration = Duration::from_secs(1);
const TIME: Duration = Duration::from_secs(5);

/// A role that is assumed with the keys of an [`Origin`].
#[derive(Debug, Clone)]
pub(super) struct Role {
    pub(super) arn: String,
    pub(super) session: String,
    pub(super) region: String,
    pub(super) sts: String,
}

/// Keys with their end.
#[derive(Debug, Clone)]
struct TemporaryKeys {
    keys: Arc<Keys>,
    /// Seconds since 1970. `None` if they have no end.
    until: Option<u64>,
}

/// The current keys, which a background task keeps fresh.
#[derive(Debug)]
pub(super) struct Chain {
    origin: Origin,
    role: Option<Role>,
    /// For containers and machines: without proxies.
    near: SideClient,
    /// For the token service.
    far: SideClient,
    current: ArcSwapOption<TemporaryKeys>,
    /// True once the first fetch has ended.
    tried: watch::Sender<bool>,
    last_error: ArcSwapOption<String>,
}

impl Chain {
    /// A chain that calls containers and machines by `near`, and the token service by `far`.
    pub(super) fn new(
        origin: Origin,
        role: Option<Role>,
        near: SideClient,
        far: SideClient,
    ) -> Chain {
        Chain {
            origin,
            role,
            near,
            far,
            current: ArcSwapOption::empty(),
            tried: watch::Sender::new(false),
            last_error: ArcSwapOption::empty(),
        }
    }

    /// The current keys. The first requests wait for the first fetch, up to `limit`.
    ///
    /// # Errors
    /// There are no keys. The text says why.
    pub(super) async fn keys(&self, limit: Duration) -> Result<Arc<Keys>, String> {
        if !*self.tried.borrow() {
            let mut tried = self.tried.subscribe();
            // Either way, the keys are there then or not.
            let _ = tokio::time::timeout(limit, tried.wait_for(|tried| *tried)).await;
        }
        let current = self.current.load();
        match current.as_ref().filter(|lent| lent.is_valid()) {
            Some(lent) => Ok(Arc::clone(&lent.keys)),
            None => Err(match &*self.last_error.load() {
                Some(why) => why.to_string(),
                None => "there are no keys yet".to_owned(),
            }),
        }
    }

    /// Fetches keys before they expire, until the chain is no longer used.
    pub(super) async fn tend(chain: Weak<Chain>) {
        let mut failures: u32 = 0;
        while let Some(chain) = chain.upgrade() {
            let wait = match chain.fetch().await {
                Ok(lent) => {
                    let wait = match (&chain.origin, &chain.role) {
                        (Origin::File { .. }, None) => LOOK_AT_FILE,
                        _ => lent.fresh_for(),
                    };
                    chain.current.store(Some(Arc::new(lent)));
                    if chain.last_error.swap(None).is_some() {
                        log::info!("[SERVICE: SigV4] keys are available again");
                    }
                    failures = 0;
                    wait
                }
                Err(why) => {
                    // Once for each reason: a machine without keys has none for long.
                    if chain
                        .last_error
                        .load()
                        .as_ref()
                        .is_none_or(|known| **known != why)
                    {
                        log::error!("[SERVICE: SigV4] no keys are available: {why}");
                    }
                    chain.last_error.store(Some(Arc::new(why)));
                    failures = failures.saturating_add(1);
                    PAUSES.pause(failures)
                }
            };
            chain.tried.send_replace(true);
            drop(chain);
            tokio::time::sleep(wait).await;
        }
    }

    async fn fetch(&self) -> Result<TemporaryKeys, String> {
        let lent = match &self.origin {
            Origin::Fixed(keys) => TemporaryKeys::endless(keys.clone()),
            Origin::File { path, profile } => self.of_file(path, profile).await?,
            Origin::WebIdentity {
                token_file,
                role,
                session,
                sts,
            } => {
                let token = text(token_file).await?;
                let form = [
                    ("Action", "AssumeRoleWithWebIdentity"),
                    ("RoleArn", role.as_str()),
                    ("RoleSessionName", session.as_str()),
                    ("WebIdentityToken", token.trim()),
                ];
                self.of_sts(sts, &form, HeaderMap::new()).await?
            }
            Origin::Container {
                url,
                token,
                token_file,
            } => {
                let token = match token_file {
                    Some(path) => Some(text(path).await?),
                    None => token.clone(),
                };
                let mut headers = HeaderMap::new();
                if let Some(token) = token {
                    headers.insert(http::header::AUTHORIZATION, secret(token.trim())?);
                }
                self.json(Method::GET, url, headers, TIME).await?.lent()?
            }
            Origin::Metadata { base } => self.of_metadata(base).await?,
            Origin::Nowhere => return Err("the environment names no source of keys".to_owned()),
        };
        match &self.role {
            Some(role) => self.assume(role, &lent.keys).await,
            None => Ok(lent),
        }
    }

    async fn of_file(&self, path: &Path, profile: &str) -> Result<TemporaryKeys, String> {
        let content = text(path).await?;
        let keys = profile::keys(&content, profile);
        keys.map(TemporaryKeys::endless)
            .ok_or_else(|| format!("{} has no keys for the profile {profile:?}", path.display()))
    }

    /// The metadata of the machine, version 2: a token first, which no proxy and no redirect passes on.
    async fn of_metadata(&self, base: &str) -> Result<TemporaryKeys, String> {
        let life = HeaderName::from_static("x-aws-ec2-metadata-token-ttl-seconds");
        let headers = HeaderMap::from_iter([(life, HeaderValue::from_static("21600"))]);
        let url = format!("{base}/latest/api/token");
        let token = self.call(Method::PUT, &url, headers, METADATA_TIME).await?;
        let token = String::from_utf8_lossy(&token).trim().to_owned();
        let name = HeaderName::from_static("x-aws-ec2-metadata-token");
        let headers = HeaderMap::from_iter([(name, secret(&token)?)]);
        let list = format!("{base}/latest/meta-data/iam/security-credentials/");
        let roles = self
            .call(Method::GET, &list, headers.clone(), METADATA_TIME)
            .await?;
        let roles = String::from_utf8_lossy(&roles).into_owned();
        let role = roles.lines().map(str::trim).find(|role| !role.is_empty());
        let role = role.ok_or("the machine has no role")?;
        if !is_role(role) {
            return Err("the machine has a role whose name is invalid".to_owned());
        }
        let url = format!("{list}{role}");
        self.json(Method::GET, &url, headers, METADATA_TIME)
            .await?
            .lent()
    }

    async fn assume(&self, role: &Role, keys: &Keys) -> Result<TemporaryKeys, String> {
        let form = [
            ("Action", "AssumeRole"),
            ("RoleArn", role.arn.as_str()),
            ("RoleSessionName", role.session.as_str()),
        ];
        let body = form_body(&form);
        let url = role.sts.parse::<Uri>().map_err(|error| error.to_string())?;
        let host = url.authority().map_or("", |authority| authority.as_str());
        let stamp = signature::stamp(now());
        let mut signed = vec![
            ("content-type".to_owned(), FORM.to_owned()),
            ("host".to_owned(), host.to_owned()),
            ("x-amz-date".to_owned(), stamp.clone()),
        ];
        if let Some(token) = &keys.session_token {
            signed.push(("x-amz-security-token".to_owned(), token.clone()));
        }
        let scope = Scope {
            region: role.region.clone(),
            service: "sts".to_owned(),
        };
        let request = signature::Request {
            method: "POST",
            path: "/",
            query: "",
            headers: &signed,
            payload_hash: &signature::hash(body.as_bytes()),
        };
        let authorization = signature::authorization(&request, &scope, keys, &stamp);
        let mut headers = HeaderMap::new();
        headers.insert(http::header::AUTHORIZATION, secret(&authorization)?);
        for (name, value) in signed.iter().filter(|(name, _)| name.starts_with("x-amz")) {
            let name = HeaderName::try_from(name).map_err(|error| error.to_string())?;
            headers.insert(name, secret(value)?);
        }
        self.of_sts(&role.sts, &form, headers).await
    }

    async fn of_sts(
        &self,
        sts: &str,
        form: &[(&str, &str)],
        headers: HeaderMap,
    ) -> Result<TemporaryKeys, String> {
        let mut known = KnownSecrets::default();
        let tokens = form.iter().filter(|(name, _)| is_secret(name));
        tokens.for_each(|(_, token)| known.add(token));
        let token = headers.get("x-amz-security-token");
        known.add(
            token
                .and_then(|token| token.to_str().ok())
                .unwrap_or_default(),
        );
        let answer = self
            .far
            .post_form(&format!("{sts}/"), headers, form_body(form))
            .await
            .map_err(|error| error.to_string())?;
        let body = String::from_utf8_lossy(&answer.body);
        if !answer.status.is_success() {
            let code = known.shown_or_note(element(&body, "Code").unwrap_or_default());
            return Err(format!("{sts}: {} {code}", answer.status));
        }
        let need = |name: &str| {
            let found = element(&body, name).map(str::to_owned);
            found.ok_or_else(|| format!("{sts}: the response has no {name}"))
        };
        Ok(TemporaryKeys {
            keys: Arc::new(Keys {
                id: need("AccessKeyId")?,
                secret: need("SecretAccessKey")?,
                session_token: Some(need("SessionToken")?),
            }),
            until: element(&body, "Expiration").and_then(seconds),
        })
    }

    async fn json(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<Answer, String> {
        let body = self.call(method, url, headers, limit).await?;
        serde_json::from_slice(&body).map_err(|_| format!("{url}: the response cannot be parsed"))
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        headers: HeaderMap,
        limit: Duration,
    ) -> Result<Bytes, String> {
        let answer = self
            .near
            .call(method, url, headers, Bytes::new(), limit)
            .await
            .map_err(|error| error.to_string())?;
        if !answer.status.is_success() {
            return Err(format!("{url}: {}", answer.status));
        }
        Ok(answer.body)
    }
}

/// Keys in the responses of container and machine services.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Answer {
    access_key_id: Option<String>,
    secret_access_key: Option<String>,
    token: Option<String>,
    expiration: Option<String>,
    /// `Success`, or why there are no keys. Containers send none.
    code: Option<String>,
}

impl Answer {
    fn lent(self) -> Result<TemporaryKeys, String> {
        let code = self.code.filter(|code| code != "Success");
        if let Some(code) = code {
            let code: String = code.chars().take(64).collect();
            return Err(format!("there are no keys: {}", printable(&code)));
        }
        let text = |value: Option<String>| value.filter(|text| !text.is_empty());
        let both = text(self.access_key_id).zip(text(self.secret_access_key));
        let Some((id, secret)) = both else {
            return Err("the response has no keys".to_owned());
        };
        let lent = TemporaryKeys {
            keys: Arc::new(Keys {
                id,
                secret,
                session_token: self.token,
            }),
            until: self.expiration.as_deref().and_then(seconds),
        };
        if lent.is_valid() {
            Ok(lent)
        } else {
            Err("the keys have expired already".to_owned())
        }
    }
}

/// Whether a text can be the name of a role (`RoleName` in the API of IAM).
fn is_role(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte);
    (1..=64).contains(&text.len()) && text.bytes().all(allowed)
}

impl TemporaryKeys {
    fn endless(keys: Keys) -> TemporaryKeys {
        TemporaryKeys {
            keys: Arc::new(keys),
            until: None,
        }
    }

    fn is_valid(&self) -> bool {
        self.until.is_none_or(|until| now().as_secs() < until)
    }

    /// How long the keys need no fetch.
    fn fresh_for(&self) -> Duration {
        match self.until {
            None => LOOK,
            Some(until) => Duration::from_secs(until)
                .saturating_sub(now() + EARLY)
                .max(PAUSE),
        }
    }
}

const FORM: &str = "application/x-www-form-urlencoded";

fn form_body(form: &[(&str, &str)]) -> String {
    let mut body = form_urlencoded::Serializer::new(String::new());
    body.extend_pairs(form);
    body.append_pair("Version", "2011-06-15");
    body.finish()
}

/// A value that logs do not show.
fn secret(text: &str) -> Result<HeaderValue, String> {
    let mut value = HeaderValue::from_str(text).map_err(|_| "a token is not text".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

async fn text(path: &Path) -> Result<String, String> {
    let read = named_file::read_text_aside(path, named_file::SMALL).await;
    read.map_err(|error| format!("{}: {error}", path.display()))
}

/// The text of the first element with this name. Keys and dates have no characters that XML would escape.
pub(in crate::ext) fn element<'x>(xml: &'x str, name: &str) -> Option<&'x str> {
    let (_, rest) = xml.split_once(&format!("<{name}>"))?;
    rest.split_once(&format!("</{name}>"))
        .map(|(text, _)| text.trim())
}

fn seconds(date: &str) -> Option<u64> {
    let date = DateTime::parse_from_rfc3339(date).ok()?;
    u64::try_from(date.timestamp()).ok()
}

fn now() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_without_usable_keys_are_errors() {
        let read = |text: &str| serde_json::from_str::<Answer>(text).unwrap().lent();
        let keys = r#""AccessKeyId": "A", "SecretAccessKey": "B""#;
        for (text, why) in [
            (
                format!("{{{keys}, \"Code\": \"AssumeRoleUnauthorizedAccess\"}}"),
                "AssumeRole",
            ),
            (
                format!("{{{keys}, \"Expiration\": \"2001-01-01T00:00:00Z\"}}"),
                "expired",
            ),
            (
                r#"{"AccessKeyId": "", "SecretAccessKey": "B"}"#.to_owned(),
                "no keys",
            ),
            ("{}".to_owned(), "no keys"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(why), "{text}: {error}");
        }
        assert!(read(&format!("{{{keys}, \"Code\": \"Success\"}}")).is_ok());
        assert!(read(&format!("{{{keys}}}")).is_ok());
    }

    #[test]
    fn names_of_roles_are_not_paths() {
        assert!(is_role("my-role_1@x"));
        for name in ["", "../user-data?x#y", "a b", "a/b", "%2e%2e"] {
            assert!(!is_role(name), "{name}");
        }
    }
}
