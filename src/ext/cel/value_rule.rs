//! An expression over one text, `value`: a tier of `qos/ratelimit/tiered`.

use std::time::Instant;

use super::language::{self, Facts, Program, Type, Value, Variable};
use super::runtime::{TOKEN_TIME, Verdict, verdict};
use crate::config::{ConfigError, Node};

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
    pub(crate) fn holds(&self, value: &str) -> bool {
        let deadline = Instant::now() + TOKEN_TIME;
        match verdict(&self.0, &Text(value), deadline) {
            Verdict::True => true,
            Verdict::False => false,
            Verdict::Failed(why) => {
                log::warn!("[SERVICE: Ratelimit] the policy of a tier failed: {why}");
                false
            }
        }
    }
}

/// The only variable.
#[derive(Debug)]
struct Text<'a>(&'a str);

impl Facts for Text<'_> {
    fn variable(&self, index: usize) -> Option<Value<'_>> {
        (index == 0).then(|| Value::text(self.0))
    }

    fn name(&self, _index: usize) -> &'static str {
        "value"
    }
}
