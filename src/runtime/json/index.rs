//! An object as its text and the positions of its members: all that is needed of data that are only written.

use std::cmp::Ordering;

use bytes::Bytes;
use smallvec::SmallVec;

use super::error::Error;
use super::out::Out;
use super::scan::{self, Next};
use super::weight::Growth;
use super::write::{is_plain, write_text};

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

    /// The name with its quotation marks and its colon, if they are written as they are in the text.
    fn label(self, text: &[u8]) -> Option<&[u8]> {
        let start = self.name.checked_sub(1)?;
        let label = between(text, start, self.name_end.checked_add(2)?);
        (label.ends_with(b"\":") && is_plain(self.name(text))).then_some(label)
    }
}

/// The first eight bytes of the name from `from` to `to`, of which none is zero, filled with zeros.
fn start_of(text: &[u8], from: usize, to: usize) -> u64 {
    let length = to.saturating_sub(from);
    // There is nearly always more text, so that eight bytes can be read at once.
    let word = match text.get(from..).and_then(<[u8]>::first_chunk) {
        Some(chunk) => u64::from_be_bytes(*chunk),
        None => {
            let mut chunk = [0; 8];
            let rest = text.get(from..).unwrap_or_default();
            chunk
                .iter_mut()
                .zip(rest)
                .for_each(|(to, from)| *to = *from);
            u64::from_be_bytes(chunk)
        }
    };
    match length {
        0 => 0,
        1..8 => word & (u64::MAX << (64 - 8 * length)),
        _ => word,
    }
}

/// Sorts members by their names. `false` if a name occurs twice.
fn sort(members: &mut [Member], text: &[u8]) -> bool {
    members.sort_unstable_by_key(|member| member.start);
    let are_alike = |pair: &[Member]| matches!(pair, [a, b] if a.start == b.start);
    if !members.windows(2).any(are_alike) {
        return true;
    }
    members.sort_unstable_by(|a, b| a.cmp(*b, text));
    let are_equal = |pair: &[Member]| matches!(pair, [a, b] if a.cmp(*b, text).is_eq());
    !members.windows(2).any(are_equal)
}

fn between(text: &[u8], from: u32, to: u32) -> &[u8] {
    text.get(from as usize..to as usize).unwrap_or_default()
}

impl Index {
    /// Checks the object that starts `text`. `None` if its text would show a client something other than its tree would.
    pub(super) fn read(text: &Bytes, growth: &mut Growth) -> Result<Option<Box<Index>>, Error> {
        if u32::try_from(text.len()).is_err() {
            return Ok(None);
        }
        // In its box from the start, because it has room for members and would be copied.
        let mut index = Box::new(Index {
            text: text.clone(),
            members: SmallVec::new(),
        });
        let mut faithful = true;
        let mut at = scan::blank(text, 1);
        if text.get(at) == Some(&b'}') {
            return Ok(Some(index));
        }
        loop {
            let (name, value) = scan::name(text, at)?;
            let span = scan::value(text, value, 1)?;
            faithful &= span.faithful && !name.escaped;
            growth.add(PLACE)?;
            index.members.push(Member {
                start: start_of(text, at + 1, name.end - 1),
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
        Ok(sort(&mut index.members, text).then_some(index))
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
            match member.label(&self.text) {
                Some(label) => out.put(label),
                None => {
                    write_text(out, member.name(&self.text));
                    out.put(b":");
                }
            }
            out.put(member.value(&self.text));
        }
        out.put(b"}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_start_of_a_name_ends_with_it() {
        for text in [&b"\"ab\":1"[..], b"\"ab\": [1, 2, 3, 4]"] {
            assert_eq!(start_of(text, 1, 3), 0x6162_0000_0000_0000);
        }
        assert_eq!(start_of(b"\"\":1, \"a\": 2}", 1, 1), 0);
        assert_eq!(
            start_of(b"\"abcdefgh\":1", 1, 9),
            u64::from_be_bytes(*b"abcdefgh")
        );
        assert_eq!(
            start_of(b"\"abcdefghi\":1", 1, 10),
            u64::from_be_bytes(*b"abcdefgh")
        );
    }

    /// The text of an object that is only written.
    fn written(text: &'static str) -> Option<String> {
        let index = Index::read(&Bytes::from_static(text.as_bytes()), &mut Growth::default());
        let mut out = Vec::new();
        index.unwrap()?.write(&mut out);
        Some(String::from_utf8(out).unwrap())
    }

    #[test]
    fn members_are_written_by_name_whatever_is_between_a_name_and_its_value() {
        for (text, expected) in [
            (r#"{"b":1,"a":2}"#, r#"{"a":2,"b":1}"#),
            (r#"{"b" :1, "a": 2}"#, r#"{"a":2,"b":1}"#),
            (
                r#"{ "b" : 1 , "a"
:2 }"#,
                r#"{"a":2,"b":1}"#,
            ),
            (
                r#"{"<b>": 1, "a&":2}"#,
                r#"{"\u003cb\u003e":1,"a\u0026":2}"#,
            ),
            (
                r#"{"longer name 2": 1, "longer name 1":2, "": 3}"#,
                r#"{"":3,"longer name 1":2,"longer name 2":1}"#,
            ),
        ] {
            assert_eq!(written(text).as_deref(), Some(expected), "{text}");
        }
    }

    #[test]
    fn a_name_that_occurs_twice_is_found() {
        for text in [
            r#"{"a":1,"b":2,"a":3}"#,
            r#"{"longer name":1,"longer name":2}"#,
        ] {
            assert_eq!(written(text), None, "{text}");
        }
    }
}
