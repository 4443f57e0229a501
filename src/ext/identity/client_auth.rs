//! Client authentication of the gateway at a provider, as configured: for introspection and for token exchange.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::header::{ACCEPT, HeaderMap, HeaderValue};

use super::inquiry::NoAnswer;
use crate::config::{Block, ConfigError, Key, Kind, key};
use crate::ext::context::Compile;
use crate::ext::warn_if_others_write;
use crate::jose::{Algorithm, Serialization, Signer};
use crate::upstream::credentials::{ClientAuth, ClientProof, form};
use crate::upstream::keys::read_key_file;
use crate::upstream::{CertificatePair, SideClient, SideResponse, SideTls};

const METHODS: &[&str] = &[
    "client_secret_basic",
    "client_secret_post",
    "private_key_jwt",
    "tls_client_auth",
    "self_signed_tls_client_auth",
];

/// The keys of client authentication, within the block of the call.
pub(crate) const CLIENT_AUTH_KEYS: [Key; 9] = [
    key(
        "client_id",
        Kind::Text,
        "–",
        "The client id of the gateway at the provider.",
    ),
    key(
        "client_secret",
        Kind::Secret,
        "",
        "The client secret, for the two methods with one.",
    ),
    key(
        "auth_method",
        Kind::Choice(METHODS),
        "client_secret_basic",
        "How the gateway authenticates: with its secret in `Authorization` or in the form, with a signed assertion (RFC 7523), or with its TLS certificate (RFC 8705).",
    ),
    key(
        "private_key_path",
        Kind::Text,
        "",
        "For `private_key_jwt`: a file with a JWK set that contains the private key.",
    ),
    key(
        "private_key_id",
        Kind::Text,
        "",
        "For `private_key_jwt`: the `kid` of the key in that file.",
    ),
    key(
        "private_key_alg",
        Kind::Text,
        "RS256",
        "For `private_key_jwt`: the algorithm of the assertion.",
    ),
    key(
        "assertion_audience",
        Kind::Text,
        "the URL that is called",
        "For `private_key_jwt`: the `aud` of the assertion. Some providers expect their issuer.",
    ),
    key(
        "tls_cert",
        Kind::Text,
        "",
        "A PEM file with the certificate that the gateway presents. Needed for `tls_client_auth` and `self_signed_tls_client_auth`.",
    ),
    key(
        "tls_key",
        Kind::Text,
        "",
        "A PEM file with the private key of `tls_cert`.",
    ),
];

/// Reads the client, and the TLS settings of the call to `url`: those of `client_tls` and the client's certificate.
/// The server's certificate is always checked (RFC 7662 §4), whatever `allow_insecure_connections` says about backends.
/// `None` after an error, which is reported.
pub(crate) fn client_auth(
    block: &Block<'_>,
    url: &str,
    cx: &Compile<'_>,
) -> Option<(ClientAuth, SideTls)> {
    let before = cx.report.config_errors();
    let client_id = block.required("client_id");
    let method = block.choice("auth_method").unwrap_or("client_secret_basic");
    let certificate = certificate(block, cx);
    let proof = match method {
        "private_key_jwt" => assertion(block, url, cx),
        // The two methods differ only in what the provider knows of the certificate (RFC 8705 §2.1, §2.2).
        "tls_client_auth" | "self_signed_tls_client_auth" => {
            if certificate.is_none() && cx.report.config_errors() == before {
                block.missing("tls_cert");
            }
            Some(ClientProof::Certificate)
        }
        "client_secret_post" => block.required("client_secret").map(ClientProof::Post),
        _ => block.required("client_secret").map(ClientProof::Basic),
    };
    let mut tls = cx.verified_tls();
    if certificate.is_some() {
        tls.client_cert = certificate;
    }
    let (Some(client_id), Some(proof)) = (client_id, proof) else {
        return None;
    };
    (cx.report.config_errors() == before).then_some((ClientAuth { client_id, proof }, tls))
}

/// The usual media type of responses.
pub(crate) const JSON: &str = "application/json";

