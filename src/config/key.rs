//! The tables of keys of each block. Parsing, `check` and the documentation all use the same tables.

/// A known key of a block.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    /// The default in the documentation: `2s`, `false`, `–`. Empty if there is none.
    pub default: &'static str,
    /// One or two sentences for the documentation.
    pub doc: &'static str,
    /// Whether it is a guard (it decides who may pass, how much, or from where). In a namespace that is not a guard, its
    /// value is read as strictly as in one. In any namespace, a misspelt name of it stops the start.
    pub guard: bool,
    /// Other names by which people know it, for "did you mean".
    pub also: &'static [&'static str],
    /// The values that editors offer for a text, or for the items of a list of texts.
    pub values: Values,
}

/// The values of a text that is not a [`Kind::Choice`]: the JSON Schema has them, the parser does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Values {
    Any,
    /// The start rejects others or warns about them.
    OneOf(&'static [&'static str]),
    /// One of these words, in any letter case.
    InAnyCase(&'static [&'static str]),
    /// Others start without a warning.
    SuchAs(&'static [&'static str]),
}

impl Key {
    /// Marks the key as a guard: see [`super::rule`].
    pub const fn guarding(self) -> Key {
        Key {
            guard: true,
            ..self
        }
    }

    /// Adds names that people write for it. They are not read.
    pub const fn also(self, names: &'static [&'static str]) -> Key {
        Key {
            also: names,
            ..self
        }
    }

    /// Adds the values that the start accepts without a warning.
    pub const fn one_of(self, values: &'static [&'static str]) -> Key {
        Key {
            values: Values::OneOf(values),
            ..self
        }
    }

    /// Adds the values that the start accepts without a warning, in any letter case.
    pub const fn in_any_case(self, values: &'static [&'static str]) -> Key {
        Key {
            values: Values::InAnyCase(values),
            ..self
        }
    }

    /// Adds usual values.
    pub const fn such_as(self, values: &'static [&'static str]) -> Key {
        Key {
            values: Values::SuchAs(values),
            ..self
        }
    }
}

/// The type of a key's value.
#[derive(Debug, Clone, Copy)]
pub enum Kind {
    Text,
    /// A string that messages and summaries never show.
    Secret,
    /// A string from a fixed list.
    Choice(&'static [&'static str]),
    Bool,
    Integer,
    Number,
    Duration,
    /// A list of strings.
    Texts,
    /// A string, or a list of strings.
    TextOrTexts,
    /// A list of integers.
    Integers,
    /// An object of strings.
    TextMap,
    /// An object with its own keys.
    Block(&'static [Key]),
    /// A list of such objects.
    Blocks(&'static [Key]),
    /// An object with arbitrary members.
    Object,
    /// A list with arbitrary items.
    List,
    /// Any value, which the caller checks.
    Any,
    /// A key of older configurations without effect. It gives a warning, and its `doc` contains the replacement.
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
            Kind::TextOrTexts => "a string or a list of strings",
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

/// A short form for the tables: `key("timeout", Kind::Duration, "2s", "…")`.
pub(crate) const fn key(
    name: &'static str,
    kind: Kind,
    default: &'static str,
    doc: &'static str,
) -> Key {
    Key {
        name,
        kind,
        default,
        doc,
        guard: false,
        also: &[],
        values: Values::Any,
    }
}

/// Two tables as one.
pub(crate) const fn joined<const A: usize, const B: usize, const N: usize>(
    a: [Key; A],
    b: [Key; B],
) -> [Key; N] {
    let mut all = [a[0]; N];
    let mut index = 0;
    while index < A {
        all[index] = a[index];
        index += 1;
    }
    while index < N {
        all[index] = b[index - A];
        index += 1;
    }
    all
}

/// Whether a key is a comment of the author: `@comment`, `$schema`, `_x`, `#x`.
pub(crate) fn is_comment(name: &str) -> bool {
    name.starts_with(['@', '$', '_', '#'])
}
