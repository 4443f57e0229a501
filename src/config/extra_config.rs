//! `extra_config`: namespaces and their blocks.

use super::block::Block;
use super::key::is_comment;
use super::namespace::Namespace;
use super::node::Node;
use super::rule::Rule;

/// The namespaces of one level, in the configured order.
#[derive(Debug, Clone)]
pub struct Extra<'a> {
    node: Option<Node<'a>>,
}

impl<'a> Extra<'a> {
    /// Reads the key `extra_config` of `block`. Anything except an object is an error.
    pub fn read(block: &Block<'a>) -> Extra<'a> {
        Extra {
            // Treated as guards until a table says otherwise.
            node: block
                .object("extra_config")
                .map(|node| node.ruled(Rule::Guard)),
        }
    }

    /// The object itself.
    pub fn node(&self) -> Option<&Node<'a>> {
        self.node.as_ref()
    }

    /// Every namespace with its block, even if it is `null`. Comments are omitted.
    pub fn namespaces(&self) -> Vec<(&'a str, Node<'a>)> {
        let Some(node) = &self.node else {
            return Vec::new();
        };
        let members = node.value().members().iter();
        members
            .filter(|member| !is_comment(&member.name))
            .map(|member| {
                let path = node.path().key(&member.name);
                let block = Node::at_path(&member.value, path, node.report());
                (&*member.name, block.ruled(node.rule()))
            })
            .collect()
    }

    /// The block of a core namespace, with the rule of its table.
    pub fn of(&self, namespace: &'static Namespace) -> Option<Node<'a>> {
        let node = self.find(namespace.name, namespace.aliases)?;
        Some(node.ruled(Rule::of(namespace.guard)))
    }

    /// The block of a core namespace, opened.
    pub fn open(&self, namespace: &'static Namespace) -> Option<Block<'a>> {
        self.of(namespace)?.block(namespace.keys)
    }

    /// The block of a namespace, under its name or an older one. The current name takes precedence.
    pub fn find(&self, namespace: &str, aliases: &[&str]) -> Option<Node<'a>> {
        let node = self.node.as_ref()?;
        std::iter::once(namespace)
            .chain(aliases.iter().copied())
            .find_map(|name| node.get(name))
    }
}
