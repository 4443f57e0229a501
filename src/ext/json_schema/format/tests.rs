use super::{ALL, why};

fn reason(format: &str, text: &str) -> String {
    let check = ALL.iter().find(|(name, _)| *name == format).unwrap().1;
    check(text).err().map(Into::into).unwrap_or_default()
}

#[test]
fn valid_texts() {
    for (format, texts) in [
        ("date", &["2024-02-29", "0000-01-01"][..]),
        (
            "time",
            &[
                "10:00:00Z",
                "23:59:60z",
                "00:29:60+00:30",
                "10:00:00.5-01:00",
            ],
        ),
        (
            "date-time",
            &["2024-02-29T10:00:00Z", "2024-02-29t10:00:00.123+02:00"],
        ),
        (
            "duration",
            &["P1D", "P1Y2M3DT4H5M6S", "PT1S", "P3W", "P1YT1M"],
        ),
        (
            "period",
            &["P1D/2024-02-29T10:00:00Z", "2024-02-29T10:00:00Z/PT1H"],
        ),
        (
            "email",
            &[
                "a@b",
                "a.b+c@example.com",
                "\"a b\"@x",
                "a@[127.0.0.1]",
                "a@[IPv6:::1]",
            ],
        ),
        ("hostname", &["a", "a-b.example.com.", "1.2.3.4"]),
        ("ipv4", &["1.2.3.4", "0.0.0.255"]),
        ("ipv6", &["::1", "1:2:3:4:5:6:7:8", "::ffff:1.2.3.4"]),
        (
            "uri",
            &[
                "http://x",
                "mailto:a b",
                "http://é/ü",
                "http://[::1]:80/?a b",
                "a:b",
            ],
        ),
        ("iri", &["http://é/"]),
        ("uri-reference", &["", "x", "//x", "#f", "?q", "/a b"]),
        (
            "uri-template",
            &["", "/a/{b}", "http://x/{a}{b}/{c}", "/%7B"],
        ),
        ("json-pointer", &["", "/", "/a~0~1/ü"]),
        ("relative-json-pointer", &["0", "1#", "12/a"]),
        ("uuid", &["2eb8aa08-AA98-11ea-b4aa-73b441d16380"]),
        ("semver", &["1.2.3", "0.0.0-a.1+b.01", "1.0.0--"]),
    ] {
        for text in texts {
            assert_eq!(reason(format, text), "", "{format}: {text}");
        }
    }
}

