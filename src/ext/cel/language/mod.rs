//! The Common Expression Language, to the extent of KrakenD: the standard functions and macros. Policies know more
//! functions ([`Dialect`]).
//!
//! | module | content |
//! |---|---|
//! | `syntax` | parses text to a syntax tree; the only module that uses the parser crate |
//! | `types`, `overloads` | the static types, and the signatures of functions |
//! | `check` | compiles a syntax tree to a [`Program`]; finds undeclared names and types that never match |
//! | `tree` | the parts of a program |
//! | `value` | the values of expressions, borrowed from the request where possible |
//! | `eval` | evaluates the tree, within a [budget](Budget) |
//! | `operators`, `strings`, `convert`, `time` | the functions |
//! | `policy`, `policy_strings` | the functions and macros of policies |
//!
//! Checking and evaluation are our own code, so that a run is limited and cannot panic with any input. Where the
//! language is not specified, cel-go decides, because KrakenD uses it.

mod check;
mod convert;
mod eval;
mod operators;
mod overloads;
mod policy;
mod policy_strings;
mod strings;
mod syntax;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod types;
mod value;

pub(crate) use check::{Dialect, Flaw, Places, Variable};
pub(crate) use eval::{Budget, Facts, Failed};
pub(crate) use syntax::shown;
pub(crate) use time::rfc3339;
pub(crate) use tree::{Path, Program};
pub(crate) use types::Type;
pub(crate) use value::{Elements, List, Map, Members, Value};

/// Compiles an expression with these variables.
///
/// # Errors
/// It is not CEL, uses an undeclared name, or has types that do not match.
pub(super) fn compile(text: &str, variables: &[Variable]) -> Result<Program, Flaw> {
    check::program(text, &syntax::parse(text)?, variables, Dialect::Standard)
}

/// Compiles an expression of a policy.
///
/// # Errors
/// As [`compile`]. The hint of an undeclared function is the list of all functions.
pub(super) fn compile_policy(
    text: &str,
    variables: &[Variable],
    dialect: Dialect,
) -> Result<Program, Flaw> {
    check::program(text, &syntax::parse(text)?, variables, dialect)
}
