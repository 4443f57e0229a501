//! What the URLs of an endpoint's backends take from tokens, and what is said of an endpoint that names no block.

use crate::config::{Backend, Endpoint, Node};
use crate::ext::registry::UNNAMED;
use crate::ext::{EndpointSite, UrlClaim};
use crate::runtime::router::Pattern;
use crate::runtime::template::Template;

/// The `url_pattern` of `file`, or the backend around it.
pub(super) fn url_node<'a>(file: &Backend<'a>) -> Node<'a> {
    file.block
        .get("url_pattern")
        .unwrap_or_else(|| file.block.node().clone())
}

/// Each `{JWT.claim}` in the URLs of the endpoint's backends. A URL that cannot be read has none: its backend says so.
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

/// Lets the extensions speak that have something to say where the endpoint does not name them.
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
