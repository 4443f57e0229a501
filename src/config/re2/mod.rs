//! Regular expressions as Go reads them (RE2), translated for the `regex` crate.
//!
//! Both crates are close relatives, but not the same: there `\d`, `\w`, `\s` and `\b` know Unicode, classes have set
//! operations (`[a&&b]`), and braces, `\Q…\E` and octal escapes are refused. The translation writes every class as
//! ranges and every literal by itself, so that nothing is left to interpret. What RE2 refuses is refused here, too.
//!
//! The syntax: <https://github.com/google/re2/wiki/Syntax>, with what Go's `regexp/syntax` adds: `\Q…\E`, `\z`, no `\C`.

mod class;
mod parser;
#[cfg(test)]
mod tests;

use regex::bytes::{Regex, RegexBuilder, RegexSet, RegexSetBuilder};

/// Compiled size of an expression of a file, in bytes.
const MOST_COMPILED: usize = 32 << 20;

/// Why an expression is refused, in the words of Go.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("error parsing regexp: {what}: `{part}`")]
pub struct Refused {
    what: &'static str,
    part: String,
}

/// An expression that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PatternError {
    #[error(transparent)]
    Refused(#[from] Refused),
    #[error("the regular expression is too large")]
    Large(#[from] regex::Error),
}

/// Compiles an expression. Of what it is looked for in, only what is UTF-8 matches its letters.
///
/// # Errors
/// RE2 refuses it, or it is too large.
pub fn compile(pattern: &str) -> Result<Regex, PatternError> {
    sized(pattern, MOST_COMPILED)
}

/// The same, with a bound of its own for the compiled size, in bytes.
///
/// # Errors
/// RE2 refuses it, or it is too large.
pub fn sized(pattern: &str, most: usize) -> Result<Regex, PatternError> {
    let mut builder = RegexBuilder::new(&translate(pattern, Use::Bytes)?);
    Ok(builder.size_limit(most).build()?)
}

/// Compiles several expressions that are looked for at once.
///
/// # Errors
/// RE2 refuses one of them, or they are too large together.
pub fn set<P: AsRef<str>>(patterns: &[P]) -> Result<RegexSet, PatternError> {
    let translated: Result<Vec<String>, Refused> = patterns
        .iter()
        .map(|pattern| translate(pattern.as_ref(), Use::Bytes))
        .collect();
    let mut builder = RegexSetBuilder::new(translated?);
    Ok(builder.size_limit(MOST_COMPILED).build()?)
}

/// What a translation is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Use {
    /// `regex::bytes`
    Bytes,
    /// `regex::Regex`, which has no `\B` of ASCII: there it is that of Unicode.
    Text,
}

/// The same expression for the `regex` crate, without names of groups.
///
/// # Errors
/// RE2 refuses it.
pub fn translate(pattern: &str, usage: Use) -> Result<String, Refused> {
    parser::Parser::new(pattern, usage).translated()
}
