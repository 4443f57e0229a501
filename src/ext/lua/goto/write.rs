//! Writes the loops that replace jumps.

use std::collections::BTreeSet;

use super::super::syntax::{Edits, Token, Unfit};
use super::{Around, Found, Jump, Region, Shape, unfit};

pub(super) struct Writer<'a, 't> {
    tokens: &'a [Token<'t>],
    found: &'a Found<'t>,
    regions: &'a [Region],
    /// The flag to check, and the loop after which it is checked.
    checks: BTreeSet<(Around, Around)>,
    flags: BTreeSet<Around>,
}

fn flag(of: Around) -> String {
    match of {
        Around::Region(number) => format!("_goto_{number}"),
        Around::Block(number) => format!("_break_{number}"),
    }
}

impl<'a, 't> Writer<'a, 't> {
    pub(super) fn new(
        tokens: &'a [Token<'t>],
        found: &'a Found<'t>,
        regions: &'a [Region],
    ) -> Writer<'a, 't> {
        Writer {
            tokens,
            found,
            regions,
            checks: BTreeSet::new(),
            flags: BTreeSet::new(),
        }
    }

    pub(super) fn write(mut self, edits: &mut Edits) -> Result<(), Unfit> {
        let mut exits: Vec<(usize, usize, String)> = Vec::new();
        let labels = self.found.labels.iter();
        let used = labels.filter(|label| !label.jumps.is_empty());
        for (number, label) in used.enumerate() {
            for jump in &label.jumps {
                let exit = self.exit(*jump, Some(number))?;
                // A plain `break` is enough if there is no loop in between.
                exits.extend(exit.map(|text| (jump.at, 2, text)));
            }
        }
        for jump in &self.found.breaks {
            let exit = self.exit(*jump, None)?;
            exits.extend(exit.map(|text| (jump.at, 1, text)));
        }
        // The order matters: the flag of a block is checked after the loops inserted into it.
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

    /// How a jump to a label, or a `break`, leaves the loops around it. `None` if it is unchanged.
    fn exit(&mut self, jump: Jump, target: Option<usize>) -> Result<Option<String>, Unfit> {
        let around = self.around(jump);
        let is_target = |around: &Around| match (around, target) {
            (Around::Region(number), Some(target)) => *number == target,
            (Around::Block(_), None) => true,
            _ => false,
        };
        let Some(last) = around.iter().position(is_target) else {
            // A `break` outside of a loop is left to the interpreter, which rejects it.
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
                let local = if self.flags.contains(&this) {
                    format!("local {} ", flag(this))
                } else {
                    String::new()
                };
                let text = if region.back {
                    format!(" while true do {local}repeat ")
                } else {
                    format!(" {local}repeat ")
                };
                edits.insert(self.offset(region.from), text);
            }
        }
        for number in &inner_first {
            if let Some(region) = self.regions.get(*number) {
                let this = Around::Region(*number);
                let checks = self.checked(this);
                let text = if region.back {
                    format!(
                        " until true{checks} if not {} then break end end{checks} ",
                        flag(this)
                    )
                } else {
                    format!(" until true{checks} ")
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
