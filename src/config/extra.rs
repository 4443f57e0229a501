//! `extra_config`: namespaces and their blocks.

use super::block::Block;
use super::key::is_comment;
use super::node::Node;

/// The namespaces of one level, in the order of the file.
#[derive(Debug, Clone)]
pub struct Extra<'a> {
    node: Option<Node<'a>>,
}

impl<'a> Extra<'a> {
    /// Reads the key `extra_config` of `block`; anything but an object is a mistake.
    pub fn read(block: &Block<'a>) -> Extra<'a> {
        Extra {
            node: block.object("extra_config"),
        }
    }

    /// The object itself.
    pub fn node(&self) -> Option<&Node<'a>> {
        self.node.as_ref()
    }

    /// Every namespace with its block, also one that is `null`; remarks are left out.
    pub fn namespaces(&self) -> Vec<(&'a str, Node<'a>)> {
        let Some(node) = &self.node else {
            return Vec::new();
        };
        let members = node.value().members().iter();
        members
            .filter(|member| !is_comment(&member.name))
            .map(|member| {
                let path = node.path().key(&member.name);
                (
                    &*member.name,
                    Node::at_path(&member.value, path, node.report()),
                )
            })
            .collect()
    }

    /// The block of a namespace, under its name or an older one. The name wins when both are there.
    pub fn find(&self, namespace: &str, aliases: &[&str]) -> Option<Node<'a>> {
        let node = self.node.as_ref()?;
        std::iter::once(namespace)
            .chain(aliases.iter().copied())
            .find_map(|name| node.get(name))
    }
}
