//! Compiles the block.

use std::sync::Arc;

use http::{HeaderValue, Uri};

use super::config::SigningBlock;
use super::credential_chain::{Chain, Role};
use super::credential_source::{Origin, sts};
use super::runtime::Signer;
use super::signature::Scope;
use crate::config::{ConfigError, Node};
use crate::ext::context::{BackendSite, Compile, ServiceFacts};
use crate::ext::extension::BackendPart;
use crate::ext::reload_state::Task;
use crate::runtime::clock::Clock;
use crate::upstream::{OUR_USER_AGENT, SideClient, SideTls};

pub(super) fn backend(
    node: &Node<'_>,
    site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    let Some(block) = SigningBlock::read(node) else {
        return BackendPart::Nothing;
    };
    let host = host(node, site);
    let (Some(region), Some(service)) = (block.region, block.service) else {
        return BackendPart::Nothing;
    };
    let Some((authority, secure)) = host else {
        return BackendPart::Nothing;
    };
    if !secure {
        node.warn(ConfigError::invalid(
            "the host is called over http: anyone who reads the call can repeat it for some minutes",
        ));
    }
    let name = cx
        .fact::<ServiceFacts>()
        .and_then(|facts| facts.name.clone());
    let session = session(name.as_deref());
    let sts_region = block.sts_region.unwrap_or_else(|| region.clone());
    let origin = match Origin::find(cx.environment, &sts_region, &session) {
        Ok(Origin::Nowhere) => {
            node.warn_hint(
                ConfigError::invalid("the environment names no source of keys: every call fails"),
                "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a web identity, a container, a profile, or the metadata of the machine",
            );
            Origin::Nowhere
        }
        Ok(origin) => origin,
        Err(why) => {
            node.invalid(why);
            return BackendPart::Nothing;
        }
    };
    let role = block.role.map(|arn| Role {
        arn,
        session,
        sts: sts(cx.environment, &sts_region),
        region: sts_region,
    });
    let Some(chain) = chain(node, origin, role, cx) else {
        return BackendPart::Nothing;
    };
    let scope = Scope { region, service };
    BackendPart::Signer(Arc::new(Signer {
        streams: scope.is_s3() && secure,
        scope,
        chain,
        authority,
        debug: block.debug,
        clock: Clock::system(),
    }))
}

/// The keys, which all backends with the same source and role share.
pub(super) fn chain(
    node: &Node<'_>,
    origin: Origin,
    role: Option<Role>,
    cx: &mut Compile<'_>,
) -> Option<Arc<Chain>> {
    // `Debug` does not show keys, so the digest of the key is added to distinguish two sources.
    let fixed = match &origin {
        Origin::Fixed(keys) => {
            super::signature::hash(format!("{}:{}", keys.id, keys.secret).as_bytes())
        }
        _ => String::new(),
    };
    let key = format!("auth/aws-sigv4 {origin:?} {role:?} {fixed}");
    let made = cx.try_carry_over(key, |tasks| {
        // No redirects: these calls carry tokens for one server.
        let tls = SideTls::default();
        let near = SideClient::direct(&tls, &OUR_USER_AGENT)?;
        let far = SideClient::without_redirects(&tls, &OUR_USER_AGENT)?;
        let chain = Arc::new(Chain::new(origin, role, near, far));
        let tended = Arc::downgrade(&chain);
        tasks.push(Task::new("keys of AWS", Chain::tend(tended)));
        Ok::<_, crate::upstream::ClientError>(chain)
    });
    match made {
        Ok(chain) => Some(chain),
        Err(error) => {
            node.invalid(error.to_string());
            None
        }
    }
}

/// The only host, as in `Host`, and whether it is called over TLS. The signature names the host.
fn host(node: &Node<'_>, site: &BackendSite<'_>) -> Option<(HeaderValue, bool)> {
    let hint = "one host without a path: \"https://sqs.eu-west-1.amazonaws.com\"";
    let [host] = site.hosts else {
        node.config_error_hint(
            ConfigError::invalid("a signed backend has exactly one host"),
            hint,
        );
        return None;
    };
    let url = host.parse::<Uri>().ok();
    let authority = url.as_ref().and_then(Uri::authority);
    let value = authority.and_then(|authority| {
        let text = authority.as_str();
        let secure = url.as_ref().and_then(Uri::scheme_str) == Some("https");
        let plain = text.strip_suffix(if secure { ":443" } else { ":80" });
        Some((HeaderValue::from_str(plain.unwrap_or(text)).ok()?, secure))
    });
    let has_path = url.as_ref().is_some_and(|url| url.path().len() > 1);
    if value.is_none() || has_path {
        node.config_error_hint(
            ConfigError::invalid("the signature needs the URL of a host, without a path"),
            hint,
        );
        return None;
    }
    value
}

/// The name of a session, with the characters that AWS allows: `portcullis-<name of the service>`.
pub(super) fn session(name: Option<&str>) -> String {
    let mut session = "portcullis".to_owned();
    if let Some(name) = name {
        session.push('-');
        let allowed = |c: char| c.is_ascii_alphanumeric() || "_=,.@-".contains(c);
        session.extend(name.chars().map(|c| if allowed(c) { c } else { '-' }));
    }
    session.chars().take(64).collect()
}
