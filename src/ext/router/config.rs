//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

pub(crate) const ROUTER: Namespace = Namespace {
    name: "router",
    aliases: &["github_com/luraproject/lura/router/gin"],
    guard: false,
    doc: "Settings of the router and of the responses that it sends itself.",
    keys: &[
        key(
            "return_error_msg",
            Kind::Bool,
            "false",
            "Failed endpoints respond with the error text, which may name internal hosts.",
        ),
        key(
            "hide_version_header",
            Kind::Bool,
            "false",
            "Send `X-Krakend` without the version.",
        ),
        key(
            "error_body",
            Kind::Block(ERROR_BODY),
            "",
            "JSON bodies of 404 and 405.",
        ),
        key("disable_health", Kind::Bool, "false", "No health endpoint."),
        key(
            "health_path",
            Kind::Text,
            "/__health",
            "Path of the health endpoint.",
        ),
        key(
            "auto_options",
            Kind::Bool,
            "false",
            "Respond to OPTIONS for the path of every endpoint.",
        ),
        key("disable_access_log", Kind::Bool, "false", "No access log."),
        key(
            "logger_skip_paths",
            Kind::Texts,
            "[]",
            "Exact request paths that are not logged.",
        ),
        key(
            "disable_redirect_trailing_slash",
            Kind::Bool,
            "false",
            "`/a/` for `/a` is 404 instead of a redirect.",
        ),
        key(
            "disable_redirect_fixed_path",
            Kind::Bool,
            "false",
            "`/A` or `//a` for `/a` is 404 instead of a redirect.",
        ),
        key(
            "disable_handle_method_not_allowed",
            Kind::Bool,
            "false",
            "404 instead of 405.",
        ),
        key(
            "remove_extra_slash",
            Kind::Bool,
            "false",
            "`//a` is `/a` without a redirect.",
        ),
        key(
            "keep_slashes",
            Kind::Bool,
            "false",
            "Ours: pass on what a `*` matches with its repeated slashes (`/img/https://host/a.png`); otherwise they are merged.",
        ),
        key(
            "disable_path_decoding",
            Kind::Bool,
            "false",
            "Accept path parameters that can be decoded twice, or that contain `?` or `#`.",
        ),
        key(
            "forwarded_by_client_ip",
            Kind::Bool,
            "true",
            "Read the client's address from headers of trusted proxies.",
        ),
        key(
            "remote_ip_headers",
            Kind::Texts,
            "[\"X-Forwarded-For\", \"X-Real-IP\"]",
            "The headers with the client's address; the first ones take precedence.",
        )
        .guarding(),
        key(
            "trusted_proxies",
            Kind::Texts,
            "[] (none)",
            "Addresses and networks (CIDR) whose headers are trusted.",
        )
        .guarding(),
        key(
            "app_engine",
            Kind::Bool,
            "false",
            "Read the client's address from `X-Appengine-Remote-Addr`, whichever client sends it.",
        ),
        key("use_h2c", Kind::Bool, "false", "The same as the root key."),
        key("max_multipart_memory", Kind::Leftover, "", ""),
        key(
            "max_payload",
            Kind::Integer,
            "0 (none)",
            "Largest request body in bytes, also of `no-op` endpoints (413). With 0, the limit is `request_body` of `portcullis/limits`, which has no effect on `no-op` endpoints.",
        )
        .guarding(),
        key(
            "decompress_gzip",
            Kind::Any,
            "false",
            "Decode request bodies whose last `Content-Encoding` is `gzip`: `true`, or a number other than 0. `max_payload` limits the decoded size.",
        ),
        key(
            "disable_gzip",
            Kind::Bool,
            "true",
            "`true`: no response is compressed, even with `portcullis/compression`. `false`, if set explicitly: gzip for clients that accept it, as in KrakenD's enterprise edition.",
        ),
    ],
};

const ERROR_BODY: &[Key] = &[
    key("404", Kind::Object, "", "Body of 404."),
    key("405", Kind::Object, "", "Body of 405."),
];
