//! The block as the file has it.

use crate::config::{Block, Key, Kind, key};

pub(super) const KEYS: &[Key] = &[
    key(
        "format",
        Kind::Choice(&["none", "problem+json"]),
        "none",
        "`problem+json`: an object of RFC 9457 with `type`, `title`, `status`, `reason` and `request_id`.",
    ),
    key(
        "type_base",
        Kind::Text,
        "about:blank",
        "With `problem+json`: `type` is this text followed by the reason, or by the status if there is no reason.",
    ),
    key(
        "templates",
        Kind::Object,
        "",
        "Bodies by status: `\"404\"`, a class such as `\"5xx\"`, or `default`; the most specific one is used. Each is an object with `content_type`, and `body` or the `path` of a file. `{status}`, `{title}`, `{reason}`, `{detail}` and `{request_id}` are replaced, and escaped as the content type requires.",
    ),
];

/// One member of `templates`.
pub(super) const TEMPLATE: &[Key] = &[
    key("content_type", Kind::Text, "text/html; charset=utf-8", ""),
    key("body", Kind::Text, "", ""),
    key("path", Kind::Text, "", ""),
];

/// What a template is for: the first and the last status.
pub(super) fn statuses(name: &str) -> Option<(u16, u16)> {
    match name {
        "default" => Some((400, 599)),
        "4xx" => Some((400, 499)),
        "5xx" => Some((500, 599)),
        name => {
            let status = name.parse().ok()?;
            (name.len() == 3 && (400..600).contains(&status)).then_some((status, status))
        }
    }
}

/// The base of `type`, without the name that means "no type of its own".
pub(super) fn type_base(block: &Block<'_>) -> Option<String> {
    block
        .string("type_base")
        .filter(|base| !base.is_empty() && base != "about:blank")
}
