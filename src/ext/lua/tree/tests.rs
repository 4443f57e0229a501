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
        tree.names(entry),
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

/// What a tree holds: nodes of maps with eleven places, of which six are in use, and texts in pieces of 16 bytes.
fn held(tree: &Tree) -> usize {
    let text = |text: &str| text.len().next_multiple_of(16);
    let node = |node: &Node| match node {
        Node::Leaf(Value::Number(number)) => text(number),
        Node::Leaf(Value::String(string)) => text(string),
        _ => 0,
    };
    let objects = tree.objects.iter().map(|members| {
        let place = 11 * size_of::<(Box<str>, Node)>() + 16;
        let inner = members.iter().map(|(name, value)| text(name) + node(value));
        let nodes = match members.len() {
            0 => 0,
            few if few <= 11 => 1,
            // Between two leaves is a member, and each has at least five.
            many => 1 + (many + 1) / 6,
        };
        nodes * place + inner.sum::<usize>()
    });
    let lists = tree.lists.iter().map(|list| {
        list.items.capacity() * size_of::<Node>() + list.items.iter().map(node).sum::<usize>()
    });
    let places =
        tree.objects.capacity() * size_of::<Members>() + tree.lists.capacity() * size_of::<List>();
    places + objects.sum::<usize>() + lists.sum::<usize>()
}

#[test]
fn what_a_tree_holds_is_charged() {
    type Step = fn(&mut Tree, Id, usize) -> Result<(), TreeError>;
    let kinds: [(&str, Step); 6] = [
        ("objects", |tree, root, index| {
            let one = tree.object()?;
            tree.set_member(one, "a", text("x"))?;
            tree.set_member(root, &format!("k{index}"), Node::Object(one))
        }),
        ("lists", |tree, root, index| {
            let one = tree.list()?;
            let one = tree.set_item(one, 0, text("x"))?;
            tree.set_member(root, &format!("k{index}"), Node::List(one))
        }),
        ("members", |tree, root, index| {
            tree.set_member(root, &format!("k{index}"), text("x"))
        }),
        ("items", |tree, _, index| {
            if index == 0 {
                tree.list()?;
            }
            tree.set_item(Id(0), index, text("x")).map(drop)
        }),
        ("texts", |tree, root, index| {
            tree.set_member(root, &format!("k{index}"), text(&"x".repeat(300)))
        }),
        ("names", |tree, root, _| {
            tree.spend(texts_bytes(1, 1))?;
            let names = tree.texts(vec!["x".into()])?;
            tree.set_member(root, "names", Node::List(names))
        }),
    ];
    for (what, step) in kinds {
        let (mut tree, root) = tree("{}");
        for index in 0..10_000 {
            step(&mut tree, root, index).unwrap();
            let held = held(&tree);
            assert!(
                tree.spent.bytes() >= held,
                "{what} {index}: {} {held}",
                tree.spent.bytes()
            );
        }
        let (spent, held) = (tree.spent.bytes(), held(&tree));
        assert!(spent < 4 * held, "{what}: {spent} {held}");
        let (_, charge) = tree.export(root).unwrap();
        // The others are not in the response.
        let is_whole = !matches!(what, "items" | "names");
        assert!(!is_whole || charge.bytes() >= held / 2, "{what}");
    }
}

#[test]
fn data_that_is_read_is_charged_before_it_is_moved() {
    let one = r#"{"a":1,"b":[1,2,3]}"#;
    let body = format!("{{\"l\":[{}]}}", vec![one; 3000].join(","));
    let (mut tree, root) = tree(&body);
    let Some(Shown::List(list)) = tree.member(root, "l").unwrap() else {
        panic!()
    };
    for index in 0..3000 {
        let Some(Shown::Object(one)) = tree.item(list, index).unwrap() else {
            panic!()
        };
        tree.member(one, "b").unwrap();
    }
    let held = held(&tree);
    assert!(tree.spent.bytes() >= held, "{} {held}", tree.spent.bytes());
}

#[test]
fn a_member_that_is_replaced_takes_no_new_place() {
    let (mut tree, root) = tree("{}");
    for index in 0..2_000_000 {
        let number = Node::Leaf(Value::Number(index.to_string().into()));
        tree.set_member(root, "count", number).unwrap();
    }
}

#[test]
fn what_does_not_fit_is_not_made() {
    let mut tree = Tree::default();
    let list = tree.list().unwrap();
    tree.set_item(list, 0, text("x")).unwrap();
    assert_eq!(tree.spend(64 << 20), Err(TreeError::Full));
    let (objects, lists) = (tree.objects.len(), tree.lists.len());
    assert_eq!(tree.object(), Err(TreeError::Full));
    assert_eq!(tree.list(), Err(TreeError::Full));
    assert_eq!(tree.set_item(list, 9, text("x")), Err(TreeError::Full));
    assert_eq!((tree.objects.len(), tree.lists.len()), (objects, lists));
    assert_eq!(tree.items_len(list), 1);
}
