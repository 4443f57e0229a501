use proptest::prelude::*;

use super::*;

fn found(text: &str, pattern: &str) -> Result<Option<(usize, usize)>, MatchError> {
    Matcher::new(text.as_bytes(), pattern.as_bytes(), &mut || false).find(0)
}

fn whole(text: &str, pattern: &str) -> Vec<String> {
    let mut never = || false;
    let mut matcher = Matcher::new(text.as_bytes(), pattern.as_bytes(), &mut never);
    matcher.find(0).unwrap().unwrap();
    let shown = |capture| match capture {
        Capture::Text(start, end) => text[start..end].to_owned(),
        Capture::Position(at) => format!("@{at}"),
    };
    matcher.captured().unwrap().into_iter().map(shown).collect()
}

#[test]
fn captures_are_as_in_lua() {
    assert_eq!(whole("key = value", "(%w+)%s*=%s*(%w+)"), ["key", "value"]);
    assert_eq!(whole("hello", "()ll()"), ["@2", "@4"]);
    assert_eq!(whole("THE (quick) fox", "%((%a+)%)"), ["quick"]);
    assert_eq!(whole("\"it's\" x", "([\"'])(.-)%1"), ["\"", "it's"]);
    assert_eq!(whole("f(a(b)c)d", "(%b())"), ["(a(b)c)"]);
    assert_eq!(whole("THE (quick) fox", "%f[%a](%a+)%f[%A]$"), ["fox"]);
}

#[test]
fn an_invalid_pattern_is_an_error() {
    for (pattern, error) in [
        ("%", MatchError::Percent),
        ("[a", MatchError::Bracket),
        ("[]", MatchError::Bracket),
        ("%b(", MatchError::Balance),
        ("%fa", MatchError::Frontier),
        (")", MatchError::Capture),
        ("%1", MatchError::Index),
    ] {
        assert_eq!(found("a", pattern), Err(error), "{pattern}");
    }
    let many = "(a)".repeat(40);
    assert_eq!(found(&"a".repeat(50), &many), Err(MatchError::Captures));
    let deep = "a?".repeat(5000);
    assert_eq!(found(&"a".repeat(5000), &deep), Err(MatchError::Complex));
}

#[test]
fn an_endless_search_is_stopped() {
    let text = "a".repeat(3000);
    let pattern = ".-".repeat(12) + "b";
    let mut looks = 0;
    let mut is_late = || {
        looks += 1;
        looks > 3
    };
    let mut matcher = Matcher::new(text.as_bytes(), pattern.as_bytes(), &mut is_late);
    assert_eq!(matcher.find(0), Err(MatchError::Late));
}

#[test]
fn every_byte_that_is_read_counts_as_a_step() {
    let open = "(".repeat(20_000);
    let again = format!("{}b", "a".repeat(40_000));
    // Each start reads the whole rest.
    for (text, pattern) in [(&open, "%b()"), (&again, "(a*)%1c")] {
        let mut looks = 0;
        let mut is_late = || {
            looks += 1;
            looks > 100
        };
        let mut matcher = Matcher::new(text.as_bytes(), pattern.as_bytes(), &mut is_late);
        assert_eq!(matcher.find(0), Err(MatchError::Late), "{pattern}");
    }
}

/// The result of Lua's own matcher.
fn reference(
    lua: &mlua::Lua,
    text: &[u8],
    pattern: &[u8],
) -> Result<Option<(usize, usize)>, String> {
    let find: mlua::Function = lua.load("return string.find").eval().unwrap();
    let (text, pattern) = (
        lua.create_string(text).unwrap(),
        lua.create_string(pattern).unwrap(),
    );
    let found = find
        .call::<mlua::MultiValue>((text, pattern))
        .map_err(|e| e.to_string())?;
    Ok(
        match (
            found.front().and_then(|v| v.as_usize()),
            found.get(1).and_then(|v| v.as_usize()),
        ) {
            (Some(start), Some(end)) => Some((start - 1, end)),
            _ => None,
        },
    )
}

proptest! {
    #[test]
    fn it_finds_the_same_as_lua(
        text in "[ab(). x1]{0,12}",
        pattern in "(\\^?)([ab.x1]|%[awdsA.]|\\[[ab%w^-]{1,3}\\]|\\(a?\\)|%b\\(\\)|%f\\[%w\\]){1,5}[*+?-]?([ab.]?)(\\$?)",
    ) {
        let lua = mlua::Lua::new();
        let expected = reference(&lua, text.as_bytes(), pattern.as_bytes());
        let got = found(&text, &pattern);
        match (expected, got) {
            (Ok(expected), Ok(got)) => prop_assert_eq!(expected, got, "{:?} in {:?}", pattern, text),
            (Err(_), Err(_)) => {}
            // Lua notices an unclosed capture only when it returns the capture.
            (Err(_), Ok(_)) => {}
            (Ok(expected), Err(got)) => prop_assert!(false, "{:?} in {:?}: {:?}, {:?}", pattern, text, expected, got),
        }
    }

    #[test]
    fn arbitrary_bytes_do_not_panic(text in any::<Vec<u8>>(), pattern in any::<Vec<u8>>()) {
        let mut looks = 0;
        let mut is_late = || { looks += 1; looks > 2 };
        let _ = Matcher::new(&text, &pattern, &mut is_late).find(0);
    }
}
