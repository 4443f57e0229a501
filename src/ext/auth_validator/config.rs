//! The blocks as they are in the file.

use std::time::Duration;

use super::config_keys::{KEYS, SERVICE_KEYS};
use crate::config::{Block, ConfigError, Data, Node, OneOrMany, Typing};

/// A source of keys: the block itself, or one of its `providers`.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// For errors that belong to no key, and for the code that reads key files.
    pub(super) block: Block<'a>,
    /// No error was reported while it was read.
    pub(super) sound: bool,
    /// `alg` or `algs`.
    pub(super) alg: Option<Node<'a>>,
    pub(super) lone_key: bool,
    /// `typ`
    pub(super) declared: bool,
    pub(super) jwk_url: Option<&'a str>,
    pub(super) jwk_local_path: Option<&'a str>,
    pub(super) openid_configuration: Option<Node<'a>>,
    pub(super) disable_jwk_security: bool,
    pub(super) cache: bool,
    pub(super) cache_duration: Option<i64>,
    pub(super) stale: Option<Duration>,
    pub(super) key_identify_strategy: Option<&'static str>,
    pub(super) issuer: Option<&'a str>,
    pub(super) audience: Vec<String>,
    pub(super) audience_key: Option<OneOrMany>,
    pub(super) audience_matcher: Option<&'static str>,
    pub(super) jwk_local_ca: Option<&'a str>,
    pub(super) jwk_fingerprints: Vec<String>,
    pub(super) cipher_suites: Vec<i64>,
    pub(super) failed_jwk_key_cooldown: Option<Node<'a>>,
    pub(super) introspection: Option<Block<'a>>,
}

impl<'a> Source<'a> {
    pub(super) fn read(block: Block<'a>) -> Source<'a> {
        let before = block.node().report().config_errors();
        let text = |key: &str| block.text(key).filter(|text| !text.is_empty());
        let mut source = Source {
            sound: true,
            alg: algorithms(&block),
            lone_key: block.flag("single_key_without_kid"),
            declared: block.choice("typ") == Some("at+jwt"),
            jwk_url: block.trimmed("jwk_url").filter(|url| !url.is_empty()),
            jwk_local_path: text("jwk_local_path"),
            openid_configuration: block.get("openid_configuration"),
            disable_jwk_security: block.flag("disable_jwk_security"),
            cache: block.flag("cache"),
            cache_duration: block.within("cache_duration", 0, i64::from(u32::MAX)),
            stale: block.duration("stale"),
            key_identify_strategy: block.choice("key_identify_strategy"),
            issuer: text("issuer"),
            audience: block.texts("audience"),
            audience_key: block.text_or_texts("audience_key"),
            audience_matcher: block.choice("audience_matcher"),
            jwk_local_ca: text("jwk_local_ca"),
            jwk_fingerprints: block.texts("jwk_fingerprints"),
            cipher_suites: block.integers("cipher_suites"),
            failed_jwk_key_cooldown: block.get("failed_jwk_key_cooldown"),
            introspection: block.block("introspection"),
            block,
        };
        source.sound = source.block.node().report().config_errors() == before;
        source
    }

    /// Whether it names no source of keys.
    pub(super) fn has_no_keys(&self) -> bool {
        self.jwk_url.is_none()
            && self.jwk_local_path.is_none()
            && self.openid_configuration.is_none()
    }

    /// The value under `key`, or the whole block: where an error is reported.
    pub(super) fn place(&self, key: &str) -> Node<'a> {
        let node = self.block.get(key);
        node.unwrap_or_else(|| self.block.node().clone())
    }
}

/// The node with the algorithms. Both keys at the same time are an error.
fn algorithms<'a>(block: &Block<'a>) -> Option<Node<'a>> {
    let (one, several) = (block.get("alg"), block.get("algs"));
    if let (Some(_), Some(several)) = (&one, &several) {
        several.invalid("\"alg\" is also set: name the algorithms in only one of the two");
    }
    several.or(one)
}

/// The text or the texts of a claim of `propagate_claims`.
pub(super) fn claim_name(node: &Node<'_>) -> Option<OneOrMany> {
    match &node.value().data {
        Data::List(_) => node.texts(Typing::Strict).map(OneOrMany::Many),
        _ => node
            .text(Typing::Strict)
            .map(|text| OneOrMany::One(text.to_owned())),
    }
}

