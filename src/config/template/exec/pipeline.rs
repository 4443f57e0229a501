//! Pipelines, commands and operands.

use super::*;

impl<'t> Frame<'t> {
    pub(super) fn pipeline(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        pipeline: &'t Pipeline,
    ) -> Evaluated {
        self.at = pipeline.span;
        let mut value = None;
        for command in &pipeline.commands {
            let next = self.command(run, dot, command, value)?;
            // After a pipe, a `null` counts as no value.
            value = Some(if matches!(next, Value::Nil) {
                Value::Missing
            } else {
                next
            });
        }
        let value = value.unwrap_or(Value::Missing);
        for name in &pipeline.variables {
            if pipeline.assigns {
                self.assign(run, name, value.clone())?;
            } else {
                self.variables.push((name, value.clone()));
            }
        }
        Ok(value)
    }

    fn assign(&mut self, run: &Run<'_>, name: &str, value: Value) -> Evaluated<()> {
        match self
            .variables
            .iter_mut()
            .rev()
            .find(|(known, _)| *known == name)
        {
            Some(slot) => {
                slot.1 = value;
                Ok(())
            }
            None => self.error(run, format!("undefined variable: {name}")),
        }
    }

    fn command(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        command: &'t Command,
        last: Option<Value>,
    ) -> Evaluated {
        let first = &command.words[0];
        let has_arguments = command.words.len() > 1 || last.is_some();
        match &first.operand {
            Operand::Field(fields) => {
                self.at = first.span;
                let arguments = has_arguments.then_some((command, dot, last));
                self.fields(run, dot.clone(), fields, arguments)
            }
            Operand::Variable(name, fields) => {
                self.at = first.span;
                let value = self.variable(run, name)?;
                if fields.is_empty() {
                    self.no_arguments(run, first, has_arguments)?;
                    return Ok(value);
                }
                let arguments = has_arguments.then_some((command, dot, last));
                self.fields(run, value, fields, arguments)
            }
            Operand::Chain(inner, fields) => {
                self.at = first.span;
                let value = self.chained(run, dot, inner)?;
                self.at = first.span;
                let arguments = has_arguments.then_some((command, dot, last));
                self.fields(run, value, fields, arguments)
            }
            Operand::Function(name) => {
                self.at = first.span;
                let span = if has_arguments {
                    command.span
                } else {
                    first.span
                };
                self.function(run, dot, name, &command.words[1..], last, span)
            }
            Operand::Pipeline(inner) => {
                self.no_arguments(run, first, has_arguments)?;
                self.pipeline(run, dot, inner)
            }
            operand => {
                self.at = first.span;
                self.no_arguments(run, first, has_arguments)?;
                match operand {
                    Operand::Dot => Ok(dot.clone()),
                    Operand::Nil => self.error(run, "nil is not a command"),
                    constant => self.constant(run, constant),
                }
            }
        }
    }

    /// The value in parentheses before a chain of fields.
    pub(super) fn chained(&mut self, run: &mut Run<'_>, dot: &Value, inner: &'t Word) -> Evaluated {
        if matches!(inner.operand, Operand::Nil) {
            let text = format!("indirection through explicit nil in {}", self.term(run));
            return self.error(run, text);
        }
        // A `null` in parentheses is no value, and a field of no value is none either.
        match self.argument_value(run, dot, inner)? {
            Value::Nil => Ok(Value::Missing),
            value => Ok(value),
        }
    }

    fn no_arguments(&self, run: &Run<'_>, first: &Word, has_arguments: bool) -> Evaluated<()> {
        if !has_arguments {
            return Ok(());
        }
        let text = &run.sources[self.tree.file].text[first.span.start..first.span.end];
        self.error(run, format!("can't give argument to non-function {text}"))
    }

    pub(super) fn variable(&self, run: &Run<'_>, name: &str) -> Evaluated {
        match self
            .variables
            .iter()
            .rev()
            .find(|(known, _)| *known == name)
        {
            Some((_, value)) => Ok(value.clone()),
            None => self.error(run, format!("undefined variable: {name}")),
        }
    }

    pub(super) fn constant(&self, run: &Run<'_>, operand: &Operand) -> Evaluated {
        match operand {
            Operand::Bool(value) => Ok(Value::Bool(*value)),
            Operand::Text(text) => Ok(Value::text(text)),
            Operand::Number(number) => self.ideal(run, number),
            _ => Ok(Value::Missing),
        }
    }

    fn ideal(&self, run: &Run<'_>, number: &Number) -> Evaluated {
        match number {
            Number {
                is_float: true,
                float: Some(value),
                ..
            } => Ok(Value::Float(*value)),
            Number {
                int: Some(value), ..
            } => Ok(Value::Int(*value)),
            Number { text, .. } => self.error(run, format!("{text} overflows int")),
        }
    }
}
