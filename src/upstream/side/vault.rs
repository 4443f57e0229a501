//! HashiCorp Vault's transit engine, which decrypts what it has encrypted and never reveals its keys.

use std::fmt;
use std::net::IpAddr;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::{HeaderMap, HeaderName, HeaderValue};
use http::{StatusCode, Uri};
use serde::Deserialize;

use super::client::{SideClient, SideError};
use crate::jose::sealed::{Passphrase, TransitKey};

const TOKEN: HeaderName = HeaderName::from_static("x-vault-token");
const NAMESPACE: HeaderName = HeaderName::from_static("x-vault-namespace");
/// Vault's own clients send this header and a Vault Agent may require it, because a web page cannot send it.
const REQUEST: HeaderName = HeaderName::from_static("x-vault-request");

/// A Vault server, and our identity there.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VaultServer {
    url: String,
    token: HeaderValue,
    namespace: Option<HeaderValue>,
}

impl fmt::Debug for VaultServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultServer")
            .field("url", &self.url)
            .field("token", &"[redacted]")
            .finish_non_exhaustive()
    }
}

/// Why the settings of a Vault are invalid. Shows no value: a URL may contain a password, and a token is a secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum VaultServerError {
    #[error(
        "is not the http:// or https:// URL of a server, without a name, a query or a fragment"
    )]
    Url,
    #[error("contains characters that are not allowed in a header")]
    Token,
    #[error("contains characters that are not allowed in a header")]
    Namespace,
}

impl VaultServer {
    /// # Errors
    /// The URL cannot be called, or the token cannot be sent.
    pub fn new(
        url: &str,
        token: &str,
        namespace: Option<&str>,
    ) -> Result<VaultServer, VaultServerError> {
        let header = |text: &str| {
            let mut value = HeaderValue::from_str(text).ok()?;
            value.set_sensitive(true);
            Some(value)
        };
        let parsed: Uri = url.parse().map_err(|_| VaultServerError::Url)?;
        let is_http = matches!(parsed.scheme_str(), Some("http" | "https"));
        if !is_http || url.contains(['@', '?', '#']) || parsed.host().is_none_or(str::is_empty) {
            return Err(VaultServerError::Url);
        }
        Ok(VaultServer {
            url: url.trim_end_matches('/').to_owned(),
            token: header(token).ok_or(VaultServerError::Token)?,
            namespace: match namespace {
                Some(text) => Some(header(text).ok_or(VaultServerError::Namespace)?),
                None => None,
            },
        })
    }

    /// Whether token and passphrase could be read in transit.
    pub fn is_exposed(&self) -> bool {
        let uri: Option<Uri> = self.url.parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let address = host.trim_matches(['[', ']']).parse::<IpAddr>();
        let here = host == "localhost" || address.is_ok_and(|address| address.is_loopback());
        !self.url.starts_with("https://") && !here
    }
}

/// A passphrase that is stored in a Vault: its ciphertext and its key.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct VaultSecret {
    server: VaultServer,
    url: String,
    ciphertext: String,
}

impl fmt::Debug for VaultSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultSecret")
            .field("url", &self.url)
            .finish_non_exhaustive()
    }
}

/// Why Vault returned no passphrase. Vault's own text is not included, because it may contain secrets.
#[derive(Debug, Clone, thiserror::Error)]
pub enum VaultError {
    #[error(transparent)]
    Call(#[from] SideError),
    #[error("Post \"{url}\": Vault responds with {status}: {}", meaning(*status))]
    Rejected { url: String, status: StatusCode },
    #[error("Post \"{url}\": the response has no plaintext; is this a Vault?")]
    Response { url: String },
}

#[derive(Deserialize)]
struct Response {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    plaintext: String,
}

impl VaultSecret {
    /// `ciphertext` is what Vault returned when it encrypted the passphrase with `key`: `vault:v1:…`.
    pub fn new(server: VaultServer, key: &TransitKey, ciphertext: String) -> VaultSecret {
        VaultSecret {
            url: format!("{}/v1/{}/decrypt/{}", server.url, key.engine, key.name),
            server,
            ciphertext,
        }
    }

