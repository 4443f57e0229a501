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

/// The places of the standard variables, in a policy.
const PLACES: Places = Places {
    headers: 0,
    query: 0,
    client: 3,
    geo: 2,
};

fn policy(text: &str) -> Program {
    let dialect = Dialect::Policy {
        macros: true,
        places: PLACES,
    };
    compile_policy(text, &variables(), dialect)
        .unwrap_or_else(|flaw| panic!("{text}: {}", flaw.text))
}

fn budget() -> Budget {
    Budget::new(
        1_000_000,
        Instant::now() + std::time::Duration::from_secs(60),
    )
}

#[test]
fn the_values_of_a_run_are_charged() {
    let commas = vec!["a"; 100_000].join(",");
    let sheet = Sheet {
        data: json!({
            "commas": commas, "list": vec!["b"; 50_000], "X": ["x"],
            "map": (0..50_000).map(|n| (format!("k{n}"), n)).collect::<std::collections::BTreeMap<_, _>>(),
            "Cookie": [format!("{}a=1", "a=1;".repeat(20_000))],
        }),
        words: vec!["a".repeat(1000); 200],
    };
    let place = size_of::<Value<'_>>();
    for (text, least) in [
        ("size(data.commas.split(',')) > 0", 100_000 * place),
        ("size(data.commas.split('')) > 0", 199_999 * place),
        (
            "size(data.commas.lowerAscii().split(',')) > 0",
            100_000 * (place + 32),
        ),
        ("data.commas.upperAscii() != ''", 2 * 200_000),
        ("data.commas.reverse() != ''", 2 * 200_000),
        ("(data.commas + data.commas).trim() != ''", 2 * 400_000),
        (
            "data.commas.replace(',', '1234567890') != ''",
            2 * 1_100_000,
        ),
        ("words.join('-') != ''", 2 * 200_000),
        ("size(bytes(data.commas)) > 0", 200_000),
        ("string(bytes(data.commas)) != ''", 2 * 200_000),
        (
            "base64.encode(bytes(data.commas)) != ''",
            200_000 + 2 * 260_000,
        ),
        ("size(data.list + data.list) > 0", 100_000 * place),
        ("size(data.list.map(x, x)) > 0", 2 * 50_000 * place),
        ("size(data.list.filter(x, true)) > 0", 2 * 50_000 * place),
        (
            "data.list.map(x, [x, x]).size() > 0",
            50_000 * (3 * place + 16),
        ),
        (
            "data.list.map(x, {x: x}).size() > 0",
            50_000 * (3 * place + 16),
        ),
        ("data.map.all(k, true)", 50_000 * place),
        ("hasCookie('a')", 20_000 * 40),
        ("[data.commas, data.commas].join() != ''", 2 * 400_000),
    ] {
        let (program, budget) = (policy(text), budget());
        let given = program.run(&sheet, &budget);
        assert!(matches!(given, Ok(Value::Bool(true))), "{text}: {given:?}");
        drop(given);
        let bytes = budget.charged();
        assert!(bytes >= least, "{text}: {bytes} < {least}");
    }
    for small in [
        "words[0].split('b').size() == 1",
        "data.X[0] + 'a' == 'xa' && [1, 2, 3].map(x, x * 2) == [2, 4, 6]",
        "data.commas.split('-')[0] == data.commas",
        "data.commas.substring(7).trim() != ''",
    ] {
        let (program, budget) = (policy(small), budget());
        let given = program.run(&sheet, &budget);
        assert!(matches!(given, Ok(Value::Bool(true))), "{small}: {given:?}");
        drop(given);
        assert_eq!(budget.charged(), 0, "{small}");
    }
}

#[test]
fn the_values_of_one_run_have_a_limit() {
    let sheet = Sheet {
        data: json!({"Cookie": ["a=1;".repeat(200_000)]}),
        words: Vec::new(),
    };
    // Another side that would decide does not help.
    for text in [
        "hasCookie('a') && hasCookie('a') && hasCookie('a') && hasCookie('a')",
        "hasCookie('a') && hasCookie('a') && hasCookie('a') && hasCookie('a') || true",
        "[1, 2, 3, 4].map(n, getCookie('a')).size() > 0",
        "isEmpty([1, 2, 3, 4].map(n, getCookie('a')))",
    ] {
        let (program, budget) = (policy(text), budget());
        let given = program.run(&sheet, &budget);
        let error = given.map(drop).unwrap_err().to_string();
        assert_eq!(
            error, "operation cancelled: the values are too large",
            "{text}"
        );
    }
}
