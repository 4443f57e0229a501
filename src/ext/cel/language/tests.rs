mod limits;
mod pieces;
use std::time::Instant;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::ext::cel::language::value::Value;

#[derive(Debug)]
struct Sheet {
    data: serde_json::Value,
    words: Vec<String>,
}

fn variables() -> [Variable; 5] {
    let of = |name, kind| Variable { name, kind };
    [
        of("data", Type::map(Type::Dyn)),
        of("words", Type::list(Type::String)),
        of("missing", Type::map(Type::Dyn)),
        of("text", Type::String),
        of("number", Type::Int),
    ]
}

impl Facts for Sheet {
    fn variable(&self, index: usize, _: &Budget) -> Result<Option<Value<'_>>, Failed> {
        Ok(match index {
            0 => self
                .data
                .as_object()
                .map(|members| Value::Map(Map::Foreign(members))),
            1 => Some(Value::List(List::Foreign(&self.words))),
            3 => Some(Value::text("grüße")),
            4 => Some(Value::Int(7)),
            _ => None,
        })
    }

    fn name(&self, index: usize) -> &'static str {
        variables()[index].name
    }
}

fn sheet() -> Sheet {
    Sheet {
        data: json!({
            "n": 5, "s": "str", "nothing": null, "yes": true, "o": {"k": {"deep": "x"}}, "dotted.name": 1,
            "list": [1, 2, 3], "mixed": [1, "a", null], "empty": {},
        }),
        words: ["a", "bb", "ccc"].map(str::to_owned).into(),
    }
}

/// The result of the expression: a value, or the error.
fn given(text: &str) -> String {
    let program = match compile(text, &variables()) {
        Ok(program) => program,
        Err(flaw) => return format!("flaw: {}", flaw.text),
    };
    let budget = Budget::new(
        1_000_000,
        Instant::now() + std::time::Duration::from_secs(60),
    );
    let sheet = sheet();
    match program.run(&sheet, &budget) {
        Ok(Value::Bool(yes)) => yes.to_string(),
        Ok(other) => format!("{other:?}"),
        Err(failed) => failed.to_string(),
    }
}

fn holds(texts: &[&str]) {
    for text in texts {
        assert_eq!(given(text), "true", "{text}");
    }
}

fn gives(cases: &[(&str, &str)]) {
    for (text, expected) in cases {
        assert_eq!(given(text), *expected, "{text}");
    }
}

#[test]
fn literals_and_arithmetic() {
    holds(&[
        "1 + 2 * 3 == 7",
        "(1 + 2) * 3 == 9",
        "7 % 3 == 1 && -7 % 3 == -1 && -7 / 2 == -3",
        "1.5 + 1.5 == 3.0",
        "0x1F == 31 && 2u + 3u == 5u",
        "-(-3) == 3",
        r#"'a' + "b" == 'ab'"#,
        r"'\n'.size() == 1 && r'\n'.size() == 2",
        r"b'ab' + b'c' == b'abc'",
        "[1, 2] + [3] == [1, 2, 3]",
        "1 < 2 && 2 <= 2 && 'a' < 'b' && false < true && 1u < 2u && 1.0 < 1.5 && b'a' < b'b'",
        "1 == 1 ? true : false",
        "!(1 == 2)",
        "null == null",
        "{'a': 1, 'b': 2}.a == 1 && {1: 'x'}[1] == 'x' && {true: 1}[true] == 1",
        "9223372036854775807 == -(-9223372036854775807)",
    ]);
    gives(&[
        ("9223372036854775807 + 1 == 0", "integer overflow"),
        ("-9223372036854775808 - 1 == 0", "integer overflow"),
        ("0u - 1u == 0u", "unsigned integer overflow"),
        ("number / 0 == 1", "division by zero"),
        ("number % 0 == 1", "modulus by zero"),
        (
            "(-9223372036854775808 + (number - 7)) / -1 == 0",
            "integer overflow",
        ),
        ("0.0 / 0.0 == 0.0 / 0.0", "false"),
        ("0.0 / 0.0 < 1.0", "NaN values cannot be ordered"),
        ("{'a': 1, 'a': 2} == {}", "Failed with repeated key"),
    ]);
}

