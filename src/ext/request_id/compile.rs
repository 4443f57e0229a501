//! Compiles the block.

use std::sync::Arc;

use http::HeaderName;

use super::config::Block;
use super::runtime::RequestIds;
use crate::config::Node;
use crate::ext::context::Compile;
use crate::ext::extension::ServicePart;

const DEFAULT: HeaderName = HeaderName::from_static("x-request-id");

/// Headers that have another meaning for a recipient.
const TAKEN: [&str; 9] = [
    "authorization",
    "connection",
    "content-length",
    "content-type",
    "cookie",
    "host",
    "set-cookie",
    "transfer-encoding",
    "x-forwarded-for",
];

/// The header that the service sets on every request, for the rules that remove similar names.
#[derive(Debug)]
pub(crate) struct IdHeader(pub HeaderName);

pub(super) fn service(node: &Node<'_>, cx: &mut Compile<'_>) -> ServicePart {
    let Some(block) = Block::read(node) else {
        return ServicePart::Nothing;
    };
    let header = match &block.header {
        None => DEFAULT,
        Some(name) => match HeaderName::try_from(name.as_str()) {
            Ok(name) if !TAKEN.contains(&name.as_str()) => name,
            _ => {
                let text = format!("{name:?} cannot carry an id");
                block.header_at.invalid(text);
                return ServicePart::Nothing;
            }
        },
    };
    cx.set_fact(Arc::new(IdHeader(header.clone())));
    ServicePart::Step(Box::new(RequestIds::new(
        header,
        block.trust,
        block.respond,
    )))
}
