//! The values of a template: those of JSON, two kinds of integers, times, and maps that are shared by reference.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

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
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Time(pub(super) DateTime<Tz>);

/// A value with named parts and methods.
#[derive(Debug)]
pub(super) enum Object {
    Semver(super::functions::semver::Version),
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
        Time(time.with_timezone(&Tz::UTC))
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
        Value::Map(Map {
            element: Element::Text,
            ..Map::of(entries)
        })
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
            Value::Time(_) | Value::Object(_) => true,
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
            },
            Value::Map(map) => match map.element {
                Element::Any => "map[string]interface {}",
                Element::Text => "map[string]string",
                Element::Int => "map[string]int",
            },
            Value::Time(_) => "time.Time",
            Value::Object(object) => match **object {
                Object::Semver(_) => "*semver.Version",
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
            },
            scalar => scalar.type_name(),
        }
    }

    /// Deep equality that distinguishes kinds, as `reflect.DeepEqual`.
    pub(super) fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (left, right) if left.is_nothing() && right.is_nothing() => true,
            (Value::Bool(left), Value::Bool(right)) => left == right,
            (Value::Int(left), Value::Int(right)) | (Value::Int64(left), Value::Int64(right)) => {
                left == right
            }
            (Value::Float(left), Value::Float(right)) => left == right,
            (Value::Text(left), Value::Text(right)) => left == right,
            (Value::Time(left), Value::Time(right)) => left == right,
            (Value::List(left), Value::List(right)) => {
                left.element == right.element
                    && left.items.is_some() == right.items.is_some()
                    && left.items().len() == right.items().len()
                    && left
                        .items()
                        .iter()
                        .zip(right.items())
                        .all(|(left, right)| left.equals(right))
            }
            (Value::Map(left), Value::Map(right)) => {
                if Rc::ptr_eq(&left.entries, &right.entries) {
                    return true;
                }
                left.element == right.element
                    && left.len() == right.len()
                    && left.snapshot().iter().all(|(key, value)| {
                        right.get(key).is_some_and(|other| value.equals(&other))
                    })
            }
            (Value::Object(left), Value::Object(right)) => Rc::ptr_eq(left, right),
            _ => false,
        }
    }
}