#[test]
fn dynamic_values_are_compared_by_their_actual_type() {
    holds(&[
        "data.n == 5 && data.n == 5.0 && data.n == 5u && data.n > 4 && data.n < 5.5",
        "data.n != '5'",
        "data.s == 'str' && data.s != 1",
        "data.nothing == null && data.s != null",
        "data.list == [1, 2, 3] && data.list != [1, 2]",
        "data.o == {'k': {'deep': 'x'}} && data.empty == {}",
        "data['dotted.name'] == 1",
        "dyn(18446744073709551615u) != -1 && dyn(1) < 2u && dyn(-1) < 0u",
        "dyn(9007199254740993) > 9007199254740992.0",
        "data.mixed[0] == 1 && data.mixed[1] == 'a' && data.mixed[2] == null",
    ]);
    gives(&[
        ("data.s > 5", "no such overload"),
        ("data.n + 1 == 6", "no such overload"),
        ("data.s + 'x' == 'strx'", "true"),
        ("data.nope == 1", "no such key: nope"),
        ("data.s.x == 1", "no such overload"),
        ("data.list[3] == 1", "index out of bounds: 3"),
        ("data.list[-1] == 1", "index out of bounds: -1"),
        ("data.list['a'] == 1", "unsupported index type in list"),
        ("missing.a == 1", "no such attribute(s): missing"),
        ("!data.s", "no such overload"),
    ]);
}

#[test]
fn the_side_that_decides_hides_the_error_of_the_other() {
    holds(&[
        "true || missing.a",
        "missing.a || true",
        "!(false && missing.a)",
        "!(missing.a && false)",
        "data.s || true",
        "[1, 2, 3].exists(x, x == 2 || missing.a)",
        "[1, 2].exists(x, x == 2 ? true : missing.a)",
        "![1, 2].all(x, x == 2 ? false : missing.a)",
    ]);
    gives(&[
        ("missing.a || false", "no such attribute(s): missing"),
        ("true && missing.a", "no such attribute(s): missing"),
        ("data.s && true", "no such overload"),
        ("data.s ? true : false", "no such overload"),
        (
            "[1, 2].all(x, x == 2 ? true : missing.a)",
            "no such attribute(s): missing",
        ),
    ]);
}

#[test]
fn has_and_in_do_not_fail() {
    holds(&[
        "has(data.n) && !has(data.nope) && has(data.o.k.deep) && !has(data.o.k.nope)",
        "has(data.nothing) && !has(data.package)",
        "'n' in data && !('nope' in data)",
        "2 in [1, 2] && !(3 in [1, 2]) && 2.0 in data.list && !('2' in data.list)",
        "'bb' in words && 'a' in {'a': 1}",
        "!(1 in dyn(data))",
    ]);
    gives(&[
        ("has(data.nope.deeper)", "no such key: nope"),
        ("has(data.s.x)", "no such overload"),
        ("'a' in data.s", "no such overload"),
        (
            "has(number.x)",
            "flaw: type 'int' does not support field selection",
        ),
    ]);
}

#[test]
fn macros_iterate_over_lists_and_keys() {
    holds(&[
        "words.all(w, w.size() > 0) && words.exists(w, w == 'bb') && words.exists_one(w, w.startsWith('c'))",
        "words.map(w, w + '!') == ['a!', 'bb!', 'ccc!']",
        "words.filter(w, w.size() > 1) == ['bb', 'ccc']",
        "words.map(w, w.size() > 1, w.size()) == [2, 3]",
        "data.list.map(n, n) == [1, 2, 3]",
        "data.o.all(key, key == 'k')",
        "[[1, 2], [3]].map(row, row.map(n, n * 2)) == [[2, 4], [6]]",
        "[1, 2].all(x, [3, 4].exists(y, y == x + 2))",
        "[1].all(data, data == 1)",
        "[].all(x, false) && ![].exists(x, true)",
        "words.exists(w, w == 'a') && words.map(x, x.size()).exists(n, n == 3)",
    ]);
    gives(&[
        ("[1, 1].exists_one(x, x == 1)", "false"),
        ("data.s.all(x, true)", "no such overload"),
        (
            "number.all(x, true)",
            "flaw: expression of type 'int' cannot be range of a comprehension (must be list, map, or dynamic)",
        ),
        (
            "words.all(w, w)",
            "flaw: expected type 'bool' but found 'string'",
        ),
    ]);
}

#[test]
fn texts() {
    holds(&[
        "text.size() == 5 && size(text) == 5 && size(b'ü') == 2",
        "text.startsWith('gr') && text.endsWith('ße') && text.contains('üß') && !text.contains('x')",
        "text.matches('^gr.+e$') && matches(text, 'ü') && text.matches(text)",
        "!'abc'.matches('^[0-9]+$')",
        "size([1, 2]) == 2 && size({'a': 1}) == 1 && words.size() == 3",
    ]);
    gives(&[(
        "'a'.matches('(' + text)",
        "invalid matches argument: error parsing regexp",
    )]);
}

