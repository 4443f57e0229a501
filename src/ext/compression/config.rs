//! The keys of the block.

use crate::config::{Key, Kind, Namespace, key};

pub(crate) const COMPRESSION: Namespace = Namespace {
    name: "portcullis/compression",
    aliases: &[],
    guard: true,
    doc: "Ours: compresses responses for clients that accept it, by `Accept-Encoding`. See [Compression](compression.md).",
    keys: KEYS,
};

pub(crate) const COMPRESSION_ENDPOINT: Namespace = Namespace {
    name: "portcullis/compression",
    aliases: &[],
    guard: true,
    doc: "Ours: the same for one endpoint. Keys that are not here are the service's.",
    keys: KEYS,
};

const KEYS: &[Key] = &[
    key("enabled", Kind::Bool, "true", "Compress responses."),
    key(
        "algorithms",
        Kind::Texts,
        "[\"zstd\", \"br\", \"gzip\"]",
        "The codings. Among those with the same weight in `Accept-Encoding`, the first one is used.",
    )
    .such_as(&["zstd", "br", "gzip"]),
    key(
        "min_size",
        Kind::Any,
        "1KiB",
        "Bodies that are known to be smaller are not compressed.",
    ),
    key(
        "level",
        Kind::Block(LEVEL),
        "",
        "The compression level of each encoder.",
    ),
    key(
        "types",
        Kind::Texts,
        "text, JSON, XML, JavaScript, SVG, WebAssembly, YAML",
        "The media types: `text/html`, `text/*` or `application/*+json`. `text/event-stream` is never compressed.",
    ),
];

const LEVEL: &[Key] = &[
    key("gzip", Kind::Integer, "5", "1 to 9."),
    key("br", Kind::Integer, "4", "0 to 11."),
    key("zstd", Kind::Integer, "3", "1 to 19."),
];

/// The types without a list in the file.
pub(super) const TYPES: &[&str] = &[
    "text/*",
    "application/json",
    "application/*+json",
    "application/xml",
    "application/*+xml",
    "application/javascript",
    "application/x-javascript",
    "application/x-ndjson",
    "application/yaml",
    "application/wasm",
    "image/svg+xml",
];
