//! Compiles the block.

use http::HeaderValue;

use super::config::{KEYS, TEMPLATE, statuses, type_base};
use crate::config::{Block, ConfigError, Node};
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;
use crate::ext::request_id;
use crate::named_file;
use crate::runtime::errors::{ErrorBodies, Page};

/// Larger templates are not error bodies.
const MAX_BYTES: u64 = 256 << 10;

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = node.block(KEYS) else {
        return ServicePart::Nothing;
    };
    let problem = block.choice("format") == Some("problem+json");
    let mut pages = Vec::new();
    if let Some(templates) = block.object("templates") {
        for (name, template) in templates.members() {
            match statuses(name) {
                Some(range) => pages.extend(page(&template, cx).map(|page| (range, page))),
                None => template.config_error_hint(
                    ConfigError::invalid(format!("{name:?} names no error status")),
                    "a status from 400 to 599, \"4xx\", \"5xx\" or \"default\"",
                ),
            }
        }
    }
    if !problem && pages.is_empty() {
        return ServicePart::Nothing;
    }
    let bodies = ErrorBodies::new(problem, type_base(&block), pages, request_id::random);
    ServicePart::Errors(Box::new(bodies))
}

fn page(node: &Node<'_>, cx: &Compile<'_>) -> Option<Page> {
    let block = node.block(TEMPLATE)?;
    let content_type = block
        .string("content_type")
        .unwrap_or_else(|| "text/html; charset=utf-8".to_owned());
    let Ok(content_type) = HeaderValue::try_from(&content_type) else {
        node.invalid(format!("{content_type:?} is not a content type"));
        return None;
    };
    let text = match (block.string("body"), block.string("path")) {
        (Some(body), None) => body,
        (None, Some(_)) => file(&block, cx)?,
        _ => {
            node.invalid("a template has either a \"body\" or a \"path\"");
            return None;
        }
    };
    match Page::new(content_type, &text) {
        Ok(page) => Some(page),
        Err(name) => {
            node.config_error_hint(
                ConfigError::invalid(format!("{{{name}}} is not a placeholder of error bodies")),
                "the placeholders are {status}, {title}, {reason}, {detail} and {request_id}",
            );
            None
        }
    }
}

fn file(block: &Block<'_>, cx: &Compile<'_>) -> Option<String> {
    let node = block.get("path")?;
    let path = cx.path(&block.string("path")?);
    let text = named_file::read_text(&path, MAX_BYTES);
    text.map_err(|reason| node.invalid(format!("{}: {reason}", path.display())))
        .ok()
}
