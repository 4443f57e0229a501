//! Fields, functions and their arguments.

use super::{Evaluated, Frame, Run};
use crate::config::template::format;
use crate::config::template::functions::{self, Call, Function};
use crate::config::template::tree::{Command, Number, Operand, Span, Word};
use crate::config::template::value::{Element, Map, Value};

impl<'t> Frame<'t> {
    /// Follows `.a.b` from a value. Arguments belong to the last part, and only a method accepts any.
    pub(super) fn fields(
        &mut self,
        run: &mut Run<'_>,
        mut value: Value,
        fields: &[String],
        arguments: Option<(&'t Command, &Value, Option<Value>)>,
    ) -> Evaluated {
        let count = fields.len();
        for (index, name) in fields.iter().enumerate() {
            let is_last = index + 1 == count;
            if let Some(method) = functions::method(&value, name) {
                let (words, dot, last) = match &arguments {
                    Some((command, dot, last)) if is_last => {
                        (&command.words[1..], *dot, last.clone())
                    }
                    _ => (&[][..], &value, None),
                };
                let dot = dot.clone();
                let span = self.at;
                value = self.invoke(run, &dot, method, Some(value.clone()), words, last, span)?;
                continue;
            }
            let has_arguments = is_last && arguments.is_some();
            // Elements of maps and lists have the declared type `interface {}`. Named numbers come from methods.
            let is_element = index > 0 && value.named().is_none();
            let declared = if is_element || matches!(value, Value::Nil) {
                "interface {}"
            } else {
                value.type_name()
            };
            value = self.field(run, &value, name, declared, has_arguments)?;
        }
        Ok(value)
    }

    fn field(
        &self,
        run: &Run<'_>,
        value: &Value,
        name: &str,
        declared: &str,
        has_arguments: bool,
    ) -> Evaluated {
        match value {
            Value::Missing => Ok(Value::Missing),
            Value::Nil => self.error(run, format!("nil pointer evaluating {declared}.{name}")),
            Value::Map(_) if has_arguments => {
                self.error(run, format!("{name} is not a method but has arguments"))
            }
            Value::Map(map) => Ok(map.get(name.as_bytes()).unwrap_or(match map.element {
                Element::Any => Value::Missing,
                _ => Value::text(""),
            })),
            _ => self.error(
                run,
                format!("can't evaluate field {name} in type {declared}"),
            ),
        }
    }

    pub(super) fn function(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        name: &str,
        words: &'t [Word],
        last: Option<Value>,
        span: Span,
    ) -> Evaluated {
        if matches!(name, "and" | "or") {
            return self.and_or(run, dot, name, words, last);
        }
        let Some(function) = functions::find(name) else {
            return self.error(
                run,
                format!(
                    "{} is not a defined function",
                    format::quoted(name.as_bytes())
                ),
            );
        };
        self.invoke(run, dot, function, None, words, last, span)
    }

    /// Returns the argument that decides. The arguments after it are not evaluated.
    fn and_or(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        name: &str,
        words: &'t [Word],
        last: Option<Value>,
    ) -> Evaluated {
        if words.is_empty() && last.is_none() {
            return self.error(
                run,
                format!("wrong number of args for {name}: want at least 1 got 0"),
            );
        }
        let mut value = Value::Missing;
        for word in words {
            value = self.argument_value(run, dot, word)?;
            if value.is_true() == (name == "or") {
                return Ok(value);
            }
        }
        Ok(last.unwrap_or(value))
    }

    #[expect(clippy::too_many_arguments, reason = "the parts of a call")]
    fn invoke(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        function: &'static Function,
        receiver: Option<Value>,
        words: &'t [Word],
        last: Option<Value>,
        span: Span,
    ) -> Evaluated {
        let name_at = self.at;
        let given = words.len() + usize::from(last.is_some());
        let skipped = usize::from(receiver.is_some());
        self.check_count(run, function, given, skipped)?;
        let mut arguments = Vec::with_capacity(given + skipped);
        arguments.extend(receiver);
        for (index, word) in words.iter().enumerate() {
            let kind = function.parameter(index + skipped);
            arguments.push(self.argument(run, dot, word, kind)?);
        }
        if let Some(last) = last {
            self.at = span;
            let kind = function.parameter(words.len() + skipped);
            arguments.push(self.fit(run, last, kind)?);
        }
        self.at = name_at;
        self.step(run)?;
        let mut call = Call {
            host: run.host,
            budget: &mut run.budget,
            warnings: Vec::new(),
        };
        let left = call.budget.left();
        let needs = function.needs(&arguments);
        let lent = if needs > 0 { call.lend(needs) } else { Ok(()) };
        let result = lent.and_then(|()| {
            let value = (function.run)(&mut call, arguments)?;
            // A function may have counted its result already.
            let counted = left - call.budget.left();
            call.make(value.fresh_size().saturating_sub(counted))?;
            Ok(value)
        });
        let warnings = call.warnings;
        // A single call may take long, and many calls are few steps.
        self.on_time(run)?;
        for text in warnings {
            self.warn(run, text);
        }
        match result {
            Ok(value) => Ok(value),
            Err(text) => {
                self.at = span;
                self.error(run, format!("error calling {}: {text}", function.name))
            }
        }
    }

    /// Rejects too few or too many arguments. `skipped` is 1 for a method, whose receiver is already counted.
    fn check_count(
        &self,
        run: &Run<'_>,
        function: &Function,
        given: usize,
        skipped: usize,
    ) -> Evaluated<()> {
        let wanted = function.parameters.len() - skipped;
        let fixed = wanted - usize::from(function.variadic);
        if given >= fixed && (given == fixed || function.variadic) {
            return Ok(());
        }
        let want = if function.variadic {
            format!("at least {fixed}")
        } else {
            fixed.to_string()
        };
        let name = function.name;
        self.error(
            run,
            format!("wrong number of args for {name}: want {want} got {given}"),
        )
    }

    /// The value of an argument of any kind.
    pub(super) fn argument_value(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        word: &'t Word,
    ) -> Evaluated {
        self.argument(run, dot, word, functions::Kind::Any)
    }

    fn argument(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        word: &'t Word,
        kind: functions::Kind,
    ) -> Evaluated {
        self.at = word.span;
        let value = match &word.operand {
            Operand::Dot => dot.clone(),
            Operand::Nil => {
                return match kind {
                    functions::Kind::Any | functions::Kind::Reflect => Ok(Value::Nil),
                    functions::Kind::Map => Ok(Value::Map(Map::nil())),
                    _ => self.error(run, format!("cannot assign nil to {}", kind.type_name())),
                };
            }
            Operand::Field(fields) => self.fields(run, dot.clone(), fields, None)?,
            Operand::Variable(name, fields) => {
                let value = self.variable(run, name)?;
                self.fields(run, value, fields, None)?
            }
            Operand::Pipeline(inner) => self.pipeline(run, dot, inner)?,
            Operand::Function(name) => self.function(run, dot, name, &[], None, word.span)?,
            Operand::Chain(inner, fields) => {
                let value = self.chained(run, dot, inner)?;
                self.at = word.span;
                self.fields(run, value, fields, None)?
            }
            constant => return self.literal(run, constant, kind),
        };
        self.at = word.span;
        self.fit(run, value, kind)
    }

    /// A literal must have the kind of the parameter. Whole floats count as integers.
    fn literal(&mut self, run: &Run<'_>, constant: &Operand, kind: functions::Kind) -> Evaluated {
        use functions::Kind;
        match (kind, constant) {
            (Kind::Any | Kind::Reflect, _) => self.constant(run, constant),
            (Kind::Bool, Operand::Bool(value)) => Ok(Value::Bool(*value)),
            (Kind::Text, Operand::Text(text)) => Ok(Value::text(text)),
            (
                Kind::Int,
                Operand::Number(Number {
                    int: Some(value), ..
                }),
            ) => Ok(Value::Int(*value)),
            (
                Kind::Float,
                Operand::Number(Number {
                    float: Some(value), ..
                }),
            ) => Ok(Value::Float(*value)),
            (Kind::Bool | Kind::Text | Kind::Int | Kind::Float, _) => {
                let found = self.term(run);
                self.error(
                    run,
                    format!("expected {}; found {found}", kind.literal_name()),
                )
            }
            (Kind::Map | Kind::Time, _) => {
                let found = self.term(run);
                self.error(
                    run,
                    format!("can't handle {found} for arg of type {}", kind.type_name()),
                )
            }
        }
    }

    /// Checks a value against a parameter.
    fn fit(&self, run: &Run<'_>, value: Value, kind: functions::Kind) -> Evaluated {
        use functions::Kind;
        let fits = match (kind, &value) {
            (Kind::Reflect, _) => return Ok(value),
            (Kind::Any, Value::Missing) => return Ok(Value::Nil),
            (Kind::Any, _) => true,
            (Kind::Map, Value::Missing) => return Ok(Value::Map(Map::nil())),
            (_, Value::Missing) => {
                return self.error(run, format!("invalid value; expected {}", kind.type_name()));
            }
            (Kind::Bool, Value::Bool(_))
            | (Kind::Text, Value::Text(_))
            | (Kind::Int, Value::Int(_))
            | (Kind::Float, Value::Float(_))
            | (Kind::Time, Value::Time(_)) => true,
            (Kind::Map, Value::Map(map)) => map.element == Element::Any,
            _ => false,
        };
        if fits {
            return Ok(value);
        }
        let (expected, got) = (kind.type_name(), value.type_name());
        self.error(
            run,
            format!("wrong type for value; expected {expected}; got {got}"),
        )
    }
}

/// Hints for common errors.
pub(super) fn hint_for(text: &str, term: &str) -> Option<String> {
    let hint = if text.contains("incompatible types for comparison") && text.contains("float64") {
        "numbers of settings are floats: compare with `3.0`, or convert with `int`"
    } else if text.contains("expected int; got float64")
        || text.contains("cannot index slice/array with type float64")
    {
        return Some(format!(
            "numbers of settings are floats: write `(int {term})`"
        ));
    } else if text.contains("expected int; got int64") {
        return Some(format!("write `(int {term})`"));
    } else if text.starts_with("range can't iterate over") {
        "a list, a map or an integer can be ranged over: for a number of settings write `range (int …)`"
    } else if text.starts_with("can't evaluate field") || text.starts_with("nil pointer evaluating")
    {
        "inside `range` and `with` the dot is the element: the data of the file is `$`"
    } else if text.starts_with("template ") && text.ends_with("not defined") {
        "a file of FC_TEMPLATES is called by its name with the extension, a `define` by its own name"
    } else if text.contains("is not a method but has arguments") {
        "a function comes first: write `upper .name`, not `.name upper`"
    } else {
        return None;
    };
    Some(hint.to_owned())
}