    /// Calls Vault. `side` must not follow redirects, which would send the token elsewhere.
    pub(in crate::upstream) async fn open(
        &self,
        side: &SideClient,
    ) -> Result<Passphrase, VaultError> {
        let body = serde_json::json!({ "ciphertext": self.ciphertext }).to_string();
        let response = side.post_json(&self.url, self.headers(), body).await?;
        if !response.status.is_success() {
            return Err(VaultError::Rejected {
                url: self.url.clone(),
                status: response.status,
            });
        }
        plaintext(&response.body).ok_or_else(|| VaultError::Response {
            url: self.url.clone(),
        })
    }

    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(TOKEN, self.server.token.clone());
        headers.insert(REQUEST, HeaderValue::from_static("true"));
        if let Some(namespace) = &self.server.namespace {
            headers.insert(NAMESPACE, namespace.clone());
        }
        headers
    }
}

fn plaintext(body: &[u8]) -> Option<Passphrase> {
    let response: Response = serde_json::from_slice(body).ok()?;
    STANDARD
        .decode(response.data.plaintext)
        .ok()
        .map(Passphrase::new)
}

/// The meaning of each status for a decrypt call.
fn meaning(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "a redirect is not followed, because the token is for this server alone",
        400 => "it has no such key, or did not seal `cypher_key` with it",
        403 => "the token is not valid, or may not decrypt with this key",
        404 => "no transit engine is mounted there",
        503 => "it is sealed, or on standby",
        _ => "it cannot decrypt now",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(url: &str) -> Result<VaultServer, VaultServerError> {
        VaultServer::new(url, "s.token", None)
    }

    fn secret(server: VaultServer) -> VaultSecret {
        let key = TransitKey {
            engine: "transit".to_owned(),
            name: "gate".to_owned(),
        };
        VaultSecret::new(server, &key, "vault:v1:abc".to_owned())
    }

    #[test]
    fn the_url_of_a_server_is_plain() {
        for url in ["https://v", "http://127.0.0.1:8200/", "https://h/prefix/"] {
            let url = secret(server(url).unwrap()).url;
            assert!(!url.contains("//v1"), "{url}");
            assert!(url.ends_with("/v1/transit/decrypt/gate"), "{url}");
        }
        for url in [
            "",
            "v:8200",
            "/v",
            "unix:///run/vault.sock",
            "ftp://v",
            "http://",
            "https://u:p@v",
            "https://v?x",
            "https://v#x",
            "https://a b",
        ] {
            assert_eq!(server(url).err(), Some(VaultServerError::Url), "{url}");
        }
    }

    #[test]
    fn a_token_must_be_a_valid_header_value() {
        let token = VaultServer::new("https://v", "s.x\n", None);
        assert_eq!(token.err(), Some(VaultServerError::Token));
        let namespace = VaultServer::new("https://v", "s.x", Some("a\r\nb"));
        assert_eq!(namespace.err(), Some(VaultServerError::Namespace));
    }

    #[test]
    fn a_token_is_sent_in_plain_text_only_on_this_machine() {
        for (url, exposed) in [
            ("https://v", false),
            ("http://localhost:8200", false),
            ("http://127.9.9.9", false),
            ("http://[::1]:8200", false),
            ("http://v:8200", true),
            ("http://10.0.0.1", true),
            ("http://localhost.example.com", true),
        ] {
            assert_eq!(server(url).unwrap().is_exposed(), exposed, "{url}");
        }
    }

    #[test]
    fn a_token_is_not_printed() {
        let secret = secret(server("https://v").unwrap());
        assert!(!format!("{secret:?}").contains("s.token"));
        assert!(!format!("{:?}", secret.headers()).contains("s.token"));
    }

    #[test]
    fn only_base64_in_the_right_member_is_a_plaintext() {
        assert!(plaintext(br#"{"lease":"", "data":{"plaintext":"aG9yc2U="}}"#).is_some());
        for body in [
            "",
            "[]",
            "null",
            r#"{"plaintext":"aG9yc2U="}"#,
            r#"{"data":{}}"#,
            r#"{"data":null}"#,
            r#"{"data":{"plaintext":7}}"#,
            r#"{"data":{"plaintext":"horse!"}}"#,
            r#"{"errors":["permission denied"]}"#,
        ] {
            assert!(plaintext(body.as_bytes()).is_none(), "{body}");
        }
    }
}
