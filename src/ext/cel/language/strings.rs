//! Functions that search in a string.

use super::eval::{Budget, Failed};
use super::tree::Function;
use super::value::Value;

/// `startsWith`, `endsWith`, `contains`.
pub(super) fn compare<'a>(
    function: Function,
    text: &Value<'a>,
    part: &Value<'a>,
    budget: &Budget,
) -> Result<Value<'a>, Failed> {
    let (Value::String(text), Value::String(part)) = (text, part) else {
        return Err(Failed::NO_OVERLOAD);
    };
    budget.spend_bytes(text.len())?;
    let (text, part) = (text.as_str(), part.as_str());
    match function {
        Function::StartsWith => Ok(Value::Bool(text.starts_with(part))),
        Function::EndsWith => Ok(Value::Bool(text.ends_with(part))),
        Function::Contains => Ok(Value::Bool(text.contains(part))),
        _ => Err(Failed::NO_OVERLOAD),
    }
}
