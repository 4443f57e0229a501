//! `/__catchall`: the endpoint for all paths and methods that no other endpoint has.

use crate::config::{ConfigError, Data, Endpoint};
use crate::runtime::router::CATCH_ALL;

/// Whether the endpoint has this name.
pub(super) fn is_catch_all(file: &Endpoint<'_>) -> bool {
    let path = file.endpoint.as_deref().unwrap_or_default();
    path.strip_prefix('/').unwrap_or(path) == &CATCH_ALL[1..]
}

/// It always streams. Warns about settings that have no effect.
pub(super) fn warn_encodings(file: &Endpoint<'_>) {
    if let Some(node) = file.block.get("output_encoding")
        && !matches!(&node.value().data, Data::Text(name) if &**name == "no-op")
    {
        node.warn(ConfigError::invalid(format!(
            "{CATCH_ALL} is always \"no-op\": this has no effect"
        )));
    }
}
