//! Typical templates, and the error messages for invalid ones.

use proptest::prelude::*;

use super::*;

mod bounds;
mod go;

struct World;

impl Host for World {
    fn environment(&self, name: &str) -> Option<String> {
        (name == "HOST").then(|| "http://h:80".to_owned())
    }

    fn partial(&self, name: &str) -> Result<Option<std::sync::Arc<str>>, String> {
        Ok((name == "a.txt").then(|| "part {{ 1 }}\n".into()))
    }

    fn zone(&self) -> Option<String> {
        None
    }
}

fn settings() -> Data {
    let value = serde_json::json!({
        "n": 3, "f": 1.5, "big": 1_000_000, "t": true, "e": "", "str": "abc", "l": ["c", "a", "b"],
        "m": {"b": 1, "a": 2, "c": {"x": "y"}}, "nul": null, "el": []
    });
    vec![("s".to_owned(), tree(&value))]
}

fn tree(value: &serde_json::Value) -> crate::config::Value {
    crate::config::json::parse(&value.to_string(), &crate::config::Report::new()).unwrap()
}

fn source(name: &str, text: &str) -> Source {
    Source {
        name: name.to_owned(),
        text: text.to_owned(),
    }
}

fn try_render(text: &str) -> Result<String, String> {
    let rendered = render(&[source("krakend.tmpl", text)], &settings(), &World);
    match rendered {
        Ok(rendered) => Ok(String::from_utf8_lossy(&rendered.text).into_owned()),
        Err(errors) => Err(errors
            .iter()
            .map(|error| error.message.as_str())
            .collect::<Vec<_>>()
            .join("; ")),
    }
}

#[track_caller]
fn check(rows: &[(&str, &str)]) {
    for (text, want) in rows {
        assert_eq!(try_render(text).as_deref(), Ok(*want), "{text}");
    }
}

#[track_caller]
fn rejects(rows: &[(&str, &str)]) {
    for (text, want) in rows {
        let error = try_render(text).expect_err(text);
        assert!(error.contains(want), "{text}: {error}");
    }
}

