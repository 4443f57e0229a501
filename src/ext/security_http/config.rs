//! The block as configured.

use crate::config::{Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "allowed_hosts",
        Kind::Texts,
        "any",
        "Values of `Host`, with the port, that are served.",
    )
    .guarding()
    .also(&["hosts", "allow_hosts"]),
    key(
        "allowed_hosts_are_regex",
        Kind::Bool,
        "false",
        "The entries are regular expressions that must match the whole value.",
    ),
    key(
        "host_proxy_headers",
        Kind::Texts,
        "",
        "The first of these headers that is present replaces `Host`.",
    ),
    key(
        "ssl_redirect",
        Kind::Bool,
        "false",
        "Requests without TLS are redirected to https.",
    )
    .guarding()
    .also(&["https_redirect"]),
    key("ssl_host", Kind::Text, "", "The host of that redirect."),
    key(
        "ssl_proxy_headers",
        Kind::TextMap,
        "",
        "Headers whose value means that the client used TLS.",
    ),
    key(
        "sts_seconds",
        Kind::Integer,
        "0",
        "`Strict-Transport-Security: max-age`.",
    ),
    key(
        "sts_include_subdomains",
        Kind::Bool,
        "false",
        "Add `includeSubDomains`.",
    ),
    key(
        "force_sts_header",
        Kind::Bool,
        "false",
        "Also send it without TLS.",
    ),
    key(
        "frame_deny",
        Kind::Bool,
        "false",
        "`X-Frame-Options: DENY`.",
    ),
    key(
        "custom_frame_options_value",
        Kind::Text,
        "",
        "A different value for `X-Frame-Options`.",
    ),
    key(
        "content_type_nosniff",
        Kind::Bool,
        "false",
        "`X-Content-Type-Options: nosniff`.",
    ),
    key(
        "browser_xss_filter",
        Kind::Bool,
        "false",
        "`X-XSS-Protection: 1; mode=block`.",
    ),
    key(
        "content_security_policy",
        Kind::Text,
        "",
        "`Content-Security-Policy`; `$NONCE` becomes a random nonce.",
    ),
    key("referrer_policy", Kind::Text, "", "`Referrer-Policy`."),
    key(
        "is_development",
        Kind::Bool,
        "false",
        "Switch off the host check, the redirect and STS.",
    ),
    key("hpkp_public_key", Kind::Text, "", "Accepted and ignored."),
];

/// `security/http` as configured.
#[derive(Debug, Default)]
pub(super) struct Block {
    pub(super) allowed_hosts: Vec<String>,
    pub(super) allowed_hosts_are_regex: bool,
    pub(super) host_proxy_headers: Vec<String>,
    pub(super) ssl_redirect: bool,
    pub(super) ssl_host: Option<String>,
    pub(super) ssl_proxy_headers: Vec<(String, String)>,
    pub(super) sts_seconds: u64,
    pub(super) sts_include_subdomains: bool,
    pub(super) force_sts_header: bool,
    pub(super) frame_deny: bool,
    pub(super) custom_frame_options_value: Option<String>,
    pub(super) content_type_nosniff: bool,
    pub(super) browser_xss_filter: bool,
    pub(super) content_security_policy: Option<String>,
    pub(super) referrer_policy: Option<String>,
    pub(super) is_development: bool,
}

impl Block {
    pub(super) fn read(node: &Node<'_>) -> Option<Block> {
        let block = node.block(KEYS)?;
        let filled = |key| block.string(key).filter(|text| !text.is_empty());
        Some(Block {
            allowed_hosts: block.texts("allowed_hosts"),
            allowed_hosts_are_regex: block.flag("allowed_hosts_are_regex"),
            host_proxy_headers: block.texts("host_proxy_headers"),
            ssl_redirect: block.flag("ssl_redirect"),
            ssl_host: filled("ssl_host"),
            ssl_proxy_headers: block.text_map("ssl_proxy_headers"),
            sts_seconds: block.count("sts_seconds").unwrap_or(0),
            sts_include_subdomains: block.flag("sts_include_subdomains"),
            force_sts_header: block.flag("force_sts_header"),
            frame_deny: block.flag("frame_deny"),
            custom_frame_options_value: filled("custom_frame_options_value"),
            content_type_nosniff: block.flag("content_type_nosniff"),
            browser_xss_filter: block.flag("browser_xss_filter"),
            content_security_policy: filled("content_security_policy"),
            referrer_policy: filled("referrer_policy"),
            is_development: block.flag("is_development"),
        })
    }
}
