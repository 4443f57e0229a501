//! Compiles the block. A schema that does not compile stops the start: KrakenD would let every body pass.

use super::misspelt;
use super::runtime::BodyCheck;
use super::schema::Schema;
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::extension::EndpointPart;

pub(super) fn endpoint(
    node: &Node<'_>,
    site: &EndpointSite<'_>,
    cx: &mut Compile<'_>,
) -> EndpointPart {
    let prefix = format!("[ENDPOINT: {}][JSONSchema]", site.pattern);
    match Schema::compile(&node.value().to_json(), &cx.base) {
        Ok(schema) => {
            misspelt::report(node);
            log::debug!("{prefix} Validator enabled");
            EndpointPart::Piped {
                steps: Vec::new(),
                pipes: vec![Box::new(BodyCheck { schema })],
            }
        }
        Err(error) => {
            let config_error = ConfigError::invalid(error.to_string());
            match error.hint() {
                Some(hint) => node.config_error_hint(config_error, hint),
                None => node.config_error(config_error),
            }
            EndpointPart::Nothing
        }
    }
}
