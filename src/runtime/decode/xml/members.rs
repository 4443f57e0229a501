//! The members that the elements of a document become.

use quick_xml::events::BytesStart;

use super::{Open, name_of, trimmed};
use crate::runtime::json::{Growth, Object, Value};
use crate::upstream::budget::Full;

/// The members that an element becomes.
#[derive(Default)]
pub(super) struct Members {
    name: Box<str>,
    members: Object,
    /// A text before any member.
    alone: Option<Box<str>>,
    /// The text since the last element.
    text: String,
}

impl Members {
    fn end_text(&mut self) {
        match trimmed(&self.text) {
            "" => {}
            text if self.members.is_empty() => self.alone = Some(text.into()),
            text => {
                self.members.insert("#text".into(), Value::string(text));
            }
        }
        self.text.clear();
    }
}

impl Open for Members {
    type Closed = (Box<str>, Value);
    type Sink = ();

    const BYTES: usize = 0;

    fn open(
        start: &BytesStart<'_>,
        attributes: Vec<(Box<str>, Box<str>)>,
        _bytes: usize,
    ) -> Members {
        let attributes = attributes.into_iter();
        let members =
            attributes.map(|(name, value)| (format!("-{name}").into(), Value::String(value)));
        Members {
            name: name_of(start),
            members: members.collect(),
            ..Members::default()
        }
    }

    fn is_named(&self, name: &str) -> bool {
        &*self.name == name
    }

    fn add_text(&mut self, text: &str, _growth: &mut Growth) -> Result<(), Full> {
        self.text.push_str(text);
        Ok(())
    }

    /// The value of an element is never an array, so an array always holds earlier elements of the same name.
    fn add_child(&mut self, (name, new): (Box<str>, Value)) {
        self.end_text();
        match self.members.get_mut(&name) {
            None => {
                self.members.insert(name, new);
            }
            Some(Value::Array(known)) => known.push(new),
            Some(known) => {
                let first = std::mem::take(known);
                *known = Value::Array(vec![first, new]);
            }
        }
    }

    fn close(
        mut self,
        _parents: &[Members],
        _sink: &mut (),
        _growth: &mut Growth,
    ) -> Result<Option<(Box<str>, Value)>, Full> {
        self.end_text();
        let value = match self.alone {
            alone if self.members.is_empty() => Value::String(alone.unwrap_or_default()),
            Some(text) => {
                self.members.insert("#text".into(), Value::String(text));
                Value::Object(self.members)
            }
            None => Value::Object(self.members),
        };
        Ok(Some((self.name, value)))
    }
}
