//! The method of a backend's call.

use http::Method;

use super::Place;
use crate::config::endpoint::METHODS;
use crate::config::suggest::nearest;
use crate::config::{Backend, ConfigError};
use crate::ext::soap;
use crate::runtime::methods::{COMMON, RARE};

/// Methods that are not registered, but that caches know.
const OF_CACHES: [&str; 3] = ["BAN", "PURGE", "REFRESH"];

fn is_known(method: &str) -> bool {
    let mut known = COMMON.iter().chain(&RARE).chain(&OF_CACHES);
    known.any(|known| *known == method)
}

/// The method of the call. `None` if no call can be made with it.
pub(super) fn method(file: &Backend<'_>, place: &Place<'_>) -> Option<Method> {
    let Some(written) = &file.method else {
        return Some(if soap::is_wanted(&file.extra) {
            Method::POST
        } else {
            place.site.method.clone()
        });
    };
    let method = Method::from_bytes(written.trim().to_ascii_uppercase().as_bytes()).ok();
    if let Some(node) = file.block.get("method") {
        match &method {
            None => node.warn_hint(
                ConfigError::Method(written.clone()),
                "no call with it can be made: every call of this backend fails",
            ),
            Some(_) if written.trim() != written => node.warn(ConfigError::invalid(format!(
                "the blanks around {} are removed",
                node.shown()
            ))),
            Some(method) if !is_known(method.as_str()) => {
                let found = ConfigError::invalid(format!(
                    "{} is not a method that is known: it is sent as it is",
                    node.shown()
                ));
                match nearest(method.as_str(), METHODS.iter().copied()) {
                    Some(meant) => node.warn_hint(found, format!("did you mean \"{meant}\"?")),
                    None => node.warn(found),
                }
            }
            Some(method) if place.concurrent && !matches!(*method, Method::GET | Method::HEAD) => {
                node.warn(ConfigError::invalid(format!(
                    "with \"concurrent_calls\" each {method} is sent several times"
                )));
            }
            Some(_) => {}
        }
    }
    method
}
