//! The size of the page stays bounded whatever backends and configurations do.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{Rig, e, prometheus};
use crate::support::{Json, ports};

/// The page shows the requests of a backend that invents statuses.
fn with_invented_statuses(convention: &str) -> (BTreeSet<String>, usize) {
    let mut block = prometheus();
    block["layers"] = json!({"global": {"semantic_convention": convention}});
    let endpoint = json!({"endpoint": "/n/{id}", "output_encoding": "no-op",
        "backend": [{"url_pattern": "/n/{id}", "encoding": "no-op"}]});
    let rig = Rig::of(block, json!([endpoint]));
    let has_body = |status: &u16| !matches!(status, 204 | 205 | 304);
    let statuses: Vec<u16> = (200..=998).step_by(3).filter(has_body).collect();
    let routes: Vec<Value> = statuses
        .iter()
        .map(|status| json!({"path": format!("/n/{status}"), "status": status, "body": "x"}))
        .collect();
    let routes = Json::parse(&Value::from(routes).to_string()).unwrap();
    rig.stub
        .load(routes.items().to_vec(), std::sync::Arc::new(str::to_owned));
    for status in &statuses {
        assert_eq!(rig.get(&format!("/n/{status}"), &[]), *status);
    }
    let page = rig.page_when("the last request", |page| {
        let counts = page.named("krakend_backend_duration_count");
        counts.iter().map(|(_, count)| count).sum::<f64>() >= statuses.len() as f64
    });
    let labels = page.series.iter().filter_map(|(_, labels, _)| {
        let status = labels.get("http_response_status_code")?;
        let error = labels.get("error_type").into_iter();
        Some(error.chain([status]).cloned().collect::<Vec<_>>())
    });
    (labels.flatten().collect(), page.series.len())
}

#[test]
fn a_backend_that_invents_statuses_does_not_enlarge_the_page() {
    for convention in ["", "stable"] {
        let (statuses, lines) = with_invented_statuses(convention);
        assert!(statuses.contains("_OTHER") && statuses.contains("200"));
        for status in statuses.iter().filter(|status| *status != "_OTHER") {
            let number: u16 = status.parse().unwrap();
            assert!((200..600).contains(&number), "{convention}: {status}");
        }
        assert!(statuses.len() <= 66, "{convention}: {statuses:?}");
        assert!(lines < 15_000, "{convention}: {lines}");
    }
}

#[test]
fn all_series_of_the_page_are_limited_together() {
    let metrics = ports::free();
    let mut block = prometheus();
    block["max_series"] = json!(1000);
    let extra = json!({"portcullis/metrics": {"listen": format!("127.0.0.1:{metrics}")}});
    let endpoints: Vec<Value> = (0..60)
        .map(|n| json!({"endpoint": format!("/e{n}"), "backend": [{"url_pattern": "/x"}]}))
        .collect();
    let rig = Rig::with(&[], block, extra, Value::from(endpoints));
    for n in 0..60 {
        assert_eq!(rig.get(&format!("/e{n}"), &[]), 200);
    }
    let page = rig.page_when("all requests", |page| {
        let counts = page.named("http_server_duration_count");
        counts.iter().map(|(_, count)| count).sum::<f64>() >= 60.0
    });
    assert!(page.series.len() < 1500, "{}", page.series.len());
    let of = |name: &str| page.named(&format!("{name}_count")).len();
    assert!(
        of("http_server_duration") > of("http_client_request_dns_duration"),
        "details end first"
    );
    let server = page.named("http_server_duration_count");
    let overflow = server
        .iter()
        .find(|(labels, _)| labels.contains_key("otel_metric_overflow"));
    assert!(
        overflow.is_some_and(|(_, count)| *count > 20.0),
        "{server:?}"
    );
    let own = super::own_metric(metrics, "portcullis_metrics_overflow_total");
    assert!(own > 100.0, "{own}");
}

#[test]
fn a_limit_of_series_that_is_too_small_is_reported() {
    let mut file = json!({"version": 3, "extra_config": {"telemetry/opentelemetry": prometheus()}, "endpoints": []});
    file["extra_config"]["telemetry/opentelemetry"]["exporters"]["prometheus"][0]["port"] =
        json!(ports::free());
    file["extra_config"]["telemetry/opentelemetry"]["max_series"] = json!(10);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, file.to_string()).unwrap();
    let output = crate::support::gateway::command()
        .arg("check")
        .arg(&path)
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(
        text.contains("max_series: 10 is not in the range 1000 or more"),
        "{text}"
    );
}

/// KrakenD hides the error in its own series, too.
#[test]
fn an_error_that_is_part_of_the_data_is_not_an_error_of_the_endpoint() {
    let endpoint = json!({"endpoint": "/d", "backend": [{"url_pattern": "/s/500",
        "extra_config": {"backend/http": {"return_error_details": "x"}}}]});
    let rig = Rig::of(prometheus(), json!([endpoint, e()]));
    assert_eq!(rig.get("/d", &[]), 200);
    let page = rig.page_when("the request", |page| {
        page.has("krakend_proxy_duration_count")
    });
    for name in [
        "krakend_proxy_duration_count",
        "krakend_backend_duration_count",
    ] {
        let (labels, _) = page.one(name);
        for label in ["error", "complete", "canceled"] {
            assert_eq!(labels[label], "false", "{name} {label}");
        }
    }
}
