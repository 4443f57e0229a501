//! Jumps behave as in Lua with `goto`.

use mlua::Lua;

use super::super::syntax::rewritten;

/// Runs a text that records its path in `out`.
fn ran(text: &str) -> String {
    let new = rewritten(text).unwrap().unwrap();
    assert_eq!(new.lines().count(), text.lines().count(), "{new}");
    let text =
        format!("local out = ''; local function put(s) out = out .. s end; {new}\nreturn out");
    let lua = Lua::new();
    lua.load(&text)
        .eval::<String>()
        .unwrap_or_else(|error| panic!("{new}: {error}"))
}

#[test]
fn jumps_behave_as_in_lua() {
    for (text, expected) in [
        // Continue.
        (
            "for i = 1, 4 do if i == 2 then goto continue end put(i) ::continue:: end",
            "134",
        ),
        (
            "for i = 1, 4 do if i == 2 then goto continue end if i == 4 then break end put(i) ::continue:: end",
            "13",
        ),
        (
            "local i = 0 while i < 4 do i = i + 1 if i % 2 == 0 then goto c end local x = i put(x) ::c:: ; end",
            "13",
        ),
        (
            "local i = 0 repeat i = i + 1 if i == 2 then goto c end put(i) ::c:: until i == 3",
            "13",
        ),
        // Out of inner loops.
        (
            "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto next end put(i .. j) end put('!') ::next:: end",
            "112131",
        ),
        (
            "for i = 1, 3 do for j = 1, 3 do if j == 2 then goto done end put(i .. j) end end ::done:: put('.')",
            "11.",
        ),
        (
            "for i = 1, 2 do for j = 1, 2 do for k = 1, 2 do if k == 2 then goto out end put(k) end put('j') end put('i') ::out:: end put('.')",
            "11.",
        ),
        // Forward, over statements.
        (
            "local a = 'a' put(a) if a then goto skip end put('b') ::skip:: put(a)",
            "aa",
        ),
        ("do goto e end put('x') ::e::", ""),
        ("goto one ::two:: put(2) ::one:: put(1)", "1"),
        (
            "local x = 1 if x == 1 then goto a else goto b end ::a:: put('a') ::b:: put('b')",
            "ab",
        ),
        // Backward.
        (
            "local n = 0 ::again:: n = n + 1 put(n) if n < 3 then goto again end put('.')",
            "123.",
        ),
        (
            "local n = 0 ::again:: local m = n n = m + 1 for i = 1, 2 do if n < 3 then goto again end put(n) end",
            "33",
        ),
        (
            "for i = 1, 2 do local n = 0 ::again:: n = n + 1 if n < 2 then goto again end if i == 2 then break end put(i .. n) end put('.')",
            "12.",
        ),
        (
            "for i = 1, 3 do local n = 0 ::top:: n = n + 1 if n == 1 then goto top end if i == 2 then goto continue end put(i) ::continue:: end",
            "13",
        ),
        // Within functions, and names that are not jumps.
        (
            "local function f(n) for i = 1, n do if i == 2 then goto c end put(i) do local g = function() for _ = 1, 2 do break end end g() end ::c:: end return 'r' end put(f(3))",
            "13r",
        ),
        (
            "local function f() do goto e end put('x') ::e:: end f() put('.')",
            ".",
        ),
        ("local t = {}\nt['goto'] = 1 ; ; put(t['goto'])", "1"),
        ("::unused:: put('a')", "a"),
        // A label may be in several blocks.
        ("do ::a:: put(1) end ::a:: do ::a:: put(2) end", "12"),
    ] {
        assert_eq!(ran(text), expected, "{text}\n{:?}", rewritten(text));
    }
}

#[test]
fn a_return_within_a_rewritten_jump_is_kept() {
    let text = "for i = 1, 3 do if i == 1 then goto c end do return 'r' .. i end ::c:: end";
    let new = rewritten(text).unwrap().unwrap();
    assert_eq!(Lua::new().load(new).eval::<String>().unwrap(), "r2");
}

#[test]
fn jumps_that_cannot_be_rewritten_are_reported() {
    for (text, reason) in [
        (
            "::a:: print(1) ::a::",
            "label 'a' already defined on line 1",
        ),
        ("goto nowhere", "no visible label 'nowhere' for goto"),
        ("do ::a:: end goto a", "no visible label 'a'"),
        (
            "::a:: local f = function() goto a end",
            "no visible label 'a'",
        ),
        (
            "goto a local x = 1 ::a:: print(x)",
            "jumps into the scope of a local",
        ),
        (
            "if x then goto a end ::a:: if y then goto a end",
            "both forward and backward",
        ),
        (
            "for i = 1, 2 do repeat if x then goto c end until y ::c:: end",
            "a jump out of 'repeat ... until'",
        ),
    ] {
        let error = rewritten(text).unwrap_err();
        assert!(error.text.contains(reason), "{text}: {}", error.text);
        assert_eq!(error.line, 1);
    }
}

#[test]
fn invalid_lua_is_reported_by_the_interpreter() {
    for text in [
        "if goto a",
        "end ::a::",
        "goto",
        "for i = 1 do ::a:: until",
        "do goto a",
    ] {
        let _ = rewritten(text);
    }
}
