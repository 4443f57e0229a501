//! Compiles the block.

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::config::KEYS;
use super::runtime::{ErrorBody, ResponseCheck};
use crate::config::{Block, ConfigError, Node};
use crate::ext::context::{BackendSite, Compile, EndpointSite};
use crate::ext::extension::{BackendPart, EndpointPart};
use crate::ext::json_schema::{Schema, report_slips};

pub(super) fn endpoint(
    node: &Node<'_>,
    _site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    EndpointPart::pipe(check(node, true, cx))
}

pub(super) fn backend(
    node: &Node<'_>,
    _site: &BackendSite<'_>,
    cx: &mut Compile<'_>,
) -> BackendPart {
    BackendPart::pipe(check(node, false, cx))
}

/// `shown`: the body of the error goes to the client.
fn check(node: &Node<'_>, shown: bool, cx: &Compile<'_>) -> Option<ResponseCheck> {
    let block = node.block(KEYS)?;
    let Some(written) = block.get("schema") else {
        block.missing("schema");
        return None;
    };
    let schema = match Schema::compile(&written.value().to_json(), &cx.base) {
        Ok(schema) => {
            report_slips(&written);
            schema
        }
        Err(error) => {
            let config_error = ConfigError::invalid(error.to_string());
            match error.hint() {
                Some(hint) => written.config_error_hint(config_error, hint),
                None => written.config_error(config_error),
            }
            return None;
        }
    };
    let error = block.block("error");
    Some(ResponseCheck {
        schema,
        status: error
            .as_ref()
            .and_then(status)
            .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        told: error.as_ref().and_then(told),
        shown,
    })
}

fn status(error: &Block<'_>) -> Option<StatusCode> {
    let status = error.within("status", 400, 599)?;
    StatusCode::from_u16(u16::try_from(status).ok()?).ok()
}

fn told(error: &Block<'_>) -> Option<ErrorBody> {
    let body = error.text("body").filter(|body| !body.is_empty())?;
    let written = error.text("content_type").unwrap_or("text/plain");
    let Ok(content_type) = HeaderValue::try_from(written) else {
        error
            .node()
            .invalid(format!("{written:?} is not a content type"));
        return None;
    };
    Some(ErrorBody {
        body: Bytes::copy_from_slice(body.as_bytes()),
        content_type,
    })
}
