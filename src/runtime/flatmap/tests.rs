use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::runtime::json::{Depth, Style, parse, to_bytes};

const BASE: &str = r#"{"id":1,"name":"a","tags":["x","y"],"nested":{"k":1,"z":{"q":true,"w":null}},"arr":[{"id":1,"n":"a"},{"id":2,"n":"b"}],"e":{}}"#;

fn run_on(text: &str, operations: &[(&str, &[&str])]) -> String {
    let owned: Vec<(&str, Vec<String>)> = operations
        .iter()
        .map(|(kind, args)| (*kind, args.iter().map(|arg| (*arg).to_owned()).collect()))
        .collect();
    let flatmap = Flatmap::compile(owned.iter().map(|(kind, args)| (*kind, &args[..])))
        .expect("valid operations")
        .expect("some operation");
    let results = [Depth::TopLevel, Depth::Full].map(|depth| {
        let mut value = parse(&Bytes::copy_from_slice(text.as_bytes()), depth).expect("valid JSON");
        flatmap
            .apply(&mut value, &mut Growth::uncounted())
            .expect("uncounted");
        to_bytes(&value, Style::Canonical)
    });
    assert_eq!(results[0], results[1], "lazy and full differ");
    parse(&results[0], Depth::Full).expect("no holes are left");
    String::from_utf8(results[0].to_vec()).expect("UTF-8")
}

fn run(kind: &str, args: &[&str]) -> String {
    run_on(BASE, &[(kind, args)])
}

/// The base value with some members replaced or removed.
fn base_with(changes: &[(&str, Option<&str>)]) -> String {
    let mut value =
        parse(&Bytes::copy_from_slice(BASE.as_bytes()), Depth::Full).expect("valid JSON");
    let object = value.as_object_mut().expect("object");
    for (name, text) in changes {
        match text {
            None => object.remove(*name),
            Some(text) => object.insert(
                (*name).into(),
                parse(&Bytes::copy_from_slice(text.as_bytes()), Depth::Full).expect("valid JSON"),
            ),
        };
    }
    String::from_utf8(to_bytes(&value, Style::Canonical).to_vec()).expect("UTF-8")
}

