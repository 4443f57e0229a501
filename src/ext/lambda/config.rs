//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "function_name",
        Kind::Text,
        "",
        "Name or ARN of the function.",
    ),
    key(
        "function_param_name",
        Kind::Text,
        "function",
        "Without `function_name`: the parameter of the endpoint that names the function.",
    ),
    key(
        "functions",
        Kind::Texts,
        "[]",
        "Ours: the functions that a client may name by that parameter. All others get 404.",
    ),
    key(
        "region",
        Kind::Text,
        "",
        "Such as `eu-west-1`. The default is `AWS_REGION`.",
    ),
    key(
        "endpoint",
        Kind::Text,
        "",
        "The address of another service that speaks the API of Lambda. Without a scheme it is called over TLS.",
    ),
    key(
        "max_retries",
        Kind::Integer,
        "3",
        "How often a call is made again: after 429, if nothing was sent, and with GET also after 5xx.",
    ),
    key(
        "function_errors",
        Kind::Choice(&["reject", "pass"]),
        "reject",
        "Ours: `reject` responds with 500 if the function has failed. `pass` sends the description of its error to the client with 200, as KrakenD does.",
    ),
];

/// `backend/lambda` as configured.
#[derive(Debug)]
pub(super) struct LambdaBlock<'a> {
    pub(super) function: Option<String>,
    pub(super) parameter: String,
    pub(super) functions: Vec<String>,
    pub(super) region: Option<String>,
    pub(super) endpoint: Option<String>,
    pub(super) max_retries: u32,
    pub(super) passes_errors: bool,
    pub(super) block: Block<'a>,
}

impl<'a> LambdaBlock<'a> {
    pub(super) fn read(node: &Node<'a>) -> Option<LambdaBlock<'a>> {
        let block: Block<'_> = node.block(KEYS)?;
        let set = |key: &str| block.string(key).filter(|text| !text.is_empty());
        let retries = block.within("max_retries", 0, 100);
        Some(LambdaBlock {
            function: set("function_name"),
            parameter: set("function_param_name").unwrap_or_else(|| "function".to_owned()),
            functions: block.texts("functions"),
            region: set("region"),
            endpoint: set("endpoint"),
            max_retries: retries.map_or(3, |count| u32::try_from(count).unwrap_or(3)),
            passes_errors: block.choice("function_errors") == Some("pass"),
            block,
        })
    }
}