#[test]
fn literals_and_numbers_print_as_in_go() {
    check(&[
        (
            "{{ 1 }}{{ -3 }}{{ 0x1F }}{{ 017 }}{{ 1_000 }}{{ 'a' }}",
            "1-331151 00097".replace(' ', "").as_str(),
        ),
        (
            "{{ 1.5 }} {{ 1e3 }} {{ 1e6 }} {{ 3.0 }} {{ 1e-5 }}",
            "1.5 1000 1e+06 3 1e-05",
        ),
        (r#"{{ "a\tb\u00e9\x41" }}{{ `raw\n` }}"#, "a\tbéAraw\\n"),
        (
            "{{ .s.big }} {{ int .s.big }} {{ .s.n }}",
            "1e+06 1000000 3",
        ),
        (
            "{{ .s.l }} {{ .s.m }} {{ .s.nul }} {{ .s.gone }}",
            "[c a b] map[a:2 b:1 c:map[x:y]] <no value> <no value>",
        ),
    ]);
}

#[test]
fn white_space_is_trimmed_at_markers() {
    check(&[
        ("a  {{- 1 -}}  b", "a1b"),
        ("a {{/* c */}} b", "a  b"),
        ("a {{- /* c */ -}} b", "ab"),
        ("a\u{a0}{{- 1 }}", "a\u{a0}1"),
        ("}} {", "}} {"),
    ]);
}

#[test]
fn control_structures() {
    check(&[
        (
            "{{ range $i, $e := .s.l }}{{ if $i }},{{ end }}{{ $e }}{{ end }}",
            "c,a,b",
        ),
        ("{{ range .s.el }}x{{ else }}none{{ end }}", "none"),
        ("{{ range 3 }}{{ . }}{{ end }}", "012"),
        ("{{ range $k, $v := .s.m }}{{ $k }}{{ end }}", "abc"),
        (
            "{{ with .s.gone }}x{{ else with .s.str }}{{ . }}{{ end }}",
            "abc",
        ),
        (
            "{{ $x := 1 }}{{ range .s.l }}{{ $x = . }}{{ end }}{{ $x }}",
            "b",
        ),
        (
            "{{ range .s.l }}{{ if eq . \"a\" }}{{ continue }}{{ end }}{{ . }}{{ end }}",
            "cb",
        ),
        (
            "{{ range .s.l }}{{ if eq . \"a\" }}{{ break }}{{ end }}{{ . }}{{ end }}",
            "c",
        ),
        (
            "{{ define \"t\" }}[{{ . }}]{{ end }}{{ template \"t\" .s.n }}{{ template \"t\" }}",
            "[3][<no value>]",
        ),
        ("{{ block \"b\" .s }}{{ .str }}{{ end }}", "abc"),
        (
            "{{ and 1 .s.e 2 }}|{{ or .s.e 5 }}|{{ .s.str | upper | }}",
            "|5|ABC",
        ),
    ]);
}

#[test]
fn partials_are_not_parsed() {
    check(&[(
        "{{ include \"a.txt\" }}|{{ include \"gone\" }}|",
        "part {{ 1 }}\n||",
    )]);
    rejects(&[(
        "{{ include 3 }}",
        "interface conversion: interface {} is int, not string",
    )]);
}

#[test]
fn errors_name_the_place_and_use_the_words_of_go() {
    rejects(&[
        (
            "\n{{ oops }}",
            "template: krakend.tmpl:2: function \"oops\" not defined",
        ),
        ("{{ if true }}", "unexpected EOF"),
        ("{{ end }}", "unexpected {{end}}"),
        ("{{ \"a }}", "unterminated quoted string"),
        (
            "{{ eq .s.n 3 }}",
            "incompatible types for comparison: float64 and int",
        ),
        (
            "x {{ .s.n.q }}",
            "template: krakend.tmpl:1:7: executing \"krakend.tmpl\" at <.s.n.q>: can't evaluate field q in type interface {}",
        ),
        ("{{ template \"nope\" }}", "template \"nope\" not defined"),
        ("{{ upper 1 }}", "expected string; found 1"),
        ("{{ range .s.n }}{{ end }}", "range can't iterate over 3"),
        (
            "{{ define \"r\" }}{{ template \"r\" }}{{ end }}{{ template \"r\" }}",
            "exceeded maximum template depth",
        ),
    ]);
}

/// A debug build may reach the limit of time first.
#[track_caller]
fn assert_is_limited(text: &str) {
    let error = try_render(text).expect_err(text);
    let limited = error.contains("MiB") || error.contains("takes too");
    assert!(limited, "{text}: {error}");
}

#[test]
fn the_resources_of_a_rendering_are_limited() {
    rejects(&[
        ("{{ range until 1000000000 }}{{ end }}", "MiB"),
        ("{{ repeat 1000000000 \"aaaa\" }}", "MiB"),
        (
            "{{ $m := dict }}{{ $_ := set $m \"a\" $m }}{{ deepCopy $m }}",
            "nested too deeply",
        ),
    ]);
    // Each of these would need far more memory than any machine has.
    for text in [
        "{{ join (repeat 1000000 \"a\") (until 100000) }}",
        "{{ wrapWith 1 (repeat 1000000 \"x\") (repeat 100000 \"b\") }}",
        "{{ regexReplaceAll \".*\" (repeat 1000000 \"a\") (repeat 1000000 \"$0\") }}",
        "{{ printf (repeat 100000 \"%1000000[1]d\") 1 }}",
    ] {
        assert_is_limited(text);
    }
    let endless = [source("base", "{{ range 1000000000 }}{{ end }}")];
    for (steps, time, want) in [(1_000, 60, "too many steps"), (u64::MAX, 0, "too long")] {
        let budget = budget::Budget::of(budget::Limits {
            steps,
            time: std::time::Duration::from_secs(time),
            made: 256 << 20,
            calls: 1_000,
        });
        let errors = run(&endless, &Data::new(), &World, budget).unwrap_err();
        assert!(errors[0].text.contains(want), "{}", errors[0].text);
    }
    assert!(
        try_render("{{ $m := dict }}{{ $_ := set $m \"a\" $m }}{{ $m }}{{ toJson $m }}").is_ok()
    );
}

#[test]
fn a_field_of_nil_in_parentheses_is_nil() {
    check(&[
        ("{{ (.s.nul).a }}", "<no value>"),
        ("{{ (index .s \"gone\").a }}", "<no value>"),
        ("{{ (get .s.m \"c\").gone.a }}", "<no value>"),
        ("{{ (fromJson \"bad\").x.y }}", "<no value>"),
        (
            "{{ if (index .s \"auth\").enabled }}on{{ else }}off{{ end }}",
            "off",
        ),
        ("{{ with (.s.nul).a }}on{{ else }}off{{ end }}", "off"),
        ("{{ default 1 (.s.nul).a }}", "1"),
        ("{{ $x := .s.nul }}{{ $x.a }}", "<no value>"),
    ]);
    rejects(&[
        ("{{ .s.nul.a }}", "nil pointer evaluating interface {}.a"),
        ("{{ (.s).nul.a }}", "nil pointer evaluating interface {}.a"),
        ("{{ (nil).a }}", "nil"),
    ]);
}

/// A list that holds the one before it twice, 60 times: a small value with a text of 2^60 bytes.
const SHARED: &str = "{{ $l := list 1 }}{{ range until 60 }}{{ $l = list $l $l }}{{ end }}";

#[test]
fn lists_that_share_their_items_are_not_printed_or_compared_without_end() {
    let compared = format!("{SHARED}{{{{ $a := $l }}}}{SHARED}{{{{ deepEqual $a $l }}}}");
    let sources = [source("base", &compared)];
    let budget = budget::Budget::of(budget::Limits {
        steps: 100_000,
        time: std::time::Duration::from_secs(60),
        made: 256 << 20,
        calls: 1_000,
    });
    let errors = run(&sources, &Data::new(), &World, budget).unwrap_err();
    assert!(
        errors[0].text.contains("too many steps"),
        "{}",
        errors[0].text
    );
}

#[test]
fn maps_that_hold_themselves_are_compared_and_printed() {
    const CYCLES: &str = "{{ $a := dict }}{{ $_ := set $a \"m\" $a }}\
        {{ $b := dict }}{{ $_ = set $b \"m\" $b }}{{ $c := dict \"m\" 1 }}";
    let rendered = |action: &str| try_render(&format!("{CYCLES}{action}"));
    for (action, want) in [
        ("{{ deepEqual $a $b }} {{ deepEqual $a $c }}", "true false"),
        ("{{ len (uniq (list $a $b $c)) }}", "2"),
        ("{{ has $a (list $b) }}", "true"),
        ("{{ without (list $a) $b }}", "[]"),
        ("{{ len (toJson $a) }}", "0"),
        ("{{ lt 256 (len (print $a)) }}", "true"),
        ("{{ lt 256 (len (printf \"%d\" $a)) }}", "true"),
        ("{{ lt 256 (len (printf \"%#v\" $a)) }}", "true"),
        ("{{ with merge $a $b }}merged{{ end }}", "merged"),
    ] {
        match rendered(action) {
            Ok(text) => assert_eq!(text, want, "{action}"),
            Err(error) => assert!(error.contains("nested too deeply"), "{action}: {error}"),
        }
    }
}

#[test]
fn deeply_nested_values_are_dropped_and_not_compared() {
    const NESTED: &str = "{{ $l := list }}{{ range until 400000 }}{{ $l = list $l }}{{ end }}";
    // On a thread with the usual stack, and with more time than a slow machine needs.
    let is_empty = |text: &str| {
        let sources = [source("base", text)];
        let budget = budget::Budget::of(budget::Limits {
            steps: u64::MAX,
            time: std::time::Duration::from_secs(120),
            made: 256 << 20,
            calls: 1_000,
        });
        std::thread::scope(|scope| {
            let thread = std::thread::Builder::new().stack_size(STACK);
            let work = || run(&sources, &Data::new(), &World, budget).unwrap().text;
            let thread = thread.spawn_scoped(scope, work).unwrap();
            thread.join().unwrap().is_empty()
        })
    };
    assert!(is_empty(NESTED));
    assert!(is_empty(&NESTED.replace("list $l", "dict \"a\" $l")));
    let compared = format!("{NESTED}{{{{ deepEqual $l (list $l) }}}}");
    rejects(&[(&compared, "nested too deeply")]);
}

#[test]
fn senseless_numbers_cause_no_panic() {
    check(&[
        (
            "{{ printf \"%.2000000000f\" 1.5 }}",
            "%!(NOVERB)%!(EXTRA float64=1.5)",
        ),
        (
            "{{ printf \"%2000000000d|\" 1 }}",
            "%!(NOVERB)%!(EXTRA int=1)",
        ),
        ("{{ printf \"%.70000f\" 1.5 | len }}", "70002"),
        ("{{ printf \"%.70000e\" 1.5 | len }}", "70006"),
        ("{{ printf \"%#.70000g\" 1.5 | len }}", "70001"),
        ("{{ printf \"%.1000000d\" 1 | len }}", "1000000"),
        (
            "{{ printf \"%*d\" -9223372036854775808 1 }}",
            "%!(BADWIDTH)1",
        ),
        (
            "{{ abbrevboth -9223372036854775808 10 \"abcdefghijklmnop\" }}",
            "abcdefg...",
        ),
        (
            "{{ len (untilStep -9223372036854775808 9223372036854775807 4611686018427387904) }}",
            "4",
        ),
    ]);
    // The last second that the calendar knows is in no zone east of Greenwich.
    for text in [
        "{{ dateInZone \"2006\" 8210266876799 \"Asia/Tokyo\" }}",
        "{{ (now.AddDate 260000 0 0).AddDate 110 11 30 }}",
        "{{ (now.AddDate -262000 0 0).Format \"2006\" }}",
    ] {
        let result = try_render(text);
        let is_panic = |error: &String| error.contains("unexpectedly");
        assert!(!result.as_ref().is_err_and(is_panic), "{text}: {result:?}");
    }
}

#[test]
fn a_later_file_replaces_a_template() {
    let sources = [
        source("base", "{{ template \"t\" }}{{ define \"t\" }}old{{ end }}"),
        source("a.tmpl", "{{ define \"t\" }}new{{ end }}"),
        source("b.tmpl", "{{ define \"t\" }} {{ end }}"),
    ];
    let rendered = render(&sources, &Data::new(), &World).unwrap();
    assert_eq!(rendered.text, b"new");
    assert_eq!(rendered.warnings.len(), 1);
}

#[test]
fn pieces_record_their_origin() {
    let rendered = render(&[source("base", "ab{{ 12 }}cd")], &Data::new(), &World).unwrap();
    assert_eq!(rendered.text, b"ab12cd");
    let origins: Vec<_> = (0..6).map(|at| rendered.origin(at)).collect();
    let want = [0, 1, 5, 5, 10, 11].map(|offset| Some((0, offset)));
    assert_eq!(origins, want);
}

#[test]
fn formats_of_printf() {
    check(&[
        (
            "{{ printf \"%05d|%-4s|%4s|%q|%v\" 42 \"a\" \"b\" \"c\" true }}",
            "00042|a   |   b|\"c\"|true",
        ),
        (
            "{{ printf \"%.2f %6.1f %e %g\" 3.14159 2.5 1234.5 1e6 }}",
            "3.14    2.5 1.234500e+03 1e+06",
        ),
        ("{{ printf \"%d\" .s.n }}", "%!d(float64=3)"),
        (
            "{{ printf \"%s\" }}{{ printf \"a\" 1 }}",
            "%!s(MISSING)a%!(EXTRA int=1)",
        ),
        ("{{ printf \"%[2]s %[1]s\" \"a\" \"b\" }}", "b a"),
        (
            "{{ printf \"%x %X %o %b %c %U\" 255 255 8 5 65 65 }}",
            "ff FF 10 101 A U+0041",
        ),
        (
            "{{ printf \"%T %#v\" .s.l .s.l }}",
            "[]interface {} []interface {}{\"c\", \"a\", \"b\"}",
        ),
    ]);
}

#[test]
fn dates_in_layouts_of_go() {
    check(&[
        (
            "{{ dateInZone \"2006-01-02T15:04:05Z07:00\" 0 \"UTC\" }}",
            "1970-01-01T00:00:00Z",
        ),
        (
            "{{ dateInZone \"Mon Jan _2 15:04:05 MST 2006\" 0 \"Europe/Berlin\" }}",
            "Thu Jan  1 01:00:00 CET 1970",
        ),
        (
            "{{ (toDate \"2006-01-02\" \"2024-02-29\").Weekday }}",
            "Thursday",
        ),
        (
            "{{ (toDate \"2006-01-02\" \"2024-01-31\").AddDate 0 1 0 | htmlDate }}",
            "2024-03-02",
        ),
        (
            "{{ toDate \"2006-01-02 15:04\" \"2024-02-29 10:30\" | unixEpoch }}",
            "1709202600",
        ),
        (
            "{{ toDate \"2006-01-02\" \"bad\" | date \"2006\" }}",
            "0001",
        ),
    ]);
}

#[test]
fn every_function_is_found_by_its_name() {
    for name in function_names() {
        assert!(functions::is_known(name), "{name}");
    }
    assert!(function_names().len() > 190, "{}", function_names().len());
}

#[test]
fn groups_of_regular_expressions_have_names() {
    check(&[
        (
            r#"{{ regexReplaceAll "[(](?:a)(?P<b>x)\\((y)" "(ax(y" "${b}-$2-${c}" }}"#,
            "x-y-",
        ),
        (r#"{{ regexReplaceAll "(?<n>a)" "a" "[${n}]" }}"#, "[a]"),
        (
            r#"{{ regexReplaceAll "\\Q(\\E(?P<n>a)[[:alpha:](]" "(ab" "${n}" }}"#,
            "a",
        ),
    ]);
}

proptest! {
    #[test]
    fn text_without_actions_renders_to_itself(text in "[^{]{0,200}") {
        prop_assert_eq!(try_render(&text), Ok(text));
    }

    #[test]
    fn arbitrary_text_renders_or_is_rejected(text in "(\\{\\{|\\}\\}|[-. a-z\"`|():=$,0-9\n]){0,60}") {
        let _ = try_render(&text);
    }

    #[test]
    fn marshalled_json_parses_back(text in "[^\u{0}]{0,40}", number in -1e15_f64..1e15) {
        let value = serde_json::json!({"t": text, "n": number, "l": [null, true]});
        let data = vec![("v".to_owned(), tree(&value))];
        let rendered = render(&[source("b", "{{ marshal .v }}")], &data, &World).unwrap();
        let read: serde_json::Value = serde_json::from_slice(&rendered.text).unwrap();
        prop_assert_eq!(read["t"].clone(), value["t"].clone());
        prop_assert_eq!(read["n"].as_f64(), value["n"].as_f64());
    }
}