/// Sends a form to a provider as its client, with `accept` as the wanted media type of the response. A response with any
/// status is returned. `now` is the time since the Unix
/// epoch.
///
/// # Errors
/// The client cannot be added to the request, or there is no response.
pub(crate) async fn ask(
    side: &SideClient,
    url: &str,
    auth: &ClientAuth,
    mut fields: Vec<(Cow<'static, str>, String)>,
    accept: &'static str,
    now: Duration,
) -> Result<SideResponse, NoAnswer> {
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static(accept));
    auth.apply(&mut headers, &mut fields, now)
        .map_err(|error| NoAnswer::new(error.to_string()))?;
    side.post_form(url, headers, form(&fields))
        .await
        .map_err(|error| NoAnswer::new(error.to_string()))
}

fn certificate(block: &Block<'_>, cx: &Compile<'_>) -> Option<CertificatePair> {
    let (certificate, private_key) = (block.string("tls_cert"), block.string("tls_key"));
    match (certificate, private_key) {
        (None, None) => None,
        (Some(certificate), Some(private_key)) => Some(CertificatePair {
            certificate: cx.path(&certificate),
            private_key: cx.path(&private_key),
        }),
        (Some(_), None) => {
            block.missing("tls_key");
            None
        }
        (None, Some(_)) => {
            block.missing("tls_cert");
            None
        }
    }
}

fn assertion(block: &Block<'_>, url: &str, cx: &Compile<'_>) -> Option<ClientProof> {
    let path = block.required("private_key_path")?;
    let name = block.string("private_key_alg");
    let name = name.as_deref().unwrap_or("RS256");
    let Some(algorithm) = Algorithm::parse(name) else {
        if let Some(at) = block.get("private_key_alg") {
            at.invalid(format!("JOSE: unknown algorithm {name}"));
        }
        return None;
    };
    let kid = block.string("private_key_id").unwrap_or_default();
    let at = block.get("private_key_path")?;
    let path = cx.path(&path);
    warn_if_others_write(&at, &path);
    let signer = read_key_file(&path)
        .map_err(|error| error.to_string())
        .and_then(|document| {
            Signer::from_key_set(&document, &kid, algorithm, "JWT", Serialization::Compact)
                .map_err(|error| error.to_string())
        });
    match signer {
        Ok(signer) => Some(ClientProof::Assertion {
            signer: Arc::new(signer),
            audience: block
                .string("assertion_audience")
                .unwrap_or_else(|| url.to_owned()),
        }),
        Err(error) => {
            at.config_error_hint(
                ConfigError::invalid(error),
                "\"private_key_id\" names the key, \"private_key_alg\" its algorithm",
            );
            None
        }
    }
}

/// How long a request waits for a response. Reports an error if the time is zero.
pub(crate) fn waiting_time(block: &Block<'_>, name: &str, standard: Duration) -> Duration {
    let time = block.duration(name).unwrap_or(standard);
    if time.is_zero() {
        let node = block.get(name).unwrap_or_else(|| block.node().clone());
        node.config_error_hint(
            ConfigError::invalid("no call could succeed, and all requests would be rejected"),
            "a time such as \"2s\"; without the key it has a default",
        );
    }
    time
}

/// Whether this is the URL of a server that may get a secret: `https://`, or `http://` if `insecure` allows it.
/// Reports an error otherwise.
pub(crate) fn check_secret_url(block: &Block<'_>, name: &str, url: &str, insecure: bool) -> bool {
    let node = block.get(name).unwrap_or_else(|| block.node().clone());
    let uri = url.parse::<http::Uri>().ok();
    let host = uri.as_ref().and_then(http::Uri::host);
    match (uri.as_ref().and_then(http::Uri::scheme_str), host) {
        (Some("https"), Some(_)) => true,
        (Some("http"), Some(_)) if insecure => true,
        (Some("http"), Some(_)) => {
            node.config_error_hint(
                ConfigError::invalid("tokens and secrets would be sent without encryption"),
                "an https:// URL, or \"allow_insecure\": true in a trusted network",
            );
            false
        }
        _ => {
            node.config_error_hint(
                ConfigError::invalid("this is not the URL of a server"),
                "a whole URL: \"https://issuer.example/oauth/token\"",
            );
            false
        }
    }
}
