//! Reads the members of a record one by one: a member of an unexpected type does not hide the others.
//!
//! Integers have any width and sign, and whole floats are integers, as in MaxMind's own readers: databases that are not
//! MaxMind's use other types.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{Serialize, Serializer};

use super::record::{Code, Names};

/// A member that is empty if the record does not have it, and unreadable if its type is unexpected.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Maybe<T>(Option<T>);

/// The place of a member in a record. It is written only where a member cannot be read.
pub(super) struct At<'a> {
    pub(super) outer: Option<&'a At<'a>>,
    pub(super) name: &'a str,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(outer) = self.outer {
            write!(f, "{outer}.")?;
        }
        f.write_str(self.name)
    }
}

/// A type that is made of what a record has. `None`: not of this.
pub(super) trait Lenient: Sized {
    fn of_text(_text: &str) -> Option<Self> {
        None
    }

    fn of_whole(_number: i128) -> Option<Self> {
        None
    }

    fn of_float(number: f64) -> Option<Self> {
        whole(number).and_then(Self::of_whole)
    }

    fn of_bool(_yes: bool) -> Option<Self> {
        None
    }

    fn of_members<'de, M: MapAccess<'de>>(mut members: M) -> Result<Option<Self>, M::Error> {
        while members.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    fn of_items<'de, S: SeqAccess<'de>>(mut items: S) -> Result<Option<Self>, S::Error> {
        while items.next_element::<IgnoredAny>()?.is_some() {}
        Ok(None)
    }

    /// Adds the members in it that cannot be read. `at` is its place.
    fn unreadable(&self, _at: Option<&At<'_>>, _found: &mut Vec<String>) {}
}

impl<T> Maybe<T> {
    pub(super) fn is_unreadable(&self) -> bool {
        self.0.is_none()
    }

    pub(super) fn get_mut(&mut self) -> Option<&mut T> {
        self.0.as_mut()
    }
}

impl<T: Lenient> Maybe<T> {
    pub(super) fn unreadable(&self, at: &At<'_>, found: &mut Vec<String>) {
        match &self.0 {
            Some(value) => value.unreadable(Some(at), found),
            None => found.push(at.to_string()),
        }
    }
}

impl<T: Default> Default for Maybe<T> {
    fn default() -> Maybe<T> {
        Maybe(Some(T::default()))
    }
}

impl<T: Serialize> Serialize for Maybe<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

impl<'de, T: Lenient> Deserialize<'de> for Maybe<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Maybe<T>, D::Error> {
        deserializer.deserialize_any(Any::<T>(PhantomData))
    }
}

struct Any<T>(PhantomData<T>);

impl<'de, T: Lenient> Visitor<'de> for Any<T> {
    type Value = Maybe<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Maybe<T>, E> {
        Ok(Maybe(T::of_text(text)))
    }

    fn visit_bool<E: Error>(self, yes: bool) -> Result<Maybe<T>, E> {
        Ok(Maybe(T::of_bool(yes)))
    }

    fn visit_i64<E: Error>(self, number: i64) -> Result<Maybe<T>, E> {
        Ok(Maybe(T::of_whole(number.into())))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<Maybe<T>, E> {
        Ok(Maybe(T::of_whole(number.into())))
    }

    fn visit_u128<E: Error>(self, number: u128) -> Result<Maybe<T>, E> {
        Ok(Maybe(i128::try_from(number).ok().and_then(T::of_whole)))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<Maybe<T>, E> {
        Ok(Maybe(T::of_float(number)))
    }

    fn visit_bytes<E: Error>(self, _: &[u8]) -> Result<Maybe<T>, E> {
        Ok(Maybe(None))
    }

    fn visit_map<M: MapAccess<'de>>(self, members: M) -> Result<Maybe<T>, M::Error> {
        T::of_members(members).map(Maybe)
    }

    fn visit_seq<S: SeqAccess<'de>>(self, items: S) -> Result<Maybe<T>, S::Error> {
        T::of_items(items).map(Maybe)
    }
}

/// A float without a fraction as an integer.
fn whole(number: f64) -> Option<i128> {
    if number.fract() != 0.0 || number.abs() > 1e15 {
        return None;
    }
    format!("{number:.0}").parse().ok()
}

impl Lenient for String {
    fn of_text(text: &str) -> Option<String> {
        Some(text.to_owned())
    }
}

impl Lenient for Code {
    fn of_text(text: &str) -> Option<Code> {
        Some(Code(text.to_owned()))
    }

    fn of_whole(number: i128) -> Option<Code> {
        Some(Code(number.to_string()))
    }
}

impl Lenient for bool {
    fn of_bool(yes: bool) -> Option<bool> {
        Some(yes)
    }
}

impl Lenient for u16 {
    fn of_whole(number: i128) -> Option<u16> {
        number.try_into().ok()
    }
}

impl Lenient for u32 {
    fn of_whole(number: i128) -> Option<u32> {
        number.try_into().ok()
    }
}

impl Lenient for f64 {
    fn of_whole(number: i128) -> Option<f64> {
        number.to_string().parse().ok()
    }

    fn of_float(number: f64) -> Option<f64> {
        Some(number)
    }
}

impl Lenient for Names {
    fn of_members<'de, M: MapAccess<'de>>(mut members: M) -> Result<Option<Names>, M::Error> {
        let mut names = BTreeMap::new();
        while let Some((language, name)) = members.next_entry::<String, Maybe<String>>()? {
            if let Maybe(Some(name)) = name {
                names.insert(language, name);
            }
        }
        Ok(Some(names))
    }
}

impl<T: Lenient> Lenient for Vec<Maybe<T>> {
    fn of_items<'de, S: SeqAccess<'de>>(mut items: S) -> Result<Option<Self>, S::Error> {
        let mut all = Vec::new();
        while let Some(item) = items.next_element()? {
            all.push(item);
        }
        Ok(Some(all))
    }

    fn unreadable(&self, at: Option<&At<'_>>, found: &mut Vec<String>) {
        let Some(at) = at else { return };
        for item in self {
            item.unreadable(at, found);
        }
    }
}
