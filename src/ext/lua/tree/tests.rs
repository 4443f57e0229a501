use bytes::Bytes;

use super::*;
use crate::runtime::json::{Depth, Style, parse, to_bytes};

fn tree(json: &str) -> (Tree, Id) {
    let mut tree = Tree::default();
    let body = Bytes::copy_from_slice(json.as_bytes());
    let id = tree.import(parse(&body, Depth::TopLevel).unwrap()).unwrap();
    (tree, id)
}

fn written(tree: &mut Tree, id: Id) -> String {
    let (value, _) = tree.export(id).unwrap();
    String::from_utf8(to_bytes(&value, Style::Canonical).to_vec()).unwrap()
}

fn text(text: &str) -> Node {
    Node::Leaf(Value::string(text))
}

#[test]
fn a_value_that_was_read_is_a_live_reference() {
    let (mut tree, root) = tree(r#"{"o":{"a":1,"deep":{"b":[1,2]}}}"#);
    let Some(Shown::Object(o)) = tree.member(root, "o").unwrap() else {
        panic!()
    };
    let Some(Shown::Object(deep)) = tree.member(o, "deep").unwrap() else {
        panic!()
    };
    tree.set_member(deep, "c", text("x")).unwrap();
    tree.remove_member(o, "a");
    assert_eq!(
        written(&mut tree, root),
        r#"{"o":{"deep":{"b":[1,2],"c":"x"}}}"#
    );
    assert_eq!(tree.member(root, "none").unwrap(), None);
}

#[test]
fn a_list_that_grows_becomes_a_copy() {
    let (mut tree, root) = tree(r#"{"l":[1,2,3]}"#);
    let Some(Shown::List(list)) = tree.member(root, "l").unwrap() else {
        panic!()
    };
    assert_eq!(tree.set_item(list, 0, text("first")).unwrap(), list);
    let longer = tree.set_item(list, 5, text("far")).unwrap();
    assert_ne!(longer, list);
    // From now on the list belongs to the script, and grows in place.
    assert_eq!(tree.set_item(longer, 6, text("on")).unwrap(), longer);
    tree.remove_item(longer, 1);
    assert_eq!(tree.items_len(longer), 6);
    assert_eq!(written(&mut tree, root), r#"{"l":["first",2,3]}"#);
    tree.set_member(root, "l", Node::List(longer)).unwrap();
    assert_eq!(
        written(&mut tree, root),
        r#"{"l":["first",3,null,null,"far","on"]}"#
    );
    assert_ne!(tree.set_item(longer, 6, text("x")).unwrap(), longer);
}

#[test]
fn cycles_and_unlimited_growth_are_errors() {
    let (mut tree, root) = tree("{}");
    tree.set_member(root, "self", Node::Object(root)).unwrap();
    assert_eq!(tree.export(root).unwrap_err(), TreeError::TooDeep);

    // Each contains the previous one twice.
    let mut last = tree.object().unwrap();
    for _ in 0..60 {
        let next = tree.object().unwrap();
        tree.set_member(next, "a", Node::Object(last)).unwrap();
        tree.set_member(next, "b", Node::Object(last)).unwrap();
        last = next;
    }
    assert_eq!(tree.export(last).unwrap_err(), TreeError::Full);
}

#[test]
fn the_length_of_a_list_is_limited() {
    let mut tree = Tree::default();
    let list = tree.list().unwrap();
    let far = tree.set_item(list, usize::MAX, Node::Leaf(Value::Null));
    assert_eq!(far, Err(TreeError::Full));
    assert_eq!(tree.items_len(list), 0);
}

#[test]
fn whole_numbers_are_written_without_a_fraction() {
    for (number, text) in [
        (1.0, "1"),
        (1.5, "1.5"),
        (-0.0, "0"),
        (12_345_678_901.0, "12345678901"),
        (12_345_678_901_234_568.0, "12345678901234568"),
        (1e21, "1e+21"),
        (1e-7, "1e-7"),
    ] {
        assert_eq!(number_text(number).as_deref(), Some(text));
    }
    assert_eq!(number_text(f64::NAN), None);
    assert_eq!(number_text(f64::INFINITY), None);
}

#[test]
fn copies_of_strings_count() {
    let (mut tree, root) = tree("{}");
    let list = tree.list().unwrap();
    let long = "x".repeat(1 << 20);
    tree.set_item(list, 0, text(&long)).unwrap();
    for index in 0..100 {
        tree.set_member(root, &format!("l{index}"), Node::List(list))
            .unwrap();
    }
    assert_eq!(tree.export(root).unwrap_err(), TreeError::Full);
}

#[test]
fn an_entry_of_a_failed_backend_has_virtual_members() {
    let body =
        r#"{"error_x":{"http_status_code":500},"error_y":{"a":1},"z":{"http_status_code":1}}"#;
    let (mut tree, root) = tree(body);
    let object = |tree: &mut Tree, key: &str| match tree.member(root, key).unwrap() {
        Some(Shown::Object(id)) => id,
        other => panic!("{other:?}"),
    };
    let entry = object(&mut tree, "error_x");
    assert_eq!(object(&mut tree, "error_x"), entry);
    let shown = |tree: &mut Tree, id, key: &str| tree.member(id, key).unwrap();
    assert_eq!(
        shown(&mut tree, entry, "name"),
        Some(Shown::Text("x".into()))
    );
    for empty in ["http_body", "http_body_encoding"] {
        assert_eq!(shown(&mut tree, entry, empty), Some(Shown::Text("".into())));
        assert!(tree.has(entry, empty));
    }
    assert_eq!(
        tree.keys(entry),
        [
            "http_body",
            "http_body_encoding",
            "http_status_code",
            "name"
        ]
        .map(Box::from)
    );
    assert_eq!(tree.members_len(entry), 4);
    for other in ["error_y", "z"] {
        let other = object(&mut tree, other);
        assert_eq!(shown(&mut tree, other, "name"), None);
        assert_eq!(tree.members_len(other), 1);
    }
    assert_eq!(written(&mut tree, root), body);
}
