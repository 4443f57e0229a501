use super::history::quantile;
use super::*;
use crate::telemetry::metrics::Metrics;

fn facts(file: &str) -> Facts {
    Facts {
        version: "1",
        file: file.to_owned(),
        started: Instant::now(),
    }
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
    let page = html(&metrics.families(), None, &history, &facts("f"));
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
    let half = quantile(&buckets, 0.5).unwrap();
    assert!((1.0..=2.0).contains(&half), "{half}");
    assert_eq!(quantile(&[(1.0, 0)], 0.5), None);
}

#[test]
fn a_history_is_bounded() {
    let (metrics, history) = (Metrics::new(), History::default());
    (0..100).for_each(|_| history.look(&metrics));
    assert_eq!(history.0.lock().unwrap().len(), KEPT);
}
