use std::time::Instant;

use super::history::quantile;
use super::*;
use crate::telemetry::metrics::Metrics;
use crate::telemetry::state::Now;

fn facts(file: &str) -> Facts {
    Facts {
        version: "1",
        file: file.to_owned(),
        started: Instant::now(),
    }
}

fn page(metrics: &Metrics, filter: &str) -> String {
    let filter = Filter::of_query(Some(&format!("filter={filter}")));
    let history = History::default();
    html(&metrics.families(), None, &history, &facts("f"), &filter)
}

/// The first columns of the rows of a table.
fn first_column<'p>(page: &'p str, title: &str) -> Vec<&'p str> {
    let (_, table) = page.split_once(&format!("<h2>{title}")).unwrap();
    let (table, _) = table.split_once("</table>").unwrap();
    let rows = table.split("<tr><td>").skip(1);
    rows.map(|row| row.split_once("</td>").unwrap().0).collect()
}

#[test]
fn the_page_is_escaped() {
    let metrics = Metrics::new();
    metrics
        .route("/<script>alert('x')</script>\"&", "GET")
        .record(200, Duration::from_millis(1));
    let page = html(
        &metrics.families(),
        None,
        &History::default(),
        &facts("<b>.json"),
        &Filter::default(),
    );
    assert!(
        !page.contains("<script>alert") && !page.contains("<b>"),
        "{page}"
    );
    assert!(page.contains("/&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&#34;&amp;"));
}

#[test]
fn rates_and_quantiles_are_those_of_the_last_minutes() {
    let metrics = Metrics::new();
    let route = metrics.route("/a", "GET");
    (0..100).for_each(|_| route.record(500, Duration::from_secs(9)));
    let history = History::default();
    history.look(&metrics);
    (0..10).for_each(|_| route.record(200, Duration::from_millis(3)));
    let page = html(
        &metrics.families(),
        None,
        &history,
        &facts("f"),
        &Filter::default(),
    );
    let row = page
        .split("<tr>")
        .find(|row| row.contains("GET /a"))
        .unwrap();
    assert!(
        row.contains("0.0 %") && row.contains("ms") && !row.contains("9."),
        "{row}"
    );
}

#[test]
fn a_quantile_lies_within_its_bucket() {
    let buckets = [(1.0, 0), (2.0, 10), (f64::INFINITY, 10)];
    let half = quantile(buckets.into_iter(), 0.5).unwrap();
    assert!((1.0..=2.0).contains(&half), "{half}");
    assert_eq!(quantile([(1.0, 0)].into_iter(), 0.5), None);
}

#[test]
fn a_history_is_bounded() {
    let (metrics, history) = (Metrics::new(), History::default());
    (0..100).for_each(|_| history.look(&metrics));
    assert_eq!(history.0.lock().unwrap().len(), KEPT);
}

#[test]
fn a_table_has_a_limit_of_rows_and_a_filter_finds_the_others() {
    let metrics = Metrics::new();
    for n in 0..1500 {
        let route = metrics.route(&format!("/r{n:04}"), "GET");
        (0..=n).for_each(|_| route.record(200, Duration::from_millis(3)));
    }
    let all = page(&metrics, "");
    let rows = first_column(&all, "Routes");
    assert_eq!(rows.len(), MAX_ROWS);
    assert_eq!(rows[0], "GET /r1499", "the busiest come first");
    assert!(all.contains("and 1300 more"), "{all}");
    assert!(all.len() < 100_000, "{}", all.len());
    let some = page(&metrics, "/r000");
    let rows = first_column(&some, "Routes");
    assert_eq!((rows.len(), rows[0]), (10, "GET /r0009"));
    assert!(!some.contains(" more:") && some.contains("value=\"/r000\""));
    assert!(!page(&metrics, "nothing").contains("Routes"));
}

#[test]
fn what_is_wrong_comes_first() {
    let metrics = Metrics::new();
    let hosts = (0..MAX_ROWS + 50).map(|n| (format!("http://h{n:04}"), true, [0; 3]));
    let bad = ("http://z".to_owned(), false, [7, 0, 1]);
    let names = (0..MAX_ROWS + 50).map(|n| (format!("n{n:04}"), 1.0, 2));
    let lost = ("zz".to_owned(), f64::NAN, 0);
    let breaker = |name: &str| ["/a".to_owned(), "/b".to_owned(), name.to_owned()];
    metrics.state.set(&Now {
        health: hosts.chain([bad]).collect(),
        names: names.chain([lost]).collect(),
        breakers: [(breaker("a"), 1), (breaker("b"), 2), (breaker("c"), 0)].into(),
        ..Now::default()
    });
    let labels = |name| ["server", "f", name, "1"];
    let soon = i64::try_from(crate::telemetry::timestamp::now().as_secs()).unwrap() + 60;
    metrics
        .certificates
        .set([(labels("late"), soon + 1_000_000), (labels("soon"), soon)].into_iter());
    let page = page(&metrics, "");
    assert_eq!(first_column(&page, "Health of hosts")[0], "http://z");
    assert_eq!(first_column(&page, "Host names")[0], "zz");
    assert_eq!(first_column(&page, "Certificates"), ["soon", "late"]);
    let (_, breakers) = page.split_once("<h2>Circuit breakers").unwrap();
    let (open, half) = (breakers.find(">open<"), breakers.find(">half open<"));
    assert!(open.is_some() && open < half, "{page}");
    let row =
        "<tr><td>http://z</td><td class=\"bad\">unhealthy or ejected</td><td>7</td><td>1</td></tr>";
    assert!(page.contains(row), "{page}");
}

#[test]
fn a_filter_finds_nothing_that_is_masked() {
    let metrics = Metrics::new();
    metrics.key_set(&crate::telemetry::metrics::KeySetReport {
        source: "https://user:hush-hush@id.example.com/keys",
        age: None,
        keys: 1,
        fetches: 1,
        errors: 0,
        stale: false,
    });
    let all = page(&metrics, "id.example");
    assert!(all.contains("Key sets") && !all.contains("hush"), "{all}");
    assert!(!page(&metrics, "hush").contains("Key sets"));
}
