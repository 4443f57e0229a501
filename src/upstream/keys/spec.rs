//! The location of a key set, and how it is fetched.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http::header::HeaderValue;
use serde::Deserialize;

use super::sealed::SealedFile;
use crate::jose::sealed::Passphrase;
use crate::named_file;
use crate::upstream::cache_control::CacheControl;
use crate::upstream::client::ClientError;
use crate::upstream::side::{MAX_BYTES, SideClient, SideError, SideResponse, SideTls, VaultError};

/// The content types of key sets. As in KrakenD, they are compared as case-sensitive prefixes.
const KEY_SET_TYPES: [&str; 2] = ["application/json", "application/jwk-set+json"];

/// Everything that distinguishes one source of keys from another.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SourceSpec {
    pub location: Location,
    /// How the server of the provider or keeper is verified. Not used for a plain file.
    pub tls: SideTls,
}

impl SourceSpec {
    /// The client for this source's calls.
    pub(super) fn client(&self, user_agent: &HeaderValue) -> Result<SideClient, ClientError> {
        match self.location {
            Location::Sealed(_) => SideClient::without_redirects(&self.tls, user_agent),
            _ => SideClient::new(&self.tls, user_agent),
        }
    }
}

/// The location of a key set.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A key set at a URL (`jwk_url`).
    Url(String),
    /// The `jwks_uri` of an issuer's OpenID configuration, which must name exactly this issuer.
    Issuer {
        issuer: String,
        /// Where the configuration is, if not where the issuer's name leads.
        document: Option<String>,
    },
    /// A file (`jwk_local_path`), read again at each refresh.
    File(PathBuf),
    /// An encrypted file whose passphrase is in a Vault. Vault is called once; afterwards the file is read like any
    /// other.
    Sealed(SealedFile),
    /// A document in memory, for example a decrypted file.
    Inline(Bytes),
    /// The keys of several URLs together. Each is fetched by its own [`super::KeySource`].
    Union(Vec<String>),
}

impl Location {
    /// The host and port from which it is fetched. `None` for files, and for a union, which is not fetched itself.
    pub(super) fn host(&self) -> Option<&str> {
        let (Location::Url(url)
        | Location::Issuer {
            document: Some(url),
            ..
        }
        | Location::Issuer { issuer: url, .. }) = self
        else {
            return None;
        };
        let (_, rest) = url.split_once("://")?;
        let authority = rest.split(['/', '?', '#']).next()?;
        Some(
            authority
                .rsplit_once('@')
                .map_or(authority, |(_, host)| host),
        )
    }

    /// The name of this source in logs, metrics and tables: a URL without credentials and query, or a path.
    pub fn label(&self) -> String {
        match self {
            Location::Union(urls) => {
                let labels = urls.iter().map(|url| Location::Url(url.clone()).label());
                labels.collect::<Vec<_>>().join(" ")
            }
            Location::Url(url)
            | Location::Issuer {
                document: Some(url),
                ..
            }
            | Location::Issuer { issuer: url, .. } => {
                let bare = url.split(['?', '#']).next().unwrap_or_default();
                match (bare.split_once("://"), bare.rsplit_once('@')) {
                    (Some((scheme, _)), Some((_, rest))) => format!("{scheme}://{rest}"),
                    _ => bare.to_owned(),
                }
            }
            Location::File(path) | Location::Sealed(SealedFile { path, .. }) => {
                path.display().to_string()
            }
            Location::Inline(_) => "inline".to_owned(),
        }
    }
}

