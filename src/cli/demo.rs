//! `demo`: everything in one process, on loopback, without any account.
//!
//! It starts a development issuer (discovery, key set, token endpoint), a sample upstream, and the gateway with the
//! configuration of the walkthrough. Keys are generated at start and end with the process. It is not for production,
//! and its output says so.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Response, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::cli::DemoArgs;
use crate::cli::run::{Extras, serve_text};
use crate::jose;
use crate::server::admin::{Asked, Handler, SideListener, whole};

const AUDIENCE: &str = "http://api.example.com";
const CLIENT: (&str, &str) = ("demo", "demo-secret");
const TOKEN_SECONDS: u64 = 3600;

/// Serves until it is interrupted.
pub(super) fn demo(args: &DemoArgs) -> ExitCode {
    jose::install_crypto();
    match start(args) {
        Ok(code) => code,
        Err(reason) => {
            eprintln!("demo: {reason}");
            ExitCode::FAILURE
        }
    }
}

fn start(args: &DemoArgs) -> Result<ExitCode, String> {
    let port = free_port(args.port)?;
    if port != args.port {
        let told = format!("Port {} is in use; the gateway uses {port}.\n", args.port);
        super::say(&told);
    }
    let issuer_port = free_port(0)?;
    let upstream_port = free_port(0)?;
    let page_port = free_port(0)?;
    let issuer = Issuer::new(format!("http://127.0.0.1:{issuer_port}/"))?;
    let extras = Extras {
        sides: vec![
            side(
                issuer_port,
                Arc::new(move |asked: &Asked| issuer.response(asked)),
            ),
            side(upstream_port, Arc::new(sample)),
        ],
        ready: Some(instructions(port, issuer_port, page_port)),
        quiet: true,
    };
    let config = configuration(port, issuer_port, upstream_port, page_port);
    Ok(serve_text(&config.to_string(), extras))
}

fn side(port: u16, handler: Handler) -> SideListener {
    SideListener {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        handler,
        optional: false,
    }
}

/// The configuration of the walkthrough, with the issuer and the upstream of the demo.
fn configuration(port: u16, issuer_port: u16, upstream_port: u16, page_port: u16) -> Value {
    json!({
        "version": 3,
        "name": "Portcullis demo",
        "port": port,
        "listen_ip": "127.0.0.1",
        "timeout": "3s",
        "extra_config": {
            "telemetry/logging": { "level": "WARNING", "stdout": true },
            "portcullis/metrics": { "listen": format!("127.0.0.1:{page_port}"), "page": true }
        },
        "endpoints": [
            {
                "endpoint": "/auth0-protected",
                "extra_config": {
                    "auth/validator": {
                        "alg": "RS256",
                        "audience": [AUDIENCE],
                        "issuer": format!("http://127.0.0.1:{issuer_port}/"),
                        "jwk_url": format!("http://127.0.0.1:{issuer_port}/.well-known/jwks.json"),
                        "disable_jwk_security": true
                    }
                },
                "backend": [{ "host": [format!("http://127.0.0.1:{port}")], "url_pattern": "/__health" }]
            },
            {
                "endpoint": "/sample/{id}",
                "backend": [
                    { "host": [format!("http://127.0.0.1:{upstream_port}")], "url_pattern": "/items/{id}", "group": "item" },
                    { "host": [format!("http://127.0.0.1:{upstream_port}")], "url_pattern": "/prices/{id}", "group": "price" }
                ]
            }
        ]
    })
}

