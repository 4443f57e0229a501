//! An object as its text and the positions of its members: all that is needed of data that are only written.

use std::cmp::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;

use super::error::Error;
use super::out::Out;
use super::scan::{self, Next};
use super::weight::Growth;
use super::write::write_text;

/// A checked object whose members are sorted by name. No name occurs twice, and none is written with a backslash.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Index {
    /// Starts with the object. What follows it in a body may be there, too.
    text: Bytes,
    members: SmallVec<[Member; 8]>,
}

/// The memory of a member's place, with room for the growth of the list.
const PLACE: usize = 3 * size_of::<Member>();

/// Where a name (without its quotation marks) and its value start and end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Member {
    /// The first bytes of the name. Their order is that of the names, except of those that begin alike.
    start: u64,
    name: u32,
    name_end: u32,
    value: u32,
    value_end: u32,
}

impl Member {
    fn cmp(self, other: Member, text: &[u8]) -> Ordering {
        let starts = self.start.cmp(&other.start);
        starts.then_with(|| self.name(text).cmp(other.name(text)))
    }

    fn name(self, text: &[u8]) -> &[u8] {
        between(text, self.name, self.name_end)
    }

    fn value(self, text: &[u8]) -> &[u8] {
        between(text, self.value, self.value_end)
    }
}

/// The first eight bytes of a name, of which none is zero, filled with zeros.
fn start_of(name: &[u8]) -> u64 {
    match name.first_chunk() {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            chunk
                .iter_mut()
                .zip(name)
                .for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(chunk)
        }
    }
}

fn between(text: &[u8], from: u32, to: u32) -> &[u8] {
    text.get(from as usize..to as usize).unwrap_or_default()
}

impl Index {
    /// Checks the object that starts `text`. `None` if its text would show a client something other than its tree would.
    pub(super) fn read(text: &Bytes, growth: &mut Growth) -> Result<Option<Index>, Error> {
        if u32::try_from(text.len()).is_err() {
            return Ok(None);
        }
        let mut members = SmallVec::new();
        let mut faithful = true;
        let mut at = scan::blank(text, 1);
        if text.get(at) == Some(&b'}') {
            let text = text.clone();
            return Ok(Some(Index { text, members }));
        }
        loop {
            let (name, value) = scan::name(text, at)?;
            let span = scan::value(text, value, 1)?;
            faithful &= span.faithful && !name.escaped;
            growth.add(PLACE)?;
            members.push(Member {
                start: start_of(text.get(at + 1..name.end - 1).unwrap_or_default()),
                name: at as u32 + 1,
                name_end: name.end as u32 - 1,
                value: value as u32,
                value_end: span.end as u32,
            });
            match scan::next(text, span.end, b'}')? {
                Next::More(next) => at = next,
                Next::Close(_) => break,
            }
        }
        if !faithful {
            return Ok(None);
        }
        members.sort_unstable_by(|a, b| a.cmp(*b, text));
        let twice = members.windows(2).any(|pair| match pair {
            [a, b] => a.cmp(*b, text).is_eq(),
            _ => false,
        });
        let text = text.clone();
        Ok((!twice).then_some(Index { text, members }))
    }

    pub(super) fn text(&self) -> &Bytes {
        &self.text
    }

    pub(super) fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Appends the object with sorted members, each as the upstream wrote it.
    pub(super) fn write(&self, out: &mut impl Out) {
        out.put(b"{");
        for (at, member) in self.members.iter().enumerate() {
            if at > 0 {
                out.put(b",");
            }
            write_text(out, member.name(&self.text));
            out.put(b":");
            out.put(member.value(&self.text));
        }
        out.put(b"}");
    }
}