/// Why no key set could be fetched.
#[derive(Debug, Clone, thiserror::Error)]
pub enum FetchError {
    #[error(transparent)]
    Side(#[from] SideError),
    #[error("should have a JSON content type for JWKS endpoint")]
    ContentType,
    #[error("{}: {reason}", path.display())]
    File { path: PathBuf, reason: String },
    /// The keeper did not return the passphrase of a file.
    #[error("{}: {reason}", path.display())]
    Keeper { path: PathBuf, reason: VaultError },
    #[error("OpenID configuration of {issuer}: {reason}")]
    Discovery { issuer: String, reason: String },
    /// The document is not a key set.
    #[error("{0}")]
    Document(String),
}

impl FetchError {
    /// How long the provider does not want to be called, if it says so.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            FetchError::Side(SideError::Status { retry_after, .. }) => *retry_after,
            _ => None,
        }
    }

    pub(super) fn file(path: &Path, reason: impl ToString) -> FetchError {
        FetchError::File {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

/// A document, and how long its publisher allows it to be cached.
#[derive(Debug)]
pub(super) struct Document {
    pub(super) bytes: Bytes,
    pub(super) max_age: Option<Duration>,
}

impl From<Bytes> for Document {
    fn from(bytes: Bytes) -> Document {
        Document {
            bytes,
            max_age: None,
        }
    }
}

/// Fetches the document, within limits of time and size. `passphrase` is that of an encrypted file, once it is known.
pub(super) async fn fetch(
    spec: &SourceSpec,
    side: &SideClient,
    passphrase: &OnceLock<Passphrase>,
) -> Result<Document, FetchError> {
    match &spec.location {
        Location::Url(url) => key_set(side, url).await,
        Location::Issuer { issuer, document } => {
            let url = discover(side, issuer, document.as_deref(), spec.tls.insecure).await?;
            key_set(side, &url).await
        }
        Location::Sealed(file) => file.document(side, passphrase).await.map(Document::from),
        // The file is small and this is a background task, so it is not worth a thread of the blocking pool.
        // A union is not fetched itself, but its origins are.
        local @ (Location::File(_) | Location::Inline(_) | Location::Union(_)) => {
            self::local(local, passphrase)
                .unwrap_or_else(|| Err(FetchError::Document("not a local key set".to_owned())))
        }
    }
}

/// The document, if it is available without a call.
pub(super) fn local(
    location: &Location,
    passphrase: &OnceLock<Passphrase>,
) -> Option<Result<Document, FetchError>> {
    let bytes = match location {
        Location::Url(_) | Location::Issuer { .. } | Location::Union(_) => return None,
        Location::Sealed(file) => file.at_hand(passphrase).transpose()?,
        Location::Inline(bytes) => Ok(bytes.clone()),
        Location::File(path) => read_key_file(path).map_err(|error| FetchError::file(path, error)),
    };
    Some(bytes.map(Document::from))
}

/// Reads a key file, plain or encrypted, up to a maximum size.
///
/// # Errors
/// The file cannot be read, or is larger than a key set may be.
pub(crate) fn read_key_file(path: &Path) -> std::io::Result<Bytes> {
    named_file::read(path, MAX_BYTES as u64).map(Bytes::from)
}

pub(super) async fn key_set(side: &SideClient, url: &str) -> Result<Document, FetchError> {
    let response = side.get(url, &KEY_SET_TYPES).await.map_err(|error| {
        if matches!(error, SideError::ContentType) {
            FetchError::ContentType
        } else {
            FetchError::Side(error)
        }
    })?;
    Ok(Document {
        max_age: CacheControl::of(&response.headers)
            .max_age
            .map(Duration::from_secs),
        bytes: response.body,
    })
}

#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

/// Finds the key set of an issuer (OpenID Connect Discovery 1.0 §4, or RFC 8414 §3 if that gives 404).
async fn discover(
    side: &SideClient,
    issuer: &str,
    document: Option<&str>,
    insecure: bool,
) -> Result<String, FetchError> {
    let failed = |reason: &str| FetchError::Discovery {
        issuer: issuer.to_owned(),
        reason: reason.to_owned(),
    };
    let openid = format!(
        "{}/.well-known/openid-configuration",
        issuer.trim_end_matches('/')
    );
    let response = match side.get(document.unwrap_or(&openid), &[]).await {
        Err(SideError::Status {
            status: StatusCode::NOT_FOUND,
            ..
        }) if document.is_none() => authorization_server(side, issuer).await,
        other => other,
    }?;
    let found: Discovered = serde_json::from_slice(&response.body).map_err(|error| {
        // Its text may quote a value.
        failed(&format!(
            "it is not a discovery document: line {} column {}",
            error.line(),
            error.column()
        ))
    })?;
    if found.issuer != issuer {
        // Another issuer's keys must never be accepted for this one.
        return Err(failed(&format!("it names issuer {:?}", found.issuer)));
    }
    let is_secure = document.unwrap_or(issuer).starts_with("https://");
    if !insecure && is_secure && !found.jwks_uri.starts_with("https://") {
        return Err(failed("its jwks_uri is not https"));
    }
    Ok(found.jwks_uri)
}

/// RFC 8414 inserts the well-known part between host and path.
async fn authorization_server(side: &SideClient, issuer: &str) -> Result<SideResponse, SideError> {
    let (scheme, rest) = issuer.split_once("://").unwrap_or(("https", issuer));
    let end = rest.find('/').unwrap_or(rest.len());
    let (host, path) = rest.split_at(end);
    let path = path.trim_end_matches('/');
    let url = format!("{scheme}://{host}/.well-known/oauth-authorization-server{path}");
    side.get(&url, &[]).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_label_shows_neither_credentials_nor_query() {
        let url = Location::Url("https://u:p@h/keys?token=x".to_owned());
        assert_eq!(url.label(), "https://h/keys");
    }
}