fn instructions(port: u16, issuer_port: u16, page_port: u16) -> String {
    let gateway = format!("http://127.0.0.1:{port}");
    let token = format!(
        "curl -s -u {}:{} -d grant_type=client_credentials -d audience={AUDIENCE} http://127.0.0.1:{issuer_port}/oauth/token",
        CLIENT.0, CLIENT.1
    );
    format!(
        r#"
  This is a demonstration with keys made a moment ago and a secret that everybody knows. NOT FOR PRODUCTION.

  Health, open to all (200):
    curl -i {gateway}/__health

  Protected, without a token (401, empty):
    curl -i {gateway}/auth0-protected

  Protected, with a token of the development issuer (200):
    curl -i -H "Authorization: Bearer $({token} | sed 's/.*"access_token":"\([^"]*\)".*/\1/')" {gateway}/auth0-protected

  Two backends merged into one response:
    curl -i {gateway}/sample/7

  In a browser, what the gateway does now: http://127.0.0.1:{page_port}/

  Ctrl-C ends it.
"#
    )
}

fn free_port(wanted: u16) -> Result<u16, String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let listener = bind(wanted)
        .or_else(|_| bind(0))
        .map_err(|error| format!("no free port: {error}"))?;
    Ok(listener
        .local_addr()
        .map_err(|error| error.to_string())?
        .port())
}

/// The sample upstream: two resources about one entity.
fn sample(asked: &Asked) -> Response<Vec<u8>> {
    let mut parts = asked.path.trim_matches('/').splitn(2, '/');
    let body = match (parts.next(), parts.next()) {
        (Some("items"), Some(id)) => {
            json!({ "id": id, "name": "portcullis, iron", "tags": ["gate", "grille"] })
        }
        (Some("prices"), Some(_)) => json!({ "amount": 1250, "currency": "EUR" }),
        _ => {
            return json_response(
                StatusCode::NOT_FOUND,
                &json!({ "error": "no such resource" }),
            );
        }
    };
    json_response(StatusCode::OK, &body)
}

/// A development issuer with the parts of OpenID that a machine client needs.
struct Issuer {
    url: String,
    key: EncodingKey,
    key_set: Value,
}

impl Issuer {
    fn new(url: String) -> Result<Issuer, String> {
        let pair = aws_lc_rs::rsa::KeyPair::generate(KeySize::Rsa2048)
            .map_err(|error| error.to_string())?;
        let der: aws_lc_rs::encoding::Pkcs8V1Der<'_> =
            pair.as_der().map_err(|error| error.to_string())?;
        let key = EncodingKey::from_rsa_der(&pkcs1(der.as_ref())?);
        let public = pair.public_key();
        let number = |bytes: &[u8]| {
            let start = bytes
                .iter()
                .position(|byte| *byte != 0)
                .unwrap_or(bytes.len());
            URL_SAFE_NO_PAD.encode(bytes.get(start..).unwrap_or_default())
        };
        let key_set = json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": "demo",
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        }]});
        Ok(Issuer { url, key, key_set })
    }

    fn response(&self, asked: &Asked) -> Response<Vec<u8>> {
        match (&asked.method, asked.path.as_str()) {
            (&Method::GET, "/.well-known/jwks.json") => {
                json_response(StatusCode::OK, &self.key_set)
            }
            (&Method::GET, "/.well-known/openid-configuration") => {
                json_response(StatusCode::OK, &self.discovery())
            }
            (&Method::POST, "/oauth/token") => self.token(asked),
            _ => json_response(StatusCode::NOT_FOUND, &json!({ "error": "not_found" })),
        }
    }

    fn discovery(&self) -> Value {
        json!({
            "issuer": self.url,
            "jwks_uri": format!("{}.well-known/jwks.json", self.url),
            "token_endpoint": format!("{}oauth/token", self.url),
            "grant_types_supported": ["client_credentials"],
            "token_endpoint_auth_methods_supported": ["client_secret_basic", "client_secret_post"],
            "id_token_signing_alg_values_supported": ["RS256"],
        })
    }

    fn token(&self, asked: &Asked) -> Response<Vec<u8>> {
        let form = form(&asked.body);
        let field = |name: &str| {
            form.iter()
                .find(|(known, _)| known == name)
                .map_or("", |(_, value)| value.as_str())
        };
        if field("grant_type") != "client_credentials" {
            return json_response(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "unsupported_grant_type" }),
            );
        }
        let by_form = (field("client_id"), field("client_secret")) == CLIENT;
        if !by_form && !basic(asked) {
            return json_response(
                StatusCode::UNAUTHORIZED,
                &json!({ "error": "invalid_client" }),
            );
        }
        let audience = Some(field("audience"))
            .filter(|audience| !audience.is_empty())
            .unwrap_or(AUDIENCE);
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let claims = json!({
            "iss": self.url, "sub": CLIENT.0, "aud": audience, "iat": now, "exp": now + TOKEN_SECONDS,
            "scope": field("scope"), "roles": ["demo"],
        });
        let header = Header {
            kid: Some("demo".to_owned()),
            ..Header::new(Algorithm::RS256)
        };
        match jsonwebtoken::encode(&header, &claims, &self.key) {
            Ok(token) => json_response(
                StatusCode::OK,
                &json!({ "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS }),
            ),
            Err(_) => json_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                &json!({ "error": "server_error" }),
            ),
        }
    }
}

