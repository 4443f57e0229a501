//! The claims in the URLs of an endpoint's backends, and log lines for endpoints without certain blocks.

use crate::config::{Backend, Endpoint, Node};
use crate::ext::registry::UNNAMED;
use crate::ext::{EndpointSite, UrlClaim};
use crate::runtime::inputs::{Input, Inputs};
use crate::runtime::router::Pattern;
use crate::runtime::template::Template;

/// The `url_pattern` of `file`, or the backend if there is none.
pub(super) fn url_node<'a>(file: &Backend<'a>) -> Node<'a> {
    file.block
        .get("url_pattern")
        .unwrap_or_else(|| file.block.node().clone())
}

/// Each `{JWT.claim}` in the URLs of the endpoint's backends. An invalid URL has none, and is reported by its
/// backend.
pub(super) fn url_claims<'a>(file: &Endpoint<'a>, pattern: &Pattern) -> Vec<UrlClaim<'a>> {
    let mut all = Vec::new();
    for backend in &file.backend {
        let written = backend.url_pattern.as_deref().unwrap_or("/");
        let Ok(template) = Template::parse(written, pattern) else {
            continue;
        };
        all.extend(template.claims().map(|(name, in_path)| UrlClaim {
            name: name.into(),
            in_path,
            node: url_node(backend),
        }));
    }
    all
}

/// Calls the extensions that log a line for endpoints that do not configure them.
pub(super) fn unnamed(file: &Endpoint<'_>, site: &EndpointSite<'_>) {
    for (extension, say) in UNNAMED {
        if file
            .extra
            .find(extension.namespace, extension.aliases)
            .is_none()
        {
            say(site);
        }
    }
}

/// The headers and query parameters in the URLs of the endpoint's backends, each once.
pub(super) fn url_inputs(file: &Endpoint<'_>, pattern: &Pattern) -> Option<Inputs> {
    let mut all: Vec<Input> = Vec::new();
    for backend in &file.backend {
        let written = backend.url_pattern.as_deref().unwrap_or("/");
        let Ok(template) = Template::parse(written, pattern) else {
            continue;
        };
        for input in template.inputs() {
            match all.iter_mut().find(|known| known.name == input.name) {
                Some(known) => known.in_path |= input.in_path,
                None => all.push(input),
            }
        }
    }
    (!all.is_empty()).then(|| Inputs(all.into()))
}
