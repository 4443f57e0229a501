//! Go's `text/template` with the functions of Sprig and KrakenD.
//!
//! | module | content |
//! |---|---|
//! | `lexer`, `literal`, `parse`, `tree` | from text to trees |
//! | `value`, `compare`, `format` | values, their equality, and how Go prints them |
//! | `exec`, `budget`, `output` | executes trees, within limits, into a text that records the origin of its pieces |
//! | `functions` | the functions, one table for each group |
//! | `error` | errors, with their place |
//! | `program` | templates that are parsed at start and rendered for requests |
//!
//! This module does not depend on what is rendered: the caller provides sources, data and a [`Host`]. Only
//! `getHostByName` uses the network, through the system's resolver.

mod budget;
mod compare;
mod error;
mod exec;
mod format;
mod functions;
mod lexer;
mod literal;
mod output;
mod parse;
mod program;
mod tree;
mod value;

#[cfg(test)]
mod tests;

pub(crate) use error::{Place, TemplateError};
pub(super) use functions::json::{infinite, out_of_range};
pub(super) use functions::path::clean as clean_path;
pub use functions::{Host, names as function_names};
pub(crate) use program::{Datum, Escape, Program, Watch};

use tree::Tree;
use value::{Entries, Value};

/// A file that contains templates.
#[derive(Debug, Clone)]
pub struct Source {
    /// The name in messages and in `template`: the file name without its folder.
    pub name: String,
    pub text: String,
}

/// The data of a rendering: the value of each name.
pub(crate) type Data = Vec<(String, super::value::Value)>;

/// Something that renders, but probably not as intended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Warning {
    pub place: Place,
    pub text: String,
    /// The term as written. Empty for a definition.
    pub term: String,
}

/// The result of a rendering.
#[derive(Debug)]
pub struct Rendered {
    pub text: Vec<u8>,
    pub warnings: Vec<Warning>,
    pieces: Vec<(u32, output::Origin)>,
}

impl Rendered {
    /// The origin of the byte at `offset` of the text: the index of a source and a byte offset in it.
    pub fn origin(&self, offset: usize) -> Option<(usize, usize)> {
        let index = self
            .pieces
            .partition_point(|(start, _)| *start as usize <= offset)
            .checked_sub(1)?;
        let (start, origin) = self.pieces[index];
        let within = if origin.verbatim {
            offset - start as usize
        } else {
            0
        };
        Some((origin.file as usize, origin.offset as usize + within))
    }
}

/// The stack size of a rendering: templates may call each other up to a thousand levels deep. Unused pages cost
/// nothing.
const STACK: usize = 512 << 20;

/// Renders the first source. The others are the templates that it may call, in order.
///
/// # Errors
/// The parse errors of all sources, or the single execution error.
pub fn render(
    sources: &[Source],
    data: &Data,
    host: &(dyn Host + Sync),
) -> Result<Rendered, Vec<TemplateError>> {
    let done = std::thread::scope(|scope| {
        let work = || run(sources, data, host, budget::Budget::new());
        let thread = std::thread::Builder::new()
            .stack_size(STACK)
            .spawn_scoped(scope, work);
        thread.map(|thread| thread.join())
    });
    match done {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err(vec![TemplateError::internal(
            "the rendering ended unexpectedly",
        )]),
        Err(error) => Err(vec![TemplateError::internal(&format!(
            "no thread for the rendering: {error}"
        ))]),
    }
}

fn run(
    sources: &[Source],
    data: &Data,
    host: &dyn Host,
    budget: budget::Budget,
) -> Result<Rendered, Vec<TemplateError>> {
    let mut warnings = Vec::new();
    let trees = parse_all(sources, &mut warnings)?;
    let mut run = exec::Run {
        sources,
        trees: &trees,
        host,
        budget,
        output: output::Output::default(),
        warnings,
        escape: Escape::Nothing,
    };
    let name = sources.first().map_or("", |source| source.name.as_str());
    let data: Entries = data
        .iter()
        .map(|(name, value)| (name.as_bytes().into(), of_file(value)))
        .collect();
    match run.template(name, Value::map(data)) {
        Ok(()) => Ok(Rendered {
            text: run.output.bytes,
            warnings: run.warnings,
            pieces: run.output.pieces,
        }),
        Err(error) => Err(vec![*error]),
    }
}

/// The value of a settings file: `null` is an empty map.
fn of_file(value: &super::value::Value) -> Value {
    match functions::json::from_tree(value) {
        Value::Nil => Value::Map(value::Map::nil()),
        value => value,
    }
}

/// The place of a byte offset in the text of a source.
pub(super) fn place_of(file: usize, text: &str, offset: usize) -> Place {
    Place::of(file, text, offset)
}

/// The parse errors of all sources. Nothing is executed.
pub(crate) fn parse_errors(sources: &[Source]) -> Vec<TemplateError> {
    parse_all(sources, &mut Vec::new())
        .err()
        .unwrap_or_default()
}

fn parse_all(
    sources: &[Source],
    warnings: &mut Vec<Warning>,
) -> Result<Vec<Tree>, Vec<TemplateError>> {
    let mut trees: Vec<Tree> = Vec::new();
    let mut errors = Vec::new();
    for (index, source) in sources.iter().enumerate() {
        match parse::parse(index, &source.name, &source.text, functions::Allowed::Files) {
            Ok(parsed) => parsed
                .into_iter()
                .for_each(|tree| associate(&mut trees, tree, warnings)),
            Err(error) => errors.push(*error),
        }
    }
    if errors.is_empty() {
        Ok(trees)
    } else {
        Err(errors)
    }
}

/// The template of a later file replaces one with the same name, unless it is empty.
fn associate(trees: &mut Vec<Tree>, tree: Tree, warnings: &mut Vec<Warning>) {
    let Some(at) = trees.iter().position(|other| other.name == tree.name) else {
        trees.push(tree);
        return;
    };
    if tree.is_empty() {
        return;
    }
    if !trees[at].is_empty() {
        let text = format!(
            "the template {} is defined in two files: this one is used",
            format::quoted(tree.name.as_bytes())
        );
        warnings.push(Warning {
            place: Place {
                file: tree.file,
                line: 1,
                column: 1,
            },
            text,
            term: String::new(),
        });
    }
    trees[at] = tree;
}
