//! The signatures of functions.

use super::tree::{Function as F, Part};
use super::types::Type;

/// A type in the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum K {
    Dyn,
    Bool,
    Int,
    Uint,
    Double,
    Number,
    String,
    Bytes,
    Time,
    Duration,
    Type,
    List,
    Map,
}

/// One signature of a function. The receiver of a member call is its first argument.
#[derive(Debug)]
struct Overload {
    name: &'static str,
    member: bool,
    function: F,
    takes: &'static [K],
    gives: K,
}

const fn global(name: &'static str, function: F, takes: &'static [K], gives: K) -> Overload {
    Overload {
        name,
        member: false,
        function,
        takes,
        gives,
    }
}

const fn member(name: &'static str, function: F, takes: &'static [K], gives: K) -> Overload {
    Overload {
        name,
        member: true,
        function,
        takes,
        gives,
    }
}

/// The standard functions, except those whose types depend on the other argument (`==`, `in`, `[]`, lists in `+`).
const TABLE: &[Overload] = &[
    global("!_", F::Not, &[K::Bool], K::Bool),
    global("-_", F::Negate, &[K::Int], K::Int),
    global("-_", F::Negate, &[K::Double], K::Double),
    global("_+_", F::Add, &[K::Int, K::Int], K::Int),
    global("_+_", F::Add, &[K::Uint, K::Uint], K::Uint),
    global("_+_", F::Add, &[K::Double, K::Double], K::Double),
    global("_+_", F::Add, &[K::String, K::String], K::String),
    global("_+_", F::Add, &[K::Bytes, K::Bytes], K::Bytes),
    global("_+_", F::Add, &[K::Time, K::Duration], K::Time),
    global("_+_", F::Add, &[K::Duration, K::Time], K::Time),
    global("_+_", F::Add, &[K::Duration, K::Duration], K::Duration),
    global("_-_", F::Subtract, &[K::Int, K::Int], K::Int),
    global("_-_", F::Subtract, &[K::Uint, K::Uint], K::Uint),
    global("_-_", F::Subtract, &[K::Double, K::Double], K::Double),
    global("_-_", F::Subtract, &[K::Time, K::Time], K::Duration),
    global("_-_", F::Subtract, &[K::Time, K::Duration], K::Time),
    global("_-_", F::Subtract, &[K::Duration, K::Duration], K::Duration),
    global("_*_", F::Multiply, &[K::Int, K::Int], K::Int),
    global("_*_", F::Multiply, &[K::Uint, K::Uint], K::Uint),
    global("_*_", F::Multiply, &[K::Double, K::Double], K::Double),
    global("_/_", F::Divide, &[K::Int, K::Int], K::Int),
    global("_/_", F::Divide, &[K::Uint, K::Uint], K::Uint),
    global("_/_", F::Divide, &[K::Double, K::Double], K::Double),
    global("_%_", F::Modulo, &[K::Int, K::Int], K::Int),
    global("_%_", F::Modulo, &[K::Uint, K::Uint], K::Uint),
    global("size", F::Size, &[K::String], K::Int),
    global("size", F::Size, &[K::Bytes], K::Int),
    global("size", F::Size, &[K::List], K::Int),
    global("size", F::Size, &[K::Map], K::Int),
    member("size", F::Size, &[K::String], K::Int),
    member("size", F::Size, &[K::Bytes], K::Int),
    member("size", F::Size, &[K::List], K::Int),
    member("size", F::Size, &[K::Map], K::Int),
    member(
        "startsWith",
        F::StartsWith,
        &[K::String, K::String],
        K::Bool,
    ),
    member("endsWith", F::EndsWith, &[K::String, K::String], K::Bool),
    member("contains", F::Contains, &[K::String, K::String], K::Bool),
    member("matches", F::Matches, &[K::String, K::String], K::Bool),
    global("matches", F::Matches, &[K::String, K::String], K::Bool),
    global("int", F::ToInt, &[K::Number], K::Int),
    global("int", F::ToInt, &[K::String], K::Int),
    global("int", F::ToInt, &[K::Time], K::Int),
    global("int", F::ToInt, &[K::Duration], K::Int),
    global("uint", F::ToUint, &[K::Number], K::Uint),
    global("uint", F::ToUint, &[K::String], K::Uint),
    global("double", F::ToDouble, &[K::Number], K::Double),
    global("double", F::ToDouble, &[K::String], K::Double),
    global("string", F::ToString, &[K::String], K::String),
    global("string", F::ToString, &[K::Bool], K::String),
    global("string", F::ToString, &[K::Number], K::String),
    global("string", F::ToString, &[K::Bytes], K::String),
    global("string", F::ToString, &[K::Time], K::String),
    global("string", F::ToString, &[K::Duration], K::String),
    global("bytes", F::ToBytes, &[K::Bytes], K::Bytes),
    global("bytes", F::ToBytes, &[K::String], K::Bytes),
    global("bool", F::ToBool, &[K::Bool], K::Bool),
    global("bool", F::ToBool, &[K::String], K::Bool),
    global("timestamp", F::ToTimestamp, &[K::Time], K::Time),
    global("timestamp", F::ToTimestamp, &[K::String], K::Time),
    global("timestamp", F::ToTimestamp, &[K::Int], K::Time),
    global("duration", F::ToDuration, &[K::Duration], K::Duration),
    global("duration", F::ToDuration, &[K::String], K::Duration),
    global("duration", F::ToDuration, &[K::Int], K::Duration),
    global("type", F::TypeOf, &[K::Dyn], K::Type),
    global("dyn", F::Dyn, &[K::Dyn], K::Dyn),
    member("getHours", F::Part(Part::Hours), &[K::Duration], K::Int),
    member("getMinutes", F::Part(Part::Minutes), &[K::Duration], K::Int),
    member("getSeconds", F::Part(Part::Seconds), &[K::Duration], K::Int),
    member(
        "getMilliseconds",
        F::Part(Part::Milliseconds),
        &[K::Duration],
        K::Int,
    ),
];

