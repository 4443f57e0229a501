//! The `Content-Type` of a file, by its extension.

use std::path::Path;

use http::HeaderValue;

/// The types of common extensions, with the charset for text, as in Go's `mime`.
const TYPES: &[(&str, &str)] = &[
    ("avif", "image/avif"),
    ("css", "text/css; charset=utf-8"),
    ("csv", "text/csv; charset=utf-8"),
    ("gif", "image/gif"),
    ("gz", "application/gzip"),
    ("htm", "text/html; charset=utf-8"),
    ("html", "text/html; charset=utf-8"),
    ("ico", "image/vnd.microsoft.icon"),
    ("jpeg", "image/jpeg"),
    ("jpg", "image/jpeg"),
    ("js", "text/javascript; charset=utf-8"),
    ("json", "application/json"),
    ("md", "text/markdown; charset=utf-8"),
    ("mjs", "text/javascript; charset=utf-8"),
    ("mp4", "video/mp4"),
    ("pdf", "application/pdf"),
    ("png", "image/png"),
    ("svg", "image/svg+xml"),
    ("txt", "text/plain; charset=utf-8"),
    ("wasm", "application/wasm"),
    ("webmanifest", "application/manifest+json"),
    ("webp", "image/webp"),
    ("woff", "font/woff"),
    ("woff2", "font/woff2"),
    ("xml", "text/xml; charset=utf-8"),
    ("yaml", "application/yaml"),
    ("yml", "application/yaml"),
    ("zip", "application/zip"),
];

/// The type of a file called `path`. Unknown types are served as bytes.
pub(crate) fn of(path: &Path) -> HeaderValue {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let known = ending.and_then(|ending| {
        TYPES
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(ending))
    });
    HeaderValue::from_static(known.map_or("application/octet-stream", |(_, media)| media))
}
