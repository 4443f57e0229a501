//! Rewrites `goto` and labels as loops: Lua 5.1 has no other jumps.
//!
//! The code between a forward jump and its label becomes `repeat … until true`, and the jump a `break`. The code
//! between a label and the end of its block, if it contains a backward jump, becomes a loop that repeats while a flag
//! is set. A `break` or a jump that leaves several loops sets a flag, which each of them checks after the inner loop.

#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;

use write::Writer;

use super::syntax::{Edits, Kind, Token, Unfit, end_of_parameters};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shape {
    Function,
    Loop,
    Repeat,
    Plain,
}

#[derive(Debug)]
struct Block {
    shape: Shape,
    parent: Option<usize>,
    /// The first token of the enclosing statement.
    statement: usize,
    /// Its first token, and the token that ends it.
    first: usize,
    last: usize,
    /// `local` statements directly in the block.
    locals: Vec<usize>,
    /// A `while`, `for` or `if` whose block has not started.
    pending: Option<usize>,
}

#[derive(Debug)]
struct Label<'t> {
    name: &'t str,
    block: usize,
    at: usize,
    jumps: Vec<Jump>,
}

#[derive(Debug, Clone, Copy)]
struct Jump {
    block: usize,
    at: usize,
}

#[derive(Debug, Default)]
struct Found<'t> {
    blocks: Vec<Block>,
    labels: Vec<Label<'t>>,
    gotos: Vec<Jump>,
    breaks: Vec<Jump>,
}

/// An inserted loop, from the token `from` to the token `to`.
#[derive(Debug, Clone, Copy)]
struct Region {
    block: usize,
    from: usize,
    to: usize,
    back: bool,
}

/// A loop around a jump.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Around {
    Region(usize),
    Block(usize),
}

