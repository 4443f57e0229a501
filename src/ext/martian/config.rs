//! The tables of keys: every modifier with its members.

use crate::config::{Key, Kind, key};

const SCOPE: Key = key("scope", Kind::Texts, "", "Where it applies.");
const THEN: Key = key(
    "modifier",
    Kind::Object,
    "",
    "The modifier to run; required.",
);
const ELSE: Key = key("else", Kind::Object, "", "The modifier to run otherwise.");
const NAME: Key = key("name", Kind::Text, "", "Name of the header; required.");
const VALUE: Key = key("value", Kind::Text, "", "Its value.");

/// The modifiers.
pub(super) const KEYS: &[Key] = &[
    key(
        "header.Modifier",
        Kind::Block(HEADER),
        "",
        "Sets a header. `Host` is sent as it is set. `Content-Length` and `Transfer-Encoding` only decide whether a length or chunks frame the body; the length is always the real one.",
    ),
    key(
        "header.Append",
        Kind::Block(HEADER),
        "",
        "Adds a value to a header.",
    ),
    key(
        "header.Copy",
        Kind::Block(COPY),
        "",
        "Sets a header to the first value of another.",
    ),
    key(
        "header.Blacklist",
        Kind::Block(NAMES),
        "",
        "Removes headers.",
    ),
    key(
        "header.Id",
        Kind::Block(ID),
        "",
        "Request only: a random UUID in a header that the request does not have.",
    ),
    key(
        "header.Filter",
        Kind::Block(HEADER_FILTER),
        "",
        "Runs a modifier if a header has a value.",
    ),
    key(
        "header.RegexFilter",
        Kind::Block(HEADER_REGEX),
        "",
        "Runs a modifier if a header of the request matches, also for the response.",
    ),
    key("header.Verifier", Kind::Object, "", "No effect."),
    key(
        "querystring.Modifier",
        Kind::Block(QUERY),
        "",
        "Request only: sets a parameter; the query is encoded again, sorted by name.",
    ),
    key(
        "querystring.Filter",
        Kind::Block(QUERY_FILTER),
        "",
        "Runs a modifier if the request has a query parameter.",
    ),
    key("querystring.Verifier", Kind::Object, "", "No effect."),
    key(
        "url.Modifier",
        Kind::Block(URL),
        "",
        "Request only: replaces parts of the URL. `Host` is not changed.",
    ),
    key(
        "url.Filter",
        Kind::Block(URL_FILTER),
        "",
        "Runs a modifier if all of these parts of the request's URL are equal.",
    ),
    key(
        "url.RegexFilter",
        Kind::Block(URL_REGEX),
        "",
        "Runs a modifier if the request's whole URL matches.",
    ),
    key("url.Verifier", Kind::Object, "", "No effect."),
    key(
        "cookie.Modifier",
        Kind::Block(COOKIE),
        "",
        "Adds a cookie to the request, or sets one with the response.",
    ),
    key(
        "cookie.Filter",
        Kind::Block(COOKIE_FILTER),
        "",
        "Runs a modifier if the request has a cookie, or the response sets it.",
    ),
    key(
        "port.Modifier",
        Kind::Block(PORT),
        "",
        "Request only: changes the port of the URL, and of a `Host` that was set. Needs exactly one of its keys.",
    ),
    key(
        "port.Filter",
        Kind::Block(PORT_FILTER),
        "",
        "Runs a modifier if the request's URL has this port.",
    ),
    key(
        "stash.Modifier",
        Kind::Block(STASH),
        "",
        "Stores the request's whole URL in a header of the request and of the response.",
    ),
    key(
        "status.Modifier",
        Kind::Block(STATUS),
        "",
        "Response only: sets the status.",
    ),
    key("status.Verifier", Kind::Object, "", "No effect."),
    key(
        "body.Modifier",
        Kind::Block(BODY),
        "",
        "Replaces the body, and removes `Content-Encoding`. For a request with `Range`, the response contains that range.",
    ),
    key(
        "static.Modifier",
        Kind::Block(STATIC),
        "",
        "Responds with a file instead of calling the backend.",
    ),
    key(
        "fifo.Group",
        Kind::Block(FIFO),
        "",
        "Runs modifiers in order.",
    ),
    key(
        "priority.Group",
        Kind::Block(PRIORITY),
        "",
        "Runs modifiers by priority, the highest first. Among equal priorities, the last in the list is first.",
    ),
];

pub(super) const HEADER: &[Key] = &[NAME, VALUE, SCOPE];

pub(super) const COPY: &[Key] = &[
    key(
        "from",
        Kind::Text,
        "",
        "Name of the header to read; required.",
    ),
    key("to", Kind::Text, "", "Name of the header to set; required."),
    SCOPE,
];

pub(super) const NAMES: &[Key] = &[
    key("names", Kind::Texts, "[]", "Names of the headers."),
    SCOPE,
];

pub(super) const ID: &[Key] = &[
    key("header", Kind::Text, "X-Krakend-Id", "Name of the header."),
    SCOPE,
];

