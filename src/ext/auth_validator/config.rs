//! The blocks as the file has them.

use std::time::Duration;

use crate::config::{Block, Key, Kind, Node, key};

const STRATEGIES: &[&str] = &["kid", "x5t", "x5t#S256", "kid_x5t"];

/// Where keys come from and what is verified with them: of the block itself, and of each of its `providers`.
const SOURCE_KEYS: [Key; 17] = [
    key(
        "alg",
        Kind::Text,
        "–",
        "The one algorithm that tokens are signed with: RS256, ES256, EdDSA and so on. A token that names another one \
         is refused before anything else is looked at. `Ed25519` (RFC 9864) and `EdDSA` mean the same.",
    ),
    key(
        "jwk_url",
        Kind::Text,
        "",
        "Where the provider publishes its keys.",
    ),
    key(
        "jwk_local_path",
        Kind::Text,
        "",
        "A file with the keys instead, relative to the working directory or to the configuration file.",
    ),
    key(
        "openid_configuration",
        Kind::Any,
        "",
        "Ours: find the keys through OpenID discovery. `true` takes the `issuer`, a text is an issuer's URL; the \
         document found there must name exactly this issuer.",
    ),
    key(
        "disable_jwk_security",
        Kind::Bool,
        "false",
        "Keys may come over plain HTTP and from servers whose certificate nobody vouches for.",
    ),
    key(
        "cache",
        Kind::Bool,
        "false",
        "Accepted for compatibility: key sets are always kept and refreshed in the background. With it, \
         `cache_duration` counts.",
    ),
    key(
        "cache_duration",
        Kind::Integer,
        "900",
        "With `cache`: seconds until the key set should have been refreshed.",
    ),
    key(
        "stale",
        Kind::Duration,
        "24h",
        "Ours: how much older a key set may get while the provider cannot be reached.",
    ),
    key(
        "key_identify_strategy",
        Kind::Choice(STRATEGIES),
        "kid",
        "Which members of a token's header name its key.",
    ),
    key(
        "issuer",
        Kind::Text,
        "",
        "The token's `iss` must be exactly this; without it every issuer that these keys belong to is accepted.",
    ),
    key(
        "audience",
        Kind::Texts,
        "",
        "The token's `aud` must hold all of these; without them a token issued for another service is accepted too.",
    ),
    key(
        "jwk_local_ca",
        Kind::Text,
        "",
        "PEM file trusted besides the system's, when keys are fetched.",
    ),
    key(
        "jwk_fingerprints",
        Kind::Texts,
        "",
        "Base64url of the SHA-256 of public keys, of which the key server must show one in its chain.",
    ),
    key(
        "cipher_suites",
        Kind::Integers,
        "49199 49195 49200 49196 52392 52393",
        "TLS 1.2 suites for fetching keys. RC4, 3DES, CBC and static RSA do not exist here.",
    ),
    key(
        "secret_url",
        Kind::Secret,
        "",
        "What opens `cypher_key`: `base64key://…` holds the key, `hashivault://KEY` is one of a Vault.",
    ),
    key(
        "cypher_key",
        Kind::Secret,
        "",
        "What opens an encrypted `jwk_local_path`.",
    ),
    key(
        "failed_jwk_key_cooldown",
        Kind::Any,
        "",
        "How long a key id that was looked for in vain asks for no further download.",
    ),
];

