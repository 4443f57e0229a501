//! The tables of keys.

use crate::config::{Key, Kind, joined, key};
use crate::ext::identity::CLIENT_AUTH_KEYS;
use crate::jose::Algorithm;

const STRATEGIES: &[&str] = &["kid", "x5t", "x5t#S256", "kid_x5t"];

/// Where keys come from and what they verify. The block itself and each of its `providers` have these keys.
const SOURCE_KEYS: [Key; 23] = [
    key(
        "alg",
        Kind::TextOrTexts,
        "–",
        "The algorithm that tokens are signed with: RS256, ES256, EdDSA and so on. A token with a different `alg` is rejected before anything else is checked. `Ed25519` (RFC 9864) and `EdDSA` mean the same. Ours: a list of several.",
    )
    .one_of(&Algorithm::NAMES),
    key(
        "algs",
        Kind::Texts,
        "",
        "Ours: several algorithms, instead of `alg`. A key is used only with algorithms of its type, and only with its own `alg` if it has one.",
    )
    .one_of(&Algorithm::NAMES),
    key(
        "single_key_without_kid",
        Kind::Bool,
        "false",
        "Ours: a token that names no key is verified with the only key of the set that fits its algorithm, if there is exactly one.",
    ),
    key(
        "typ",
        Kind::Choice(&["any", "at+jwt"]),
        "any",
        "Ours: `at+jwt` accepts only tokens that are declared as access tokens in their header and have an `exp` (RFC 9068); `issuer` and `audience` are then required. With `any`, tokens that are declared as something else are still rejected: logout tokens, proofs of possession, security events.",
    ).guarding().also(&["token_type"]),
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
        "Ours: find the keys through OpenID discovery. `true` fetches the configuration of the `issuer`. A string is the issuer's URL, or, beside `issuer`, any URL of its configuration. The document must name exactly the issuer.",
    ),
    key(
        "disable_jwk_security",
        Kind::Bool,
        "false",
        "Allow keys over plain HTTP, and from servers whose certificate is not trusted.",
    ),
    key(
        "cache",
        Kind::Bool,
        "false",
        "Accepted for compatibility: key sets are always kept and refreshed in the background. With it, `cache_duration` applies.",
    ),
    key(
        "cache_duration",
        Kind::Integer,
        "900",
        "With `cache`: the number of seconds after which the key set is refreshed.",
    ),
    key(
        "stale",
        Kind::Duration,
        "24h",
        "Ours: for how much longer a key set is used while the provider cannot be reached.",
    ),
    key(
        "key_identify_strategy",
        Kind::Choice(STRATEGIES),
        "kid",
        "Which members of a token's header identify its key.",
    ),
    key(
        "issuer",
        Kind::Text,
        "",
        "The token's `iss` must be exactly this. Without it, every issuer that uses these keys is accepted.",
    ).guarding().also(&["iss", "issuer_url", "allowed_issuers", "expected_issuer"]),
    key(
        "audience",
        Kind::Texts,
        "",
        "The token's `aud` must contain all of these. Without them, a token that was issued for another service is also accepted.",
    ).guarding().also(&["aud", "allowed_audience", "allowed_audiences", "expected_audience"]),
    key(
        "audience_key",
        Kind::TextOrTexts,
        "aud",
        "Ours: the claim with the audience. The access tokens of Amazon Cognito have it in `client_id`. A list names the members of nested objects.",
    ),
    key(
        "audience_matcher",
        Kind::Choice(&["all", "any"]),
        "all",
        "Ours: whether `all` of `audience` must be in the token, or `any` one of them.",
    ),
    key(
        "jwk_local_ca",
        Kind::Text,
        "",
        "A PEM file with CA certificates that are trusted in addition to the system's when keys are fetched.",
    ),
    key(
        "jwk_fingerprints",
        Kind::Texts,
        "",
        "Base64url of the SHA-256 of public keys, of which one must be in the certificate chain of the key server.",
    ).guarding().also(&["fingerprints"]),
    key(
        "cipher_suites",
        Kind::Integers,
        "49199 49195 49200 49196 52392 52393",
        "TLS 1.2 suites for fetching keys. RC4, 3DES, CBC and static RSA are not supported.",
    ),
    key(
        "secret_url",
        Kind::Secret,
        "",
        "The key that decrypts `cypher_key`: `base64key://…` contains it, `hashivault://KEY` names a key of a Vault.",
    ),
    key(
        "cypher_key",
        Kind::Secret,
        "",
        "The encrypted passphrase of an encrypted `jwk_local_path`.",
    ),
    key(
        "failed_jwk_key_cooldown",
        Kind::Any,
        "",
        "How long to wait before another download for the same unknown key id.",
    ),
    key(
        "introspection",
        Kind::Block(INTROSPECTION_KEYS),
        "",
        "Ours: ask the provider whether tokens are active (RFC 7662). With a source of keys, this applies only to tokens that are not JWTs.",
    ).guarding(),
];