#[test]
fn conversions() {
    holds(&[
        "int('5') == 5 && int('-5') == -5 && int(5.9) == 5 && int(-5.9) == -5 && int(5u) == 5",
        "uint('5') == 5u && uint(5) == 5u && uint(5.9) == 5u",
        "double('1.5') == 1.5 && double(2) == 2.0 && double('1e3') == 1000.0",
        "string(5) == '5' && string(5u) == '5' && string(true) == 'true' && string(b'a') == 'a'",
        "string(1.5) == '1.5' && string(1000000.0) == '1e+06' && string(0.00001) == '1e-05' && string(2.0) == '2'",
        "string(123456.5) == '123456.5' && string(1234567.5) == '1.2345675e+06'",
        "bytes('a') == b'a' && bool('true') && !bool('F') && bool(true)",
        "type(1) == int && type('a') == string && type([]) == list && type({}) == map && type(null) == null_type",
        "type(data.n) == double && type(1u) == uint && type(b'') == bytes && type(true) == bool && type(int) == type",
        "type(timestamp(0)) == google.protobuf.Timestamp && type(duration('1s')) == google.protobuf.Duration",
        "dyn(1) == 1",
        "int(timestamp('1970-01-01T00:01:00Z')) == 60",
    ]);
    gives(&[
        (
            "int('1.0') == 1",
            "type conversion error from 'string' to 'int'",
        ),
        ("int(1e30) == 1", "integer overflow"),
        ("uint(-1) == 1u", "unsigned integer overflow"),
        (
            "double('x') == 1.0",
            "type conversion error from 'string' to 'double'",
        ),
        (
            "bool('yes')",
            "type conversion error from 'string' to 'bool'",
        ),
        (
            "string(b'\\xff') == ''",
            "invalid UTF-8 in bytes, cannot convert to string",
        ),
    ]);
}

#[test]
fn times_and_durations() {
    holds(&[
        "timestamp('2024-02-29T12:30:45.678Z').getFullYear() == 2024",
        "timestamp('2024-02-29T12:30:45.678Z').getMonth() == 1",
        "timestamp('2024-02-29T12:30:45.678Z').getDate() == 29",
        "timestamp('2024-02-29T12:30:45.678Z').getDayOfMonth() == 28",
        "timestamp('2024-02-29T12:30:45.678Z').getDayOfWeek() == 4",
        "timestamp('2024-02-29T12:30:45.678Z').getDayOfYear() == 59",
        "timestamp('2024-02-29T12:30:45.678Z').getHours() == 12",
        "timestamp('2024-02-29T12:30:45.678Z').getMinutes() == 30",
        "timestamp('2024-02-29T12:30:45.678Z').getSeconds() == 45",
        "timestamp('2024-02-29T12:30:45.678Z').getMilliseconds() == 678",
        "timestamp('2024-02-29T23:30:00Z').getHours('Europe/Berlin') == 0",
        "timestamp('2024-02-29T23:30:00Z').getDate('+01:00') == 1",
        "timestamp('2024-02-29T23:30:00Z').getHours('-02:30') == 21",
        "timestamp('2024-02-29T01:00:00+01:00') == timestamp('2024-02-29T00:00:00Z')",
        "timestamp('2024-01-02T00:00:00Z') - timestamp('2024-01-01T00:00:00Z') == duration('24h')",
        "timestamp('2024-01-01T00:00:00Z') + duration('1h30m') == timestamp('2024-01-01T01:30:00Z')",
        "timestamp('2024-01-01T00:00:00Z') - duration('1ms') < timestamp('2024-01-01T00:00:00Z')",
        "duration('1h') > duration('59m') && duration('-1.5s') == duration('-1500ms')",
        "duration('3730s').getHours() == 1 && duration('3730s').getMinutes() == 62 && duration('1.5s').getMilliseconds() == 1500",
        "string(duration('1h30m')) == '5400s' && string(duration('-1.5s')) == '-1.5s' && duration(1000000) == duration('1ms')",
        "string(timestamp('2024-01-01T00:00:00.5Z')) == '2024-01-01T00:00:00.5Z'",
        "timestamp(0) == timestamp('1970-01-01T00:00:00Z')",
    ]);
    gives(&[
        (
            "timestamp('x') == timestamp(0)",
            "invalid timestamp: RFC 3339 is expected",
        ),
        (
            "timestamp(0).getHours('Mars/Base') == 0",
            "unknown time zone",
        ),
        (
            "timestamp('9999-12-31T23:59:59Z') + duration('1h') == timestamp(0)",
            "timestamp overflow",
        ),
        (
            "duration('1 hour') == duration('1h')",
            "type conversion error from 'string' to 'google.protobuf.Duration'",
        ),
        (
            "timestamp(9223372036854775807) == timestamp(0)",
            "timestamp overflow",
        ),
        (
            "timestamp('9999-01-01T00:00:00Z') - timestamp('0001-01-01T00:00:00Z') == duration('1s')",
            "duration overflow",
        ),
    ]);
    assert_eq!(
        rfc3339(std::time::Duration::from_millis(1_700_000_000_120)),
        "2023-11-14T22:13:20.12Z"
    );
    assert_eq!(
        rfc3339(std::time::Duration::from_secs(10)),
        "1970-01-01T00:00:10Z"
    );
}

