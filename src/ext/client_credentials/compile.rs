//! Compiles the block. With invalid settings KrakenD starts and fails each request, or crashes. Here they stop the
//! start.

use std::sync::Arc;

use http::uri::Scheme;
use http::{HeaderValue, Uri};

use super::config::Block;
use super::runtime::{BackendToken, Tokens};
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile};
use crate::ext::extension::BackendPart;
use crate::ext::identity::unfit_parameters;
use crate::upstream::ClientCredentials;

/// The `User-Agent` of token requests.
const USER_AGENT: &str = concat!("Portcullis/", env!("CARGO_PKG_VERSION"));

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let before = cx.report.config_errors();
    let Some(block) = Block::read(node) else {
        return BackendPart::Nothing;
    };
    if block.is_disabled || cx.report.config_errors() > before {
        return BackendPart::Nothing;
    }
    let Some(credentials) = credentials(node, &block, cx) else {
        return BackendPart::Nothing;
    };
    // There is one store for the whole configuration: equal definitions share a token, whichever backends use them.
    let tokens = cx.carry_over("auth/client-credentials", |tasks| {
        Tokens::started(HeaderValue::from_static(USER_AGENT), tasks)
    });
    let upgrade_state = Arc::clone(&tokens);
    cx.pass_on(upgrade_state);
    match tokens.source(&credentials) {
        Ok(source) => BackendPart::Credentials(Arc::new(BackendToken::new(
            tokens,
            source,
            block.drop_on_401,
            call(site),
        ))),
        Err(error) => {
            node.invalid(error.to_string());
            BackendPart::Nothing
        }
    }
}

fn credentials(node: &Node<'_>, block: &Block<'_>, cx: &Compile<'_>) -> Option<ClientCredentials> {
    let Some(token_url) = &block.token_url else {
        let at = block.token_url_at.as_ref().unwrap_or(node);
        at.config_error_hint(
            ConfigError::Missing("token_url"),
            "without it no call to this backend could succeed; \"is_disabled\": true calls it without a token",
        );
        return None;
    };
    if !is_address(token_url) {
        let at = block.token_url_at.as_ref().unwrap_or(node);
        at.config_error_hint(
            ConfigError::invalid("this is not the address of a token server"),
            "a whole URL: \"https://issuer.example/oauth/token\"",
        );
        return None;
    }
    if block
        .endpoint_params
        .iter()
        .any(|(name, _)| name == "scope")
    {
        let at = block.endpoint_params_at.as_ref().unwrap_or(node);
        at.config_error_hint(
            ConfigError::invalid("oauth2: cannot overwrite parameter \"scope\""),
            "list them in \"scopes\", separated by commas",
        );
        return None;
    }
    let at = block.endpoint_params_at.as_ref().unwrap_or(node);
    // KrakenD sends them, and some token servers accept them.
    for unfit in unfit_parameters(&block.endpoint_params, &[]) {
        at.warn(ConfigError::invalid(unfit));
    }
    Some(ClientCredentials {
        client_id: block.client_id.clone(),
        client_secret: block.client_secret.clone(),
        token_url: token_url.clone(),
        scope: scope(block),
        params: block.endpoint_params.clone(),
        tls: cx.client_tls(),
    })
}

/// As in KrakenD, spaces are kept, and an empty value is sent.
fn scope(block: &Block<'_>) -> Option<String> {
    let scopes = block.scopes.split(',');
    if !block.trim_scopes {
        return Some(scopes.collect::<Vec<_>>().join(" "));
    }
    let scopes: Vec<_> = scopes.map(str::trim).filter(|s| !s.is_empty()).collect();
    (!scopes.is_empty()).then(|| scopes.join(" "))
}

fn is_address(url: &str) -> bool {
    url.parse::<Uri>().is_ok_and(|url| {
        url.host().is_some()
            && url
                .scheme()
                .is_some_and(|scheme| *scheme == Scheme::HTTP || *scheme == Scheme::HTTPS)
    })
}

/// The call as in KrakenD's log, `Get "http://h/x"`. The pattern is used instead of the path, whose values come from
/// the client.
fn call(site: &BackendSite<'_>) -> String {
    let method = site.method.as_str();
    let (first, rest) = method.split_at_checked(1).unwrap_or((method, ""));
    let host = site.hosts.first().map(String::as_str).unwrap_or_default();
    format!(
        "{first}{} \"{host}{}\"",
        rest.to_ascii_lowercase(),
        site.pattern
    )
}