/// Comparisons of two numbers of any type, or of two values of one of these types.
const COMPARISONS: [(&str, F); 4] = [
    ("_<_", F::Less),
    ("_<=_", F::LessEqual),
    ("_>_", F::Greater),
    ("_>=_", F::GreaterEqual),
];
const COMPARED: [K; 6] = [
    K::Number,
    K::Bool,
    K::String,
    K::Bytes,
    K::Time,
    K::Duration,
];

/// The parts of a timestamp, with or without a time zone.
const PARTS: [(&str, Part); 10] = [
    ("getFullYear", Part::FullYear),
    ("getMonth", Part::Month),
    ("getDate", Part::Date),
    ("getDayOfMonth", Part::DayOfMonth),
    ("getDayOfWeek", Part::DayOfWeek),
    ("getDayOfYear", Part::DayOfYear),
    ("getHours", Part::Hours),
    ("getMinutes", Part::Minutes),
    ("getSeconds", Part::Seconds),
    ("getMilliseconds", Part::Milliseconds),
];

/// Why a call is invalid.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// There is no such function.
    Undeclared,
    /// The function exists, but not for these types.
    NoOverload,
}

/// The function with this name and these argument types, and its result type.
pub(super) fn resolve(name: &str, member: bool, args: &[Type]) -> Result<(F, Type), Unfit> {
    if let Some(found) = compared(name, member, args) {
        return found;
    }
    if member && let Some(found) = part(name, args) {
        return Ok((found, Type::Int));
    }
    let mut named = TABLE
        .iter()
        .filter(|known| known.name == name && known.member == member)
        .peekable();
    if named.peek().is_none() {
        return Err(if member && PARTS.iter().any(|(known, _)| *known == name) {
            Unfit::NoOverload
        } else {
            Unfit::Undeclared
        });
    }
    let fitting: Vec<&Overload> = named.filter(|known| fits(known.takes, args)).collect();
    let Some(first) = fitting.first() else {
        return Err(Unfit::NoOverload);
    };
    let sure = fitting.iter().all(|known| known.gives == first.gives);
    let gives = if sure { first.gives.known() } else { Type::Dyn };
    Ok((first.function, gives))
}

/// The names of all functions, for suggestions.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    let parts = PARTS.iter().map(|(name, _)| *name);
    TABLE.iter().map(|known| known.name).chain(parts)
}

fn compared(name: &str, member: bool, args: &[Type]) -> Option<Result<(F, Type), Unfit>> {
    let (_, function) = COMPARISONS
        .iter()
        .find(|(known, _)| *known == name && !member)?;
    let fit = COMPARED.iter().any(|kind| fits(&[*kind, *kind], args));
    Some(if fit {
        Ok((*function, Type::Bool))
    } else {
        Err(Unfit::NoOverload)
    })
}

fn part(name: &str, args: &[Type]) -> Option<F> {
    let (_, part) = PARTS.iter().find(|(known, _)| *known == name)?;
    let fit = fits(&[K::Time], args) || fits(&[K::Time, K::String], args);
    fit.then_some(F::Part(*part))
}

fn fits(takes: &[K], args: &[Type]) -> bool {
    takes.len() == args.len() && takes.iter().zip(args).all(|(kind, arg)| kind.takes(arg))
}

impl K {
    fn takes(self, arg: &Type) -> bool {
        match (self, arg) {
            (_, Type::Dyn) | (K::Dyn, _) => true,
            (K::Number, Type::Int | Type::Uint | Type::Double) => true,
            (K::List, Type::List(_)) | (K::Map, Type::Map(..)) => true,
            (kind, arg) => kind.known() == *arg,
        }
    }

    fn known(self) -> Type {
        match self {
            K::Dyn | K::Number | K::List | K::Map => Type::Dyn,
            K::Bool => Type::Bool,
            K::Int => Type::Int,
            K::Uint => Type::Uint,
            K::Double => Type::Double,
            K::String => Type::String,
            K::Bytes => Type::Bytes,
            K::Time => Type::Timestamp,
            K::Duration => Type::Duration,
            K::Type => Type::Meta,
        }
    }
}
