//! Regular expressions in Go's syntax (RE2), translated for the `regex` crate.
//!
//! The two are similar but not identical. In the `regex` crate `\d`, `\w`, `\s` and `\b` match Unicode, classes have
//! set operations (`[a&&b]`), and literal braces, `\Q…\E` and octal escapes are errors. The translation writes every
//! class as ranges and escapes every literal, so that nothing is ambiguous. What RE2 rejects is rejected here too.
//!
//! The syntax: <https://github.com/google/re2/wiki/Syntax>, with the additions of Go's `regexp/syntax`: `\Q…\E`,
//! `\z`, no `\C`.

mod class;
mod parser;
#[cfg(test)]
mod tests;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// The maximum compiled size of a configured expression, in bytes.
const MAX_COMPILED: usize = 32 << 20;

/// Why an expression is rejected, in Go's words.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub struct Rejected {
    what: &'static str,
    part: String,
}

/// An expression that is not usable.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error(transparent)]
    Rejected(#[from] Rejected),
    #[error("the regular expression is too large")]
    Large(#[from] regex::Error),
}

/// Compiles an expression. It searches bytes; its characters match only valid UTF-8.
///
/// # Errors
/// RE2 rejects the expression, or it is too large.
pub(crate) fn compile(pattern: &str) -> Result<Regex, PatternError> {
    sized(pattern, MAX_COMPILED)
}

/// Like `compile`, with a custom limit of the compiled size in bytes.
///
/// # Errors
/// RE2 rejects the expression, or it is too large.
pub fn sized(pattern: &str, most: usize) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&translate(pattern, Use::Bytes)?);
    Ok(builder.size_limit(most).build()?)
}

/// Compiles several expressions that are searched at once.
///
/// # Errors
/// RE2 rejects one of them, or they are too large together.
pub(crate) fn set<P: AsRef<str>>(patterns: &[P]) -> Result<RegexSet, PatternError> {
    let translated: Result<Vec<String>, Rejected> = patterns
        .iter()
        .map(|pattern| translate(pattern.as_ref(), Use::Bytes))
        .collect();
    let mut builder = RegexSetBuilder::new(translated?);
    Ok(builder.size_limit(MAX_COMPILED).build()?)
}

/// The crate module that a translation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Use {
    /// `regex::bytes`
    Bytes,
    /// `regex::Regex`, which does not support an ASCII `\B`: the Unicode one is used.
    Text,
}

/// The same expression for the `regex` crate, without group names.
///
/// # Errors
/// RE2 rejects the expression.
pub(crate) fn translate(pattern: &str, usage: Use) -> Result<String, Rejected> {
    parser::Parser::new(pattern, usage).translated()
}
