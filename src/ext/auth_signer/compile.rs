//! Compiles the block. With a signer that cannot be created, KrakenD responds to everything with 401. Here an error
//! in the configuration stops the start, and a temporary error, such as an unreachable server, is retried.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use http::HeaderValue;

use super::config::Block;
use super::runtime::{EndpointSigner, FirstAttempt, KeyFetch, Origin, SigningKey, fetch};
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::EndpointPart;
use crate::ext::identity::{Identity, KeyFile, keeper_tls};
use crate::ext::reload_state::Task;
use crate::jose::algorithm::Algorithm;
use crate::jose::sign::Serialization;
use crate::upstream::keys::{Location, SealedFile, read_key_file};
use crate::upstream::{ClientError, SideClient, SideTls};

/// The `User-Agent` of requests for the key.
const USER_AGENT: &str = concat!("Portcullis/", env!("CARGO_PKG_VERSION"));

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let before = cx.report.config_errors();
    let Some(block) = Block::read(node) else {
        return EndpointPart::Nothing;
    };
    if site.streams {
        node.config_error_hint(
            ConfigError::invalid("a \"no-op\" response cannot be signed"),
            "\"output_encoding\": \"json\"",
        );
    }
    let algorithm = algorithm(&block);
    let (Some(algorithm), true) = (algorithm, cx.report.config_errors() == before) else {
        return EndpointPart::Nothing;
    };
    let what = KeyFetch {
        kid: block.kid.clone(),
        algorithm,
        typ: block.typ.clone().unwrap_or_else(|| "JWT".to_owned()),
        serialization: if block.full {
            Serialization::FlattenedJson
        } else {
            Serialization::Compact
        },
        endpoint: Arc::clone(site.pattern),
    };
    let Some(key) = signing_key(node, &block, what, cx) else {
        return EndpointPart::Nothing;
    };
    log::debug!("[ENDPOINT: {}][JWTSigner] Signer enabled", site.pattern);
    EndpointPart::Signer {
        steps: vec![Box::new(FirstAttempt(Arc::clone(&key)))],
        signer: Arc::new(EndpointSigner {
            key,
            members: block
                .keys_to_sign
                .iter()
                .map(|name| name.as_str().into())
                .collect(),
        }),
    }
}

/// The log line for an endpoint without a signer.
pub(in crate::ext) fn unnamed(site: &EndpointSite<'_>) {
    log::debug!("[ENDPOINT: {}][JWTSigner] Signer disabled", site.pattern);
}

fn algorithm(block: &Block<'_>) -> Option<Algorithm> {
    let (name, at) = (block.alg.as_deref()?, block.alg_at.as_ref()?);
    let algorithm = Algorithm::parse(name);
    if algorithm.is_none() {
        at.invalid(format!("JOSE: unknown algorithm {name}"));
    }
    algorithm
}

fn signing_key(
    node: &Node<'_>,
    block: &Block<'_>,
    what: KeyFetch,
    cx: &mut Compile<'_>,
) -> Option<Arc<SigningKey>> {
    if let Some(at) = block.path_at.as_ref().filter(|_| !block.path.is_empty()) {
        return local(node, at, block, what, cx);
    }
    let Some(at) = block.url_at.as_ref().filter(|_| !block.url.is_empty()) else {
        node.config_error_hint(
            ConfigError::Missing("jwk_url"),
            "the private key comes from \"jwk_url\" or \"jwk_local_path\"",
        );
        return None;
    };
    if !block.insecure && !block.url.starts_with("https://") {
        at.warn_hint(
            ConfigError::invalid(
                "JWK client is using an insecure connection to the JWK service: every request gets 401",
            ),
            "\"disable_jwk_security\": true allows it, in a network that you trust",
        );
        let origin = Location::Url(block.url.clone());
        let key = Arc::new(SigningKey::never(label(&origin, &what)));
        // Kept by the endpoint.
        Identity::of(cx).add(&key);
        return Some(key);
    }
    let client = SideClient::new(&tls(block, cx)?, &HeaderValue::from_static(USER_AGENT));
    let name = format!("auth/signer {} {}", what.endpoint, node.value().to_json());
    let origin = Origin::Url(block.url.clone());
    awaited(node, name, what, origin, client, cx)
}

/// A key that is fetched in the background. A reload keeps it as long as its name, which is its definition, is
/// unchanged.
fn awaited(
    node: &Node<'_>,
    name: String,
    what: KeyFetch,
    origin: Origin,
    client: Result<SideClient, ClientError>,
    cx: &mut Compile<'_>,
) -> Option<Arc<SigningKey>> {
    let client = match client {
        Ok(client) => client,
        Err(error) => {
            node.invalid(error.to_string());
            return None;
        }
    };
    let identity = Identity::of(cx);
    Some(cx.carry_over(name, |tasks| {
        let key = Arc::new(SigningKey::awaited(label(&origin.location(), &what)));
        identity.add(&key);
        let wanted = Arc::downgrade(&key);
        let limiter = Arc::clone(identity.keys.limiter());
        tasks.push(Task::new(
            "signing key",
            fetch(wanted, what, origin, client, limiter),
        ));
        key
    }))
}

