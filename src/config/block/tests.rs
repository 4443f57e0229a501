use super::super::json;
use super::super::key::key;
use super::*;

const HOUSE: &[Key] = &[
    key("rooms", Kind::Integer, "1", "How many."),
    key("names", Kind::Texts, "", "Who lives there."),
    key("heat", Kind::Duration, "", "How long."),
    key("paint", Kind::Choice(&["red", "green"]), "red", "Which."),
    key("safe", Kind::Secret, "", "What opens it."),
    key("yard", Kind::Block(YARD), "", "Outside."),
    key("bell", Kind::Bool, "false", "Whether it rings."),
    key("alarm", Kind::Bool, "false", "Whether it is on.").guarding(),
];
const YARD: &[Key] = &[key("trees", Kind::Number, "0", "How many.")];

fn findings(text: &str, typing: Typing, read: fn(&Block<'_>)) -> Vec<String> {
    let report = Report::new();
    let value = json::parse(text, &report).unwrap();
    if let Some(block) = Block::open(Node::root(&value, &report), HOUSE, typing) {
        read(&block);
    }
    report
        .into_findings()
        .into_iter()
        .map(|f| {
            let hint = f.hint.map(|hint| format!(" ({hint})")).unwrap_or_default();
            format!("{}:{}: {}{hint}", f.at, f.pointer, f.config_error)
        })
        .collect()
}

#[test]
fn all_errors_of_a_block_are_reported_together() {
    let found = findings(
        "{\n\"rooms\": \"two\",\n\"names\": {}, \"heat\": \"2 sec\",\n\"paint\": \"gren\",\"yard\": {\"tress\": 1}}",
        Typing::Strict,
        |block| {
            assert_eq!(block.integer("rooms"), None);
            assert!(block.texts("names").is_empty());
            assert_eq!(block.duration("heat"), None);
            assert_eq!(block.choice("paint"), None);
            assert_eq!(block.block("yard").unwrap().number("trees"), None);
        },
    );
    assert_eq!(
        found,
        [
            "2:10:/rooms: \"two\" is a string, but an integer is expected",
            "3:10:/names: found an object, but a list of strings is expected",
            "3:22:/heat: \"2 sec\" is not a duration: unknown unit (a number and its unit without a blank: \"2s\", \"1500ms\")",
            "4:10:/paint: \"gren\" is none of red, green (did you mean \"green\"?)",
            "4:26:/yard/tress: the key \"tress\" is unknown here and ignored (did you mean \"trees\"?)",
        ]
    );
}

#[test]
fn weak_typing_accepts_the_same_values_as_krakend() {
    let found = findings(
        r#"{"ROOMS": "2", "names": "x", "heat": null, "@remark": 1}"#,
        Typing::Weak,
        |block| {
            assert_eq!(block.integer("rooms"), Some(2));
            assert_eq!(block.texts("names"), ["x"]);
            assert_eq!(block.duration("heat"), None);
        },
    );
    assert!(found.is_empty(), "{found:?}");
    for text in ["1e1", "1.0", "x"] {
        let file = format!(r#"{{"rooms": "{text}"}}"#);
        let found = findings(&file, Typing::Weak, |block| {
            assert_eq!(block.integer("rooms"), None);
        });
        assert_eq!(found.len(), 1, "{text}");
    }
}

#[test]
fn an_empty_value_does_not_switch_off_a_guard_with_weak_typing_either() {
    for text in ["", " ", "no", "off"] {
        let file = format!(r#"{{"alarm": "{text}"}}"#);
        let found = findings(&file, Typing::Weak, |block| {
            assert_eq!(block.bool("alarm"), None);
            assert!(block.report().config_errors() > 0);
        });
        assert_eq!(found.len(), 1, "{text:?}");
    }
    for (text, taken) in [("0", "treated as false"), ("1", "treated as true")] {
        let found = findings(&format!(r#"{{"alarm": {text}}}"#), Typing::Weak, |block| {
            assert!(block.bool("alarm").is_some());
            assert_eq!(block.report().config_errors(), 0);
        });
        assert!(found[0].contains(taken), "{found:?}");
    }
    let found = findings(r#"{"bell": "", "alarm": "0"}"#, Typing::Weak, |block| {
        assert_eq!(block.bool("bell"), Some(false));
        assert_eq!(block.bool("alarm"), Some(false));
    });
    assert!(found.is_empty(), "{found:?}");
}

#[test]
fn a_secret_of_the_wrong_type_is_not_shown() {
    let found = findings(r#"{"safe": 12345}"#, Typing::Strict, |block| {
        assert_eq!(block.text("safe"), Some("12345"));
    });
    assert_eq!(
        found,
        ["1:10:/safe: [redacted] is a number, but a string is expected: treated as [redacted]"]
    );
    let found = findings(r#"{"safe": [12345, 1]}"#, Typing::Strict, |block| {
        assert_eq!(block.text("safe"), None);
    });
    assert_eq!(
        found,
        ["1:10:/safe: [redacted] is a list, but a string is expected"]
    );
}

#[test]
#[should_panic(expected = "not in the table")]
#[cfg(debug_assertions)]
fn asking_for_a_key_that_is_not_in_the_table_is_caught() {
    findings("{}", Typing::Strict, |block| {
        block.bool("cellar");
    });
}