const ANSWER_KEYS: [Key; 7] = [
    key("url", Kind::Text, "–", "The introspection endpoint."),
    key(
        "cache_duration",
        Kind::Duration,
        "60s",
        "How long the result for an active token is cached, at most until its `exp`. A revoked token is accepted for this time. `0s` calls the provider for every request.",
    ),
    key(
        "inactive_cache_duration",
        Kind::Duration,
        "10s",
        "How long the result for an inactive token is cached.",
    ),
    key(
        "cache_bytes",
        Kind::Integer,
        "33554432",
        "The approximate maximum memory for results about active tokens.",
    ),
    key(
        "timeout",
        Kind::Duration,
        "2s",
        "How long a request waits for the provider, within the endpoint's timeout. After that it is rejected.",
    ),
    key(
        "allow_insecure",
        Kind::Bool,
        "false",
        "Allow an `http://` URL. Tokens and secrets are then sent without encryption.",
    ),
    key(
        "signed_answers",
        Kind::Bool,
        "false",
        "Require signed responses (RFC 9701). They are verified with the keys and algorithms of the block; `iss` must be the `issuer`, and `aud` the `client_id`.",
    ),
];

const INTROSPECTION_KEYS: &[Key] = &joined::<7, 9, 16>(ANSWER_KEYS, CLIENT_AUTH_KEYS);

const DEMANDS: &[&str] = &["off", "optional", "required"];

const BINDING_KEYS: &[Key] = &[
    key(
        "certificate",
        Kind::Choice(DEMANDS),
        "off",
        "Whether a token must come over a connection with the client certificate to which it is bound (`cnf` with `x5t#S256`, RFC 8705). `optional` checks bound tokens, `required` rejects others.",
    ).guarding(),
    key(
        "certificate_header",
        Kind::Text,
        "",
        "The header in which a proxy of `trusted_proxies` sends the client's certificate, or its SHA-256 thumbprint. Without it, or for other peers, the certificate of the connection is used.",
    ),
    key(
        "dpop",
        Kind::Choice(DEMANDS),
        "off",
        "Whether a token must come with a proof of possession of the key to which it is bound (`cnf` with `jkt`, DPoP, RFC 9449). `optional` checks bound tokens, `required` rejects others.",
    ).guarding(),
    key(
        "dpop_algs",
        Kind::Texts,
        "ES256, ES384, EdDSA, RS256, PS256",
        "The algorithms of proofs.",
    ),
    key(
        "dpop_max_age",
        Kind::Duration,
        "60s",
        "How old a proof may be. It may also be from 5 s in the future, because clocks differ. A proof is remembered for the longest time that any endpoint has here, so that it can be used only once.",
    ),
    key(
        "dpop_origins",
        Kind::Texts,
        "",
        "The public addresses of the gateway, which proofs must name: `https://api.example.com`. Without them the address follows from the connection and `Host`. Needed behind a proxy that terminates TLS.",
    ),
    key(
        "dpop_nonce",
        Kind::Bool,
        "false",
        "Require a nonce of the gateway in each proof. A client gets it with the first rejection, and a new one each minute.",
    ),
    key(
        "dpop_nonce_secret",
        Kind::Secret,
        "",
        "A text of at least 32 characters from which nonces are made, the same for all gateways of a fleet. Without it each process makes its own.",
    ),
    key(
        "dpop_redis",
        Kind::Bool,
        "false",
        "Whether all gateways with the same `portcullis/redis` and `namespace` share the memory of used proofs. Otherwise a proof can be used once at each gateway.",
    ),
    key(
        "dpop_redis_on_failure",
        Kind::Choice(&["closed", "local"]),
        "closed",
        "Without Redis: proofs are rejected (503, `proofs_unavailable`), or each gateway remembers them for itself.",
    ),
];