/// Rewrites all jumps of a text. A text with unbalanced blocks is unchanged, so that the interpreter reports it.
///
/// # Errors
/// A jump cannot be written as a loop.
pub(super) fn rewrite(tokens: &[Token<'_>], edits: &mut Edits) -> Result<(), Unfit> {
    let Some(mut found) = Found::of(tokens) else {
        return Ok(());
    };
    if found.gotos.is_empty() && found.labels.is_empty() {
        return Ok(());
    }
    found.no_label_twice(tokens)?;
    found.resolve(tokens)?;
    let regions = found.regions(tokens)?;
    Writer::new(tokens, &found, &regions).write(edits)
}

fn unfit<T>(text: impl Into<String>, token: Option<&Token<'_>>) -> Result<T, Unfit> {
    Err(Unfit {
        text: text.into(),
        line: token.map_or(0, |token| token.line),
    })
}

impl<'t> Found<'t> {
    /// `None` if the blocks are not balanced.
    fn of(tokens: &[Token<'t>]) -> Option<Found<'t>> {
        let mut found = Found::default();
        let mut open = vec![found.begin(Shape::Function, None, 0, 0)];
        let mut bodies: Vec<usize> = Vec::new();
        let mut index = 0;
        while let Some(token) = tokens.get(index) {
            let current = *open.last()?;
            let next_is_name = tokens.get(index + 1).is_some_and(Token::is_name);
            match (token.kind, token.text) {
                (Kind::Keyword, "function") => bodies.push(end_of_parameters(tokens, index)?),
                (Kind::Keyword, "while" | "for" | "if") => {
                    found.blocks.get_mut(current)?.pending = Some(index);
                }
                (Kind::Keyword, "do") => {
                    let pending = found.blocks.get_mut(current)?.pending.take();
                    let (shape, statement) = match pending {
                        Some(statement) => (Shape::Loop, statement),
                        None => (Shape::Plain, index),
                    };
                    open.push(found.begin(shape, Some(current), statement, index + 1));
                }
                (Kind::Keyword, "then") => {
                    let statement = found.blocks.get_mut(current)?.pending.take()?;
                    open.push(found.begin(Shape::Plain, Some(current), statement, index + 1));
                }
                (Kind::Keyword, "else" | "elseif") => {
                    let statement = found.end(open.pop()?, index)?;
                    let outer = *open.last()?;
                    match token.text {
                        "else" => {
                            open.push(found.begin(Shape::Plain, Some(outer), statement, index + 1));
                        }
                        _ => found.blocks.get_mut(outer)?.pending = Some(statement),
                    }
                }
                (Kind::Keyword, "repeat") => {
                    open.push(found.begin(Shape::Repeat, Some(current), index, index + 1));
                }
                (Kind::Keyword, "end" | "until") => {
                    found.end(open.pop()?, index)?;
                    open.last()?;
                }
                (Kind::Keyword, "break") => found.breaks.push(Jump {
                    block: current,
                    at: index,
                }),
                (Kind::Keyword, "local") => found.blocks.get_mut(current)?.locals.push(index),
                // In Lua 5.1 two adjacent names have no other meaning.
                (Kind::Name, "goto") if next_is_name => {
                    found.gotos.push(Jump {
                        block: current,
                        at: index,
                    });
                    index += 1;
                }
                (Kind::Sign, "::") if next_is_name => {
                    found.labels.push(Label {
                        name: tokens.get(index + 1)?.text,
                        block: current,
                        at: index,
                        jumps: Vec::new(),
                    });
                    tokens.get(index + 2).filter(|token| token.is("::"))?;
                    index += 2;
                }
                _ => {}
            }
            if bodies.last() == Some(&index) {
                bodies.pop();
                open.push(found.begin(Shape::Function, Some(current), index, index + 1));
            }
            index += 1;
        }
        let main = open.pop()?;
        found.end(main, tokens.len())?;
        open.is_empty().then_some(found)
    }

    fn begin(
        &mut self,
        shape: Shape,
        parent: Option<usize>,
        statement: usize,
        first: usize,
    ) -> usize {
        self.blocks.push(Block {
            shape,
            parent,
            statement,
            first,
            last: first,
            locals: Vec::new(),
            pending: None,
        });
        self.blocks.len() - 1
    }

    /// Ends a block. Returns the start of its statement.
    fn end(&mut self, block: usize, last: usize) -> Option<usize> {
        let block = self.blocks.get_mut(block)?;
        block.last = last;
        Some(block.statement)
    }

    /// A block may contain a label only once, as in Lua 5.2.
    fn no_label_twice(&self, tokens: &[Token<'t>]) -> Result<(), Unfit> {
        let mut known: HashMap<(usize, &str), usize> = HashMap::new();
        for label in &self.labels {
            if let Some(first) = known.insert((label.block, label.name), label.at) {
                let line = tokens.get(first).map_or(0, |token| token.line);
                let text = format!("label '{}' already defined on line {line}", label.name);
                return unfit(text, tokens.get(label.at));
            }
        }
        Ok(())
    }

    /// Finds the label of each jump: in an enclosing block within the same function.
    fn resolve(&mut self, tokens: &[Token<'t>]) -> Result<(), Unfit> {
        for jump in &self.gotos {
            let token = tokens.get(jump.at + 1);
            let name = token.map_or("", |token| token.text);
            let mut block = Some(jump.block);
            let label = loop {
                let Some(at) = block else {
                    return unfit(format!("no visible label '{name}' for goto"), token);
                };
                let is_it = |label: &&mut Label<'_>| label.block == at && label.name == name;
                if let Some(label) = self.labels.iter_mut().find(is_it) {
                    break label;
                }
                block = match self.blocks.get(at) {
                    Some(block) if block.shape != Shape::Function => block.parent,
                    _ => None,
                };
            };
            label.jumps.push(*jump);
        }
        Ok(())
    }

    /// The statement in `block` that contains `jump`.
    fn statement_in(&self, block: usize, jump: Jump) -> usize {
        let (mut at, mut inner) = (jump.at, jump.block);
        while inner != block {
            let Some(found) = self.blocks.get(inner) else {
                break;
            };
            at = found.statement;
            inner = found.parent.unwrap_or(block);
        }
        at
    }

    fn regions(&self, tokens: &[Token<'t>]) -> Result<Vec<Region>, Unfit> {
        let mut regions: Vec<Region> = Vec::new();
        for label in self.labels.iter().filter(|label| !label.jumps.is_empty()) {
            let region = self.region(label, tokens)?;
            let crosses = |other: &&Region| {
                other.block == region.block
                    && (other.from < region.from && region.from < other.to && other.to < region.to
                        || region.from < other.from
                            && other.from < region.to
                            && region.to < other.to)
            };
            if regions.iter().any(|other| crosses(&other)) {
                return unfit("jumps that cross each other", tokens.get(label.at));
            }
            regions.push(region);
        }
        Ok(regions)
    }

    fn region(&self, label: &Label<'_>, tokens: &[Token<'t>]) -> Result<Region, Unfit> {
        let token = tokens.get(label.at);
        let Some(block) = self.blocks.get(label.block) else {
            return unfit("a label outside of any block", token);
        };
        let starts = label
            .jumps
            .iter()
            .map(|jump| self.statement_in(label.block, *jump));
        let first = starts.clone().min().unwrap_or(label.at);
        let forwards = starts.clone().filter(|start| *start < label.at).count();
        let back = forwards == 0;
        if !back && forwards < label.jumps.len() {
            let text = format!("jumps to '{}' both forward and backward", label.name);
            return unfit(text, token);
        }
        let (from, to) = if back {
            (label.at, block.last)
        } else {
            (first, label.at)
        };
        // The condition of `until` sees the locals of its block, and code after a label sees the locals before it.
        let loses_locals = if back {
            block.shape == Shape::Repeat
        } else {
            block.shape == Shape::Repeat || !ends(tokens, label.at + 3, block.last)
        };
        if loses_locals && block.locals.iter().any(|at| from < *at && *at < to) {
            let text = format!("goto '{}' jumps into the scope of a local", label.name);
            return unfit(text, token);
        }
        Ok(Region {
            block: label.block,
            from,
            to,
            back,
        })
    }
}

/// Whether only empty statements and labels follow between `at` and the end of a block.
fn ends(tokens: &[Token<'_>], mut at: usize, last: usize) -> bool {
    while at < last {
        match tokens.get(at) {
            Some(token) if token.is(";") => at += 1,
            Some(token) if token.is("::") => at += 3,
            _ => return false,
        }
    }
    true
}
