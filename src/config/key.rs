//! The tables of keys: what may stand in a block. Reading, `check` and the documentation all use the same ones.

/// One key that a block knows.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// As the documentation prints it: `2s`, `false`, `–`; empty when there is none.
    pub default: &'static str,
    /// One or two sentences for the documentation.
    pub doc: &'static str,
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    /// A text that no message and no summary ever shows.
    Secret,
    /// A text out of a fixed list.
    Choice(&'static [&'static str]),
    Bool,
    Integer,
    Number,
    Duration,
    /// A list of texts.
    Texts,
    /// A list of integers.
    Integers,
    /// An object of texts.
    TextMap,
    /// An object with keys of its own.
    Block(&'static [Key]),
    /// A list of such objects.
    Blocks(&'static [Key]),
    /// An object whose members are not ours to know.
    Object,
    /// A list whose items are not ours to know.
    List,
    /// Anything: looked at by hand.
    Any,
    /// A key that older files have and that does nothing: it gets a warning, and its `doc` says what to write instead.
    Leftover,
}

impl Kind {
    /// The type in words, with its article.
    pub fn expected(&self) -> &'static str {
        match self {
            Kind::Text | Kind::Secret | Kind::Choice(_) => "a string",
            Kind::Bool => "true or false",
            Kind::Integer => "an integer",
            Kind::Number => "a number",
            Kind::Duration => "a duration such as \"2s\"",
            Kind::Texts => "a list of strings",
            Kind::Integers => "a list of integers",
            Kind::TextMap => "an object of strings",
            Kind::Block(_) | Kind::Object => "an object",
            Kind::Blocks(_) => "a list of objects",
            Kind::List => "a list",
            Kind::Any => "any value",
            Kind::Leftover => "nothing",
        }
    }
}

/// Shorthand for the tables: `key("timeout", Kind::Duration, "2s", "…")`.
pub const fn key(name: &'static str, kind: Kind, default: &'static str, doc: &'static str) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
    }
}

/// Whether a key is a remark of the author and not for us: `@comment`, `$schema`, `_x`, `#x`.
pub fn is_comment(name: &str) -> bool {
    name.starts_with(['@', '$', '_', '#'])
}