const HEADER_FILTER: &[Key] = &[NAME, VALUE, THEN, ELSE, SCOPE];

const HEADER_REGEX: &[Key] = &[
    key("header", Kind::Text, "", "Name of the header; required."),
    key(
        "regex",
        Kind::Text,
        "",
        "Regular expression, RE2 syntax, that may match anywhere in a value; required.",
    ),
    THEN,
    SCOPE,
];

pub(super) const QUERY: &[Key] = &[
    key("name", Kind::Text, "", "Name of the parameter; required."),
    VALUE,
    SCOPE,
];

const QUERY_FILTER: &[Key] = &[
    key("name", Kind::Text, "", "Name of the parameter; required."),
    key("value", Kind::Text, "", "Its value. Empty means any value."),
    THEN,
    ELSE,
    SCOPE,
];

const SCHEME: Key = key(
    "scheme",
    Kind::Choice(&["http", "https"]),
    "",
    "Its scheme.",
);
const PATH: Key = key("path", Kind::Text, "", "Its path, not percent-encoded.");
const RAW_QUERY: Key = key("query", Kind::Text, "", "Its query, percent-encoded.");

pub(super) const URL: &[Key] = &[
    SCHEME,
    key(
        "host",
        Kind::Text,
        "",
        "Its host, with the port if there is one.",
    ),
    PATH,
    RAW_QUERY,
    SCOPE,
];

const URL_FILTER: &[Key] = &[
    SCHEME,
    key(
        "host",
        Kind::Text,
        "",
        "Its host, with the port if there is one; `*` matches any label.",
    ),
    PATH,
    RAW_QUERY,
    THEN,
    ELSE,
    SCOPE,
];

const URL_REGEX: &[Key] = &[
    key(
        "regex",
        Kind::Text,
        "",
        "Regular expression, RE2 syntax, that may match anywhere in the URL; required.",
    ),
    THEN,
    ELSE,
    SCOPE,
];

pub(super) const COOKIE: &[Key] = &[
    key("name", Kind::Text, "", "Name of the cookie; required."),
    VALUE,
    key("path", Kind::Text, "", "`Path`, in a response."),
    key("domain", Kind::Text, "", "`Domain`, in a response."),
    key(
        "expires",
        Kind::Text,
        "",
        "`Expires`, in a response, as in `2030-01-02T03:04:05Z`.",
    ),
    key("secure", Kind::Bool, "false", "`Secure`, in a response."),
    key(
        "httpOnly",
        Kind::Bool,
        "false",
        "`HttpOnly`, in a response.",
    ),
    key(
        "maxAge",
        Kind::Integer,
        "0",
        "`Max-Age` in seconds, in a response. 0 means none, a negative value means that it expires now.",
    ),
    SCOPE,
];

const COOKIE_FILTER: &[Key] = &[
    key("name", Kind::Text, "", "Name of the cookie; required."),
    key("value", Kind::Text, "", "Its value. Empty means any value."),
    THEN,
    ELSE,
    SCOPE,
];

pub(super) const PORT: &[Key] = &[
    key("port", Kind::Integer, "", "The new port."),
    key(
        "defaultForScheme",
        Kind::Bool,
        "false",
        "80 or 443, depending on the scheme.",
    ),
    key("remove", Kind::Bool, "false", "No port."),
    SCOPE,
];

const PORT_FILTER: &[Key] = &[
    key(
        "port",
        Kind::Integer,
        "",
        "The port. A URL without one has the port of its scheme. Required.",
    ),
    THEN,
    SCOPE,
];

const STASH: &[Key] = &[
    key(
        "headerName",
        Kind::Text,
        "",
        "Name of the header; required.",
    ),
    SCOPE,
];

pub(super) const STATUS: &[Key] = &[
    key("statusCode", Kind::Integer, "", "The status; required."),
    SCOPE,
];

pub(super) const BODY: &[Key] = &[
    key(
        "contentType",
        Kind::Text,
        "",
        "`Content-Type` of the new body; without it there is none.",
    ),
    key("body", Kind::Text, "", "The new body in Base64."),
    SCOPE,
];

pub(super) const STATIC: &[Key] = &[
    key(
        "rootPath",
        Kind::Text,
        "",
        "The folder of the files, to which the path of the call is appended. Required.",
    ),
    key(
        "explicitPaths",
        Kind::TextMap,
        "{}",
        "Files for specific paths, from the same folder: `{\"/\": \"index.html\"}`.",
    ),
    SCOPE,
];

const FIFO: &[Key] = &[
    key("modifiers", Kind::List, "[]", "The modifiers."),
    key(
        "aggregateErrors",
        Kind::Bool,
        "false",
        "Continue if one fails, and fail at the end.",
    ),
    SCOPE,
];

pub(super) const PRIORITY: &[Key] = &[
    key(
        "modifiers",
        Kind::Blocks(PRIORITY_ENTRY),
        "[]",
        "The modifiers.",
    ),
    SCOPE,
];

const PRIORITY_ENTRY: &[Key] = &[
    key("priority", Kind::Integer, "0", "Higher ones run first."),
    THEN,
];