/// The name of a signing key in metrics. A validator may use the same address.
fn label(origin: &Location, what: &KeyFetch) -> String {
    format!("{} (auth/signer {})", origin.label(), what.endpoint)
}

/// A key file. As in KrakenD, it is read once, at start.
fn local(
    node: &Node<'_>,
    at: &Node<'_>,
    block: &Block<'_>,
    what: KeyFetch,
    cx: &mut Compile<'_>,
) -> Option<Arc<SigningKey>> {
    let document = match KeyFile::read(&block.keys, cx.path(&block.path), cx)? {
        KeyFile::Plain(path) => read_key_file(&path).map_err(|error| error.to_string()),
        KeyFile::Opened(document) => Ok(document),
        KeyFile::Sealed(file) => return sealed(node, at, block, file, what, cx),
    };
    let document = document
        .map_err(|reason| unusable(at, block, reason))
        .ok()?;
    here(at, block, &what, &document)
}

/// A key file whose passphrase is in a Vault. Once the passphrase is known, a reload reads the file like any other.
fn sealed(
    node: &Node<'_>,
    at: &Node<'_>,
    block: &Block<'_>,
    file: SealedFile,
    what: KeyFetch,
    cx: &mut Compile<'_>,
) -> Option<Arc<SigningKey>> {
    let name = format!("auth/signer {} {}", what.endpoint, node.value().to_json());
    let passphrase = cx.carry_over(format!("{name} passphrase"), |_| Arc::new(OnceLock::new()));
    match file.at_hand(&passphrase) {
        Ok(Some(document)) => here(at, block, &what, &document),
        Ok(None) => {
            let tls = keeper_tls(tls(block, cx)?, cx);
            let client = SideClient::without_redirects(&tls, &HeaderValue::from_static(USER_AGENT));
            awaited(
                node,
                name,
                what,
                Origin::Sealed(file, passphrase),
                client,
                cx,
            )
        }
        Err(error) => {
            at.invalid(error.to_string());
            None
        }
    }
}

/// The key in an available document.
fn here(
    at: &Node<'_>,
    block: &Block<'_>,
    what: &KeyFetch,
    document: &[u8],
) -> Option<Arc<SigningKey>> {
    match what.signer(document) {
        Ok(signer) => Some(Arc::new(SigningKey::here(signer))),
        Err(error) => {
            unusable(at, block, error.to_string());
            None
        }
    }
}

fn unusable(at: &Node<'_>, block: &Block<'_>, reason: String) {
    at.config_error(ConfigError::File {
        path: block.path.clone(),
        reason,
    });
}

/// How the server of the key is verified.
fn tls(block: &Block<'_>, cx: &Compile<'_>) -> Option<SideTls> {
    let pins: Option<Vec<[u8; 32]>> = block.fingerprints.iter().map(|text| pin(text)).collect();
    if pins.is_none()
        && let Some(at) = &block.fingerprints_at
    {
        at.config_error_hint(
            ConfigError::invalid("a fingerprint is the SHA-256 of a public key, in base64url"),
            "44 characters, the last of them =",
        );
    }
    let cipher_suites: Option<Vec<u16>> = block
        .cipher_suites
        .iter()
        .map(|number| u16::try_from(*number).ok())
        .collect();
    if cipher_suites.is_none()
        && let Some(at) = &block.cipher_suites_at
    {
        at.invalid("the number of a cipher suite is between 0 and 65535");
    }
    let ca: Option<PathBuf> = (!block.ca.is_empty()).then(|| cx.path(&block.ca));
    let tls = SideTls {
        insecure: block.insecure,
        ca_certs: ca.into_iter().collect(),
        pins: pins?,
        cipher_suites: cipher_suites?,
        ..SideTls::default()
    };
    let unsupported = tls.unsupported_suites();
    if let (false, Some(at)) = (unsupported.is_empty(), &block.cipher_suites_at) {
        at.warn(ConfigError::invalid(format!(
            "the cipher suites {unsupported:?} are not supported and ignored"
        )));
    }
    Some(tls)
}

fn pin(text: &str) -> Option<[u8; 32]> {
    let bytes = URL_SAFE
        .decode(text)
        .or_else(|_| URL_SAFE_NO_PAD.decode(text));
    bytes.ok()?.try_into().ok()
}
