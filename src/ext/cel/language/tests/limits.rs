//! Every run has a limit.

use super::*;

/// The time of the worst case that a budget allows, with a margin for a busy machine and an unoptimised build.
pub(super) fn within_bounds(text: &str, sheet: &Sheet) {
    let program = compile(text, &variables()).unwrap();
    let (budget, start) = (
        Budget::new(
            1_000_000,
            Instant::now() + std::time::Duration::from_secs(60),
        ),
        Instant::now(),
    );
    let given = program.run(sheet, &budget);
    assert_eq!(
        given.unwrap_err().to_string(),
        "operation cancelled: actual cost limit exceeded",
        "{text}"
    );
    assert!(
        start.elapsed().as_secs() < 10,
        "{text}: {:?}",
        start.elapsed()
    );
}

#[test]
fn every_run_is_limited() {
    let sheet = Sheet {
        data: json!({"list": vec!["aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa!"; 20_000]}),
        words: vec!["a".repeat(1000); 2000],
    };
    for text in [
        "data.list.all(a, data.list.all(b, data.list.all(c, a == b)))",
        "data.list.map(a, data.list.map(b, data.list.map(c, a + b + c))) == []",
        "words.map(a, words.map(b, a + b)) == []",
        "data.list.all(a, data.list + data.list != [])",
        "words.all(a, words.all(b, b.matches('(a+)+$')))",
        "words.all(a, a.matches(a + '*'))",
        "words.all(a, words == words)",
        "words.all(a, words.all(b, b.contains('b') || !b.startsWith('c')))",
        "words.all(a, a in words && words.map(b, b) == words)",
        // The budget cannot be bypassed: it stays exhausted.
        "words.all(a, words.all(b, words.all(c, true))) || true == true && words.size() > 0",
    ] {
        within_bounds(text, &sheet);
    }
}

#[test]
fn deep_and_long_texts_are_errors_or_run() {
    let nested = |open: &str, close: &str, times: usize| {
        format!("{}true{}", open.repeat(times), close.repeat(times))
    };
    for text in [
        nested("(", ")", 8000),
        nested("[", "]", 5000),
        nested("!", "", 16_000),
        nested("[1].all(x, ", ")", 1000),
        nested("dyn(", ")", 2000),
        format!("1{} == 1", " + 1".repeat(3000)),
        format!("data{} == 1", ".a".repeat(5000)),
        "(".repeat(16_000),
        "x".repeat(20_000),
    ] {
        let given = given(&text);
        assert!(
            given.starts_with("flaw: ") || given == "true",
            "{}: {given}",
            &text[..20]
        );
    }
    let long = vec!["number == 7"; 500].join(" && ");
    assert_eq!(given(&long), "true");
    // The maximum nesting, on a thread with the same stack size as those of requests.
    let deep = format!("{}true{}", "[1].all(x, ".repeat(40), ")".repeat(40));
    let small = std::thread::Builder::new()
        .stack_size(1 << 20)
        .spawn(move || given(&deep))
        .unwrap();
    assert_eq!(small.join().unwrap(), "true");
    let chain = format!("[{}1].size() == 1", "1 + ".repeat(90));
    assert_eq!(given(&chain), "true");
}
