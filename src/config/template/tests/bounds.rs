//! One call is as bounded as a whole rendering: nothing can interrupt it.

use std::time::{Duration, Instant};

use super::*;

fn limited(text: &str, time: Duration) -> Result<Rendered, Vec<TemplateError>> {
    let budget = budget::Budget::of(budget::Limits {
        steps: u64::MAX,
        time,
        made: 256 << 20,
        calls: 1_000,
    });
    run(&[source("base", text)], &Data::new(), &World, budget)
}

#[test]
fn an_expression_whose_search_might_take_many_seconds_is_rejected() {
    for function in ["regexMatch", "mustRegexMatch", "regexFind"] {
        let call = format!(
            "{{{{ $s := repeat 1000000 \"a\" }}}}{{{{ {function} (printf \"%sb\" (repeat 10000 \"a\")) $s }}}}"
        );
        let text = try_render(&call).unwrap_err();
        assert!(text.contains("too large together"), "{text}");
    }
    // Small expressions may search long texts, and large ones short texts.
    check(&[
        ("{{ regexMatch \"^a*$\" (repeat 1000000 \"a\") }}", "true"),
        (
            "{{ regexFind \"b[a-z]+\" (printf \"%sbcd\" (repeat 100000 \"a\")) }}",
            "bcd",
        ),
        (
            "{{ regexMatch (repeat 10000 \"a\") (repeat 9999 \"a\") }}",
            "false",
        ),
        ("{{ regexMatch \"(\" \"a\" }}", "false"),
    ]);
}

#[test]
fn searches_that_read_the_same_text_again_end_in_time() {
    for call in [
        "regexFindAll \"a.*b|a\" $s -1",
        "regexReplaceAll \"a.*b|a\" $s \"\"",
        "regexSplit \"a.*b|a\" $s -1",
    ] {
        let text = format!("{{{{ $s := repeat 200000 \"a\" }}}}{{{{ $x := {call} }}}}");
        let errors = limited(&text, Duration::from_millis(200)).unwrap_err();
        assert!(errors[0].text.contains("too long"), "{}", errors[0].text);
    }
}

#[test]
fn searches_for_a_text_take_linear_time() {
    let begun = Instant::now();
    let part = "(printf \"%sb\" (repeat 100000 \"a\"))";
    let whole = "(repeat 10000000 \"a\")";
    check(&[
        (&format!("{{{{ contains {part} {whole} }}}}"), "false"),
        (&format!("{{{{ len (splitList {part} {whole}) }}}}"), "1"),
        (
            &format!("{{{{ len (replace {part} \"\" {whole}) }}}}"),
            "10000000",
        ),
        (
            "{{ len (trimAll (repeat 100000 \"bcdefghijklmnop\") (repeat 1000000 \"p\")) }}",
            "0",
        ),
    ]);
    // Quadratic time would be hours in a debug build.
    assert!(begun.elapsed() < Duration::from_secs(60));
}
