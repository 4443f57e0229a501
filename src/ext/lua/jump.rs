//! `goto` and labels, written as loops that end: Lua 5.1 has no other jumps.
//!
//! What stands between a jump forwards and its label becomes `repeat … until true`, and the jump a `break`. What stands
//! between a label and the end of its block, with a jump back in it, becomes a loop that a flag repeats. A `break` or a
//! jump that leaves several loops sets a flag, which each of them asks after the loop within.

use std::collections::BTreeSet;

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
    /// The first token of the statement that it is part of.
    statement: usize,
    /// Its first token, and the one that ends it.
    first: usize,
    last: usize,
    /// `local`s that stand directly in it.
    locals: Vec<usize>,
    /// A `while`, `for` or `if` whose block has not begun.
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

/// A loop that is put in, from the token `from` up to the token `to`.
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

/// Rewrites all jumps of a text; one that is not balanced is left to the interpreter.
///
/// # Errors
/// A jump that cannot be written as a loop.
pub(super) fn rewrite(tokens: &[Token<'_>], edits: &mut Edits) -> Result<(), Unfit> {
    let Some(mut found) = Found::of(tokens) else {
        return Ok(());
    };
    if found.gotos.is_empty() && found.labels.is_empty() {
        return Ok(());
    }
    found.resolve(tokens)?;
    let regions = found.regions(tokens)?;
    Writer {
        tokens,
        found: &found,
        regions: &regions,
        checks: BTreeSet::new(),
        flags: BTreeSet::new(),
    }
    .write(edits)
}

fn unfit<T>(text: impl Into<String>, token: Option<&Token<'_>>) -> Result<T, Unfit> {
    Err(Unfit {
        text: text.into(),
        line: token.map_or(0, |token| token.line),
    })
}

impl<'t> Found<'t> {
    /// `None`: blocks do not end as they should.
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
                // Two names side by side are nothing else in Lua 5.1.
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

    /// Ends a block; where its statement begins.
    fn end(&mut self, block: usize, last: usize) -> Option<usize> {
        let block = self.blocks.get_mut(block)?;
        block.last = last;
        Some(block.statement)
    }

    /// Finds the label of each jump: in a block around it, within the same function.
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

    /// The statement in `block` that holds what stands at `jump`.
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
            let text = format!(
                "jumps to '{}' from before it and from behind it",
                label.name
            );
            return unfit(text, token);
        }
        let (from, to) = match back {
            true => (label.at, block.last),
            false => (first, label.at),
        };
        // What `until` asks sees the locals of its block, and what follows a label those before it.
        let loses_locals = match back {
            true => block.shape == Shape::Repeat,
            false => block.shape == Shape::Repeat || !ends(tokens, label.at + 3, block.last),
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

/// Whether nothing but empty statements and labels stands from `at` to the end of a block.
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

struct Writer<'a, 't> {
    tokens: &'a [Token<'t>],
    found: &'a Found<'t>,
    regions: &'a [Region],
    /// After which loop which flag is asked.
    checks: BTreeSet<(Around, Around)>,
    flags: BTreeSet<Around>,
}

fn flag(of: Around) -> String {
    match of {
        Around::Region(number) => format!("_goto_{number}"),
        Around::Block(number) => format!("_break_{number}"),
    }
}

impl Writer<'_, '_> {
    fn write(mut self, edits: &mut Edits) -> Result<(), Unfit> {
        let mut exits: Vec<(usize, usize, String)> = Vec::new();
        let labels = self.found.labels.iter();
        let used = labels.filter(|label| !label.jumps.is_empty());
        for (number, label) in used.enumerate() {
            for jump in &label.jumps {
                let exit = self.exit(*jump, Some(number))?;
                // A plain `break` is enough where nothing lies in between.
                exits.extend(exit.map(|text| (jump.at, 2, text)));
            }
        }
        for jump in &self.found.breaks {
            let exit = self.exit(*jump, None)?;
            exits.extend(exit.map(|text| (jump.at, 1, text)));
        }
        // In this order: a flag of a block is seen after the loops that are put into it.
        self.write_blocks(edits);
        self.write_regions(edits);
        for (at, length, text) in exits {
            for (index, token) in self.tokens.iter().skip(at).take(length).enumerate() {
                edits.replace(token, if index == 0 { &text } else { "" });
            }
        }
        for label in &self.found.labels {
            for token in self.tokens.iter().skip(label.at).take(3) {
                edits.replace(token, "");
            }
        }
        Ok(())
    }

    /// How a jump to a label, or a `break`, leaves the loops around it; `None`: as it is written.
    fn exit(&mut self, jump: Jump, target: Option<usize>) -> Result<Option<String>, Unfit> {
        let around = self.around(jump);
        let is_target = |around: &Around| match (around, target) {
            (Around::Region(number), Some(target)) => *number == target,
            (Around::Block(_), None) => true,
            _ => false,
        };
        let Some(last) = around.iter().position(is_target) else {
            // A `break` outside of a loop is for the interpreter to refuse.
            return Ok(None);
        };
        let goal = around.get(last).copied().unwrap_or(Around::Region(0));
        let is_back = matches!(goal, Around::Region(number)
            if self.regions.get(number).is_some_and(|region| region.back));
        if last == 0 && !is_back {
            return Ok(target.map(|_| "do break end".to_owned()));
        }
        for inner in around.iter().take(last) {
            if let Around::Block(block) = inner
                && self.found.blocks.get(*block).map(|block| block.shape) == Some(Shape::Repeat)
            {
                let token = self.tokens.get(jump.at);
                return unfit("a jump out of 'repeat ... until'", token);
            }
            self.checks.insert((*inner, goal));
        }
        self.flags.insert(goal);
        Ok(Some(format!("do {} = true break end", flag(goal))))
    }

    /// The loops around a place, innermost first, up to the function.
    fn around(&self, jump: Jump) -> Vec<Around> {
        let mut around = Vec::new();
        let (mut at, mut block) = (jump.at, jump.block);
        while let Some(found) = self.found.blocks.get(block) {
            let mut here: Vec<(usize, usize)> = Vec::new();
            for (number, region) in self.regions.iter().enumerate() {
                if region.block == block && region.from <= at && at < region.to {
                    here.push((region.to - region.from, number));
                }
            }
            here.sort_unstable();
            around.extend(here.into_iter().map(|(_, number)| Around::Region(number)));
            match found.shape {
                Shape::Function => break,
                Shape::Loop | Shape::Repeat => around.push(Around::Block(block)),
                Shape::Plain => {}
            }
            at = found.statement;
            let Some(parent) = found.parent else {
                break;
            };
            block = parent;
        }
        around
    }

    fn checked(&self, after: Around) -> String {
        let goals = self.checks.iter().filter(|(inner, _)| *inner == after);
        goals
            .map(|(_, goal)| format!(" if {} then break end", flag(*goal)))
            .collect()
    }

    fn offset(&self, token: usize) -> usize {
        match (self.tokens.get(token), self.tokens.last()) {
            (Some(token), _) => token.at,
            (None, last) => last.map_or(0, Token::end),
        }
    }

    fn write_regions(&self, edits: &mut Edits) {
        let mut inner_first: Vec<usize> = (0..self.regions.len()).collect();
        let size = |number: &usize| self.regions.get(*number).map_or(0, |r| r.to - r.from);
        inner_first.sort_by_key(size);
        for number in inner_first.iter().rev() {
            if let Some(region) = self.regions.get(*number) {
                let this = Around::Region(*number);
                let local = match self.flags.contains(&this) {
                    true => format!("local {} ", flag(this)),
                    false => String::new(),
                };
                let text = match region.back {
                    true => format!(" while true do {local}repeat "),
                    false => format!(" {local}repeat "),
                };
                edits.insert(self.offset(region.from), text);
            }
        }
        for number in &inner_first {
            if let Some(region) = self.regions.get(*number) {
                let this = Around::Region(*number);
                let checks = self.checked(this);
                let text = match region.back {
                    true => format!(
                        " until true{checks} if not {} then break end end{checks} ",
                        flag(this)
                    ),
                    false => format!(" until true{checks} "),
                };
                edits.insert(self.offset(region.to), text);
            }
        }
    }

    fn write_blocks(&self, edits: &mut Edits) {
        for (number, block) in self.found.blocks.iter().enumerate() {
            let this = Around::Block(number);
            if self.flags.contains(&this) {
                edits.insert(self.offset(block.first), format!(" local {} ", flag(this)));
            }
            let checks = self.checked(this);
            if let (false, Some(end)) = (checks.is_empty(), self.tokens.get(block.last)) {
                edits.insert(end.end(), format!("{checks} "));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use mlua::Lua;

    use super::super::syntax::rewritten;

    /// Runs a text, which gathers what it passes in `out`.
    fn ran(text: &str) -> String {
        let new = rewritten(text).unwrap().unwrap();
        assert_eq!(new.lines().count(), text.lines().count(), "{new}");
        let text =
            format!("local out = ''; local function put(s) out = out .. s end; {new}\nreturn out");
        let lua = Lua::new();
        lua.load(&text)
            .eval::<String>()
            .unwrap_or_else(|error| panic!("{new}: {error}"))
    }

    #[test]
    fn jumps_lead_where_lua_leads_them() {
        for (text, expected) in [
            // Continue.
            (
                "for i = 1, 4 do if i == 2 then goto continue end put(i) ::continue:: end",
                "134",
            ),
            (
                "for i = 1, 4 do if i == 2 then goto continue end if i == 4 then break end put(i) ::continue:: end",
                "13",
            ),
            (
                "local i = 0 while i < 4 do i = i + 1 if i % 2 == 0 then goto c end local x = i put(x) ::c:: ; end",
                "13",
            ),
            (
                "local i = 0 repeat i = i + 1 if i == 2 then goto c end put(i) ::c:: until i == 3",
                "13",
            ),
            // Out of inner loops.
            (
                "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto next end put(i .. j) end put('!') ::next:: end",
                "112131",
            ),
            (
                "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto done end put(i .. j) end end ::done:: put('.')",
                "11.",
            ),
            (
                "for i = 1, 2 do for j = 1, 2 do for k = 1, 2 do if k == 2 then goto out end put(k) end put('j') end put('i') ::out:: end put('.')",
                "11.",
            ),
            // Forwards, over statements.
            (
                "local a = 'a' put(a) if a then goto skip end put('b') ::skip:: put(a)",
                "aa",
            ),
            ("do goto e end put('x') ::e::", ""),
            ("goto one ::two:: put(2) ::one:: put(1)", "1"),
            (
                "local x = 1 if x == 1 then goto a else goto b end ::a:: put('a') ::b:: put('b')",
                "ab",
            ),
            // Back.
            (
                "local n = 0 ::again:: n = n + 1 put(n) if n < 3 then goto again end put('.')",
                "123.",
            ),
            (
                "local n = 0 ::again:: local m = n n = m + 1 for i = 1, 2 do if n < 3 then goto again end put(n) end",
                "33",
            ),
            (
                "for i = 1, 2 do local n = 0 ::again:: n = n + 1 if n < 2 then goto again end if i == 2 then break end put(i .. n) end put('.')",
                "12.",
            ),
            (
                "for i = 1, 3 do local n = 0 ::top:: n = n + 1 if n == 1 then goto top end if i == 2 then goto continue end put(i) ::continue:: end",
                "13",
            ),
            // Within functions, and names that are no jumps.
            (
                "local function f(n) for i = 1, n do if i == 2 then goto c end put(i) do local g = function() for _ = 1, 2 do break end end g() end ::c:: end return 'r' end put(f(3))",
                "13r",
            ),
            (
                "local function f() do goto e end put('x') ::e:: end f() put('.')",
                ".",
            ),
            ("local t = {}\nt['goto'] = 1 ; ; put(t['goto'])", "1"),
            ("::unused:: put('a')", "a"),
        ] {
            assert_eq!(ran(text), expected, "{text}\n{:?}", rewritten(text));
        }
    }

    #[test]
    fn a_return_within_a_jump_is_kept() {
        let text = "for i = 1, 3 do if i == 1 then goto c end do return 'r' .. i end ::c:: end";
        let new = rewritten(text).unwrap().unwrap();
        assert_eq!(Lua::new().load(new).eval::<String>().unwrap(), "r2");
    }

    #[test]
    fn jumps_that_have_no_other_form_are_named() {
        for (text, reason) in [
            ("goto nowhere", "no visible label 'nowhere' for goto"),
            ("do ::a:: end goto a", "no visible label 'a'"),
            (
                "::a:: local f = function() goto a end",
                "no visible label 'a'",
            ),
            (
                "goto a local x = 1 ::a:: print(x)",
                "jumps into the scope of a local",
            ),
            (
                "if x then goto a end ::a:: if y then goto a end",
                "from before it and from behind it",
            ),
            (
                "for i = 1, 2 do repeat if x then goto c end until y ::c:: end",
                "a jump out of 'repeat ... until'",
            ),
        ] {
            let error = rewritten(text).unwrap_err();
            assert!(error.text.contains(reason), "{text}: {}", error.text);
            assert_eq!(error.line, 1);
        }
    }

    #[test]
    fn what_is_no_lua_is_left_to_the_interpreter() {
        for text in [
            "if goto a",
            "end ::a::",
            "goto",
            "for i = 1 do ::a:: until",
            "do goto a",
        ] {
            let _ = rewritten(text);
        }
    }
}