fn basic(asked: &Asked) -> bool {
    let expected =
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1));
    let sent = asked
        .headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    sent.strip_prefix("Basic ")
        .is_some_and(|sent| sent == expected)
}

fn form(body: &[u8]) -> Vec<(String, String)> {
    form_urlencoded::parse(body).into_owned().collect()
}

fn json_response(status: StatusCode, value: &Value) -> Response<Vec<u8>> {
    whole(status, "application/json", value.to_string().into_bytes())
}

/// The RSAPrivateKey within a PKCS#8 document (RFC 5208), which the token library requires.
fn pkcs1(pkcs8: &[u8]) -> Result<Vec<u8>, String> {
    // SEQUENCE { version, algorithm, OCTET STRING { RSAPrivateKey } }: the octet string is the last member.
    let marker = [0x04, 0x82];
    let at = pkcs8
        .windows(2)
        .position(|window| window == marker)
        .ok_or("the key has an unknown form")?;
    pkcs8
        .get(at + 4..)
        .map(<[u8]>::to_vec)
        .ok_or_else(|| "the key has an unknown form".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(issuer: &Issuer, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let asked = Asked {
            method,
            path: path.to_owned(),
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        };
        let response = issuer.response(&asked);
        (
            response.status(),
            serde_json::from_slice(response.body()).unwrap(),
        )
    }

    #[test]
    fn the_issuer_issues_tokens_that_its_own_key_set_verifies() {
        jose::install_crypto();
        let issuer = Issuer::new("http://127.0.0.1:1/".to_owned()).unwrap();
        let body = "grant_type=client_credentials&client_id=demo&client_secret=demo-secret";
        let (status, response) = ask(&issuer, Method::POST, "/oauth/token", body);
        assert_eq!(status, StatusCode::OK);
        let key = &issuer.key_set["keys"][0];
        let text = |name: &str| key[name].as_str().unwrap();
        let key = jsonwebtoken::DecodingKey::from_rsa_components(text("n"), text("e")).unwrap();
        let mut rules = jsonwebtoken::Validation::new(Algorithm::RS256);
        rules.set_audience(&[AUDIENCE]);
        let token = response["access_token"].as_str().unwrap();
        let claims = jsonwebtoken::decode::<Value>(token, &key, &rules)
            .unwrap()
            .claims;
        assert_eq!(claims["iss"], "http://127.0.0.1:1/");
    }

    #[test]
    fn a_client_without_the_secret_gets_no_token() {
        jose::install_crypto();
        let issuer = Issuer::new("http://127.0.0.1:1/".to_owned()).unwrap();
        let (status, _) = ask(
            &issuer,
            Method::POST,
            "/oauth/token",
            "grant_type=client_credentials&client_id=demo",
        );
        assert_eq!(status, StatusCode::UNAUTHORIZED);
    }
}
