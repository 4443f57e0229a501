//! The configurations that the document shows for providers, with tokens in the form of each provider.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{echo, get, one, server, shown};
use crate::support::{Gateway, Signer, Stub, eventually, tokens};

/// A configuration of the document, with the keys of the test and a backend of the test.
struct Shown {
    gateway: Gateway,
    signer: Signer,
    path: String,
    issuer: Value,
    _backend: Stub,
}

fn start(heading: &str, index: usize) -> Shown {
    let (signer, backend) = (Signer::rs256("k"), echo());
    let mut endpoint = shown(heading, index);
    let validator = &mut endpoint["extra_config"]["auth/validator"];
    let issuer = validator["issuer"].clone();
    assert!(
        issuer
            .as_str()
            .is_some_and(|url| url.starts_with("https://")),
        "{heading}"
    );
    assert!(
        validator["audience"]
            .as_array()
            .is_some_and(|list| !list.is_empty()),
        "{heading}"
    );
    let block = validator.as_object_mut().unwrap();
    let from = ["jwk_url", "openid_configuration"].map(|key| block.remove(key).is_some());
    assert_eq!(from.iter().filter(|known| **known).count(), 1, "{heading}");
    block.insert("jwk_local_path".to_owned(), json!("keys.json"));
    endpoint["backend"][0]["host"] = json!([backend.url()]);
    let path = endpoint["endpoint"].as_str().unwrap().to_owned();
    let config = json!({"version": 3, "endpoints": [endpoint]}).to_string();
    let gateway = Gateway::start_with(&config, &[("keys.json", &signer.jwks())]);
    Shown {
        gateway,
        signer,
        path,
        issuer,
        _backend: backend,
    }
}

impl Shown {
    /// The status for a token with these claims, and with the issuer and the times of a valid one.
    fn status(&self, claims: &Value) -> u16 {
        let mut all = json!({"iss": self.issuer, "sub": "u1", "iat": tokens::now(), "exp": tokens::now() + 600});
        for (name, value) in claims.as_object().unwrap() {
            if value.is_null() {
                all.as_object_mut().unwrap().remove(name);
            } else {
                all[name] = value.clone();
            }
        }
        get(&self.gateway, &self.path, &self.signer.token(&all)).status
    }

    /// The token passes, and each change of it gets its status.
    fn judges(&self, good: &Value, changes: &[(Value, u16)]) {
        assert_eq!(self.status(good), 200, "{good}");
        for (change, status) in changes {
            let mut claims = good.clone();
            for (name, value) in change.as_object().unwrap() {
                claims[name] = value.clone();
            }
            assert_eq!(self.status(&claims), *status, "{change}");
        }
        let mut other = good.clone();
        other["iss"] = json!("https://other.example/");
        assert_eq!(self.status(&other), 401, "another issuer");
    }
}

#[test]
fn auth0() {
    let audience = json!([
        "https://api.example.com",
        "https://YOUR-TENANT.auth0.com/userinfo"
    ]);
    start("Auth0", 0).judges(
        &json!({"aud": audience, "azp": "app", "scope": "openid read:orders"}),
        &[
            (json!({"scope": "openid"}), 403),
            (json!({"scope": "read:orders:all"}), 403),
            (
                json!({"aud": "https://YOUR-TENANT.auth0.com/userinfo"}),
                401,
            ),
            (json!({"aud": null}), 401),
        ],
    );
    start("Auth0", 1).judges(
        &json!({"aud": "https://api.example.com", "https://api.example.com/roles": ["admin"]}),
        &[
            (json!({"https://api.example.com/roles": ["user"]}), 403),
            (
                json!({"https://api.example.com/roles": null, "roles": ["admin"]}),
                403,
            ),
        ],
    );
}

#[test]
fn keycloak() {
    start("Keycloak", 0).judges(
        &json!({"aud": ["my-api", "account"], "azp": "web", "realm_access": {"roles": ["offline_access", "admin"]}}),
        &[
            (json!({"realm_access": {"roles": ["user"]}}), 403),
            (json!({"realm_access": null, "realm_access.roles": ["admin"]}), 403),
            (json!({"aud": "account"}), 401),
        ],
    );
    start("Keycloak", 1).judges(
        &json!({"aud": "my-api", "resource_access": {"my.client": {"roles": ["admin"]}}}),
        &[
            (
                json!({"resource_access": {"my": {"client": {"roles": ["admin"]}}}}),
                403,
            ),
            (
                json!({"resource_access": {"other": {"roles": ["admin"]}}}),
                403,
            ),
        ],
    );
}