const RULE_KEYS: [Key; 18] = [
    key(
        "auth_header_name",
        Kind::Text,
        "Authorization",
        "The header that carries the token, with or without `Bearer`.",
    ),
    key(
        "cookie_key",
        Kind::Text,
        "access_token",
        "The cookie that may carry the token if the header does not.",
    ),
    key(
        "leeway",
        Kind::Any,
        "1s",
        "Tolerance for `exp`, `nbf` and `iat`; at least a second.",
    ),
    key(
        "roles",
        Kind::Texts,
        "",
        "One of these must be among the token's roles.",
    ),
    key(
        "roles_key",
        Kind::Text,
        "roles",
        "The claim with the roles.",
    ),
    key(
        "roles_key_is_nested",
        Kind::Bool,
        "false",
        "Dots in `roles_key` go into objects, and only there: a claim that is named with the dots does not count.",
    ),
    key(
        "scopes",
        Kind::Texts,
        "",
        "Scopes that the token must have, see `scopes_matcher`.",
    ),
    key(
        "scopes_key",
        Kind::Text,
        "",
        "The claim with the scopes; dots go into objects.",
    ),
    key(
        "scopes_matcher",
        Kind::Text,
        "any",
        "`all` or `any` of the scopes.",
    ),
    key(
        "propagate_claims",
        Kind::List,
        "",
        "Pairs of claim and header: the header is set for the backends, and removed from what the client sent, in every \
         spelling that a backend may take for it (`X_User`). A token is refused (`bad_claim`) when a value has blanks at its \
         start or end or control characters, or when an item of a list has a comma in it.",
    ),
    key(
        "propagate_claims_preserve_array",
        Kind::Bool,
        "false",
        "A claim that is a list becomes one header line for each item.",
    ),
    key(
        "propagate_claims_as_json",
        Kind::Bool,
        "false",
        "Ours: items of lists are written as JSON instead of in the notation of Go.",
    ),
    key(
        "operation_debug",
        Kind::Bool,
        "false",
        "Log why each token is refused, at level ERROR.",
    ),
    key(
        "optional",
        Kind::Bool,
        "false",
        "Ours: a request without a token passes, without claims. A bad token is refused nevertheless.",
    ),
    key(
        "error_body",
        Kind::Choice(&["none", "problem+json"]),
        "none",
        "Ours: what a refusal has for a body.",
    ),
    key(
        "providers",
        Kind::Blocks(PROVIDER_KEYS),
        "",
        "Ours: several issuers, each with its own keys, algorithm and audience, chosen by the token's exact `iss`.",
    ),
    key(
        "require_exp",
        Kind::Bool,
        "false",
        "Ours: refuse tokens that never expire.",
    ),
    key(
        "require_url_claims",
        Kind::Bool,
        "false",
        "Ours: refuse tokens without a claim that a backend's `url_pattern` names as `{JWT.claim}`. Otherwise the \
         backend gets the placeholder itself, `%7B%7B.JWT.claim%7D%7D`, as from KrakenD.",
    ),
];

/// Keys of an endpoint's block.
pub(super) const KEYS: &[Key] = &joined::<17, 18, 35>(SOURCE_KEYS, RULE_KEYS);

/// Keys of one provider.
pub(super) const PROVIDER_KEYS: &[Key] = &SOURCE_KEYS;

/// Keys of the service's block.
pub(super) const SERVICE_KEYS: &[Key] = &[
    key(
        "shared_cache_duration",
        Kind::Integer,
        "900",
        "Seconds that key sets are kept, for endpoints with `cache` and without `cache_duration`.",
    ),
    key(
        "resource_metadata",
        Kind::Block(RESOURCE_KEYS),
        "",
        "Ours: tell clients where tokens come from (RFC 9728), under `/.well-known/oauth-protected-resource` and in \
         every challenge.",
    ),
];

const RESOURCE_KEYS: &[Key] = &[
    key(
        "resource",
        Kind::Text,
        "–",
        "The gateway's public address: `https://api.example.com`.",
    ),
    key(
        "authorization_servers",
        Kind::Texts,
        "the issuers of the endpoint",
        "Issuers of tokens.",
    ),
    key("resource_name", Kind::Text, "", "A name for people."),
    key(
        "resource_documentation",
        Kind::Text,
        "",
        "A page for people.",
    ),
];

const fn joined<const A: usize, const B: usize, const N: usize>(
    a: [Key; A],
    b: [Key; B],
) -> [Key; N] {
    let mut all = [a[0]; N];
    let mut index = 0;
    while index < A {
        all[index] = a[index];
        index += 1;
    }
    while index < N {
        all[index] = b[index - A];
        index += 1;
    }
    all
}

