//! Headers that are set from the client's body, compared with those that identify the client.

use http::HeaderName;

use crate::config::{ConfigError, Node, Rule};
use crate::runtime::forward::alike;

/// The headers that identify the client, and those that are set from its body.
#[derive(Default)]
pub(super) struct BodyHeaders<'a> {
    identities: Vec<HeaderName>,
    credentials: Vec<HeaderName>,
    from_body: Vec<Target<'a>>,
}

struct Target<'a> {
    name: HeaderName,
    /// It is set before credentials are checked.
    early: bool,
    /// The block that sets it.
    node: Node<'a>,
}

impl<'a> BodyHeaders<'a> {
    /// Steps set these headers, and check these credentials.
    pub(super) fn sets<'h>(
        &mut self,
        headers: &[HeaderName],
        credentials: impl IntoIterator<Item = &'h HeaderName>,
    ) {
        self.identities.extend_from_slice(headers);
        self.credentials.extend(credentials.into_iter().cloned());
    }

    /// The block at `node` takes these headers from the body.
    pub(super) fn take(
        &mut self,
        headers: impl IntoIterator<Item = HeaderName>,
        early: bool,
        node: &Node<'a>,
    ) {
        let targets = headers.into_iter().map(|name| Target {
            name,
            early,
            node: node.clone(),
        });
        self.from_body.extend(targets);
    }

    /// Reports headers that a backend could confuse with checked ones. Returns all headers that are set from the body.
    pub(super) fn checked(self) -> impl Iterator<Item = HeaderName> {
        for target in &self.from_body {
            if self.is_identity(target) {
                let text = format!(
                    "{} tells backends who the client is: a body must not set it",
                    target.name
                );
                let node = target.node.clone().ruled(Rule::Guard);
                node.config_error(ConfigError::invalid(text));
            }
        }
        self.from_body.into_iter().map(|target| target.name)
    }

    /// A body may bring a credential before it is checked, under its own name.
    fn is_identity(&self, target: &Target<'_>) -> bool {
        let is_set = |known: &HeaderName| alike(known, &target.name);
        let is_checked =
            |known: &HeaderName| is_set(known) && !(target.early && *known == target.name);
        self.identities.iter().any(is_set) || self.credentials.iter().any(is_checked)
    }
}
