//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key("region", Kind::Text, "", "Required: such as `eu-west-1`."),
    key(
        "service",
        Kind::Text,
        "",
        "Required: the name that the signature is for, such as `execute-api`, `s3` or `sqs`.",
    ),
    key(
        "assume_role_arn",
        Kind::Text,
        "",
        "A role that the gateway assumes with the keys that it has found.",
    ),
    key(
        "sts_region",
        Kind::Text,
        "",
        "The region of the token service. The default is `region`.",
    ),
    key(
        "debug",
        Kind::Bool,
        "false",
        "Log what was signed at DEBUG, without keys and session tokens.",
    ),
];

/// `auth/aws-sigv4` as configured.
#[derive(Debug)]
pub(super) struct SigningBlock {
    pub(super) region: Option<String>,
    pub(super) service: Option<String>,
    pub(super) role: Option<String>,
    pub(super) sts_region: Option<String>,
    pub(super) debug: bool,
}

impl SigningBlock {
    pub(super) fn read(node: &Node<'_>) -> Option<SigningBlock> {
        let block: Block<'_> = node.block(KEYS)?;
        let set = |key: &str| block.string(key).filter(|text| !text.is_empty());
        Some(SigningBlock {
            region: block.required("region"),
            service: block.required("service"),
            role: set("assume_role_arn"),
            sts_region: set("sts_region"),
            debug: block.flag("debug"),
        })
    }
}
