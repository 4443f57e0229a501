//! The method of a backend's call.

use http::Method;

use super::Place;
use crate::config::endpoint::METHODS;
use crate::config::suggest::nearest;
use crate::config::{Backend, ConfigError};
use crate::ext::soap;

/// Methods that servers know: the registry of RFC 9110 §16.1, and those that caches use.
const REGISTERED: &[&str] = &[
    "GET",
    "HEAD",
    "POST",
    "PUT",
    "DELETE",
    "CONNECT",
    "OPTIONS",
    "TRACE",
    "PATCH",
    "QUERY",
    "ACL",
    "BASELINE-CONTROL",
    "BIND",
    "CHECKIN",
    "CHECKOUT",
    "COPY",
    "LABEL",
    "LINK",
    "LOCK",
    "MERGE",
    "MKACTIVITY",
    "MKCALENDAR",
    "MKCOL",
    "MKREDIRECTREF",
    "MKWORKSPACE",
    "MOVE",
    "ORDERPATCH",
    "PROPFIND",
    "PROPPATCH",
    "REBIND",
    "REPORT",
    "SEARCH",
    "UNBIND",
    "UNCHECKOUT",
    "UNLINK",
    "UNLOCK",
    "UPDATE",
    "UPDATEREDIRECTREF",
    "VERSION-CONTROL",
    "BAN",
    "PURGE",
    "REFRESH",
];

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
            Some(method) if !REGISTERED.contains(&method.as_str()) => {
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
