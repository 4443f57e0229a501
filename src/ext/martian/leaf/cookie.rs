//! `cookie.Modifier`.

use chrono::{DateTime, Datelike, Utc};
use http::{HeaderName, HeaderValue};

use super::at;
use crate::config::{Block, ConfigError};
use crate::ext::martian::cookie::{self, Attributes, Cookie};

pub(super) fn cookie(block: &Block<'_>) -> Option<Cookie> {
    let name = block
        .required("name")
        .filter(|name| is_cookie_name(block, name));
    let pair = cookie_pair(block, name.as_deref());
    let attributes = attributes(block);
    let (pair, attributes) = (pair?, attributes?);
    Some(Cookie {
        set: HeaderValue::try_from(attributes.write(&pair)).ok()?,
        pair: HeaderValue::try_from(pair).ok()?,
    })
}

fn is_cookie_name(block: &Block<'_>, name: &str) -> bool {
    // The names of headers are tokens too.
    let fits = HeaderName::from_bytes(name.as_bytes()).is_ok();
    if !fits {
        let node = at(block, "name");
        node.invalid(format!("{} is not the name of a cookie", node.shown()));
    }
    fits
}

fn cookie_pair(block: &Block<'_>, name: Option<&str>) -> Option<String> {
    let value = block.text("value").unwrap_or_default();
    let pair = cookie::pair(name.unwrap_or("x"), value);
    if pair.is_none() {
        let node = at(block, "value");
        node.invalid(format!("{} cannot be the value of a cookie", node.shown()));
    }
    name.and(pair)
}

fn attributes(block: &Block<'_>) -> Option<Attributes> {
    let text = |key: &str| {
        let text = block.text(key).unwrap_or_default();
        let fits =
            cookie::is_attribute(text) && !(key == "domain" && text.contains([' ', ',', ':']));
        if !fits {
            let node = at(block, key);
            node.invalid(format!("{} cannot be part of a cookie", node.shown()));
        }
        fits.then(|| text.to_owned())
    };
    let (path, domain, expires) = (text("path"), text("domain"), expires(block));
    Some(Attributes {
        path: path?,
        domain: domain?,
        expires: expires?,
        max_age: block.integer("maxAge").unwrap_or(0),
        http_only: block.flag("httpOnly"),
        secure: block.flag("secure"),
    })
}

/// The outer `None` means that the time is invalid. As in Go, a cookie has no years before 1601.
fn expires(block: &Block<'_>) -> Option<Option<String>> {
    let Some(text) = block.text("expires").filter(|text| !text.is_empty()) else {
        return Some(None);
    };
    match DateTime::parse_from_rfc3339(text) {
        Ok(time) => {
            let time = time.with_timezone(&Utc);
            let written = time.format("%a, %d %b %Y %H:%M:%S GMT").to_string();
            Some((time.year() >= 1601).then_some(written))
        }
        Err(_) => {
            let node = at(block, "expires");
            node.config_error_hint(
                ConfigError::invalid(format!("{} is not a time", node.shown())),
                "RFC 3339: \"2030-01-02T03:04:05Z\"",
            );
            None
        }
    }
}
