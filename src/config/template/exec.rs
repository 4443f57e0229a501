//! Executes trees: the evaluator of Go's `text/template`.

mod call;
mod pipeline;

use super::budget::Budget;
use super::error::{Place, TemplateError};
use super::format;
use super::functions::Host;
use super::output::{Origin, Output};
use super::program::{self, Escape};
use super::tree::{Branch, Command, Node, Number, Operand, Pipeline, Span, Tree, Word};
use super::value::Value;
use super::{Source, Warning};
use crate::config::suggest::nearest;

/// The maximum number of warnings.
const MAX_WARNINGS: usize = 100;

/// The maximum number of bytes of a message.
const MAX_MESSAGE: usize = 4096;

/// The state of a run besides the trees.
pub(super) struct Run<'r> {
    pub(super) sources: &'r [Source],
    pub(super) trees: &'r [Tree],
    pub(super) host: &'r dyn Host,
    pub(super) budget: Budget,
    pub(super) output: Output,
    pub(super) warnings: Vec<Warning>,
    pub(super) escape: Escape,
}

impl Run<'_> {
    /// Runs the named template with `data` as its dot.
    pub(super) fn template(&mut self, name: &str, data: Value) -> Result<(), Box<TemplateError>> {
        let Some(tree) = self.trees.iter().find(|tree| tree.name == name) else {
            return Ok(());
        };
        let mut frame = Frame::new(tree, &data, Vec::new());
        let flow = frame.walk(self, &data, &tree.nodes)?;
        debug_assert!(matches!(flow, Flow::Next));
        Ok(())
    }
}

/// Whether a text holds `%!`, with which Go marks a formatting error.
fn has_formatting_error(text: &[u8]) -> bool {
    memchr::memchr_iter(b'%', text).any(|at| text.get(at + 1) == Some(&b'!'))
}

/// A text for a message. Values in it may be huge.
fn shortened(mut text: String) -> String {
    if text.len() > MAX_MESSAGE {
        text.truncate(text.floor_char_boundary(MAX_MESSAGE));
        text.push_str("...");
    }
    text
}

type Evaluated<T = Value> = Result<T, Box<TemplateError>>;

enum Flow {
    Next,
    Break,
    Continue,
}

/// A template that is being executed.
struct Frame<'t> {
    tree: &'t Tree,
    variables: Vec<(&'t str, Value)>,
    at: Span,
    /// The source and byte offset of each enclosing call, innermost first.
    calls: Vec<(usize, usize)>,
}

