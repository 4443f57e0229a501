//! The Common Expression Language, as far as KrakenD has it: the standard functions and macros, no extensions.
//!
//! | module | what lives there |
//! |---|---|
//! | `syntax` | text in, syntax tree out; the only place that names the crate which parses |
//! | `types`, `overloads` | the static types, and which function takes and gives which |
//! | `check` | syntax tree in, [`Program`] out: undeclared names and types that never fit are found here |
//! | `tree` | what a program is made of |
//! | `value` | what expressions give, borrowed from the request where possible |
//! | `eval` | the walk over the tree, within a [budget](Budget) |
//! | `operators`, `strings`, `convert`, `time` | the functions |
//!
//! Checking and running are ours, so that a run has a bound and cannot panic, whatever a stranger sends. Where the
//! language leaves room, cel-go decides, since that is what KrakenD runs.

mod check;
mod convert;
mod eval;
mod operators;
mod overloads;
mod strings;
mod syntax;
#[cfg(test)]
mod tests;
mod time;
mod tree;
mod types;
mod value;

pub use check::{Flaw, Variable};
pub use eval::{Budget, Facts};
pub use time::rfc3339;
pub use tree::{Path, Program};
pub use types::Type;
pub use value::{Elements, List, Map, Members, Value};

/// Compiles an expression over these variables.
///
/// # Errors
/// It is no CEL, names something that is not declared, or its types cannot fit.
pub fn compile(text: &str, variables: &[Variable]) -> Result<Program, Flaw> {
    check::program(&syntax::parse(text)?, variables)
}
