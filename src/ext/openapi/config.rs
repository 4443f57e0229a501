//! The blocks as the file has them. They are read when a document is created, and not when the gateway starts: an error in
//! the documentation stops nothing.

use crate::config::{Key, Kind, key};

pub(super) const SERVICE: &[Key] = &[
    key("version", Kind::Text, "1.0.0", "The version of the API."),
    key("description", Kind::Text, "", "What the API is for."),
    key("terms_of_service", Kind::Text, "", "A URL."),
    key("contact_name", Kind::Text, "", "The name of the contact."),
    key(
        "contact_email",
        Kind::Text,
        "",
        "The contact's email address.",
    ),
    key("contact_url", Kind::Text, "", "The contact's web page."),
    key("license_name", Kind::Text, "", "The licence of the API."),
    key("license_url", Kind::Text, "", "The URL of the licence."),
    key(
        "host",
        Kind::Text,
        "",
        "Name and port at which clients reach the gateway.",
    ),
    key("base_path", Kind::Text, "", "A path before all endpoints."),
    key(
        "schemes",
        Kind::Texts,
        "http",
        "`http` or `https`, used with `host`.",
    )
    .such_as(&["http", "https"]),
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
        "Additional schemes that endpoints can name.",
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
        "Text of any length, in CommonMark.",
    ),
    key(
        "operation_id",
        Kind::Text,
        "the method and the path",
        "A name that is unique among all endpoints.",
    ),
    key("tags", Kind::Texts, "", "Names of groups."),
    key(
        "audience",
        Kind::Texts,
        "",
        "The audiences of the endpoint, for `--audience NAME`; `*` means all.",
    ),
    key(
        "header_definition",
        Kind::List,
        "",
        "Headers: objects with `name`, `description`, `type`, `enum`, `format`, `required`, `example`, `hide`.",
    ),
    key(
        "query_definition",
        Kind::List,
        "",
        "Query parameters, in the same form.",
    ),
    key(
        "param_definition",
        Kind::List,
        "",
        "Path parameters, in the same form.",
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
        "Responses by status: an object as above, or a list of them.",
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
        "Names of the service's schemes.",
    ),
    key(
        "example",
        Kind::Any,
        "",
        "Accepted and ignored: use `response_definition`.",
    ),
];
