//! What a namespace of `compile` declares.

use super::key::Key;

/// A namespace that `compile` reads itself.
#[derive(Debug)]
pub struct Namespace {
    pub name: &'static str,
    /// Older names.
    pub aliases: &'static [&'static str],
    /// Whether it is a guard: it decides who may pass, how much, or from where. All our own namespaces are parsed as
    /// strictly. See [`super::rule`].
    pub guard: bool,
    pub doc: &'static str,
    pub keys: &'static [Key],
}
