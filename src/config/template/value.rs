//! The values of a template: those of JSON, two kinds of integers, times, and maps that are shared by reference.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use chrono::{DateTime, Utc};

use super::functions::date::{Named, Zone};

/// Bytes: Go's strings need not be UTF-8.
pub(super) type Text = Rc<[u8]>;

pub(super) type Entries = BTreeMap<Text, Value>;

/// A value of Go's `text/template`, with the distinctions that Go's messages and functions make.
#[derive(Debug, Clone)]
pub(super) enum Value {
    /// No value: a key that is not in a map, or a `null` after a pipe.
    Missing,
    /// A `null` that is present.
    Nil,
    Bool(bool),
    Int(i64),
    Int64(i64),
    Float(f64),
    Text(Text),
    List(List),
    Map(Map),
    Time(Time),
    Object(Rc<Object>),
}

/// The declared element type of a list or map in Go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Element {
    Any,
    Text,
    Int,
    /// Lists of any values.
    List,
}

#[derive(Debug, Clone)]
pub(super) struct List {
    pub(super) element: Element,
    /// `None` is Go's nil slice, `null` in JSON.
    pub(super) items: Option<Rc<Vec<Value>>>,
}

#[derive(Debug, Clone)]
pub(super) struct Map {
    pub(super) element: Element,
    pub(super) entries: Rc<RefCell<Entries>>,
    /// Go's nil map, which can be read but not written.
    pub(super) nil: bool,
}

/// A time in a zone.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Time(pub(super) DateTime<Zone>);

/// A value with named parts and methods.
#[derive(Debug)]
pub(super) enum Object {
    Semver(super::functions::semver::Version),
    Named(Named),
}

impl List {
    pub(super) fn items(&self) -> &[Value] {
        self.items.as_deref().map_or(&[], Vec::as_slice)
    }
}

impl Map {
    pub(super) fn nil() -> Map {
        Map {
            element: Element::Any,
            entries: Rc::default(),
            nil: true,
        }
    }

