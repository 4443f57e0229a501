//! The block as configured.

use crate::config::{Block, Key, Kind, Node, key};

const ERROR: &[Key] = &[
    key(
        "body",
        Kind::Text,
        "",
        "The body of the response, which clients see only with `return_error_msg` of `router`.",
    ),
    key(
        "status",
        Kind::Integer,
        "500",
        "The status of the response, 200 to 599. 403 is usually better.",
    ),
    key(
        "content_type",
        Kind::Text,
        "text/plain",
        "The `Content-Type` of the body.",
    ),
];

const POLICIES: Key = key(
    "policies",
    Kind::Texts,
    "",
    "Required: the expressions. Each must be true.",
)
.guarding()
.also(&["rules", "expressions"]);

const STAGE: &[Key] = &[
    POLICIES,
    key(
        "error",
        Kind::Block(ERROR),
        "",
        "The response to rejected requests.",
    ),
];
pub(super) const TOKEN: &[Key] = &[POLICIES];

const REQ: Key = key("req", Kind::Block(STAGE), "", "For requests.")
    .guarding()
    .also(&["request"]);
const RESP: Key = key(
    "resp",
    Kind::Block(STAGE),
    "",
    "For responses. The request is known, too.",
)
.guarding()
.also(&["response"]);
const JOIN: Key = key(
    "auto_join_policies",
    Kind::Bool,
    "false",
    "Accepted and ignored: policies are evaluated in their order up to the first that is not true.",
);
const DEBUG: Key = key(
    "debug",
    Kind::Bool,
    "false",
    "Log each result at DEBUG, with the expression.",
);
const NO_MACROS: Key = key(
    "disable_macros",
    Kind::Bool,
    "false",
    "Reject macros such as `hasHeader('X-A')` and `isEmpty(x)`.",
);
const NO_ADVANCED_MACROS: Key = key(
    "disable_advanced_macros",
    Kind::Bool,
    "false",
    "Other name of `disable_macros`.",
);

/// Keys of `security/policies` in an endpoint.
pub(super) const ENDPOINT_KEYS: &[Key] = &[
    REQ,
    RESP,
    key(
        "jwt",
        Kind::Block(TOKEN),
        "",
        "For verified tokens (`JWT`). Needs `auth/validator`. Otherwise the client gets 401.",
    )
    .guarding()
    .also(&["token"]),
    JOIN,
    DEBUG,
    NO_MACROS,
    NO_ADVANCED_MACROS,
];

/// Keys of `security/policies` in a backend.
pub(super) const BACKEND_KEYS: &[Key] = &[REQ, RESP, JOIN, DEBUG, NO_MACROS, NO_ADVANCED_MACROS];

/// `security/policies` as configured.
#[derive(Debug)]
pub(super) struct PolicyBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) req: Option<StageBlock<'a>>,
    pub(super) resp: Option<StageBlock<'a>>,
    pub(super) jwt: Option<StageBlock<'a>>,
    pub(super) debug: bool,
    pub(super) macros: bool,
}

/// The policies of one moment.
#[derive(Debug)]
pub(super) struct StageBlock<'a> {
    pub(super) node: Node<'a>,
    pub(super) policies: Vec<(String, Node<'a>)>,
    pub(super) error: Option<ErrorBlock<'a>>,
}

/// `error` as configured.
#[derive(Debug)]
pub(super) struct ErrorBlock<'a> {
    pub(super) block: Block<'a>,
    pub(super) body: String,
    pub(super) status: Option<i64>,
    pub(super) content_type: Option<String>,
}

impl<'a> PolicyBlock<'a> {
    pub(super) fn read(node: &Node<'a>, keys: &'static [Key]) -> Option<PolicyBlock<'a>> {
        let block = node.block(keys)?;
        let jwt = block.knows("jwt").then(|| block.block("jwt")).flatten();
        Some(PolicyBlock {
            req: block
                .block("req")
                .map(|stage| StageBlock::read(stage, true)),
            resp: block
                .block("resp")
                .map(|stage| StageBlock::read(stage, true)),
            jwt: jwt.map(|stage| StageBlock::read(stage, false)),
            debug: block.flag("debug"),
            macros: !block.flag("disable_macros") && !block.flag("disable_advanced_macros"),
            block,
        })
    }
}

impl<'a> StageBlock<'a> {
    fn read(block: Block<'a>, has_error: bool) -> StageBlock<'a> {
        let policies = block.text_items("policies");
        if policies.is_empty()
            && block
                .get("policies")
                .is_none_or(|list| list.items().is_empty())
        {
            block.missing("policies");
        }
        let error = has_error.then(|| block.block("error")).flatten();
        StageBlock {
            policies,
            error: error.map(ErrorBlock::read),
            node: block.node().clone(),
        }
    }
}

impl<'a> ErrorBlock<'a> {
    fn read(block: Block<'a>) -> ErrorBlock<'a> {
        ErrorBlock {
            body: block.string("body").unwrap_or_default(),
            status: block.within("status", 200, 599),
            content_type: block.string("content_type"),
            block,
        }
    }
}