const RULE_KEYS: [Key; 20] = [
    key(
        "binding",
        Kind::Block(BINDING_KEYS),
        "",
        "Ours: require that a token is presented by the client to which it was issued.",
    ).guarding(),
    key(
        "auth_header_name",
        Kind::Text,
        "Authorization",
        "The header with the token, with or without `Bearer`.",
    ),
    key(
        "cookie_key",
        Kind::Text,
        "access_token",
        "The cookie with the token, if the header has none.",
    ),
    key(
        "leeway",
        Kind::Any,
        "1s",
        "Tolerance for `exp`, `nbf` and `iat`; at least one second.",
    ),
    key(
        "roles",
        Kind::Texts,
        "",
        "One of these must be among the token's roles.",
    ).guarding().also(&["allowed_roles", "required_roles", "realm_roles"]),
    key(
        "roles_key",
        Kind::TextOrTexts,
        "roles",
        "The claim with the roles. Ours: a list names the members of nested objects, one by one, so that a name may contain dots: `[\"resource_access\", \"my.client\", \"roles\"]`.",
    ),
    key(
        "roles_as_object",
        Kind::Bool,
        "false",
        "Ours: if the claim is an object, the names of its members are the roles, as Zitadel writes them.",
    ),
    key(
        "roles_key_is_nested",
        Kind::Bool,
        "false",
        "Dots in `roles_key` separate the names of nested objects. A claim whose own name contains the dots is then ignored.",
    ),
    key(
        "scopes",
        Kind::Texts,
        "",
        "Scopes that the token must have, see `scopes_matcher`.",
    ).guarding().also(&["allowed_scopes", "required_scopes"]),
    key(
        "scopes_key",
        Kind::TextOrTexts,
        "",
        "The claim with the scopes, as a list or as words separated by blanks. Dots separate the names of nested objects. Ours: a list names them one by one.",
    ),
    key(
        "scopes_matcher",
        Kind::Text,
        "any",
        "`all` or `any` of the scopes.",
    )
    .guarding()
    .in_any_case(&["any", "all"]),
    key(
        "propagate_claims",
        Kind::List,
        "",
        "Pairs of claim and header, where a list names the members of nested objects: the header is set for the backends, and removed from what the client sent, in every spelling that a backend may read as the same header (`X_User`). A token is rejected (`bad_claim`) if a value begins or ends with blanks or contains control characters, or if an item of a list contains a comma.",
    ).guarding().also(&["claims"]),
    key(
        "propagate_claims_preserve_array",
        Kind::Bool,
        "false",
        "A claim that is a list becomes one header for each item.",
    ),
    key(
        "propagate_claims_as_json",
        Kind::Bool,
        "false",
        "Ours: items of lists are written as JSON instead of in Go's format.",
    ),
    key(
        "operation_debug",
        Kind::Bool,
        "false",
        "Log why each token is rejected, at level ERROR.",
    ),
    key(
        "optional",
        Kind::Bool,
        "false",
        "Ours: a request without a token passes, without claims. An invalid token is still rejected.",
    ),
    key(
        "error_body",
        Kind::Choice(&["none", "problem+json"]),
        "none",
        "Ours: the body of a rejection.",
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
        "Ours: reject tokens without an expiry.",
    ).guarding().also(&["exp_required", "require_expiration"]),
    key(
        "require_url_claims",
        Kind::Bool,
        "false",
        "Ours: reject tokens that lack a claim that a backend's `url_pattern` names as `{JWT.claim}`. Otherwise the backend gets the placeholder itself, `%7B%7B.JWT.claim%7D%7D`, as from KrakenD.",
    ).guarding(),
];

/// Keys of an endpoint's block.
pub(super) const KEYS: &[Key] = &joined::<23, 20, 43>(SOURCE_KEYS, RULE_KEYS);

/// Keys of one provider.
pub(in crate::ext) const PROVIDER_KEYS: &[Key] = &SOURCE_KEYS;

/// Keys of the service's block.
pub(super) const SERVICE_KEYS: &[Key] = &[
    key(
        "shared_cache_duration",
        Kind::Integer,
        "900",
        "How many seconds key sets are kept, for endpoints with `cache` and without `cache_duration`.",
    ),
    key(
        "resource_metadata",
        Kind::Block(RESOURCE_KEYS),
        "",
        "Ours: tell clients where to get tokens (RFC 9728), at `/.well-known/oauth-protected-resource` and in every challenge.",
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
    key("resource_name", Kind::Text, "", "A human-readable name."),
    key(
        "resource_documentation",
        Kind::Text,
        "",
        "A human-readable page.",
    ),
];