#[test]
fn entra_id() {
    let entra = start("Entra ID (Azure AD)", 0);
    entra.judges(
        &json!({"aud": "APPLICATION-ID", "ver": "2.0", "tid": "TENANT", "roles": ["Reports.Read"]}),
        &[
            (json!({"roles": ["Reports.Write"]}), 403),
            (json!({"roles": null, "scp": "Reports.Read"}), 403),
            (json!({"aud": "api://APPLICATION-ID"}), 401),
        ],
    );
    let groups = start("Entra ID (Azure AD)", 1);
    let group = "0d1a9a31-2f84-4b4d-9d3e-0a52a7c7f0c1";
    groups.judges(
        &json!({"aud": "APPLICATION-ID", "groups": [group]}),
        &[(json!({"groups": ["other"]}), 403)],
    );
    let overage = json!({"aud": "APPLICATION-ID", "_claim_names": {"groups": "src1"},
        "_claim_sources": {"src1": {"endpoint": "https://graph.windows.net/TENANT/users/u1/getMemberObjects"}}});
    assert_eq!(groups.status(&overage), 403);
    eventually("the log names the overage", Duration::from_secs(30), || {
        groups.gateway.output().contains("groups overage")
    });
}

#[test]
fn cognito() {
    start("Amazon Cognito", 0).judges(
        &json!({"client_id": "APP-CLIENT-ID", "token_use": "access", "scope": "orders/read openid",
            "cognito:groups": ["admin"]}),
        &[
            (json!({"client_id": "other"}), 401),
            (
                json!({"client_id": null, "aud": "APP-CLIENT-ID", "token_use": "id"}),
                401,
            ),
            (json!({"cognito:groups": null}), 403),
            (json!({"scope": "openid"}), 403),
        ],
    );
}

#[test]
fn okta() {
    start("Okta", 0).judges(
        &json!({"aud": "api://default", "cid": "app", "scp": ["openid", "orders.read"], "groups": ["admins", "everyone"]}),
        &[
            (json!({"scp": ["openid"]}), 403),
            (json!({"scp": "orders.read.all"}), 403),
            (json!({"groups": ["everyone"]}), 403),
            (json!({"aud": "https://YOUR-ORG.okta.com"}), 401),
        ],
    );
}

#[test]
fn google() {
    start("Google", 0).judges(
        &json!({"aud": "CLIENT-ID.apps.googleusercontent.com", "azp": "CLIENT-ID.apps.googleusercontent.com",
            "email": "ada@example.com", "email_verified": true, "hd": "example.com"}),
        &[
            (json!({"hd": null}), 403),
            (json!({"hd": "example.org"}), 403),
            (json!({"aud": "OTHER.apps.googleusercontent.com"}), 401),
        ],
    );
}

#[test]
fn zitadel() {
    start("Zitadel", 0).judges(
        &json!({"aud": ["APP-ID", "PROJECT-ID"], "client_id": "APP-ID",
            "urn:zitadel:iam:org:project:roles": {"admin": {"2718281828": "example.zitadel.cloud"}}}),
        &[
            (json!({"urn:zitadel:iam:org:project:roles": {"user": {"2718281828": "admin"}}}), 403),
            (json!({"urn:zitadel:iam:org:project:roles": null}), 403),
            (json!({"aud": ["APP-ID"]}), 401),
        ],
    );
}

