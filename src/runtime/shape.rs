//! target, allow, deny, mapping, group: selects and renames the members of an upstream's response.

use std::collections::BTreeMap;

use super::flatmap::Flatmap;
use super::json::{Depth, Growth, Object, Value};
use crate::upstream::budget::Full;

/// The configured shape of a backend's response, before it is compiled.
#[derive(Debug, Clone, Default)]
pub struct ShapeSpec {
    /// The dotted path of the object that is used as the whole response. Empty uses all of it.
    pub target: String,
    /// Dotted paths that are kept. If there are any, `deny` is ignored.
    pub allow: Vec<String>,
    /// Dotted paths that are removed.
    pub deny: Vec<String>,
    /// Top-level names and their new names, in the configured order.
    pub mapping: Vec<(String, String)>,
    /// The name that everything is put under. Empty for none.
    pub group: String,
    /// Replaces `allow`, `deny` and `mapping`.
    pub flatmap: Option<Flatmap>,
}

/// The manipulations of one backend's response, in their fixed order: target, then flatmap or (allow or deny, then
/// mapping), then group.
#[derive(Debug, Clone, Default)]
pub struct Shape {
    target: Box<[Box<str>]>,
    change: Change,
    group: Option<Box<str>>,
    /// Nothing reads the result: it is only merged with others and written.
    unread: bool,
}

#[derive(Debug, Clone, Default)]
enum Change {
    #[default]
    Nothing,
    Flatmap(Flatmap),
    Fields {
        filter: Filter,
        mapping: Box<[(Box<str>, Box<str>)]>,
    },
}

#[derive(Debug, Clone)]
enum Filter {
    Nothing,
    Allow(Names),
    Deny(Names),
}

/// A set of dotted paths as a tree. `None` is the end of a path, which includes everything below it.
#[derive(Debug, Clone, Default)]
struct Names(BTreeMap<Box<str>, Option<Names>>);

impl Shape {
    /// Precomputes everything that does not depend on a response.
    pub fn compile(spec: ShapeSpec) -> Shape {
        let change = match spec.flatmap {
            Some(flatmap) => Change::Flatmap(flatmap),
            None => fields(&spec.allow, &spec.deny, &spec.mapping),
        };
        let target = match spec.target.as_str() {
            "" => Box::default(),
            path => path.split('.').map(Box::from).collect(),
        };
        Shape {
            target,
            change,
            group: (!spec.group.is_empty()).then(|| spec.group.into()),
            unread: false,
        }
    }

    /// The result is only written. `alone`: it is not merged with others, which would need its members.
    pub fn only_written(&mut self, alone: bool) {
        self.unread = alone || self.group.is_some();
    }

    /// How deep a response must be parsed for this shape. Nested filters open the branches they need. Only
    /// `flatmap_filter` is likely to visit everything.
    pub fn depth(&self) -> Depth {
        match self.change {
            Change::Flatmap(_) => Depth::Full,
            Change::Nothing if self.unread && self.target.is_empty() => Depth::Index,
            _ => Depth::TopLevel,
        }
    }

    /// Applies everything to `data`, which is an object or null. The result is an object or null too. What is copied
    /// counts in `growth`.
    ///
    /// # Errors
    /// There is no memory for the copies.
    pub fn apply(&self, mut data: Value, growth: &mut Growth) -> Result<Value, Full> {
        if !self.target.is_empty() {
            data = descend(data, &self.target);
        }
        match &self.change {
            Change::Nothing => {}
            Change::Flatmap(flatmap) => flatmap.apply(&mut data, growth)?,
            Change::Fields { filter, mapping } => {
                if let Some(object) = data.as_object_mut() {
                    filter.apply(object);
                    rename(object, mapping);
                }
            }
        }
        Ok(match &self.group {
            Some(name) => {
                // This costs half as much as `from` with one member.
                let mut object = Object::new();
                object.insert(name.clone(), data);
                Value::Object(object)
            }
            None => data,
        })
    }
}

impl Filter {
    fn apply(&self, object: &mut Object) {
        match self {
            Filter::Nothing => {}
            Filter::Allow(names) => names.keep(object),
            Filter::Deny(names) => names.remove(object),
        }
    }
}

