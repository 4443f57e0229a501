//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

pub(crate) const RESPONSE_HEADERS: Namespace = Namespace {
    name: "modifier/response-headers",
    aliases: &[],
    guard: true,
    doc: "Changes the headers of every response to a client, also of errors and redirects: first `delete`, then `rename`, `replace` and `add`. Preflights, WebSocket handshakes and the health endpoint keep theirs. See [Response headers](modifiers.md#response-headers).",
    keys: KEYS,
};

pub(crate) const RESPONSE_HEADERS_ENDPOINT: Namespace = Namespace {
    name: "modifier/response-headers",
    aliases: &[],
    guard: true,
    doc: "Ours: the same for the responses of one endpoint, after the changes of the service.",
    keys: KEYS_OF_ENDPOINT,
};

const DELETE: Key = key("delete", Kind::Texts, "[]", "Names of headers to remove.");
const RENAME: Key = key(
    "rename",
    Kind::TextMap,
    "",
    "Old names and new ones. All values move, and replace those of the new name.",
);
const REPLACE: Key = key(
    "replace",
    Kind::Object,
    "",
    "Names, each with a list of values that replace those of the response.",
);
const ADD: Key = key(
    "add",
    Kind::Object,
    "",
    "Names, each with a list of values that are added to those of the response.",
);

const KEYS: &[Key] = &[
    DELETE,
    RENAME,
    REPLACE,
    ADD,
    key(
        "health",
        Kind::Bool,
        "false",
        "Ours: change the response of the health endpoint, too.",
    ),
];

const KEYS_OF_ENDPOINT: &[Key] = &[DELETE, RENAME, REPLACE, ADD];