#[test]
fn a_provider_that_fails_is_called_at_most_once_a_second_whatever_clients_send() {
    let (signer, backend) = (Signer::es256("k"), echo());
    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let provider = server(move |_, _| {
        counted.fetch_add(1, Ordering::SeqCst);
        (503, "{}".to_owned())
    });
    let extra = json!({ "auth/validator": { "alg": "ES256", "audience": ["api"], "disable_jwk_security": true,
        "jwk_url": provider.url() } });
    let gateway = Gateway::start(&one(&backend.url(), &extra).to_string());
    let token = signer.token(&tokens::claims("api"));
    let begin = Instant::now();
    while begin.elapsed() < Duration::from_secs(8) {
        assert_eq!(get(&gateway, "/x", &token).status, 401);
    }
    // At 0, 1, 2, 4 and 8 seconds.
    let calls = calls.load(Ordering::SeqCst);
    assert!((3..=6).contains(&calls), "{calls} downloads");
}

#[test]
fn the_configuration_of_an_issuer_may_be_at_another_url() {
    let (signer, backend) = (Signer::es256("k"), echo());
    let keys = signer.jwks();
    let provider = server(move |head, _| {
        let host = head
            .lines()
            .find_map(|line| {
                line.to_lowercase()
                    .strip_prefix("host: ")
                    .map(str::to_owned)
            })
            .unwrap();
        let document = |issuer: &str| {
            let document = json!({"issuer": issuer, "jwks_uri": format!("http://{host}/keys")});
            (200, document.to_string())
        };
        match head.split(' ').nth(1).unwrap() {
            "/realm/.well-known/openid-configuration" => document("https://as.example/realm"),
            "/other/.well-known/openid-configuration" => document("https://as.example/other"),
            "/keys" => (200, keys.clone()),
            _ => (404, "{}".to_owned()),
        }
    });
    let url = provider.url();
    let endpoint = |path: &str, configuration: &str| {
        json!({"endpoint": path, "backend": [{"url_pattern": "/b"}], "extra_config": {
            "auth/validator": {"alg": "ES256", "audience": ["api"], "disable_jwk_security": true,
                "issuer": "https://as.example/realm",
                "openid_configuration": format!("{url}{configuration}")}}})
    };
    let config = json!({"version": 3, "host": [backend.url()], "endpoints": [
        endpoint("/document", "/realm/.well-known/openid-configuration"),
        endpoint("/base", "/realm"),
        endpoint("/slash", "/realm/"),
        endpoint("/other", "/other"),
        endpoint("/absent", "/absent"),
    ]});
    let gateway = Gateway::start(&config.to_string());
    let mut claims = tokens::claims("api");
    claims["iss"] = json!("https://as.example/realm");
    let token = signer.token(&claims);
    for path in ["/document", "/base", "/slash"] {
        eventually(path, Duration::from_secs(30), || {
            get(&gateway, path, &token).status == 200
        });
    }
    for path in ["/other", "/absent"] {
        assert_eq!(get(&gateway, path, &token).status, 401, "{path}");
    }
    claims["iss"] = json!(url);
    let foreign = signer.token(&claims);
    assert_eq!(get(&gateway, "/document", &foreign).status, 401);
}

#[test]
fn a_declared_access_token_needs_an_expiry() {
    let (signer, backend) = (Signer::es256("k"), echo());
    let endpoint = |path: &str, kind: &str| {
        json!({"endpoint": path, "backend": [{"url_pattern": "/b"}], "extra_config": {
            "auth/validator": {"alg": "ES256", "audience": ["api"], "jwk_local_path": "keys.json",
                "issuer": "https://as.example", "typ": kind}}})
    };
    let config = json!({"version": 3, "host": [backend.url()],
        "endpoints": [endpoint("/any", "any"), endpoint("/declared", "at+jwt")]});
    let gateway = Gateway::start_with(&config.to_string(), &[("keys.json", &signer.jwks())]);
    let header = json!({"alg": "ES256", "kid": "k", "typ": "at+jwt"});
    let mut claims = tokens::claims("api");
    claims["iss"] = json!("https://as.example");
    let limited = signer.token_with_header(&header, &claims);
    claims.as_object_mut().unwrap().remove("exp");
    let endless = signer.token_with_header(&header, &claims);
    for (path, token, status) in [
        ("/any", &limited, 200),
        ("/any", &endless, 200),
        ("/declared", &limited, 200),
        ("/declared", &endless, 401),
    ] {
        assert_eq!(get(&gateway, path, token).status, status, "{path}");
    }
}