#[test]
fn del_removes_members_elements_and_members_of_elements() {
    assert_eq!(
        run("del", &["id", "nested.k", "arr.*.n"]),
        base_with(&[
            ("id", None),
            ("nested", Some(r#"{"z":{"q":true,"w":null}}"#)),
            ("arr", Some(r#"[{"id":1},{"id":2}]"#)),
        ])
    );
    assert_eq!(
        run("del", &["arr.0"]),
        base_with(&[("arr", Some(r#"[{"id":2,"n":"b"}]"#))])
    );
    assert_eq!(
        run("del", &["nope", "id.x", "arr.7", "arr.x"]),
        base_with(&[])
    );
}

#[test]
fn an_emptied_container_becomes_null_and_its_parent_stays() {
    assert_eq!(run("del", &["arr.*"]), base_with(&[("arr", Some("null"))]));
    assert_eq!(
        run("del", &["nested.*"]),
        base_with(&[("nested", Some("null"))])
    );
    assert_eq!(run("del", &["*"]), "null");
    assert_eq!(
        run_on(r#"{"m":{"a":{"b":1},"c":2}}"#, &[("move", &["m.a.b", "b"])]),
        r#"{"b":1,"m":{"a":null,"c":2}}"#
    );
    assert_eq!(
        run_on(r#"{"l":[[],{}],"e":{}}"#, &[("del", &["l.*.x", "e.*"])]),
        r#"{"e":{},"l":[[],{}]}"#
    );
}

#[test]
fn move_at_one_depth_renames_in_place() {
    assert_eq!(
        run("move", &["id", "ID"]),
        base_with(&[("id", None), ("ID", Some("1"))])
    );
    assert_eq!(
        run("move", &["nested.k", "other.kk"]),
        base_with(&[("nested", Some(r#"{"kk":1,"z":{"q":true,"w":null}}"#))])
    );
    assert_eq!(
        run("move", &["arr.*.n", "arr.*.name"]),
        base_with(&[("arr", Some(r#"[{"id":1,"name":"a"},{"id":2,"name":"b"}]"#))])
    );
    assert_eq!(run("move", &["nope", "x"]), base_with(&[]));
    assert_eq!(run("move", &["arr.0", "arr.1"]), base_with(&[]));
}

#[test]
fn a_moved_value_replaces_what_was_there() {
    assert_eq!(
        run("move", &["id", "name"]),
        base_with(&[("id", None), ("name", Some("1"))])
    );
}

#[test]
fn move_to_a_smaller_depth_moves_up() {
    assert_eq!(
        run("move", &["nested.k", "top"]),
        base_with(&[
            ("nested", Some(r#"{"z":{"q":true,"w":null}}"#)),
            ("top", Some("1"))
        ])
    );
    assert_eq!(
        run("move", &["nested.z.q", "new.q"]),
        base_with(&[
            ("nested", Some(r#"{"k":1,"z":{"w":null}}"#)),
            ("q", Some("true"))
        ])
    );
    assert_eq!(
        run("move", &["arr.*.id", "ids"]),
        base_with(&[
            ("arr", Some(r#"[{"n":"a"},{"n":"b"}]"#)),
            ("ids", Some("2"))
        ])
    );
    assert_eq!(
        run("move", &["arr.0", "first"]),
        base_with(&[
            ("arr", Some(r#"[{"id":2,"n":"b"}]"#)),
            ("first", Some(r#"{"id":1,"n":"a"}"#))
        ])
    );
}

#[test]
fn wildcards_of_the_destination_take_the_matches_of_the_source() {
    assert_eq!(
        run_on(
            r#"{"collection":[{"id":1,"user":{"name":"a","pw":"x"}},{"id":2,"user":{"name":"b"}}]}"#,
            &[
                ("move", &["collection.*.user.name", "collection.*.author"]),
                ("del", &["collection.*.user"]),
            ]
        ),
        r#"{"collection":[{"author":"a","id":1},{"author":"b","id":2}]}"#
    );
}

#[test]
fn move_to_a_greater_depth_moves_below_the_parent() {
    assert_eq!(
        run("move", &["id", "deep.er.id"]),
        base_with(&[("id", None), ("deep", Some(r#"{"er":{"id":1}}"#))])
    );
    assert_eq!(
        run("move", &["arr.*.n", "arr.*.x.y"]),
        base_with(&[(
            "arr",
            Some(r#"[{"id":1,"x":{"y":"a"}},{"id":2,"x":{"y":"b"}}]"#)
        )])
    );
    assert_eq!(
        run("move", &["nested.k", "x.y.z"]),
        base_with(&[("nested", Some(r#"{"y":{"z":1},"z":{"q":true,"w":null}}"#))])
    );
    assert_eq!(
        run_on(r#"{"a":{"b":1}}"#, &[("move", &["a", "a.c"])]),
        r#"{"a":{"c":{"b":1}}}"#
    );
}

#[test]
fn append_joins_two_arrays() {
    assert_eq!(
        run("append", &["tags", "arr"]),
        base_with(&[
            ("tags", None),
            (
                "arr",
                Some(r#"[{"id":1,"n":"a"},{"id":2,"n":"b"},"x","y"]"#)
            )
        ])
    );
    for args in [
        ["id", "arr"],
        ["tags", "id"],
        ["tags", "nope"],
        ["nope", "arr"],
    ] {
        assert_eq!(run("append", &args), base_with(&[]), "{args:?}");
    }
    assert_eq!(
        run_on(r#"{"l":[[1],2],"x":0}"#, &[("append", &["l", "l.0"])]),
        r#"{"x":0}"#
    );
    assert_eq!(
        run_on(r#"{"l":[[1],2]}"#, &[("append", &["l.0", "l"])]),
        r#"{"l":[2,1]}"#
    );
}

#[test]
fn append_to_itself_deletes() {
    assert_eq!(run("append", &["arr", "arr"]), base_with(&[("arr", None)]));
}

#[test]
fn append_collects_the_matches_of_a_source_wildcard() {
    let on = |text: &str, args: [&str; 2], expected: &str| {
        assert_eq!(run_on(text, &[("append", &args)]), expected, "{args:?}");
    };
    assert_eq!(
        run("append", &["arr.*.n", "tags"]),
        base_with(&[
            ("arr", Some(r#"[{"id":1},{"id":2}]"#)),
            ("tags", Some(r#"["x","y","a","b"]"#))
        ])
    );
    on(
        r#"{"l":[{"n":1},{"m":2},3],"x":[0]}"#,
        ["l.*.n", "x"],
        r#"{"l":[null,{"m":2},3],"x":[0,1,null,null]}"#,
    );
    on(
        r#"{"l":[[1],[2],3,[4]],"x":[0]}"#,
        ["l.*", "x"],
        r#"{"l":null,"x":[0,[1],[2],3,[4]]}"#,
    );
    on(
        r#"{"o":{"a":{"n":1},"b":{"n":2}},"x":[]}"#,
        ["o.*.n", "x"],
        r#"{"o":{"a":null,"b":null},"x":[1,2]}"#,
    );
    on(
        r#"{"l":[{"a":[{"n":1},{"n":2}]},{"a":[{"n":3}]}],"x":[]}"#,
        ["l.*.a.*.n", "x"],
        r#"{"l":[{"a":[null,null]},{"a":[null]}],"x":[[1,2],[3]]}"#,
    );
    for args in [["id.*", "tags"], ["e.*", "tags"], ["nope.*.n", "tags"]] {
        assert_eq!(run("append", &args), base_with(&[]), "{args:?}");
    }
}

#[test]
fn append_stores_the_matches_of_a_target_wildcard_under_that_name() {
    let on = |text: &str, args: [&str; 2], expected: &str| {
        assert_eq!(run_on(text, &[("append", &args)]), expected, "{args:?}");
    };
    on(
        r#"{"l":[{"a":[1],"b":[2]},{"a":[3],"b":[]}]}"#,
        ["l.*.a", "l.*.b"],
        r#"{"l":[{"b":[2]},{"b":[]},{"b":[[2],[],[1],[3]]}]}"#,
    );
    on(
        r#"{"o":{"a":[1],"b":[2]},"x":[0]}"#,
        ["x", "o.*"],
        r#"{"o":{"*":[[1],[2],0],"a":[1],"b":[2]}}"#,
    );
}

#[test]
fn elements_keep_their_positions_until_all_operations_are_done() {
    let on = |text: &str, operations: &[(&str, &[&str])], expected: &str| {
        assert_eq!(run_on(text, operations), expected, "{operations:?}");
    };
    let list = r#"{"l":["A","B","C"]}"#;
    on(list, &[("del", &["l.0", "l.1"])], r#"{"l":["C"]}"#);
    on(
        list,
        &[("del", &["l.0"]), ("del", &["l.0"])],
        r#"{"l":["B","C"]}"#,
    );
    on(
        list,
        &[("move", &["l.0", "first"]), ("move", &["l.1", "second"])],
        r#"{"first":"A","l":["C"],"second":"B"}"#,
    );
    on(
        r#"{"l":["A","B"]}"#,
        &[("move", &["l.0", "first"]), ("move", &["l.1", "second"])],
        r#"{"first":"A","l":null,"second":"B"}"#,
    );
    on(
        r#"{"l":[{"n":1},{"n":2},{"n":3}]}"#,
        &[("del", &["l.0"]), ("move", &["l.1.n", "l.1.name"])],
        r#"{"l":[{"name":2},{"n":3}]}"#,
    );
    on(
        r#"{"l":["A","B"],"m":["C",["D","E"]]}"#,
        &[
            ("del", &["l.0", "m.1.0"]),
            ("append", &["l", "m"]),
            ("move", &["m.2", "b"]),
        ],
        r#"{"b":"B","m":["C",["E"]]}"#,
    );
    on(
        r#"{"l":[{"a":1},{"a":2}],"x":0}"#,
        &[("del", &["l.0"]), ("move", &["x", "l.0.a"])],
        r#"{"l":[{"a":2},{"a":0}]}"#,
    );
}

#[test]
fn an_emptied_array_is_still_an_array() {
    assert_eq!(
        run_on(
            r#"{"id":1,"tags":["x","y"]}"#,
            &[("del", &["tags.*"]), ("move", &["id", "tags.id"])]
        ),
        r#"{"tags":[1]}"#
    );
    assert_eq!(
        run_on(
            r#"{"l":[1],"m":[2]}"#,
            &[("del", &["l.0"]), ("append", &["m", "l"])]
        ),
        r#"{"l":null,"m":[2]}"#
    );
}

#[test]
fn a_wildcard_at_the_end_of_a_move_is_a_name() {
    for args in [["nested.*", "x"], ["arr.*", "x"], ["nested.*", "nested.x"]] {
        assert_eq!(run("move", &args), base_with(&[]), "{args:?}");
    }
    assert_eq!(
        run_on(r#"{"a":{"*":1,"b":2}}"#, &[("move", &["a.*", "x"])]),
        r#"{"a":{"b":2},"x":1}"#
    );
    assert_eq!(
        run_on(r#"{"name":"a","id":1}"#, &[("move", &["name", "*.n"])]),
        r#"{"*":{"n":"a"},"id":1}"#
    );
    assert_eq!(
        run_on(r#"{"id":1}"#, &[("move", &["id", "*"])]),
        r#"{"*":1}"#
    );
}

#[test]
fn a_value_moved_below_a_scalar_replaces_it() {
    assert_eq!(
        run("move", &["nested.z.q", "id.q"]),
        base_with(&[
            ("id", Some(r#"{"q":true}"#)),
            ("nested", Some(r#"{"k":1,"z":{"w":null}}"#))
        ])
    );
}

#[test]
fn null_and_empty_data_are_unchanged() {
    for text in ["null", "{}"] {
        assert_eq!(run_on(text, &[("move", &["a", "b.c"])]), text);
    }
}

#[test]
fn invalid_operations_are_configuration_errors() {
    let one = ["a".to_owned()];
    assert_eq!(
        Flatmap::compile([("del", &one[..]), ("move", &one[..])]),
        Err(FlatmapError::MissingArgument {
            index: 1,
            kind: "move"
        })
    );
    assert_eq!(Flatmap::compile([("rename", &one[..])]), Ok(None));
    assert_eq!(Flatmap::compile([]), Ok(None));
}

proptest! {
    #[test]
    fn no_operation_panics_and_lazy_equals_full(
        operations in prop::collection::vec(
            (prop::sample::select(vec!["move", "append", "del"]), "([ab]|\\*|[01])(\\.([ab]|\\*|[01])){0,3}", "([ab]|\\*|[01])(\\.([ab]|\\*|[01])){0,3}"),
            1..4,
        ),
        inner in prop::sample::select(vec!["1", "[]", "[1,2]", r#"{"a":1}"#, r#"[{"a":[1],"b":{}},[0,{"b":2}]]"#]),
    ) {
        let text = format!(r#"{{"a":{inner},"b":[{inner},{inner}],"c":{{"a":{{"b":{inner}}}}}}}"#);
        let args: Vec<[&str; 2]> = operations.iter().map(|(_, from, to)| [from.as_str(), to.as_str()]).collect();
        let operations: Vec<(&str, &[&str])> = operations
            .iter()
            .zip(&args)
            .map(|((kind, ..), args)| (*kind, &args[..]))
            .collect();
        // The comparison is inside this function.
        run_on(&text, &operations);
    }
}

#[test]
fn copies_are_counted() {
    let text = format!(r#"{{"a":[1],"b":{{"x":"{}","y":1}}}}"#, "x".repeat(50_000));
    for (to, is_copied) in [("b.*", true), ("a", false)] {
        let args = ["a", to].map(str::to_owned);
        let flatmap = Flatmap::compile([("append", &args[..])]).unwrap().unwrap();
        let mut value = parse(&Bytes::from(text.clone()), Depth::Full).unwrap();
        let mut growth = Growth::default();
        flatmap.apply(&mut value, &mut growth).unwrap();
        let bytes = growth.into_charge().bytes();
        assert_eq!(bytes >= 50_000, is_copied, "{to}: {bytes}");
    }
}