#[test]
fn type_errors_are_found_before_anything_runs() {
    let undeclared =
        |name: &str| format!("flaw: undeclared reference to '{name}' (in container '')");
    for (text, name) in [
        ("nobody == 1", "nobody"),
        ("text.lowerAscii() == 'a'", "lowerAscii"),
        ("words.join(',') == 'a'", "join"),
        ("true || nobody", "nobody"),
        ("[1].all(x, y == 1)", "y"),
        ("[1].all(x, true) && x == 1", "x"),
        ("f(1)", "f"),
        ("Some{a: 1} == null", "Some"),
    ] {
        assert_eq!(given(text), undeclared(name), "{text}");
    }
    for (text, applied) in [
        ("text == 1", "'_==_' applied to '(string, int)'"),
        ("1 == 1.0", "'_==_' applied to '(int, double)'"),
        ("text > 5", "'_>_' applied to '(string, int)'"),
        ("text + 1 == 'a'", "'_+_' applied to '(string, int)'"),
        ("words == 'a'", "'_==_' applied to '(list(string), string)'"),
        (
            "words[text] == 'a'",
            "'_[_]' applied to '(list(string), string)'",
        ),
        ("1 in words", "'@in' applied to '(int, list(string))'"),
        ("text && true", "'_&&_' applied to '(string, bool)'"),
        ("true ? 1 : 'a'", "'_?_:_' applied to '(bool, int, string)'"),
        (
            "text.startsWith(1)",
            "'startsWith' applied to 'string.(int)'",
        ),
        ("text.getHours() == 1", "'getHours' applied to 'string.()'"),
        ("size(1) == 1", "'size' applied to '(int)'"),
        ("size() == 1", "'size' applied to '()'"),
        ("-text == 'a'", "'-_' applied to '(string)'"),
        ("int(words) == 1", "'int' applied to '(list(string))'"),
        ("text == null", "'_==_' applied to '(string, null)'"),
    ] {
        assert_eq!(
            given(text),
            format!("flaw: found no matching overload for {applied}"),
            "{text}"
        );
    }
    for text in [
        "",
        "1 +",
        "a b",
        "'x",
        "((1)",
        "has(text)",
        "[1].all(1, true)",
        "@",
        "1 = 1",
    ] {
        assert!(given(text).starts_with("flaw: "), "{text}: {}", given(text));
    }
    assert!(given("'a'.matches('(?=x)')").starts_with("flaw: invalid matches argument"));
}

#[test]
fn errors_have_a_position_and_a_suggestion() {
    let flaw = compile("data.n == 1 && nunber == 2", &variables()).unwrap_err();
    assert_eq!(
        (flaw.at, flaw.hint.as_deref()),
        (Some(16), Some("did you mean \"number\"?"))
    );
    assert_eq!(
        flaw.to_string(),
        "character 16: undeclared reference to 'nunber' (in container '')"
    );
    let flaw = compile("text.startWith('a')", &variables()).unwrap_err();
    assert_eq!(flaw.hint.as_deref(), Some("did you mean \"startsWith\"?"));
}

#[test]
fn a_program_reports_which_members_it_reads() {
    let program = compile(
        "data.o.k.deep == 'x' && has(data.s) && data['n'] == 1 && data.list[0] == 1 && data.list.all(x, x == text)",
        &variables(),
    )
    .unwrap();
    assert_eq!(program.names(), [0, 3]);
    let reads: Vec<String> = program.reads(0).iter().map(|path| path.join("/")).collect();
    assert_eq!(reads, ["o/k/deep", "s", "n", "list", "list"]);
    assert_eq!(
        compile("size(data) == 1", &variables()).unwrap().reads(0),
        [Path::default()]
    );
    assert!(!program.takes_as_number(3));
    assert!(program.takes_as_number(0));
    let wrapped = compile("int(data.n) == 1 && data.s == '1'", &variables()).unwrap();
    assert!(!wrapped.takes_as_number(0));
}
