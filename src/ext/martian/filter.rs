//! Compiles the conditions of filters.

use regex::bytes::Regex;

use super::condition::{Condition, Url};
use super::cookie::Wanted;
use super::leaf;
use crate::config::{Block, re2};

/// The condition of filter `name`. `None` if it is not a filter, `Some(None)` after an error, which is reported.
pub(super) fn condition(name: &str, block: &Block<'_>) -> Option<Option<Condition>> {
    let condition = match name {
        "header.Filter" => header(block),
        "header.RegexFilter" => header_regex(block),
        "querystring.Filter" => query(block),
        "url.Filter" => Some(Condition::Url(url(block))),
        "url.RegexFilter" => url_regex(block),
        "cookie.Filter" => cookie(block),
        "port.Filter" => port(block),
        _ => return None,
    };
    Some(condition)
}

/// As in KrakenD, two filters have no `else`: it is an unknown key there.
pub(super) fn has_else(block: &Block<'_>) -> bool {
    block.knows("else")
}

fn header(block: &Block<'_>) -> Option<Condition> {
    Some(Condition::Header {
        field: leaf::field(block, "name")?,
        value: block.text("value").unwrap_or_default().as_bytes().into(),
    })
}

fn header_regex(block: &Block<'_>) -> Option<Condition> {
    let field = leaf::field(block, "header");
    let regex = regex(block);
    Some(Condition::HeaderMatches {
        field: field?,
        regex: regex?,
    })
}

fn query(block: &Block<'_>) -> Option<Condition> {
    Some(Condition::Query {
        name: block.required("name")?.into_bytes().into(),
        value: some(block, "value").map(|value| value.as_bytes().into()),
    })
}

fn url(block: &Block<'_>) -> Url {
    let part = |key| some(block, key).map(Box::from);
    Url {
        scheme: part("scheme"),
        host: part("host"),
        path: part("path"),
        query: part("query"),
    }
}

fn url_regex(block: &Block<'_>) -> Option<Condition> {
    regex(block).map(Condition::UrlMatches)
}

fn cookie(block: &Block<'_>) -> Option<Condition> {
    Some(Condition::Cookie(Wanted {
        name: block.required("name")?.into_bytes().into(),
        value: some(block, "value").map(|value| value.as_bytes().into()),
    }))
}

fn port(block: &Block<'_>) -> Option<Condition> {
    if !block.has("port") {
        block.missing("port");
    }
    leaf::port(block).map(Condition::Port)
}

/// A string that is present and not empty.
fn some<'a>(block: &Block<'a>, key: &str) -> Option<&'a str> {
    block.text(key).filter(|text| !text.is_empty())
}

fn regex(block: &Block<'_>) -> Option<Regex> {
    let text = block.required("regex")?;
    match re2::compile(&text) {
        Ok(regex) => Some(regex),
        Err(error) => {
            let at = block.get("regex").unwrap_or_else(|| block.node().clone());
            at.invalid(format!("not a regular expression: {error}"));
            None
        }
    }
}