impl Names {
    /// With `last_wins`, the later of a path and a longer one below it counts, as in KrakenD for `allow`. Otherwise
    /// the shorter path includes the longer one.
    fn new(paths: &[String], last_wins: bool) -> Names {
        let mut names = Names::default();
        for path in paths {
            let parts: Vec<&str> = path.split('.').collect();
            names.insert(&parts, last_wins);
        }
        names
    }

    fn insert(&mut self, path: &[&str], last_wins: bool) {
        let Some((first, rest)) = path.split_first() else {
            return;
        };
        if rest.is_empty() {
            self.0.insert((*first).into(), None);
            return;
        }
        let below = self
            .0
            .entry((*first).into())
            .or_insert_with(|| Some(Names::default()));
        if below.is_none() && last_wins {
            *below = Some(Names::default());
        }
        if let Some(below) = below {
            below.insert(rest, last_wins);
        }
    }

    /// Removes unnamed members, and objects that become empty.
    fn keep(&self, object: &mut Object) {
        object.retain(|name, value| match self.0.get(name) {
            None => false,
            Some(None) => true,
            Some(Some(below)) => value.as_object_mut().is_some_and(|inner| {
                below.keep(inner);
                !inner.is_empty()
            }),
        });
    }

    /// Removes named members. An object that becomes empty is kept.
    fn remove(&self, object: &mut Object) {
        for (name, below) in &self.0 {
            match below {
                None => {
                    object.remove(name);
                }
                Some(below) => {
                    if let Some(inner) = object.get_mut(name).and_then(Value::as_object_mut) {
                        below.remove(inner);
                    }
                }
            }
        }
    }
}

fn fields(allow: &[String], deny: &[String], mapping: &[(String, String)]) -> Change {
    let filter = match (allow.is_empty(), deny.is_empty()) {
        (false, _) => Filter::Allow(Names::new(allow, true)),
        (true, false) => Filter::Deny(Names::new(deny, false)),
        (true, true) if mapping.is_empty() => return Change::Nothing,
        (true, true) => Filter::Nothing,
    };
    let mapping = mapping
        .iter()
        .map(|(from, to)| {
            let to = to.split('.').next().unwrap_or_default();
            (from.as_str().into(), to.into())
        })
        .collect();
    Change::Fields { filter, mapping }
}

/// The object at `path`. An empty one if the path does not exist or leads to another type.
fn descend(mut data: Value, path: &[Box<str>]) -> Value {
    for name in path {
        let member = data.as_object_mut().and_then(|object| object.remove(name));
        data = match member {
            Some(member) => member,
            None => return Value::Object(Object::new()),
        };
    }
    match data.as_object_mut() {
        Some(_) => data,
        None => Value::Object(Object::new()),
    }
}

