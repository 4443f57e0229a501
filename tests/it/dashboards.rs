//! Dashboards and alerts: every expression can be read by Prometheus and names a metric that there is.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

const TABLE: &str = include_str!("../../docs/metrics.md");
const OBSERVABILITY: &str = include_str!("../../docs/observability.md");

fn root(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

fn dashboard(name: &str) -> Value {
    let text = fs::read_to_string(root("packaging/grafana").join(name)).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn expressions(dashboard: &Value) -> Vec<String> {
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels
        .iter()
        .flat_map(|panel| panel["targets"].as_array().unwrap());
    targets
        .map(|target| {
            let written = target["expr"].as_str().unwrap();
            written
                .replace("$__rate_interval", "5m")
                .replace("$instance", ".*")
        })
        .collect()
}

/// Metric names in an expression.
fn metrics(expression: &str) -> BTreeSet<String> {
    let known = [
        "portcullis_",
        "http_server_",
        "http_client_",
        "krakend_",
        "process_",
    ];
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_';
    expression
        .split(|c| !is_name(c))
        .filter(|word| known.iter().any(|start| word.starts_with(start)))
        .filter(|word| {
            ![
                "http_route",
                "http_response_status_code",
                "krakend_endpoint_route",
            ]
            .contains(word)
        })
        .map(|word| {
            let ends = ["_bucket", "_sum", "_count"];
            let plain = ends.iter().find_map(|end| word.strip_suffix(end));
            match plain
                .filter(|plain| !plain.ends_with("_failed") && !plain.ends_with("_connections"))
            {
                Some(plain) => plain.to_owned(),
                None => word.to_owned(),
            }
        })
        .collect()
}

fn promtool(rules: &Path) {
    run_promtool("check", rules);
}

fn run_promtool(what: &str, rules: &Path) {
    let Ok(output) = Command::new("promtool")
        .args([what, "rules"])
        .arg(rules)
        .output()
    else {
        eprintln!(
            "promtool is not here: expressions were not checked (Debian: apt-get install prometheus)"
        );
        return;
    };
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn dashboards_are_of_the_shape_that_grafana_imports() {
    for name in ["portcullis.json", "krakend.json"] {
        let dashboard = dashboard(name);
        for key in [
            "uid",
            "title",
            "schemaVersion",
            "templating",
            "panels",
            "time",
        ] {
            assert!(!dashboard[key].is_null(), "{name}: {key}");
        }
        let panels = dashboard["panels"].as_array().unwrap();
        let ids: BTreeSet<i64> = panels
            .iter()
            .map(|panel| panel["id"].as_i64().unwrap())
            .collect();
        assert_eq!(ids.len(), panels.len(), "{name}: ids");
        let mut taken = BTreeSet::new();
        for panel in panels {
            assert!(panel["title"].is_string() && panel["type"].is_string());
            let description = panel["description"].as_str().unwrap_or_default();
            assert!(!description.is_empty(), "{name}: {}", panel["title"]);
            assert_eq!(panel["datasource"]["uid"], "${datasource}");
            let place = &panel["gridPos"];
            let at = |key: &str| place[key].as_i64().unwrap();
            assert!(at("x") + at("w") <= 24 && at("h") > 0);
            assert!(
                taken.insert((at("x"), at("y"))),
                "{name}: two panels in one place"
            );
            assert!(!panel["targets"].as_array().unwrap().is_empty());
        }
    }
}

#[test]
fn every_expression_is_one_and_names_a_metric_that_is_documented() {
    let folder = tempfile::tempdir().unwrap();
    for name in ["portcullis.json", "krakend.json"] {
        let mut rules = String::from("groups:\n  - name: g\n    rules:\n");
        for (n, expression) in expressions(&dashboard(name)).iter().enumerate() {
            let text = serde_json::to_string(expression).unwrap();
            rules.push_str(&format!("      - record: r:{n}\n        expr: {text}\n"));
            for metric in metrics(expression) {
                let short = metric
                    .trim_start_matches("http_client_request")
                    .trim_start_matches("http_client_response");
                let documented = TABLE.contains(&format!("| `{metric}` |"))
                    || metric.starts_with("process_")
                    || OBSERVABILITY.contains(&format!("`{metric}`"))
                    || OBSERVABILITY.contains(&format!("`…{short}`"));
                assert!(documented, "{name}: {metric} is not documented");
            }
        }
        let path = folder.path().join(name).with_extension("yml");
        fs::write(&path, rules).unwrap();
        promtool(&path);
    }
}

#[test]
fn every_alert_can_be_read_and_has_a_severity() {
    let path = root("packaging/portcullis-alerts.yml");
    promtool(&path);
    let text = fs::read_to_string(&path).unwrap();
    let alerts = text.matches("- alert: ").count();
    assert_eq!(text.matches("labels: { severity: ").count(), alerts);
    assert_eq!(text.matches("summary: ").count(), alerts);
    // What to do about it.
    assert_eq!(text.matches("description: ").count(), alerts);
    for severity in text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("labels: { severity: "))
    {
        assert!(
            ["critical }", "warning }", "info }"].contains(&severity),
            "{severity}"
        );
    }
    let expressions = text.lines().filter(|line| !line.contains("summary"));
    for metric in expressions.flat_map(metrics) {
        assert!(
            TABLE.contains(&format!("| `{metric}` |")),
            "{metric} is not documented"
        );
    }
}

/// The alert that fires, and the series that Prometheus has read each minute for 40 minutes.
const FIRING: &[(&str, &[(&str, &str)])] = &[
    (
        "PortcullisTokensRejected",
        &[
            (
                r#"portcullis_jwt_rejected_total{route="/a", reason="wrong_audience"}"#,
                "0+30x40",
            ),
            (
                r#"portcullis_jwt_rejected_total{route="/a", reason="missing"}"#,
                "0+60x40",
            ),
            (
                r#"portcullis_http_requests_total{route="/a", method="GET", status="4xx"}"#,
                "0+100x40",
            ),
        ],
    ),
    (
        "PortcullisRequestsRejected",
        &[
            (
                r#"portcullis_requests_refused_total{route="/a", reason="rate_limited"}"#,
                "0+30x40",
            ),
            (
                r#"portcullis_http_requests_total{route="/a", method="GET", status="4xx"}"#,
                "0+100x40",
            ),
        ],
    ),
    (
        "PortcullisRevocationsLate",
        &[("portcullis_revocations_current_timestamp_seconds{}", "0x40")],
    ),
    (
        "PortcullisRevocationsLost",
        &[("portcullis_revocations_dropped_total{}", "0+1x40")],
    ),
    (
        "PortcullisRedisErrors",
        &[(
            r#"portcullis_redis_connection_errors_total{reason="connect"}"#,
            "0+1x40",
        )],
    ),
    (
        "PortcullisQueueDisconnected",
        &[(r#"portcullis_queue_connected{broker="b:5672"}"#, "0x40")],
    ),
    (
        "PortcullisHostUnhealthy",
        &[(
            r#"portcullis_upstream_host_healthy{host="http://b"}"#,
            "0x40",
        )],
    ),
    (
        "PortcullisConnectionsRejected",
        &[("portcullis_connections_refused_total{}", "0+1x40")],
    ),
    (
        "PortcullisLogLinesDropped",
        &[("portcullis_log_lines_dropped_total{}", "0+1x40")],
    ),
    (
        "PortcullisSeriesOverflow",
        &[("portcullis_metrics_overflow_total{}", "0+1x40")],
    ),
];

#[test]
fn alerts_fire_for_what_their_names_say_and_for_nothing_else() {
    let folder = tempfile::tempdir().unwrap();
    let rules = root("packaging/portcullis-alerts.yml");
    let mut file = format!("rule_files: [{}]\ntests:\n", rules.display());
    for (alert, series) in FIRING {
        file.push_str("  - interval: 1m\n    input_series:\n");
        for (name, values) in *series {
            let name = name.replace("{", "{instance=\"g\", ").replace(", }", "}");
            file.push_str(&format!(
                "      - {{ series: '{name}', values: '{values}' }}\n"
            ));
        }
        file.push_str("    promql_expr_test:\n");
        file.push_str("      - expr: 'count by (alertname) (ALERTS{alertstate=\"firing\"})'\n");
        file.push_str("        eval_time: 35m\n        exp_samples:\n");
        file.push_str(&format!(
            "          - {{ labels: '{{alertname=\"{alert}\"}}', value: 1 }}\n"
        ));
    }
    let path = folder.path().join("test.yml");
    fs::write(&path, file).unwrap();
    run_promtool("test", &path);
}
