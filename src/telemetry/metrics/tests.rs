use std::collections::HashSet;

use super::*;
use crate::telemetry::series::MAX_SERIES;

#[test]
fn the_page_shows_the_counters() {
    let metrics = Metrics::new();
    metrics
        .route("/a/{id}", "GET")
        .record(204, Duration::from_millis(3));
    metrics.bad_request("host");
    let page = String::from_utf8(metrics.page()).unwrap();
    assert!(page.contains(
        r#"portcullis_http_requests_total{method="GET",route="/a/{id}",status="2xx"} 1"#
    ));
    assert!(page.contains(r#"portcullis_http_bad_requests_total{reason="host"} 1"#));
    assert!(page.contains("portcullis_build_info{version="));
}

#[test]
fn the_count_of_folded_series_never_falls() {
    let metrics = Metrics::new();
    for total in [10, 3, 12, 0] {
        metrics.series_overflow(total);
    }
    let page = String::from_utf8(metrics.page()).unwrap();
    assert!(page.contains("\nportcullis_metrics_overflow_total 12\n"));
}

#[test]
fn series_of_removed_routes_are_removed() {
    let metrics = Metrics::new();
    for route in ["", "/old", "/new"] {
        let handles = metrics.route(route, "GET");
        handles.record(200, Duration::from_millis(3));
        metrics.rejected(route, "limit");
    }
    metrics.keep_routes(&HashSet::from(["/new"]));
    let page = String::from_utf8(metrics.page()).unwrap();
    assert!(!page.contains("/old"), "{page}");
    let kept = page.matches(r#"route="/new",status="2xx"} 1"#).count();
    assert_eq!(kept, 1, "{page}");
    assert!(page.contains(r#"refused_total{reason="limit",route=""} 1"#));
}

#[test]
fn without_separate_series_all_endpoints_share_one() {
    let metrics = Metrics::new();
    metrics.route("/a", "GET").record(200, Duration::ZERO);
    metrics.set_per_endpoint(false);
    for route in ["/a", "/b", ""] {
        metrics.route(route, "GET").record(200, Duration::ZERO);
        metrics.rejected(route, "limit");
    }
    metrics.keep_routes(&HashSet::from(["/a", "/b"]));
    let page = String::from_utf8(metrics.page()).unwrap();
    assert!(!page.contains("route=\"/"), "{page}");
    assert!(page.contains(r#"requests_total{method="GET",route="*",status="2xx"} 2"#));
    assert!(page.contains(r#"requests_total{method="GET",route="",status="2xx"} 1"#));
    assert!(page.contains(r#"refused_total{reason="limit",route="*"} 2"#));
    metrics.set_per_endpoint(true);
    metrics.keep_routes(&HashSet::from(["/a"]));
    assert!(
        !String::from_utf8(metrics.page())
            .unwrap()
            .contains("route=\"*\"")
    );
}

#[test]
fn more_connections_than_allowed_are_not_counted_as_open() {
    let metrics = Metrics::new();
    let first = ConnectionGuard::open(&metrics, 1);
    assert!(first.is_some());
    assert!(ConnectionGuard::open(&metrics, 1).is_none());
    drop(first);
    assert!(ConnectionGuard::open(&metrics, 1).is_some());
}

#[test]
fn a_request_counts_until_its_guard_is_dropped() {
    let metrics = Metrics::new();
    let guard = metrics.request();
    assert_eq!(metrics.requests_in_flight(), 1);
    drop(guard);
    assert_eq!(metrics.requests_in_flight(), 0);
}

#[test]
fn routes_beyond_the_limit_share_their_series() {
    let metrics = Metrics::new();
    let extra = 7;
    for n in 0..MAX_SERIES + extra {
        let pattern = format!("/{n}");
        metrics.route(&pattern, "GET").record(200, Duration::ZERO);
        metrics.rejected(&pattern, "limit");
        metrics.rare_route("/0", &format!("M{n}"));
    }
    metrics.series_overflow(0);
    let page = String::from_utf8(metrics.page()).unwrap();
    for line in [
        r#"portcullis_http_requests_total{method="GET",route="_OTHER",status="2xx"} 7"#,
        r#"portcullis_requests_refused_total{reason="limit",route="_OTHER"} 7"#,
        r#"portcullis_http_requests_total{method="GET",route="/0",status="2xx"} 1"#,
        "portcullis_metrics_overflow_total 14",
    ] {
        assert!(page.lines().any(|found| found == line), "{line}");
    }
    let of_requests = page
        .lines()
        .filter(|line| line.starts_with("portcullis_http_requests_total{") && line.contains("2xx"));
    assert_eq!(of_requests.count(), 2 * MAX_SERIES + 1 + extra);
    metrics.keep_routes(&HashSet::from(["/0"]));
    metrics.route("/new", "GET").record(200, Duration::ZERO);
    let page = String::from_utf8(metrics.page()).unwrap();
    assert!(page.contains(r#"route="/new""#), "there is room again");
}

#[test]
fn endpoints_of_a_new_configuration_get_the_places_of_removed_ones() {
    let metrics = Metrics::new();
    let names =
        |range: std::ops::Range<usize>| -> Vec<String> { range.map(|n| format!("/{n}")).collect() };
    // As at a start and a reload.
    let configure = |routes: &[String], method: &'static str| {
        metrics.make_room(&routes.iter().map(|route| (&**route, method)).collect());
        for route in routes {
            let series = metrics.route(route, method);
            series.record(200, Duration::ZERO);
        }
        metrics.keep_routes(&routes.iter().map(|route| &**route).collect());
    };
    let own = |route: &str, method: &str, count: usize| {
        let page = String::from_utf8(metrics.page()).unwrap();
        let name = "portcullis_http_requests_total";
        let labels = format!(r#"method="{method}",route="{route}",status="2xx""#);
        page.contains(&format!("{name}{{{labels}}} {count}\n"))
    };
    configure(&names(0..MAX_SERIES + 500), "GET");
    assert!(own("_OTHER", "GET", 500));
    // One stays, one stays that had no place, and all others are new.
    configure(&names(MAX_SERIES - 1..2 * MAX_SERIES - 1), "GET");
    assert!(own("_OTHER", "GET", 500), "nothing more is combined");
    assert!(own(&format!("/{}", MAX_SERIES - 1), "GET", 2));
    assert!(own(&format!("/{MAX_SERIES}"), "GET", 1));
    assert!(own(&format!("/{}", 2 * MAX_SERIES - 2), "GET", 1));
    assert!(!own("/0", "GET", 1));
    // The same paths with another method.
    configure(&names(MAX_SERIES - 1..2 * MAX_SERIES - 1), "POST");
    assert!(own(&format!("/{}", 2 * MAX_SERIES - 2), "POST", 1));
    assert!(!own(&format!("/{MAX_SERIES}"), "GET", 1));
}
