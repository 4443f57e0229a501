//! The members of an object, found by name.

use std::collections::HashMap;

use ahash::RandomState;

use crate::config::value::Member;

/// In objects with more members, names are looked up in a table.
pub(super) const FEW: usize = 16;

/// The members of an object while it is read.
#[derive(Default)]
pub(super) struct Members {
    pub(super) list: Vec<Member>,
    /// The index of each name, once there are more than [`FEW`].
    table: HashMap<Box<str>, usize, RandomState>,
}

impl Members {
    pub(super) fn index_of(&self, name: &str) -> Option<usize> {
        if self.table.is_empty() {
            return self.list.iter().position(|member| *member.name == *name);
        }
        self.table.get(name).copied()
    }

    pub(super) fn push(&mut self, member: Member) {
        self.list.push(member);
        let count = self.list.len();
        let new = match count {
            0..=FEW => return,
            count if self.table.is_empty() => 0..count,
            count => count - 1..count,
        };
        let names = self.list[new.clone()].iter();
        let names = names.map(|member| member.name.clone());
        self.table.extend(names.zip(new));
    }
}
