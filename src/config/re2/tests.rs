//! Expected results from RE2's documented syntax and from `regexp/syntax`.

use proptest::prelude::*;

use super::*;

fn is_match(pattern: &str, text: &str) -> bool {
    let compiled = compile(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
    let bytes = compiled.is_match(text.as_bytes());
    let translated = translate(pattern, Use::Text).unwrap();
    let texts = regex::Regex::new(&translated).unwrap();
    assert_eq!(bytes, texts.is_match(text), "{pattern} on {text}");
    bytes
}

/// Pattern, texts that match, texts that do not match.
const FOUND: &[(&str, &[&str], &[&str])] = &[
    // Perl classes and word boundaries are ASCII.
    (r"^\d+$", &["0", "123"], &["٣", "१२", "", "1a"]),
    (r"^\D+$", &["٣", "abc"], &["a1"]),
    (r"^\w+$", &["aZ_09"], &["é", "日本", "a-b"]),
    (r"^\W+$", &["é", "-"], &["a"]),
    (r"^\s+$", &[" \t\n\r\u{c}"], &["\u{b}", "\u{a0}", "\u{85}"]),
    (r"^\S+$", &["\u{b}", "\u{a0}", "a"], &["a b"]),
    (r"\bna", &["éna", "na"], &["ana"]),
    (r"^[\d\s]+$", &["1 2"], &["٣"]),
    (r"^[^\d]+$", &["a٣"], &["1"]),
    (r"^[\d-x]+$", &["1-x"], &["w"]),
    (r"^[\W]+$", &["é"], &["e"]),
    (r"(?i)^\W+$", &["é"], &["s", "ſ", "K"]),
    (r"(?i)^\w+$", &["ſ", "K"], &["é"]),
    // No set operations within classes.
    ("^[a&&b]+$", &["a", "b", "&", "a&b"], &["c"]),
    ("^[a~~b]+$", &["a~b"], &["c"]),
    ("^[[a]+$", &["[a["], &["b"]),
    ("^[[a]]$", &["[]", "a]"], &["a", "["]),
    ("^[]a]+$", &["]a"], &["b"]),
    ("^[^]a]+$", &["b"], &["]"]),
    ("^[a-]+$", &["a-"], &["b"]),
    ("^[-a]+$", &["a-"], &["b"]),
    ("^[a-c-e]+$", &["b-e"], &["d"]),
    (r"^[\]\\\-]+$", &[r"]\-"], &["a"]),
    ("^[#a b]+$", &["# a"], &["c"]),
    ("^[[:alnum:]]+$", &["aZ9"], &["_", "é"]),
    ("^[[:^alnum:]]+$", &["_é"], &["a"]),
    ("^[^[:digit:]]+$", &["a٣"], &["1"]),
    ("^[[:word:][:space:]]+$", &["a_ \u{b}"], &["-"]),
    ("^[[:punct:]]+$", &["!/:@[`{~"], &["a"]),
    ("^[[:ascii:]]+$", &["a\u{7f}"], &["é"]),
    ("^[[:xdigit:]]+$", &["09afAF"], &["g"]),
    ("^[[:blank:][:cntrl:]]+$", &[" \t\u{1f}"], &["a"]),
    (
        "^[[:lower:]][[:upper:]][[:alpha:]][[:graph:]][[:print:]]$",
        &["aAa! "],
        &["AAaaa"],
    ),
    ("^[[:a]+$", &["[:a"], &["b"]),
    // Literal braces.
    ("^{x}$", &["{x}"], &["x"]),
    ("^x{$", &["x{"], &["x"]),
    ("^{[a-z]+}$", &["{abc}"], &["abc"]),
    ("^a{,2}$", &["a{,2}"], &["aa"]),
    ("^a{1$", &["a{1"], &["a"]),
    ("^a{1,2$", &["a{1,2"], &["a"]),
    ("^a{01}$", &["a{01}"], &["a"]),
    ("^a{}$", &["a{}"], &["a"]),
    ("^a{x}}$", &["a{x}}"], &["a"]),
    ("^a{2}$", &["aa"], &["a", "aaa"]),
    ("^a{2,}$", &["aa", "aaaa"], &["a"]),
    ("^a{2,3}?$", &["aa", "aaa"], &["aaaa"]),
    ("^a{0}$", &[""], &["a"]),
    ("^(?:a{2}){2}$", &["aaaa"], &["aa"]),
    ("^a{1000}$", &[], &["a"]),
    // Quotes and escapes.
    (r"^\Qa.b*\E+$", &["a.b*", "a.b***"], &["aab"]),
    (r"^\Q[(\", &["[(\\"], &["["]),
    (r"^a\Q\Eb$", &["ab"], &[]),
    (r"^\101\0\60$", &["A\u{0}0"], &[]),
    (r"^\08$", &["\u{0}8"], &[]),
    (r"^\777$", &["\u{1ff}"], &[]),
    (r"^[\101-\103]+$", &["ABC"], &["D"]),
    (r"^\x41\x{1F600}$", &["A😀"], &[]),
    (r"^\a\f\t\n\r\v$", &["\u{7}\u{c}\t\n\r\u{b}"], &[]),
    (r"^\.\_\-\/\@\%\,$", &["._-/@%,"], &[]),
    (r"^\<a\>$", &["<a>"], &["a"]),
    (r"\A[ab]\z", &["a"], &["a\n", "xa"]),
    // Unicode classes.
    (r"^\pL+$", &["aé日"], &["1"]),
    (r"^\PL+$", &["1-"], &["a"]),
    (r"^\p{^L}+$", &["1-"], &["a"]),
    (r"^\P{^L}+$", &["aé"], &["1"]),
    (r"^\p{Greek}+$", &["αβ"], &["a"]),
    (r"^[\p{Lu}\p{Nd}]+$", &["AÉ٣"], &["a"]),
    (r"^\p{Any}$", &["a", "\n"], &[]),
    (r"^\p{Old_Italic}$", &["𐌀"], &["a"]),
    (r"^\p{Zl}$", &["\u{2028}"], &[" "]),
    (r"(?i)^\p{Lu}+$", &["Aa"], &["1"]),
    // As of Go 1.25: long names, any letter case, `LC`, `Cn`, `ASCII` and `Assigned`.
    (r"^\p{Letter}+$", &["aé日"], &["1"]),
    (r"^\p{ uppercase-letter}+$", &["AÉ"], &["a"]),
    (r"^\p{LC}+$", &["aÉǅ"], &["日", "1"]),
    (r"^\p{latin}\p{^GREEK}$", &["aé"], &["aα", "αa"]),
    (r"^\p{l_u}\pl$", &["Aa"], &["aA"]),
    (r"^\p{Cn}$", &["\u{378}"], &["a"]),
    (r"^\p{C}+$", &["\u{378}\u{0}\u{e000}"], &["a"]),
    (r"^\p{Assigned}\P{Assigned}$", &["a\u{378}"], &["ab"]),
    (r"^\p{ascii}+$", &["a\u{7f}"], &["é", "ſ"]),
    (r"(?i)^\p{ASCII}+$", &["aſ"], &["é"]),
    (r"^\p{digit}\p{punct}\p{Surrogate}?$", &["٣!"], &["a!"]),
    (r"^\p{oldItalic}\p{thai}$", &["𐌀ก"], &["aa"]),
    // Flags.
    ("(?i)^straße$", &["STRAßE", "StRaẞe"], &["STRASSE"]),
    ("(?i)^[a-c]k$", &["BK", "bK"], &["dk"]),
    ("^a(?i)b|c$", &["aB", "C"], &["Ab"]),
    ("^(a(?i)b)c$", &["aBc"], &["aBC"]),
    ("^(?i:a)b$", &["Ab"], &["AB"]),
    ("(?i)^a(?-i)b$", &["Ab"], &["AB"]),
    ("^a$", &["a"], &["a\n", "b\na"]),
    ("(?m)^a$", &["b\na\nc"], &["ba"]),
    ("^.$", &["a", "é", "\r", "\u{2028}"], &["\n"]),
    ("(?s)^.$", &["\n"], &[]),
    ("(?U)^a+$", &["aa"], &["b"]),
    ("(?-s:^.$)", &["a"], &["\n"]),
    // Groups, names, empty parts.
    ("^(?P<n>a)(?<m>b)$", &["ab"], &["a"]),
    ("^(?P<n>a)(?P<n>b)$", &["ab"], &["a"]),
    ("^(|a)$", &["", "a"], &["b"]),
    ("^(?:)$", &[""], &["a"]),
    ("^a||b$", &["", "x"], &[]),
    ("^*a", &["a"], &["b"]),
    ("(?:^)*a", &["ba"], &[]),
    ("a#b c", &["a#b c"], &["ab"]),
    ("^a-b&~]}$", &["a-b&~]}"], &[]),
];

/// Expressions that Go does not compile, with its reason.
const REJECTED: &[(&str, &str)] = &[
    ("a**", "invalid nested repetition operator: `**`"),
    ("a*+", "invalid nested repetition operator: `*+`"),
    ("a{2}{3}", "invalid nested repetition operator: `{2}{3}`"),
    ("a??*", "invalid nested repetition operator: `??*`"),
    ("*a", "missing argument to repetition operator: `*`"),
    ("+", "missing argument to repetition operator: `+`"),
    ("a|?", "missing argument to repetition operator: `?`"),
    ("(*a)", "missing argument to repetition operator: `*`"),
    ("{2}", "missing argument to repetition operator: `{2}`"),
    ("a{1001}", "invalid repeat count: `{1001}`"),
    ("a{2,1}", "invalid repeat count: `{2,1}`"),
    ("a{1,99999999999}", "invalid repeat count"),
    ("(?:a{100}){11}", "invalid repeat count: `{11}`"),
    ("(a", "missing closing ): `(a`"),
    ("a)", "unexpected ): `a)`"),
    ("[a", "missing closing ]: `[a`"),
    ("[]", "missing closing ]: `[]`"),
    ("[z-a]", "invalid character class range: `z-a`"),
    ("[[:alfa:]]", "invalid character class range: `[:alfa:]`"),
    (r"[a-\d]", r"invalid escape sequence: `\d`"),
    (r"[\b]", r"invalid escape sequence: `\b`"),
    ("[a--b]", "invalid character class range: `a--`"),
    (r"\y", r"invalid escape sequence: `\y`"),
    (r"\Z", r"invalid escape sequence: `\Z`"),
    (r"\C", r"invalid escape sequence: `\C`"),
    (r"\1", r"invalid escape sequence: `\1`"),
    (r"(a)\1", r"invalid escape sequence: `\1`"),
    (r"\8", r"invalid escape sequence: `\8`"),
    (r"\u0041", r"invalid escape sequence: `\u`"),
    (r"\h", "invalid escape sequence"),
    (r"\é", r"invalid escape sequence: `\é`"),
    (r"\x4", "invalid escape sequence"),
    (r"\x{110000}", "invalid escape sequence"),
    (r"\x{}", "invalid escape sequence"),
    (r"a\", "trailing backslash at end of expression"),
    (
        r"\p{IsLatin}",
        r"invalid character class range: `\p{IsLatin}`",
    ),
    (r"\p{Grek}", "invalid character class range"),
    (r"\p{}", "invalid character class range"),
    (r"\p{-}", "invalid character class range"),
    (r"\p{gc=Lu}", "invalid character class range"),
    (r"\p{Nope}", "invalid character class range"),
    (r"\pX", r"invalid character class range: `\pX`"),
    ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
    ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
    ("(?!a)", "invalid or unsupported Perl syntax: `(?!`"),
    ("(?<=a)", "invalid named capture"),
    ("(?<!a)b>", "invalid named capture"),
    ("(?>a)", "invalid or unsupported Perl syntax: `(?>`"),
    ("(?i-)a", "invalid or unsupported Perl syntax"),
    ("(?P=n)", "invalid or unsupported Perl syntax: `(?P`"),
    ("(?P<n-m>a)", "invalid named capture: `(?P<n-m>`"),
    ("(?P<>a)", "invalid named capture: `(?P<>`"),
];

#[test]
fn patterns_match_what_go_matches() {
    for (pattern, found, not_found) in FOUND {
        for text in *found {
            assert!(is_match(pattern, text), "{pattern} on {text:?}");
        }
        for text in *not_found {
            assert!(!is_match(pattern, text), "{pattern} on {text:?}");
        }
    }
}

#[test]
fn invalid_patterns_are_rejected_with_the_message_of_go() {
    for (pattern, reason) in REJECTED {
        match translate(pattern, Use::Bytes) {
            Ok(translated) => panic!("{pattern} became {translated}"),
            Err(error) => {
                let said = error.to_string();
                let expected = format!("error parsing regexp: {reason}");
                assert!(said.starts_with(&expected), "{pattern}: {said}");
            }
        }
    }
}

#[test]
fn no_boundary_is_ascii_when_bytes_are_searched() {
    let pattern = compile(r"a\Bé").unwrap();
    assert!(!pattern.is_match("aé".as_bytes()));
    assert!(compile(r"a\Bb").unwrap().is_match(b"ab"));
    assert!(regex::Regex::new(&translate(r"a\Bb", Use::Text).unwrap()).is_ok());
}

#[test]
fn a_set_names_the_expression_that_is_too_large() {
    assert!(set(&["a", r"\d"]).unwrap().is_match(b"7"));
    assert!(set(&["a", "("]).is_err());
    let large = sized(r"\pL{1000}", 1 << 16).unwrap_err();
    assert_eq!(large.to_string(), "the regular expression is too large");
}

fn piece() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~é٣]",
        prop::sample::select(vec![
            r"\d",
            r"\W",
            r"\b",
            r"\B",
            r"\pL",
            r"\Q",
            r"\E",
            "[",
            "]",
            "[^",
            "(?i)",
            "(?:",
            "(",
            ")",
            "|",
            "*",
            "+?",
            "{2}",
            "{1,3}",
            "{,",
            "[:alpha:]",
            "-",
            "&&",
            r"\101",
            r"\x41",
            "^",
            "$",
            ".",
            "(?s-i:",
            r"\p{Greek}",
        ])
        .prop_map(str::to_owned),
    ]
}

proptest! {
    /// Every translation compiles, and nothing panics.
    #[test]
    fn a_translation_compiles(pieces in prop::collection::vec(piece(), 0..12)) {
        let pattern = pieces.concat();
        if let Ok(translated) = translate(&pattern, Use::Bytes) {
            let compiled = Regex::new(&translated);
            prop_assert!(compiled.is_ok(), "{} became {}", pattern, translated);
        }
    }

    /// A quoted or escaped text matches itself.
    #[test]
    fn quoted_texts_match_themselves(text in "[ -~é\n٣]{0,12}") {
        if !text.contains(r"\E") {
            let quoted = format!(r"^\Q{text}\E$");
            prop_assert!(is_match(&quoted, &text));
        }
        let escaped = format!("^{}$", regex::escape(&text));
        prop_assert!(is_match(&escaped, &text));
    }

    /// A class of single characters contains exactly them, including special characters.
    #[test]
    fn classes_contain_their_characters(letters in "[a-f&~|:{}.*+?$]{1,6}", other in "[a-z&~|:{}.*+?$]") {
        let class = format!("^[{letters}]$");
        prop_assert_eq!(is_match(&class, &other), letters.contains(&other));
    }

    /// Only ASCII digits match.
    #[test]
    fn only_ascii_digits_match(letter in prop::char::any()) {
        let text = letter.to_string();
        prop_assert_eq!(is_match(r"^\d$", &text), letter.is_ascii_digit());
        let is_word = letter.is_ascii_alphanumeric() || letter == '_';
        prop_assert_eq!(is_match(r"^\w$", &text), is_word);
        prop_assert_eq!(is_match(r"^[^\W]$", &text), is_word);
    }
}
