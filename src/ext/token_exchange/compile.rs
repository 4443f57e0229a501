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
    Inquiry, Room, SubjectWanted, check_secret_url, client_auth, waiting_time,
};
use crate::runtime::clock::Clock;
use crate::telemetry::mask::without_values;
use crate::upstream::{OUR_USER_AGENT, SideClient};

const KEEP: Duration = Duration::from_secs(300);
const TIMEOUT: Duration = Duration::from_secs(5);
const BYTES: u64 = 32 << 20;
const ENTRIES: usize = 100_000;

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
        .left::<SubjectWanted>()
        .filter(|_| site.endpoint.names(&auth_validator::ENDPOINT));
    if wanted.is_none() && cx.report.config_errors() == before {
        node.config_error_hint(
            ConfigError::invalid("the endpoint has no \"auth/validator\": there is no verified token to exchange"),
            "add \"auth/validator\" to the endpoint, or use \"auth/client-credentials\" for a token of the gateway's own",
        );
    }
    for (name, _) in &file.endpoint_params {
        if OWN_PARAMETERS.contains(&name.as_str()) {
            let at = file.block.get("endpoint_params");
            at.unwrap_or_else(|| node.clone())
                .invalid(format!("{name:?} is set by the gateway"));
        }
    }
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
    let clock = Clock::system();
    let room = Room {
        entries: ENTRIES,
        bytes: usize::try_from(file.cache_bytes.unwrap_or(BYTES)).unwrap_or(usize::MAX),
    };
    // Backends with the same definition share their tokens, and a reload keeps them.
    let key = format!("portcullis/token-exchange {}", node.value().to_json());
    let inquiry = cx.try_carry(key, |_| {
        let name = format!("token exchange {}", without_values(url));
        Inquiry::new(name, room, timeout, clock.clone()).map(Arc::new)
    });
    // Token and secret are meant for this server only, so redirects are not followed.
    let made = match (
        inquiry,
        SideClient::without_redirects(&tls, &OUR_USER_AGENT),
    ) {
        (Ok(inquiry), Ok(side)) => Ok((inquiry, side)),
        (Err(error), _) => Err(error.to_string()),
        (_, Err(error)) => Err(error.to_string()),
    };
    match made {
        Ok((inquiry, side)) => {
            wanted.want();
            if file.is_bearer && wanted.opaque {
                node.warn_hint(
                    ConfigError::invalid("the endpoint accepts opaque tokens, and an assertion is a JWT (RFC 7523 §3): they cannot be exchanged"),
                    "\"grant\": \"token-exchange\"",
                );
            }
            BackendPart::Credentials(Arc::new(Arc::new(TokenExchange {
                asked: Asked {
                    url: url.clone(),
                    auth,
                    fields: fields(&file),
                    is_bearer: file.is_bearer,
                    expected: if file.is_bearer {
                        Expected::Any
                    } else {
                        Expected::Type(file.requested_token_type.clone())
                    },
                    keep: file.cache_duration.unwrap_or(KEEP),
                    timeout,
                },
                side,
                clock,
                inquiry,
                wanted,
            })))
        }
        Err(error) => {
            node.invalid(error);
            BackendPart::Nothing
        }
    }
}

/// A resource is an absolute URI without a fragment (RFC 8693 §2.1, RFC 8707 §2).
fn check_resources(file: &Exchange<'_>) {
    let node = file.block.get("resource");
    let at = node.unwrap_or_else(|| file.block.node().clone());
    for text in &file.resource {
        let scheme = text.split_once(':').map(|(scheme, _)| scheme);
        let is_absolute = scheme.is_some_and(|scheme| {
            scheme.starts_with(|first: char| first.is_ascii_alphabetic())
                && scheme
                    .bytes()
                    .all(|byte| byte.is_ascii_alphanumeric() || b"+-.".contains(&byte))
        });
        if !is_absolute || text.contains('#') || text.contains(char::is_whitespace) {
            at.config_error_hint(
                ConfigError::invalid(format!("{text:?} is no absolute URI without a fragment (RFC 8693 §2.1)")),
                "\"https://orders.example.com/\"; a service that has only a name is an \"audience\"",
            );
        }
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
