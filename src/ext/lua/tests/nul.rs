//! Strings with NUL bytes, at which functions of C end.

use super::*;

#[tokio::test]
async fn a_string_does_not_end_at_a_nul_byte() {
    for (expression, want) in [
        (r"#string.format('%s', 'a\0b')", "3"),
        (r"string.format('[%s]', 'a\0b') == '[a\0b]'", "true"),
        (r"string.format('[%5s]', 'a\0b') == '[  a\0b]'", "true"),
        (r"string.format('[%-5s]', 'a\0b') == '[a\0b  ]'", "true"),
        (r"string.format('[%.3s]', 'a\0bc') == '[a\0b]'", "true"),
        (r"string.format('[%5.2s]', 'a\0bc') == '[   a\0]'", "true"),
        (r"string.format('[%.s]', 'a\0bc')", "[]"),
        (r"string.format('%v%t', 'a\0b', '\0') == 'a\0b\0'", "true"),
        (r"#string.format('%q', 'a\0b')", "8"),
        (r"string.format('%c%c', 0, 65) == '\0A'", "true"),
        (r"string.format('[%3c]', '0') == '[  \0]'", "true"),
        (
            r"string.format('%s %d%% %s %s', '\0%d%', 7, nil, 'x\0') == '\0%d% 7% nil x\0'",
            "true",
        ),
        (r"string.format('\0%d\0', 7) == '\0007\0'", "true"),
        (r"#string.format('%s', ('a'):rep(200) .. '\0b')", "202"),
        (
            r"#string.format('%s', setmetatable({}, {__tostring = function() return 'a\0b' end}))",
            "3",
        ),
        (r"select('#', pcall(string.format, '%s%d', 'a\0b'))", "2"),
        (r"tostring((pcall(string.format, '%s%d', 'a\0b')))", "false"),
        (r"#tostring('a\0b')", "3"),
        (r"tonumber('10\0x')", "nil"),
        (r"tonumber('10\0')", "nil"),
        (r"tonumber('ff\0', 16)", "nil"),
        (
            r"tonumber('ff', 16) + tonumber(' 0x10 ') + tonumber(1)",
            "272",
        ),
        (
            r"('a\0b'):upper() == 'A\0B' and ('A\0B'):lower() == 'a\0b'",
            "true",
        ),
        (
            r"('a\0b'):reverse() == 'b\0a' and ('a\0b'):rep(2) == 'a\0ba\0b'",
            "true",
        ),
        (r"('a\0b'):find('b', 1, true)", "3"),
        (r"('a\0b'):find('\0b', 1, true)", "2"),
        (r"('a\0b'):find('%zb')", "2"),
        (r"('a\0b'):match('%Z+$')", "b"),
        (r"(('a\0b'):gsub('%z', '-'))", "a-b"),
        (r"(('a-b'):gsub('-', '\0')) == 'a\0b'", "true"),
        (r"('a\0b' .. 'c\0') == 'a\0bc\0'", "true"),
        (
            r"'a\0b' < 'a\0c' and 'a' < 'a\0' and not ('a\0c' <= 'a\0b') and 'a\0b' ~= 'a\0c'",
            "true",
        ),
        (r"({['a\0b'] = 1})['a\0c']", "nil"),
        (r"#table.concat({'a\0', 'b'}, '\0')", "4"),
        (r"#select(2, pcall(error, 'a\0b', 0))", "3"),
        (r"#assert(loadstring('return \'a\\0b\' .. \'\0\''))()", "4"),
        (r"os.date('!%Y\0%Y', 0) == '1970\0001970'", "true"),
        (r"os.date('!\0%d', 0) == '\00001'", "true"),
        (r"os.date('!%Y', 0)", "1970"),
        (r"os.date('!*t', 0).year", "1970"),
    ] {
        assert_eq!(shown(open, expression).await, want, "{expression}");
    }
}

#[tokio::test]
async fn a_name_with_a_nul_byte_is_no_other_file() {
    let refused = "a name or command cannot contain a NUL byte";
    for call in [
        r"io.open('/dev/null\0.json')",
        r"io.open('/dev/null', 'r\0')",
        r"io.popen('true\0')",
        r"os.remove('/nothing\0')",
        r"os.rename('/nothing', '/nothing\0')",
        r"os.getenv('PATH\0')",
    ] {
        assert_eq!(shown(open, &format!("({call})")).await, "nil", "{call}");
        let why = shown(open, &format!("select(2, {call})")).await;
        assert_eq!(why, refused, "{call}");
    }
    for call in [
        r"io.lines, '/dev/null\0'",
        r"io.input, '/dev/null\0'",
        r"io.output, '/dev/null\0'",
        r"os.execute, 'true\0'",
    ] {
        let why = shown(open, &format!("select(2, pcall({call}))")).await;
        assert!(why.ends_with(refused), "{call}: {why}");
    }
    for call in [
        r"loadfile('/dev/null\0')",
        r"pcall(dofile, '/dev/null\0')",
        r"pcall(require, '/dev/null\0')",
    ] {
        let told = shown(open, &format!("({call})")).await;
        assert!(told == "nil" || told == "false", "{call}: {told}");
    }
    for (call, want) in [
        ("type(io.open('/dev/null'))", "userdata"),
        ("type(os.getenv('PATH'))", "string"),
        ("(io.lines('/dev/null')())", "nil"),
        ("pcall(os.getenv)", "false"),
    ] {
        assert_eq!(shown(open, call).await, want, "{call}");
    }
}