impl<'t> Frame<'t> {
    fn new(tree: &'t Tree, dot: &Value, calls: Vec<(usize, usize)>) -> Frame<'t> {
        Frame {
            tree,
            variables: vec![("$", dot.clone())],
            at: Span::new(0, 0),
            calls,
        }
    }

    fn error<T>(&self, run: &Run<'_>, text: impl Into<String>) -> Evaluated<T> {
        let source = &run.sources[self.tree.file];
        let text = shortened(text.into());
        let place = Place::of(self.tree.file, &source.text, self.at.at);
        let line_start = source.text[..self.at.at].rfind('\n').map_or(0, |at| at + 1);
        let term = source
            .text
            .get(self.at.start..self.at.end)
            .unwrap_or_default()
            .to_owned();
        let message = format!(
            "template: {}:{}:{}: executing {} at <{term}>: {text}",
            source.name,
            place.line,
            self.at.at - line_start,
            format::quoted(self.tree.name.as_bytes()),
        );
        Err(Box::new(TemplateError {
            message,
            hint: call::hint_for(&text, &term),
            text,
            place,
            term,
            calls: self.places_of_calls(run),
        }))
    }

    fn places_of_calls(&self, run: &Run<'_>) -> Vec<Place> {
        let place = |call: &(usize, usize)| Place::of(call.0, &run.sources[call.0].text, call.1);
        self.calls.iter().map(place).collect()
    }

    /// The same place in a loop warns only once for each text.
    fn warn(&self, run: &mut Run<'_>, text: String) {
        if run.warnings.len() >= MAX_WARNINGS {
            return;
        }
        let text = shortened(text);
        let source = &run.sources[self.tree.file].text;
        let warning = Warning {
            place: Place::of(self.tree.file, source, self.at.start),
            text,
            term: self.term(run),
        };
        if !run.warnings.contains(&warning) {
            run.warnings.push(warning);
        }
    }

    fn step(&self, run: &mut Run<'_>) -> Evaluated<()> {
        match run.budget.step() {
            Ok(false) => Ok(()),
            Ok(true) => match run.host.look() {
                Ok(()) => Ok(()),
                Err(text) => self.error(run, text),
            },
            Err(text) => self.error(run, text),
        }
    }

    fn on_time(&self, run: &Run<'_>) -> Evaluated<()> {
        let checked = run.budget.in_time().and_then(|()| run.host.look());
        checked.or_else(|text| self.error(run, text))
    }

    fn walk(&mut self, run: &mut Run<'_>, dot: &Value, nodes: &'t [Node]) -> Evaluated<Flow> {
        for node in nodes {
            self.step(run)?;
            let flow = self.node(run, dot, node)?;
            if !matches!(flow, Flow::Next) {
                return Ok(flow);
            }
        }
        Ok(Flow::Next)
    }

    fn node(&mut self, run: &mut Run<'_>, dot: &Value, node: &'t Node) -> Evaluated<Flow> {
        match node {
            Node::Text(text, start) => self.emit(run, text.as_bytes(), *start, true)?,
            Node::Action(pipeline) => {
                let value = self.pipeline(run, dot, pipeline)?;
                if pipeline.variables.is_empty() {
                    self.at = pipeline.span;
                    let value = match run.escape {
                        Escape::Xml if !program::is_safe(pipeline) => {
                            self.lend(run, format::escaped_size(&value).saturating_mul(4))?;
                            Value::text(program::xml(&format::printed(&value)))
                        }
                        _ => value,
                    };
                    self.print(run, &value)?;
                }
            }
            Node::If(branch) => return self.choose(run, dot, branch, false),
            Node::With(branch) => return self.choose(run, dot, branch, true),
            Node::Range(branch) => return self.range(run, dot, branch),
            Node::Template(call) => {
                self.at = call.span;
                self.call_template(run, dot, call)?;
            }
            Node::Break => return Ok(Flow::Break),
            Node::Continue => return Ok(Flow::Continue),
        }
        Ok(Flow::Next)
    }

    fn emit(
        &mut self,
        run: &mut Run<'_>,
        bytes: &[u8],
        start: usize,
        verbatim: bool,
    ) -> Evaluated<()> {
        let origin = Origin {
            file: self.tree.file as u32,
            offset: start as u32,
            verbatim,
        };
        // A buffer that grows, and the origin of each piece.
        let held = run.budget.hold(2 * bytes.len() + 32);
        let pushed = run.host.hold(held);
        match pushed.and_then(|()| run.output.push(bytes, origin)) {
            Ok(()) => Ok(()),
            Err(text) => self.error(run, text),
        }
    }

    /// Announces bytes that are held for a moment.
    fn lend(&self, run: &mut Run<'_>, bytes: usize) -> Evaluated<()> {
        let held = run.budget.hold(0).saturating_add(bytes);
        run.host.hold(held).or_else(|text| self.error(run, text))
    }

    fn print(&mut self, run: &mut Run<'_>, value: &Value) -> Evaluated<()> {
        let printed;
        let text: &[u8] = match value {
            Value::Text(text) => text,
            _ => {
                if value.is_nested() {
                    self.lend(run, format::size(value).saturating_mul(2))?;
                }
                printed = format::printed(value);
                &printed
            }
        };
        if value.is_nothing() {
            let term = self.term(run);
            self.warn(
                run,
                format!("{term} has no value: \"<no value>\" is written to the output"),
            );
        } else if matches!(value, Value::Text(_)) && has_formatting_error(text) {
            let term = self.term(run);
            self.warn(
                run,
                format!(
                    "{term} prints a formatting error: {}",
                    String::from_utf8_lossy(text)
                ),
            );
        } else if matches!(value, Value::Float(_))
            && text.contains(&b'e')
            && run.output.is_inside_string()
        {
            let term = self.term(run);
            let text = String::from_utf8_lossy(text).into_owned();
            self.warn(
                run,
                format!(
                    "{term} prints as {text} inside a string: write `int {term}` for plain digits"
                ),
            );
        }
        self.emit(run, text, self.at.start, false)
    }

    fn term(&self, run: &Run<'_>) -> String {
        let text = &run.sources[self.tree.file].text;
        text.get(self.at.start..self.at.end)
            .unwrap_or_default()
            .to_owned()
    }

    fn choose(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        branch: &'t Branch,
        with: bool,
    ) -> Evaluated<Flow> {
        let scope = self.variables.len();
        let value = self.pipeline(run, dot, &branch.pipeline)?;
        let flow = if value.is_true() {
            let dot = if with { &value } else { dot };
            self.walk(run, dot, &branch.nodes)
        } else if let Some(nodes) = &branch.otherwise {
            self.walk(run, dot, nodes)
        } else {
            Ok(Flow::Next)
        };
        self.variables.truncate(scope);
        flow
    }

    /// The first name of a path such as `.endpoints.list` and the similar one that `dot` has, if it lacks the first.
    fn misspelt(&self, run: &Run<'_>, dot: &Value) -> Option<(String, String)> {
        let Value::Map(map) = dot else {
            return None;
        };
        let term = self.term(run);
        let path = term.rsplit(":=").next().unwrap_or_default().trim();
        let name = path.strip_prefix('.')?.split('.').next()?;
        let entries = map.snapshot();
        let keys: Vec<&str> = entries
            .iter()
            .filter_map(|(key, _)| std::str::from_utf8(key).ok())
            .collect();
        if keys.contains(&name) {
            return None;
        }
        let meant = nearest(name, keys.iter().copied())?;
        Some((format!(".{name}"), format!(".{meant}")))
    }

    fn range(&mut self, run: &mut Run<'_>, dot: &Value, branch: &'t Branch) -> Evaluated<Flow> {
        let scope = self.variables.len();
        let value = self.pipeline(run, dot, &branch.pipeline)?;
        self.at = branch.pipeline.span;
        let pairs: Box<dyn Iterator<Item = (Value, Value)>> = match &value {
            Value::Missing | Value::Nil => {
                if let Some((name, meant)) = self.misspelt(run, dot) {
                    let text = format!(
                        "{name} has no value, so the range prints nothing: did you mean {meant}?"
                    );
                    self.warn(run, text);
                }
                Box::new(std::iter::empty())
            }
            Value::List(list) => {
                let items = list.items.clone().unwrap_or_default();
                let count = items.len();
                Box::new(
                    (0..count).map(move |index| (Value::Int(index as i64), items[index].clone())),
                )
            }
            Value::Map(map) => Box::new(
                map.snapshot()
                    .into_iter()
                    .map(|(key, value)| (Value::Text(key), value)),
            ),
            Value::Int(_) | Value::Int64(_) if branch.pipeline.variables.len() > 1 => {
                let shown = String::from_utf8_lossy(&format::plain(&value)).into_owned();
                return self.error(
                    run,
                    format!("can't use {shown} to iterate over more than one variable"),
                );
            }
            Value::Int(count) => {
                Box::new((0..*count).map(|number| (Value::Int(number), Value::Int(number))))
            }
            Value::Int64(count) => {
                Box::new((0..*count).map(|number| (Value::Int64(number), Value::Int64(number))))
            }
            _ => {
                let shown = String::from_utf8_lossy(&format::plain(&value)).into_owned();
                return self.error(run, format!("range can't iterate over {shown}"));
            }
        };
        let flow = self.iterate(run, branch, pairs)?;
        let flow = match (flow, &branch.otherwise) {
            (None, Some(nodes)) => self.walk(run, dot, nodes)?,
            (None, None) => Flow::Next,
            (Some(flow), _) => flow,
        };
        self.variables.truncate(scope);
        Ok(flow)
    }

    /// Runs the body for each pair. `None` if there was none.
    fn iterate(
        &mut self,
        run: &mut Run<'_>,
        branch: &'t Branch,
        pairs: Box<dyn Iterator<Item = (Value, Value)>>,
    ) -> Evaluated<Option<Flow>> {
        let names = &branch.pipeline.variables;
        let scope = self.variables.len();
        let mut ran = false;
        for (index, element) in pairs {
            ran = true;
            self.step(run)?;
            let values: &[&Value] = match names.len() {
                0 => &[],
                1 => &[&element],
                _ => &[&index, &element],
            };
            for (name, value) in names.iter().zip(values) {
                let slots = &mut self.variables[..scope];
                if let Some(slot) = slots.iter_mut().rev().find(|(known, _)| known == name) {
                    slot.1 = (*value).clone();
                }
            }
            let flow = self.walk(run, &element, &branch.nodes)?;
            self.variables.truncate(scope);
            if matches!(flow, Flow::Break) {
                break;
            }
        }
        Ok(ran.then_some(Flow::Next))
    }

    fn call_template(
        &mut self,
        run: &mut Run<'_>,
        dot: &Value,
        call: &'t super::tree::Call,
    ) -> Evaluated<()> {
        let trees = run.trees;
        let Some(tree) = trees.iter().find(|tree| tree.name == call.name) else {
            let name = format::quoted(call.name.as_bytes());
            return self.error(run, format!("template {name} not defined"));
        };
        let most = run.budget.calls;
        if self.calls.len() >= most {
            return self.error(run, format!("exceeded maximum template depth ({most})"));
        }
        let data = match &call.pipeline {
            None => Value::Missing,
            Some(pipeline) => self.pipeline(run, dot, pipeline)?,
        };
        let mut calls = vec![(self.tree.file, call.span.start)];
        calls.extend_from_slice(&self.calls);
        let mut frame = Frame::new(tree, &data, calls);
        frame.walk(run, &data, &tree.nodes).map(|_| ())
    }
}