    pub(super) fn of(entries: Entries) -> Map {
        Map {
            element: Element::Any,
            entries: Rc::new(RefCell::new(entries)),
            nil: false,
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<Value> {
        self.entries.borrow().get(key).cloned()
    }

    pub(super) fn len(&self) -> usize {
        self.entries.borrow().len()
    }

    /// A copy of the entries, so that nothing is borrowed while they are used.
    pub(super) fn snapshot(&self) -> Vec<(Text, Value)> {
        let entries = self.entries.borrow();
        entries
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

impl Time {
    pub(super) fn utc(time: DateTime<Utc>) -> Time {
        Time(time.with_timezone(&Zone::UTC))
    }
}

impl Value {
    pub(super) fn text(text: impl AsRef<[u8]>) -> Value {
        Value::Text(text.as_ref().into())
    }

    pub(super) fn list(items: Vec<Value>) -> Value {
        Value::List(List {
            element: Element::Any,
            items: Some(Rc::new(items)),
        })
    }

    /// Go's nil `[]interface {}`.
    pub(super) fn nil_list() -> Value {
        Value::List(List {
            element: Element::Any,
            items: None,
        })
    }

    /// Lists in a list.
    pub(super) fn lists(items: Vec<Value>) -> Value {
        Value::List(List {
            element: Element::List,
            items: Some(Rc::new(items)),
        })
    }

    pub(super) fn texts<T: AsRef<[u8]>>(items: impl IntoIterator<Item = T>) -> Value {
        let items = items.into_iter().map(Value::text).collect();
        Value::List(List {
            element: Element::Text,
            items: Some(Rc::new(items)),
        })
    }

    pub(super) fn ints(items: impl IntoIterator<Item = i64>) -> Value {
        let items = items.into_iter().map(Value::Int).collect();
        Value::List(List {
            element: Element::Int,
            items: Some(Rc::new(items)),
        })
    }

    pub(super) fn map(entries: Entries) -> Value {
        Value::Map(Map::of(entries))
    }

    pub(super) fn text_map(entries: Entries) -> Value {
        let mut map = Map::of(entries);
        map.element = Element::Text;
        Value::Map(map)
    }

    pub(super) fn named(&self) -> Option<Named> {
        match self {
            Value::Object(object) => match **object {
                Object::Named(named) => Some(named),
                Object::Semver(_) => None,
            },
            _ => None,
        }
    }

    pub(super) fn is_nothing(&self) -> bool {
        matches!(self, Value::Missing | Value::Nil)
    }

    /// Whether `if` takes its first branch. This is also the negation of Sprig's `empty`.
    pub(super) fn is_true(&self) -> bool {
        match self {
            Value::Missing | Value::Nil => false,
            Value::Bool(value) => *value,
            Value::Int(value) | Value::Int64(value) => *value != 0,
            Value::Float(value) => *value != 0.0,
            Value::Text(text) => !text.is_empty(),
            Value::List(list) => !list.items().is_empty(),
            Value::Map(map) => map.len() > 0,
            Value::Time(_) => true,
            Value::Object(_) => self.named().is_none_or(|named| named.number() != 0),
        }
    }

    /// The name of its Go type.
    pub(super) fn type_name(&self) -> &'static str {
        match self {
            Value::Missing => "<nil>",
            Value::Nil => "interface {}",
            Value::Bool(_) => "bool",
            Value::Int(_) => "int",
            Value::Int64(_) => "int64",
            Value::Float(_) => "float64",
            Value::Text(_) => "string",
            Value::List(list) => match list.element {
                Element::Any => "[]interface {}",
                Element::Text => "[]string",
                Element::Int => "[]int",
                Element::List => "[][]interface {}",
            },
            Value::Map(map) => match map.element {
                Element::Any => "map[string]interface {}",
                Element::Text => "map[string]string",
                Element::Int => "map[string]int",
                Element::List => "map[string][]interface {}",
            },
            Value::Time(_) => "time.Time",
            Value::Object(object) => match **object {
                Object::Semver(_) => "*semver.Version",
                Object::Named(named) => named.type_name(),
            },
        }
    }

    /// The name of its kind in Go's reflection.
    pub(super) fn kind_name(&self) -> &'static str {
        match self {
            Value::Missing | Value::Nil => "invalid",
            Value::List(_) => "slice",
            Value::Map(_) => "map",
            Value::Time(_) => "struct",
            Value::Object(object) => match **object {
                Object::Semver(_) => "ptr",
                Object::Named(named) => named.kind_name(),
            },
            scalar => scalar.type_name(),
        }
    }

    /// The elements and bytes of a value that nothing else refers to, as far as they are not shared.
    pub(super) fn fresh_size(&self) -> usize {
        match self {
            Value::List(list) => {
                list.items
                    .as_ref()
                    .map_or(0, |items| match Rc::strong_count(items) {
                        1 => items.iter().map(Value::size_in_list).sum(),
                        _ => 0,
                    })
            }
            Value::Map(map) if Rc::strong_count(&map.entries) == 1 => {
                let entries = map.entries.borrow();
                let sizes = entries.values().map(Value::size_in_list);
                sizes.sum::<usize>() + entries.len() * size_of::<Value>()
            }
            Value::Text(text) if Rc::strong_count(text) == 1 => text.len(),
            _ => 0,
        }
    }

    fn size_in_list(&self) -> usize {
        let content = match self {
            Value::Text(text) if Rc::strong_count(text) == 1 => text.len(),
            _ => 0,
        };
        size_of::<Value>() + content
    }

    pub(super) fn is_nested(&self) -> bool {
        matches!(self, Value::List(_) | Value::Map(_))
    }
}

// Values may be nested as deeply as a rendering has steps. Dropping them one inside the other would use up the stack.
impl Drop for List {
    fn drop(&mut self) {
        dismantle(self.take_last());
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        dismantle(self.take_last());
    }
}

impl List {
    /// The items, if no other list refers to them.
    fn take_last(&mut self) -> Vec<Value> {
        self.items
            .take()
            .and_then(Rc::into_inner)
            .unwrap_or_default()
    }
}

impl Map {
    /// The nested values, if no other map refers to them.
    fn take_last(&mut self) -> Vec<Value> {
        let entries = Rc::get_mut(&mut self.entries).map(RefCell::get_mut);
        match entries {
            Some(entries) if entries.values().any(Value::is_nested) => {
                std::mem::take(entries).into_values().collect()
            }
            _ => Vec::new(),
        }
    }
}

fn dismantle(mut rest: Vec<Value>) {
    while let Some(mut value) = rest.pop() {
        match &mut value {
            Value::List(list) => rest.append(&mut list.take_last()),
            Value::Map(map) => rest.append(&mut map.take_last()),
            _ => {}
        }
    }
}
