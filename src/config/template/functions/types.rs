//! The types of values.

use super::Kind::{Any, Text};
use super::{Function, fixed, string};
use crate::config::template::compare;
use crate::config::template::value::Value;

pub(super) static TABLE: &[Function] = &[
    fixed("typeOf", &[Any], |_, arguments| {
        Ok(Value::text(type_of(&arguments[0])))
    }),
    fixed("kindOf", &[Any], |_, arguments| {
        Ok(Value::text(arguments[0].kind_name()))
    }),
    fixed("typeIs", &[Text, Any], |_, arguments| {
        Ok(Value::Bool(string(&arguments, 0) == type_of(&arguments[1])))
    }),
    fixed("typeIsLike", &[Text, Any], |_, arguments| {
        let (wanted, found) = (string(&arguments, 0), type_of(&arguments[1]));
        Ok(Value::Bool(
            wanted == found || format!("*{wanted}") == found,
        ))
    }),
    fixed("kindIs", &[Text, Any], |_, arguments| {
        Ok(Value::Bool(
            string(&arguments, 0) == arguments[1].kind_name(),
        ))
    }),
    fixed("deepEqual", &[Any, Any], |call, arguments| {
        compare::equal(&arguments[0], &arguments[1], call.budget).map(Value::Bool)
    }),
];

fn type_of(value: &Value) -> &'static str {
    if value.is_nothing() {
        "<nil>"
    } else {
        value.type_name()
    }
}