/// A source of keys: of the block itself, or one of its `providers`.
#[derive(Debug)]
pub(super) struct Source<'a> {
    /// For errors that have no key, and for what the readers of key files share.
    pub(super) block: Block<'a>,
    /// No error was reported while it was read.
    pub(super) sound: bool,
    pub(super) alg: Option<Node<'a>>,
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
    pub(super) jwk_local_ca: Option<&'a str>,
    pub(super) jwk_fingerprints: Vec<String>,
    pub(super) cipher_suites: Vec<i64>,
    pub(super) failed_jwk_key_cooldown: Option<Node<'a>>,
}

impl<'a> Source<'a> {
    fn read(block: Block<'a>) -> Source<'a> {
        let before = block.node().report().mistakes();
        let text = |key: &str| block.text(key).filter(|text| !text.is_empty());
        let mut source = Source {
            sound: true,
            alg: block.get("alg"),
            jwk_url: text("jwk_url"),
            jwk_local_path: text("jwk_local_path"),
            openid_configuration: block.get("openid_configuration"),
            disable_jwk_security: block.flag("disable_jwk_security"),
            cache: block.flag("cache"),
            cache_duration: block.within("cache_duration", 0, i64::from(u32::MAX)),
            stale: block.duration("stale"),
            key_identify_strategy: block.choice("key_identify_strategy"),
            issuer: text("issuer"),
            audience: block.texts("audience"),
            jwk_local_ca: text("jwk_local_ca"),
            jwk_fingerprints: block.texts("jwk_fingerprints"),
            cipher_suites: block.integers("cipher_suites"),
            failed_jwk_key_cooldown: block.get("failed_jwk_key_cooldown"),
            block,
        };
        source.sound = source.block.node().report().mistakes() == before;
        source
    }

    /// The value under `key`, or the whole block: where an error is reported.
    pub(super) fn place(&self, key: &str) -> Node<'a> {
        let node = self.block.get(key);
        node.unwrap_or_else(|| self.block.node().clone())
    }
}

/// An endpoint's block.
#[derive(Debug)]
pub(super) struct Validator<'a> {
    /// Its own source; with `providers` only what they take from it.
    pub(super) source: Source<'a>,
    pub(super) providers: Option<Vec<Source<'a>>>,
    /// No error was reported while it was read.
    pub(super) sound: bool,
    pub(super) auth_header_name: Option<Node<'a>>,
    pub(super) cookie_key: Option<&'a str>,
    pub(super) leeway: Option<Node<'a>>,
    pub(super) roles: Vec<String>,
    pub(super) roles_key: Option<&'a str>,
    pub(super) roles_key_is_nested: bool,
    pub(super) scopes: Vec<String>,
    pub(super) scopes_key: Option<&'a str>,
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
}

impl<'a> Validator<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Validator<'a>> {
        let before = node.report().mistakes();
        let block = node.block(KEYS)?;
        let providers = block.blocks("providers").into_iter().map(Source::read);
        let mut file = Validator {
            sound: true,
            providers: block.has("providers").then(|| providers.collect()),
            auth_header_name: block.get("auth_header_name"),
            cookie_key: block.text("cookie_key").filter(|name| !name.is_empty()),
            leeway: block.get("leeway"),
            roles: block.texts("roles"),
            roles_key: block.text("roles_key"),
            roles_key_is_nested: block.flag("roles_key_is_nested"),
            scopes: block.texts("scopes"),
            scopes_key: block.text("scopes_key"),
            scopes_matcher: block.text("scopes_matcher"),
            propagate_claims: block.list("propagate_claims"),
            propagate_claims_preserve_array: block.flag("propagate_claims_preserve_array"),
            propagate_claims_as_json: block.flag("propagate_claims_as_json"),
            operation_debug: block.flag("operation_debug"),
            optional: block.flag("optional"),
            error_body: block.choice("error_body"),
            require_exp: block.flag("require_exp"),
            require_url_claims: block.flag("require_url_claims"),
            source: Source::read(block),
        };
        file.sound = node.report().mistakes() == before;
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
    /// `resource`, with its place.
    pub(super) resource: (String, Node<'a>),
    pub(super) authorization_servers: Vec<String>,
    pub(super) resource_name: Option<String>,
    pub(super) resource_documentation: Option<String>,
}

impl<'a> Service<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<Service<'a>> {
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
