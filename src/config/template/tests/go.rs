//! Small differences between types and functions that Go's own output settles.

use super::{check, rejects, try_render};

#[test]
fn times_keep_the_zone_of_their_text() {
    let read = |layout: &str, text: &str| format!(r#"{{{{ toDate "{layout}" "{text}" }}}}"#);
    let rfc = "2006-01-02T15:04:05Z07:00";
    let named = "2006-01-02 15:04 MST";
    check(&[
        (
            &read(rfc, "2024-05-01T10:00:00+02:00"),
            "2024-05-01 10:00:00 +0200 +0200",
        ),
        (
            &read(rfc, "2024-05-01T10:00:00Z"),
            "2024-05-01 10:00:00 +0000 UTC",
        ),
        (
            &read(named, "2024-05-01 10:00 CEST"),
            "2024-05-01 10:00:00 +0000 CEST",
        ),
        (
            &read(named, "2024-05-01 10:00 UTC"),
            "2024-05-01 10:00:00 +0000 UTC",
        ),
        (
            &read("2006-01-02 15:04 -0700 MST", "2024-05-01 10:00 +0200 CEST"),
            "2024-05-01 10:00:00 +0200 CEST",
        ),
        (
            r#"{{ toDate "2006-01-02T15:04:05Z07:00" "2024-05-01T10:00:00-03:30" | toJson }}"#,
            "\"2024-05-01T10:00:00-03:30\"",
        ),
        (
            r#"{{ $t := toDate "2006-01-02T15:04:05Z07:00" "2024-05-01T23:30:00-05:00" }}{{ $t.Hour }} {{ $t.UTC.Day }} {{ $t.AddDate 0 1 0 }} {{ unixEpoch $t }}"#,
            "23 2 2024-06-01 23:30:00 -0500 -0500 1714624200",
        ),
    ]);
}

#[test]
fn months_weekdays_and_durations_are_numbers_with_names() {
    let of = |text: &str| {
        let times = r#"{{ $t := toDate "2006-01-02" "2024-05-01" }}{{ $u := toDate "2006-01-02" "2024-05-03" }}"#;
        try_render(&format!("{times}{text}")).unwrap()
    };
    assert_eq!(
        of(
            r#"{{ $t.Month }} {{ printf "%d %02d %v %s %q %x %#v" $t.Month $t.Month $t.Month $t.Month $t.Month $t.Month $t.Month }}"#
        ),
        "May 5 05 May May \"May\" 4d6179 5"
    );
    assert_eq!(
        of(
            "{{ $t.Month.String }} {{ typeOf $t.Month }} {{ kindOf $t.Month }} {{ eq $t.Month 5 }} {{ gt $t.Month 5 }} {{ toJson $t.Month }} {{ int $t.Month }}"
        ),
        "May time.Month int true false 5 0"
    );
    assert_eq!(
        of(
            "{{ $t.Weekday }} {{ printf `%d` $t.Weekday }} {{ eq $t.Weekday 3 }} {{ list $t.Weekday $t.Month }} {{ list $t.Weekday | toJson }}"
        ),
        "Wednesday 3 true [Wednesday May] [3]"
    );
    assert_eq!(
        of(
            "{{ $u.Sub $t }} {{ ($u.Sub $t).Hours }} {{ ($u.Sub $t).Milliseconds }} {{ typeOf ($u.Sub $t) }} {{ printf `%d` ($u.Sub $t) }} {{ toJson ($u.Sub $t) }} {{ eq ($t.Add ($u.Sub $t)) $u }} {{ $t.Compare $u }}"
        ),
        "48h0m0s 48 172800000 time.Duration 172800000000000 172800000000000 true -1"
    );
    rejects(&[(
        "{{ $t := now }}{{ $t.Month.Nope }}",
        "can't evaluate field Nope in type time.Month",
    )]);
}

#[test]
fn numbers_at_the_ends_of_their_range_are_as_in_go() {
    check(&[
        (
            "{{ 0x1p4 }} {{ 0x1.8p1 }} {{ 0X1P-2 }} {{ 0x_1p4 }} {{ 1_000.5 }}",
            "16 3 0.25 16 1000.5",
        ),
        (
            "{{ mod -9223372036854775808 -1 }} {{ div -9223372036854775808 -1 }}",
            "0 -9223372036854775808",
        ),
        (
            "{{ int 1e30 }} {{ int64 -1e30 }} {{ int 1e19 }} {{ add 1e30 1 }}",
            "-9223372036854775808 -9223372036854775808 -9223372036854775808 -9223372036854775807",
        ),
        (
            r#"{{ float64 "1e400" }} {{ float64 "0x1p4" }} {{ float64 "1_000" }} {{ float64 "inf" }}"#,
            "0 16 1000 +Inf",
        ),
        (
            r#"{{ printf "%x %X %x %x %x %x" 1.5 1.5 0.1 -3.0 0.0 1e300 }}"#,
            "0x1.8p+00 0X1.8P+00 0x1.999999999999ap-04 -0x1.8p+01 0x0p+00 0x1.7e43c8800759cp+996",
        ),
        (
            r#"{{ printf "%.2x %.0x %+x|%10x|%-12x|%012x" 1.5 1.5 1.5 1.5 1.5 1.5 }}"#,
            "0x1.80p+00 0x1p+01 +0x1.8p+00| 0x1.8p+00|0x1.8p+00   |0000x1.8p+00",
        ),
    ]);
    rejects(&[
        ("{{ 1e400 }}", "illegal number syntax: \"1e400\""),
        ("{{ 1__0 }}", "illegal number syntax: \"1__0\""),
        ("{{ 0x1.8 }}", "illegal number syntax: \"0x1.8\""),
        (
            "{{ deepCopy .s.nul }}",
            "call of reflect.Value.Type on zero Value",
        ),
    ]);
}

#[test]
fn letters_and_missing_values_are_written_as_in_go() {
    check(&[
        (
            "{{ html .s.nul }} {{ js .s.nul }} {{ urlquery .s.nul }} {{ html 1 .s.nul 2 }}",
            "&lt;no value&gt; \\u003Cno value\\u003E %3Cno+value%3E 1&lt;no value&gt;2",
        ),
        (
            r#"{{ js "\u2028\u00e9\u200b\U0001F600\u00a0" }}"#,
            "\\u2028é\\u200B😀\\u00A0",
        ),
        (
            r#"{{ upper "ßŉaé" }} {{ lower "İIÉΣ" }} {{ swapcase "ß É" }}"#,
            "ßŉAÉ iiéσ ß é",
        ),
        (
            "{{ typeOf (chunk 2 (list 1 2 3)) }} {{ chunk 2 (list 1 2 3) | toJson }} {{ printf `%#v` (chunk 2 (list 1 2 3)) }}",
            "[][]interface {} [[1,2],[3]] [][]interface {}{[]interface {}{1, 2}, []interface {}{3}}",
        ),
        (
            r#"{{ $v := semver "v1.2.3-rc.1" }}{{ $v.LessThan (semver "1.2.3") }} {{ $v.IncPatch }} {{ $v.IncMajor }} {{ $v.IncMinor.Original }} {{ $v.Equal $v }}"#,
            "true 1.2.3 2.0.0 v1.3.0 true",
        ),
    ]);
}