/// An endpoint's block.
#[derive(Debug)]
pub(super) struct Validator<'a> {
    /// Its own source. With `providers`, only the values that they inherit.
    pub(super) source: Source<'a>,
    pub(super) providers: Option<Vec<Source<'a>>>,
    /// No error was reported while it was read.
    pub(super) sound: bool,
    pub(super) auth_header_name: Option<Node<'a>>,
    pub(super) cookie_key: Option<&'a str>,
    pub(super) leeway: Option<Node<'a>>,
    pub(super) roles: Vec<String>,
    pub(super) roles_key: Option<OneOrMany>,
    pub(super) roles_as_object: bool,
    pub(super) roles_key_is_nested: bool,
    pub(super) scopes: Vec<String>,
    pub(super) scopes_key: Option<OneOrMany>,
    pub(super) scopes_matcher: Option<&'a str>,
    /// Pairs of claim and header.
    pub(super) propagate_claims: Vec<Node<'a>>,
    pub(super) propagate_claims_preserve_array: bool,
    pub(super) propagate_claims_as_json: bool,
    pub(super) operation_debug: bool,
    pub(super) optional: bool,
    pub(super) error_body: Option<&'static str>,
    pub(super) require_exp: bool,
    pub(super) require_url_claims: bool,
    pub(super) binding: Option<Block<'a>>,
}

impl<'a> Validator<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Validator<'a>> {
        let before = node.report().config_errors();
        let block = node.block(KEYS)?;
        let providers = block.blocks("providers").into_iter().map(Source::read);
        let mut file = Validator {
            sound: true,
            providers: block.has("providers").then(|| providers.collect()),
            auth_header_name: block.get("auth_header_name"),
            cookie_key: block.text("cookie_key").filter(|name| !name.is_empty()),
            leeway: block.get("leeway"),
            roles: block.texts("roles"),
            roles_key: block.text_or_texts("roles_key"),
            roles_as_object: block.flag("roles_as_object"),
            roles_key_is_nested: block.flag("roles_key_is_nested"),
            scopes: block.texts("scopes"),
            scopes_key: block.text_or_texts("scopes_key"),
            scopes_matcher: block.text("scopes_matcher"),
            propagate_claims: block.list("propagate_claims"),
            propagate_claims_preserve_array: block.flag("propagate_claims_preserve_array"),
            propagate_claims_as_json: block.flag("propagate_claims_as_json"),
            operation_debug: block.flag("operation_debug"),
            optional: block.flag("optional"),
            error_body: block.choice("error_body"),
            require_exp: block.flag("require_exp"),
            require_url_claims: block.flag("require_url_claims"),
            binding: block.block("binding"),
            source: Source::read(block),
        };
        file.sound = node.report().config_errors() == before;
        Some(file)
    }
}

/// The service's block.
#[derive(Debug)]
pub(super) struct Service<'a> {
    pub(super) shared_cache_duration: Option<u64>,
    pub(super) resource_metadata: Option<ResourceMetadata<'a>>,
}

/// `resource_metadata` of the service's block.
#[derive(Debug)]
pub(super) struct ResourceMetadata<'a> {
    /// `resource`, with its location.
    pub(super) resource: (String, Node<'a>),
    pub(super) authorization_servers: Vec<String>,
    pub(super) resource_name: Option<String>,
    pub(super) resource_documentation: Option<String>,
}

impl<'a> Service<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Service<'a>> {
        let of_endpoints = |name: &str| KEYS.iter().any(|key| key.name == name);
        if let Some((name, of_endpoint)) =
            node.members().iter().find(|(name, _)| of_endpoints(name))
        {
            of_endpoint.config_error_hint(
                ConfigError::invalid(format!("{name:?} protects nothing in the service")),
                "write the block in the extra_config of each endpoint that it protects",
            );
            return None;
        }
        let block = node.block(SERVICE_KEYS)?;
        Some(Service {
            shared_cache_duration: block.count("shared_cache_duration"),
            resource_metadata: block
                .block("resource_metadata")
                .and_then(|block| ResourceMetadata::read(&block)),
        })
    }
}

impl<'a> ResourceMetadata<'a> {
    fn read(block: &Block<'a>) -> Option<ResourceMetadata<'a>> {
        let resource = block.required("resource")?;
        Some(ResourceMetadata {
            resource: (resource, block.get("resource")?),
            authorization_servers: block.texts("authorization_servers"),
            resource_name: block.string("resource_name"),
            resource_documentation: block.string("resource_documentation"),
        })
    }
}
