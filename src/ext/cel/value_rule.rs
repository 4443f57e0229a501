//! An expression over one text, `value`: a tier of `qos/ratelimit/tiered`.

use std::time::Instant;

use super::language::{self, Budget, Facts, Failed, Program, Type, Value, Variable};
use super::runtime::{TOKEN_TIME, Verdict, verdict};
use crate::config::{ConfigError, Node};
use crate::runtime::heavy::Overload;

/// A compiled expression over `value`.
#[derive(Debug)]
pub(crate) struct ValueRule(Program);

impl ValueRule {
    /// Compiles `text`, which is at `node`. An error is reported there.
    pub(crate) fn compile(text: &str, node: &Node<'_>) -> Option<ValueRule> {
        let variables = [Variable {
            name: "value",
            kind: Type::String,
        }];
        match language::compile(text, &variables) {
            Ok(program) if matches!(program.kind(), Type::Bool | Type::Dyn) => {
                Some(ValueRule(program))
            }
            Ok(program) => {
                node.invalid(format!(
                    "the result of the expression is {}, not a bool",
                    program.kind()
                ));
                None
            }
            Err(flaw) => {
                let config_error = ConfigError::invalid(flaw.to_string());
                match flaw.hint {
                    Some(hint) => node.config_error_hint(config_error, hint),
                    None => node.config_error(config_error),
                }
                None
            }
        }
    }

    /// Whether the expression is true for `value`. An expression that fails is not.
    ///
    /// # Errors
    /// The process holds too much.
    pub(crate) fn holds(&self, value: &str) -> Result<bool, Overload> {
        let deadline = Instant::now() + TOKEN_TIME;
        match verdict(&self.0, &Text(value), deadline) {
            Verdict::True => Ok(true),
            Verdict::False => Ok(false),
            Verdict::Overload(overload) => Err(overload),
            Verdict::Failed(why) => {
                log::warn!("[SERVICE: Ratelimit] the policy of a tier failed: {why}");
                Ok(false)
            }
        }
    }
}

/// The only variable.
#[derive(Debug)]
struct Text<'a>(&'a str);

impl Facts for Text<'_> {
    fn variable(&self, index: usize, _: &Budget) -> Result<Option<Value<'_>>, Failed> {
        Ok((index == 0).then(|| Value::text(self.0)))
    }

    fn name(&self, _index: usize) -> &'static str {
        "value"
    }
}
