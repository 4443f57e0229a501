//! Compiles the block.

use std::sync::Arc;
use std::time::Duration;

use super::config::Exchange;
use super::runtime::{Asked, Expected, TokenExchange};
use crate::config::{ConfigError, Node};
use crate::ext::auth_validator;
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::ext::identity::{
    Server, SubjectWanted, check_secret_url, client_auth, is_resource, no_resource,
    unfit_parameters, waiting_time,
};
use crate::runtime::clock::Clock;
use crate::upstream::credentials::ClientAuth;

const KEEP: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES: u64 = 32 << 20;

/// Parameters that the gateway sets itself.
const OWN_PARAMETERS: &[&str] = &[
    "grant_type",
    "subject_token",
    "subject_token_type",
    "assertion",
    "client_id",
    "client_secret",
    "client_assertion",
    "client_assertion_type",
];

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    let Some(file) = Exchange::read(node) else {
        return BackendPart::Nothing;
    };
    let wanted = cx
        .fact::<SubjectWanted>()
        .filter(|_| site.endpoint.names(&auth_validator::ENDPOINT));
    if wanted.is_none() && cx.report.config_errors() == before {
        node.config_error_hint(
            ConfigError::invalid("the endpoint has no \"auth/validator\": there is no verified token to exchange"),
            "add \"auth/validator\" to the endpoint, or use \"auth/client-credentials\" for a token of the gateway's own",
        );
    }
    check_parameters(&file, node);
    let Some(url) = &file.token_url else {
        return BackendPart::Nothing;
    };
    check_secret_url(&file.block, "token_url", url, file.allow_insecure);
    check_resources(&file);
    let timeout = waiting_time(&file.block, "timeout", TIMEOUT);
    let client = client_auth(&file.block, url, cx);
    let (Some((auth, tls)), Some(wanted), true) =
        (client, wanted, cx.report.config_errors() == before)
    else {
        return BackendPart::Nothing;
    };
    let server = Server {
        kind: "token exchange",
        url,
        // Backends with the same definition share their tokens.
        definition: format!("portcullis/token-exchange {}", node.value().to_json()),
        timeout,
        cache_bytes: file.cache_bytes.unwrap_or(BYTES),
        tls: &tls,
    };
    let Some((inquiry, side)) = server.open(node, cx) else {
        return BackendPart::Nothing;
    };
    wanted.want();
    if file.is_bearer && wanted.opaque {
        node.warn_hint(
            ConfigError::invalid("the endpoint accepts opaque tokens, and an assertion is a JWT (RFC 7523 §3): they cannot be exchanged"),
            "\"grant\": \"token-exchange\"",
        );
    }
    BackendPart::Credentials(Arc::new(Arc::new(TokenExchange {
        asked: asked(&file, url, auth, timeout),
        side,
        clock: Clock::system(),
        inquiry,
        wanted,
    })))
}

/// Parameters of requests that the gateway sets itself must not be configured, and the others must make a valid request.
fn check_parameters(file: &Exchange<'_>, node: &Node<'_>) {
    let at = file.block.get("endpoint_params");
    let at = at.unwrap_or_else(|| node.clone());
    let (own, others): (Vec<_>, Vec<_>) = file
        .endpoint_params
        .iter()
        .cloned()
        .partition(|(name, _)| OWN_PARAMETERS.contains(&name.as_str()));
    for (name, _) in own {
        at.invalid(format!("{name:?} is set by the gateway"));
    }
    let keys = [
        ("scope", !file.scope.is_empty()),
        ("requested_token_type", file.requested_token_type.is_some()),
    ];
    let set = keys.iter().filter(|(_, is_set)| *is_set);
    let set: Vec<_> = set.map(|(name, _)| *name).collect();
    for unfit in unfit_parameters(&others, &set) {
        at.invalid(unfit);
    }
}

fn asked(file: &Exchange<'_>, url: &str, auth: ClientAuth, timeout: Duration) -> Asked {
    Asked {
        url: url.to_owned(),
        auth,
        fields: fields(file),
        is_bearer: file.is_bearer,
        expected: if file.is_bearer {
            Expected::Any
        } else {
            Expected::Type(file.requested_token_type.clone())
        },
        keep: file.cache_duration.unwrap_or(KEEP),
        timeout,
    }
}

/// A resource is an absolute URI without a fragment (RFC 8693 §2.1, RFC 8707 §2).
fn check_resources(file: &Exchange<'_>) {
    let node = file.block.get("resource");
    let at = node.unwrap_or_else(|| file.block.node().clone());
    for text in file.resource.iter().filter(|text| !is_resource(text)) {
        at.config_error_hint(
            ConfigError::invalid(no_resource(text)),
            "\"https://orders.example.com/\"; a service that has only a name is an \"audience\"",
        );
    }
}

/// The parameters that are the same for every request (RFC 8693 §2.1, RFC 8707).
fn fields(file: &Exchange<'_>) -> Vec<(String, String)> {
    let each = |name: &str, values: &[String]| -> Vec<(String, String)> {
        let values = values.iter();
        values
            .map(|value| (name.to_owned(), value.clone()))
            .collect()
    };
    let mut fields = each("audience", &file.audience);
    fields.extend(each("resource", &file.resource));
    if !file.scope.is_empty() {
        fields.push(("scope".to_owned(), file.scope.join(" ")));
    }
    if let Some(kind) = &file.requested_token_type {
        fields.push(("requested_token_type".to_owned(), kind.clone()));
    }
    for (name, values) in &file.endpoint_params {
        fields.extend(each(name, values));
    }
    fields
}
