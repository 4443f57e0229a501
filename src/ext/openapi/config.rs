//! The blocks as the file has them. They are read when a document is made, and not when the gateway starts: a mistake in
//! the documentation stops nothing.

use crate::config::{Key, Kind, key};

pub(super) const SERVICE: &[Key] = &[
    key("version", Kind::Text, "1.0.0", "The version of the API."),
    key("description", Kind::Text, "", "What the API is for."),
    key("terms_of_service", Kind::Text, "", "A URL."),
    key("contact_name", Kind::Text, "", "Whom to ask."),
    key("contact_email", Kind::Text, "", "Their address."),
    key("contact_url", Kind::Text, "", "Their page."),
    key("license_name", Kind::Text, "", "The licence of the API."),
    key("license_url", Kind::Text, "", "Its text."),
    key(
        "host",
        Kind::Text,
        "",
        "Name and port at which clients reach the gateway.",
    ),
    key(
        "base_path",
        Kind::Text,
        "",
        "A path in front of all endpoints.",
    ),
    key(
        "schemes",
        Kind::Texts,
        "http",
        "`http`, `https`: with `host`.",
    ),
    key(
        "servers",
        Kind::List,
        "",
        "Servers as OpenAPI has them, instead of the three keys above.",
    ),
    key(
        "tag_definition",
        Kind::List,
        "",
        "Objects with `name` and `description`.",
    ),
    key(
        "components_schemas",
        Kind::Any,
        "",
        "Schemas by name: JSON Schema, or the same in base64.",
    ),
    key(
        "custom_security_schemes",
        Kind::Object,
        "",
        "Further schemes that endpoints can name.",
    ),
    key("cookie_name", Kind::Text, "", "Accepted and ignored."),
    key(
        "jwt_key",
        Kind::Text,
        "KrakenD-JWT",
        "The name of the scheme of `auth/validator`.",
    ),
    key("audience", Kind::Texts, "", "Accepted and ignored."),
];

pub(super) const ENDPOINT: &[Key] = &[
    key("summary", Kind::Text, "", "One line."),
    key(
        "description",
        Kind::Text,
        "",
        "As long as you like, in CommonMark.",
    ),
    key(
        "operation_id",
        Kind::Text,
        "the method and the path",
        "A name that no other endpoint has.",
    ),
    key("tags", Kind::Texts, "", "Names of groups."),
    key(
        "audience",
        Kind::Texts,
        "",
        "For whom it is: `--audience NAME` chooses; `*` is everybody.",
    ),
    key(
        "header_definition",
        Kind::List,
        "",
        "Header fields: objects with `name`, `description`, `type`, `enum`, `format`, `required`, `example`, `hide`.",
    ),
    key(
        "query_definition",
        Kind::List,
        "",
        "Query parameters, likewise.",
    ),
    key(
        "param_definition",
        Kind::List,
        "",
        "Path parameters, likewise.",
    ),
    key(
        "request_definition",
        Kind::List,
        "",
        "Bodies: objects with `content_type`, `description`, `example`, `examples`, `example_schema` or `ref`.",
    ),
    key(
        "response_definition",
        Kind::Object,
        "",
        "By status: an object as above, or a list of them.",
    ),
    key(
        "disable_default_response_definitions",
        Kind::Bool,
        "false",
        "Do not add 200 and 500.",
    ),
    key(
        "custom_security_schemes",
        Kind::Texts,
        "",
        "Names out of the service's.",
    ),
    key(
        "example",
        Kind::Any,
        "",
        "Accepted and ignored: use `response_definition`.",
    ),
];
