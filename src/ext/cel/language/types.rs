//! Static types.

use std::fmt;

/// A static type. [`Type::Dyn`] matches every type: the actual type is known only when the expression runs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Type {
    Dyn,
    Null,
    Bool,
    Int,
    Uint,
    Double,
    String,
    Bytes,
    Timestamp,
    Duration,
    /// The type of a type.
    Meta,
    List(Box<Type>),
    Map(Box<Type>, Box<Type>),
}

impl Type {
    /// `list(of)`
    pub(crate) fn list(of: Type) -> Type {
        Type::List(Box::new(of))
    }

    /// `map(string, of)`
    pub(crate) fn map(of: Type) -> Type {
        Type::Map(Box::new(Type::String), Box::new(of))
    }

    /// The common type of both, as far as it is known. `None` if they are never the same.
    pub(super) fn join(&self, other: &Type) -> Option<Type> {
        Some(match (self, other) {
            (Type::Dyn, _) | (_, Type::Dyn) => Type::Dyn,
            (Type::Null, Type::Timestamp | Type::Duration) => other.clone(),
            (Type::Timestamp | Type::Duration, Type::Null) => self.clone(),
            (Type::List(a), Type::List(b)) => Type::list(a.join(b)?),
            (Type::Map(a, c), Type::Map(b, d)) => {
                Type::Map(Box::new(a.join(b)?), Box::new(c.join(d)?))
            }
            (a, b) if a == b => self.clone(),
            _ => return None,
        })
    }

    /// The type of the elements for a macro or `[]`. `None` if the type has no elements.
    pub(super) fn elements(&self) -> Option<Type> {
        match self {
            Type::List(of) => Some((**of).clone()),
            Type::Map(key, _) => Some((**key).clone()),
            Type::Dyn => Some(Type::Dyn),
            _ => None,
        }
    }

    /// The common type of all elements. Mixed types are dynamic.
    pub(super) fn common(types: impl IntoIterator<Item = Type>) -> Type {
        let joined = types
            .into_iter()
            .map(Some)
            .reduce(|a, b| a?.join(&b?))
            .flatten();
        joined.unwrap_or(Type::Dyn)
    }
}

impl fmt::Display for Type {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Type::Dyn => "dyn",
            Type::Null => "null",
            Type::Bool => "bool",
            Type::Int => "int",
            Type::Uint => "uint",
            Type::Double => "double",
            Type::String => "string",
            Type::Bytes => "bytes",
            Type::Timestamp => "google.protobuf.Timestamp",
            Type::Duration => "google.protobuf.Duration",
            Type::Meta => "type",
            Type::List(of) => return write!(f, "list({of})"),
            Type::Map(key, of) => return write!(f, "map({key}, {of})"),
        };
        f.write_str(name)
    }
}