#[test]
fn invalid_texts_and_their_reasons() {
    for (format, text, expected) in [
        ("uuid", "zz", "must have 5 elements"),
        (
            "uuid",
            "2eb8aa08-aa98-11ea-b4aa-73b441d1638",
            "element 5 must be 12 characters long",
        ),
        (
            "uuid",
            "2eb8aa0ü-aa98-11ea-b4aa-73b441d16380",
            "element 1 must be 8 characters long",
        ),
        (
            "uuid",
            "2eb8aa0g-aa98-11ea-b4aa-73b441d16380",
            "non-hex character 'g'",
        ),
        ("hostname", "-a", "label starts with hyphen"),
        ("hostname", "a-.b", "label ends with hyphen"),
        ("hostname", "", "label must be 1 to 63 characters long"),
        ("hostname", "a_b", "invalid character '_'"),
        ("email", "zz", "missing @"),
        ("email", ".a@b", "starts with dot"),
        ("email", "a b@c", "invalid character ' '"),
        ("email", "a@b_c", "invalid domain: invalid character '_'"),
        (
            "email",
            "a@[1.2.3]",
            "invalid ipv4 address: expected four decimals",
        ),
        ("ipv4", "1.2.3", "expected four decimals"),
        ("ipv4", "1.2.3.04", "leading zeros"),
        ("ipv4", "1.2.3.256", "decimal must be between 0 and 255"),
        (
            "ipv4",
            "1.2.3.x",
            "strconv.Atoi: parsing \"x\": invalid syntax",
        ),
        ("ipv6", "1", "missing colon"),
        ("ipv6", "::1%eth", "zone id is not a part of ipv6 address"),
        (
            "date",
            "x",
            "parsing time \"x\" as \"2006-01-02\": cannot parse \"x\" as \"2006\"",
        ),
        (
            "date",
            "2020-1-1",
            "parsing time \"2020-1-1\" as \"2006-01-02\": cannot parse \"1-1\" as \"01\"",
        ),
        (
            "date",
            "2020-13-01",
            "parsing time \"2020-13-01\": month out of range",
        ),
        (
            "date",
            "2023-02-29",
            "parsing time \"2023-02-29\": day out of range",
        ),
        (
            "date",
            "2020-01-01x",
            "parsing time \"2020-01-01x\": extra text: \"x\"",
        ),
        ("time", "10:00", "less than 9 characters long"),
        ("time", "100:00:00Z", "missing colon in correct place"),
        ("time", "24:00:00Z", "hour/min/sec out of range"),
        ("time", "1ü:00:00Z", "missing colon in correct place"),
        ("time", "aa:00:00Z", "invalid hour/min/sec"),
        ("time", "22:59:60Z", "invalid leap second"),
        ("time", "10:00:00.Z", "no digits in second fraction"),
        ("time", "10:00:00+1", "offset must be 6 characters long"),
        (
            "time",
            "10:00:00*01:00",
            "offset must begin with plus/minus",
        ),
        (
            "time",
            "10:00:00+01-00",
            "missing colon in offset in correct place",
        ),
        ("date-time", "2024-02-29", "less than 20 characters long"),
        (
            "date-time",
            "2024-02-29 10:00:00Z",
            "11th character must be t or T",
        ),
        (
            "date-time",
            "2024-02-29T25:00:00Z",
            "invalid time element: hour/min/sec out of range",
        ),
        (
            "date-time",
            "2024-02-ü9T5:00:00Z00",
            "11th character must be t or T",
        ),
        ("duration", "1D", "must start with P"),
        ("duration", "P", "nothing after P"),
        ("duration", "P1DT", "no time elements"),
        ("duration", "P1D1Y", "unit 'Y' out of order"),
        ("duration", "P1ü", "invalid unit 'ü'"),
        ("duration", "P1", "missing unit"),
        ("duration", "PD", "missing number"),
        ("duration", "PT1ST1S", "more than one T"),
        ("duration", "P1D1W", "invalid week"),
        ("period", "x", "missing slash"),
        ("period", "P1/x", "invalid start duration: missing unit"),
        (
            "semver",
            "1.2",
            "versionCore must have 3 numbers separated by dot",
        ),
        ("semver", "1.02.3", "minor starts with zero"),
        ("semver", "1.2.x", "patch contains non-digit"),
        (
            "semver",
            "1.2.3-01",
            "pre-release numeric identifier starts with zero",
        ),
        ("semver", "1.2.3+", "build is empty"),
        (
            "semver",
            "1.2.3+ü",
            "invalid character 'ü' in build identifier",
        ),
        ("json-pointer", "a", "not starting with /"),
        ("json-pointer", "/~2", "~ must be followed by 0 or 1"),
        (
            "relative-json-pointer",
            "/a",
            "must start with non-negative integer",
        ),
        ("relative-json-pointer", "01", "starts with zero"),
        ("uri", "x", "relative url"),
        ("uri", ":x", "parse \":x\": missing protocol scheme"),
        (
            "uri",
            "http://a b/",
            "parse \"http://a b/\": invalid character \" \" in host name",
        ),
        (
            "uri",
            "http://[::1",
            "parse \"http://[::1\": missing ']' in host",
        ),
        (
            "uri",
            "http://x:y",
            "parse \"http://x:y\": invalid port \":y\" after host",
        ),
        (
            "uri",
            "1:2",
            "parse \"1:2\": first path segment in URL cannot contain colon",
        ),
        (
            "uri-reference",
            "/a%zz#b",
            "parse \"/a%zz\": invalid URL escape \"%zz\"",
        ),
        (
            "uri-reference",
            "/a#%",
            "parse \"/a#%\": invalid URL escape \"%\"",
        ),
        ("uri-reference", "a\\b", "contains \\"),
        ("uri-template", "/{a", "no matching closing brace"),
        ("uri-template", "/{a{b}}", "nested curly braces"),
    ] {
        assert_eq!(reason(format, text), expected, "{format}: {text}");
        assert_eq!(why(format, text), expected);
    }
}

#[test]
fn arbitrary_texts_do_not_panic() {
    let letters = [
        "ü", "%", "[", "]", ":", "/", "@", "T", "P", "-", "1", "~", "\u{0}", "\"", ".",
    ];
    let mut text = String::new();
    for seed in 0_usize..20_000 {
        text.clear();
        for step in 0..(seed % 23) {
            text.push_str(letters[(seed * (step + 7) + seed / (step + 1)) % letters.len()]);
        }
        for (name, check) in ALL {
            let _ = (name, check(&text));
        }
    }
}
