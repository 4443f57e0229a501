//! The development issuer: discovery, key set and token endpoint on loopback. Its key is made at start.

use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::KeyPair;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::{Method, Response, StatusCode, header};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};

use crate::server::admin::{AdminRequest, whole};
use crate::server::pages::Body;

/// The audience of its tokens, if the client requests no other.
pub(super) const AUDIENCE: &str = "http://api.example.com";
/// The only client: its id and its secret.
pub(super) const CLIENT: (&str, &str) = ("demo", "demo-secret");
const TOKEN_SECONDS: u64 = 3600;

/// A development issuer with the parts of OpenID that a machine client needs.
pub(super) struct Issuer {
    url: String,
    key: EncodingKey,
    key_set: Value,
    /// New at each start: a gateway that has the key set of an earlier start sees at once that it needs the new one.
    kid: String,
}

impl Issuer {
    pub(super) fn new(url: String) -> Result<Issuer, String> {
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
        let kid = format!("demo-{}", seconds());
        let key_set = json!({ "keys": [{
            "kty": "RSA", "use": "sig", "alg": "RS256", "kid": kid,
            "n": number(public.modulus().big_endian_without_leading_zero()),
            "e": number(public.exponent().big_endian_without_leading_zero()),
        }]});
        Ok(Issuer {
            url,
            key,
            key_set,
            kid,
        })
    }

    pub(super) fn response(&self, request: &AdminRequest) -> Response<Body> {
        match (&request.method, request.path.as_str()) {
            (&Method::GET, "/.well-known/jwks.json") => {
                json_response(StatusCode::OK, &self.key_set)
            }
            (&Method::GET, "/.well-known/openid-configuration") => {
                json_response(StatusCode::OK, &self.discovery())
            }
            (&Method::POST, "/oauth/token") => self.token(request),
            (&Method::GET | &Method::POST, "/token") => self.plain_token(request),
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

    fn token(&self, request: &AdminRequest) -> Response<Body> {
        let form = form(&request.body);
        let field = |name| field(&form, name);
        if field("grant_type") != "client_credentials" {
            return json_response(
                StatusCode::BAD_REQUEST,
                &json!({ "error": "unsupported_grant_type" }),
            );
        }
        let by_form = (field("client_id"), field("client_secret")) == CLIENT;
        if !by_form && !basic(request) {
            return json_response(
                StatusCode::UNAUTHORIZED,
                &json!({ "error": "invalid_client" }),
            );
        }
        match self.signed(&form) {
            Ok(token) => json_response(
                StatusCode::OK,
                &json!({ "access_token": token, "token_type": "Bearer", "expires_in": TOKEN_SECONDS }),
            ),
            Err(_) => server_error(),
        }
    }

    /// The token alone, so that a shell needs no JSON parser.
    fn plain_token(&self, request: &AdminRequest) -> Response<Body> {
        match self.signed(&form(&request.body)) {
            Ok(token) => whole(StatusCode::OK, "text/plain", token.into_bytes()),
            Err(_) => server_error(),
        }
    }

    /// A token for the `audience` and the `scope` of the form.
    fn signed(&self, form: &[(String, String)]) -> jsonwebtoken::errors::Result<String> {
        let audience = Some(field(form, "audience"))
            .filter(|audience| !audience.is_empty())
            .unwrap_or(AUDIENCE);
        let now = seconds();
        let claims = json!({
            "iss": self.url, "sub": CLIENT.0, "aud": audience, "iat": now, "exp": now + TOKEN_SECONDS,
            "scope": field(form, "scope"), "roles": ["demo"],
        });
        let header = Header {
            kid: Some(self.kid.clone()),
            ..Header::new(Algorithm::RS256)
        };
        jsonwebtoken::encode(&header, &claims, &self.key)
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_secs()
}

fn field<'f>(form: &'f [(String, String)], name: &str) -> &'f str {
    form.iter()
        .find(|(known, _)| known == name)
        .map_or("", |(_, value)| value.as_str())
}

fn server_error() -> Response<Body> {
    json_response(
        StatusCode::INTERNAL_SERVER_ERROR,
        &json!({ "error": "server_error" }),
    )
}

fn basic(request: &AdminRequest) -> bool {
    let expected =
        base64::engine::general_purpose::STANDARD.encode(format!("{}:{}", CLIENT.0, CLIENT.1));
    let sent = request
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

pub(super) fn json_response(status: StatusCode, value: &Value) -> Response<Body> {
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
    use crate::jose;

    fn ask(issuer: &Issuer, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
        let request = AdminRequest {
            method,
            path: path.to_owned(),
            query: None,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::copy_from_slice(body.as_bytes()),
        };
        let response = issuer.response(&request);
        (
            response.status(),
            serde_json::from_slice(&response.body().pieces().concat()).unwrap(),
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

    #[test]
    fn a_plain_token_is_for_the_audience_of_the_form() {
        jose::install_crypto();
        let issuer = Issuer::new("http://127.0.0.1:1/".to_owned()).unwrap();
        for (method, body, audience) in [
            (Method::GET, "", AUDIENCE),
            (Method::POST, "audience=other", "other"),
        ] {
            let request = AdminRequest {
                method,
                path: "/token".to_owned(),
                query: None,
                headers: http::HeaderMap::new(),
                body: bytes::Bytes::from_static(body.as_bytes()),
            };
            let token =
                String::from_utf8(issuer.response(&request).body().pieces().concat()).unwrap();
            let part = token.split('.').nth(1).unwrap();
            let claims: Value =
                serde_json::from_slice(&URL_SAFE_NO_PAD.decode(part).unwrap()).unwrap();
            assert_eq!(claims["aud"], audience);
        }
    }
}