/// Renames all members at once, so that swaps work in any order.
fn rename(object: &mut Object, mapping: &[(Box<str>, Box<str>)]) {
    let taken: smallvec::SmallVec<[(&Box<str>, Value); 4]> = mapping
        .iter()
        .filter_map(|(from, to)| object.remove(from).map(|value| (to, value)))
        .collect();
    for (to, value) in taken {
        object.insert(to.clone(), value);
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use proptest::prelude::*;

    use super::*;
    use crate::runtime::json::{Style, parse, to_bytes};

    const BASE: &str = r#"{"id":1,"name":"a","tags":["x","y"],"nested":{"k":1,"z":{"q":true,"w":null}},"arr":[{"id":1,"n":"a"},{"id":2,"n":"b"}],"e":{}}"#;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|text| (*text).to_owned()).collect()
    }

    fn pairs(list: &[(&str, &str)]) -> Vec<(String, String)> {
        list.iter()
            .map(|(from, to)| ((*from).to_owned(), (*to).to_owned()))
            .collect()
    }

    fn shaped(spec: ShapeSpec, text: &str) -> String {
        let shape = Shape::compile(spec);
        let results = [Depth::TopLevel, Depth::Full].map(|depth| {
            let value = parse(&Bytes::copy_from_slice(text.as_bytes()), depth).expect("valid");
            let value = shape.apply(value, &mut Growth::default());
            to_bytes(&value.expect("small"), Style::Canonical)
        });
        assert_eq!(results[0], results[1], "lazy and full differ");
        String::from_utf8(results[0].to_vec()).expect("UTF-8")
    }

    fn allowed(paths: &[&str]) -> String {
        shaped(
            ShapeSpec {
                allow: strings(paths),
                ..ShapeSpec::default()
            },
            BASE,
        )
    }

    fn denied(paths: &[&str]) -> String {
        shaped(
            ShapeSpec {
                deny: strings(paths),
                ..ShapeSpec::default()
            },
            BASE,
        )
    }

    fn targeted(target: &str, group: &str) -> String {
        shaped(
            ShapeSpec {
                target: target.to_owned(),
                group: group.to_owned(),
                ..ShapeSpec::default()
            },
            BASE,
        )
    }

    #[test]
    fn allow_keeps_named_members_through_objects_only() {
        assert_eq!(
            allowed(&["id", "nested.z.q"]),
            r#"{"id":1,"nested":{"z":{"q":true}}}"#
        );
        assert_eq!(allowed(&["arr.id"]), "{}");
        assert_eq!(allowed(&["nope"]), "{}");
        assert_eq!(allowed(&["*"]), "{}");
        assert_eq!(allowed(&["id.x", "name"]), r#"{"name":"a"}"#);
        assert_eq!(allowed(&["e.x", "e"]), r#"{"e":{}}"#);
    }

    #[test]
    fn the_later_allow_of_a_parent_and_its_child_wins() {
        assert_eq!(allowed(&["nested", "nested.k"]), r#"{"nested":{"k":1}}"#);
        assert_eq!(
            allowed(&["nested.k", "nested"]),
            r#"{"nested":{"k":1,"z":{"q":true,"w":null}}}"#
        );
    }

    #[test]
    fn deny_removes_named_members_and_keeps_empty_objects() {
        assert_eq!(
            denied(&["id", "nested.z.q", "arr", "nope.x"]),
            r#"{"e":{},"name":"a","nested":{"k":1,"z":{"w":null}},"tags":["x","y"]}"#
        );
        assert!(denied(&["nested.k", "nested.z"]).contains(r#""nested":{}"#));
        for order in [["nested.k", "nested"], ["nested", "nested.k"]] {
            assert!(!denied(&order).contains("nested"));
        }
    }

    #[test]
    fn deny_is_ignored_if_there_is_an_allow() {
        let spec = ShapeSpec {
            allow: strings(&["id", "name"]),
            deny: strings(&["id"]),
            ..ShapeSpec::default()
        };
        assert_eq!(shaped(spec, BASE), r#"{"id":1,"name":"a"}"#);
    }

    #[test]
    fn mapping_comes_after_the_filters() {
        let spec = |allow: &str| ShapeSpec {
            allow: strings(&[allow]),
            mapping: pairs(&[("id", "z")]),
            ..ShapeSpec::default()
        };
        assert_eq!(shaped(spec("id"), BASE), r#"{"z":1}"#);
        assert_eq!(shaped(spec("z"), BASE), "{}");
    }

    #[test]
    fn mapping_is_simultaneous_and_cuts_new_names_at_a_dot() {
        let mapped = |mapping: &[(&str, &str)]| {
            let spec = ShapeSpec {
                mapping: pairs(mapping),
                ..ShapeSpec::default()
            };
            shaped(spec, r#"{"a":1,"b":2,"o":{"x":3}}"#)
        };
        assert_eq!(
            mapped(&[("a", "b"), ("b", "a")]),
            r#"{"a":2,"b":1,"o":{"x":3}}"#
        );
        assert_eq!(
            mapped(&[("a", "b"), ("b", "c")]),
            r#"{"b":1,"c":2,"o":{"x":3}}"#
        );
        assert_eq!(
            mapped(&[("a", "new.name")]),
            r#"{"b":2,"new":1,"o":{"x":3}}"#
        );
        assert_eq!(
            mapped(&[("o.x", "y"), ("nope", "z")]),
            r#"{"a":1,"b":2,"o":{"x":3}}"#
        );
        assert_eq!(mapped(&[("a", "b")]), r#"{"b":1,"o":{"x":3}}"#);
    }

    #[test]
    fn manipulations_run_in_their_fixed_order() {
        let spec = ShapeSpec {
            target: "nested".to_owned(),
            allow: strings(&["z", "k"]),
            mapping: pairs(&[("z", "ZZ")]),
            group: "g".to_owned(),
            ..ShapeSpec::default()
        };
        assert_eq!(
            shaped(spec, BASE),
            r#"{"g":{"ZZ":{"q":true,"w":null},"k":1}}"#
        );
    }

    #[test]
    fn a_target_that_is_not_an_object_gives_an_empty_one() {
        for target in ["arr", "id", "nope", "id.x", "arr.0"] {
            assert_eq!(targeted(target, ""), "{}", "{target}");
        }
        assert_eq!(targeted("nested.z", ""), r#"{"q":true,"w":null}"#);
        assert_eq!(targeted("nope", "g"), r#"{"g":{}}"#);
    }

    #[test]
    fn group_takes_dots_literally_and_wraps_null() {
        let spec = || ShapeSpec {
            group: "a.b".to_owned(),
            ..ShapeSpec::default()
        };
        assert_eq!(shaped(spec(), r#"{"x":1}"#), r#"{"a.b":{"x":1}}"#);
        assert_eq!(shaped(spec(), "null"), r#"{"a.b":null}"#);
    }

    #[test]
    fn only_data_that_nothing_reads_keep_no_members() {
        let depth = |spec: ShapeSpec, alone| {
            let mut shape = Shape::compile(spec);
            assert_eq!(shape.depth(), Depth::TopLevel);
            shape.only_written(alone);
            shape.depth()
        };
        let grouped = ShapeSpec {
            group: "g".to_owned(),
            ..ShapeSpec::default()
        };
        assert_eq!(depth(ShapeSpec::default(), true), Depth::Index);
        assert_eq!(depth(grouped.clone(), false), Depth::Index);
        // The members of several are merged.
        assert_eq!(depth(ShapeSpec::default(), false), Depth::TopLevel);
        let filtered = ShapeSpec {
            deny: strings(&["a"]),
            ..grouped.clone()
        };
        assert_eq!(depth(filtered, true), Depth::TopLevel);
        let target = ShapeSpec {
            target: "a".to_owned(),
            ..grouped
        };
        assert_eq!(depth(target, true), Depth::TopLevel);
    }

    #[test]
    fn null_stays_null() {
        let spec = ShapeSpec {
            allow: strings(&["a"]),
            mapping: pairs(&[("a", "b")]),
            ..ShapeSpec::default()
        };
        assert_eq!(shaped(spec, "null"), "null");
    }

    #[test]
    fn a_flatmap_replaces_filters_and_mapping() {
        let flatmap = Flatmap::compile([("move", &strings(&["id", "ID"])[..])]).expect("valid");
        let spec = ShapeSpec {
            allow: strings(&["name"]),
            mapping: pairs(&[("name", "n")]),
            group: "g".to_owned(),
            flatmap,
            ..ShapeSpec::default()
        };
        let shape = Shape::compile(spec.clone());
        assert_eq!(shape.depth(), Depth::Full);
        assert_eq!(
            shaped(spec, r#"{"id":1,"name":2}"#),
            r#"{"g":{"ID":1,"name":2}}"#
        );
    }

    proptest! {
        #[test]
        fn lazy_and_full_parsing_give_the_same_shape(
            members in prop::collection::vec(("[ab]", "[ab]", 0..9u8), 0..5),
            allow in prop::collection::vec("[ab](\\.[ab]){0,2}", 0..3),
            deny in prop::collection::vec("[ab](\\.[ab]){0,2}", 0..3),
            target in "([ab](\\.[ab])?)?",
        ) {
            let members: Vec<_> = members
                .iter()
                .map(|(outer, inner, number)| format!(r#""{outer}":{{"{inner}":{{"a":{number},"b":[]}}}}"#))
                .collect();
            let text = format!("{{{}}}", members.join(","));
            // The comparison is inside this function.
            shaped(ShapeSpec { target, allow, deny, ..ShapeSpec::default() }, &text);
        }
    }
}
