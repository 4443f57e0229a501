//! Randomly generated expressions.

use super::*;

/// Parts of expressions, chosen so that many combinations compile.
pub(super) fn pieces() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("data"),
        Just("data.n"),
        Just("data.s"),
        Just("data.list"),
        Just("data.o.k"),
        Just("words"),
        Just("missing.a"),
        Just("text"),
        Just("number"),
        Just("1"),
        Just("-1"),
        Just("0"),
        Just("2u"),
        Just("1.5"),
        Just("1e300"),
        Just("9223372036854775807"),
        Just("''"),
        Just("'a'"),
        Just("b'a'"),
        Just("null"),
        Just("true"),
        Just("[]"),
        Just("{}"),
        Just("timestamp(data.n)"),
        Just("duration('1h')"),
        Just("data.nothing"),
        Just("int"),
    ]
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 64, 3, |inner| {
        let operator = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("=="),
            Just("!="),
            Just("<"),
            Just(">="),
            Just("&&"),
            Just("||"),
            Just("in"),
        ];
        let function = prop_oneof![
            Just("int"),
            Just("uint"),
            Just("double"),
            Just("string"),
            Just("bytes"),
            Just("bool"),
            Just("type"),
            Just("dyn"),
            Just("timestamp"),
            Just("duration"),
            Just("size"),
            Just("!"),
            Just("-"),
        ];
        let member = prop_oneof![
            Just("startsWith"),
            Just("contains"),
            Just("matches"),
            Just("getHours"),
            Just("getDayOfYear"),
        ];
        let walk = prop_oneof![
            Just("all"),
            Just("exists"),
            Just("exists_one"),
            Just("map"),
            Just("filter"),
        ];
        prop_oneof![
            (inner.clone(), operator, inner.clone()).prop_map(|(a, o, b)| format!("({a} {o} {b})")),
            (function, inner.clone()).prop_map(|(f, a)| format!("{f}(dyn({a}))")),
            (inner.clone(), member, inner.clone())
                .prop_map(|(a, m, b)| format!("dyn({a}).{m}(dyn({b}))")),
            (inner.clone(), walk, inner.clone())
                .prop_map(|(a, w, b)| format!("dyn({a}).{w}(x, dyn({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("dyn({a})[dyn({b})]")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("(dyn({a}) ? dyn({b}) : dyn({c}))")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("[{a}, {{{b}: {a}}}]")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn arbitrary_text_is_an_error_or_a_program(text in "\\PC{0,60}") {
        let _ = given(&text);
    }

    #[test]
    fn arbitrary_programs_end_within_their_budget(text in pieces()) {
        let _ = given(&text);
    }
}
