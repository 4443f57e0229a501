//! What the chart makes for the Prometheus operator, Grafana and the Gateway API: off by default, and made of the files
//! that are used without Kubernetes.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{EVERYTHING, documents, helm, of_kind, rendered, root};

/// The fields that the chart uses of kinds that the API server does not know itself. They are not whole schemas: names
/// and types were compared with the packages `@kubernetes-models/gateway-api` 2.0.0 and `@kubernetes-models/prometheus-operator`
/// 6.0.0 when they were written down.
pub(super) fn schema(kind: &str) -> Option<Value> {
    let (version, spec) = match kind {
        "HTTPRoute" => ("gateway.networking.k8s.io/v1", route()),
        "ServiceMonitor" => ("monitoring.coreos.com/v1", monitor()),
        "PrometheusRule" => ("monitoring.coreos.com/v1", rules()),
        _ => return None,
    };
    let texts = json!({ "type": "object", "additionalProperties": { "type": "string" } });
    let metadata = object(
        &["name"],
        json!({ "name": { "type": "string" }, "labels": texts, "annotations": texts }),
    );
    Some(object(
        &["apiVersion", "kind", "metadata", "spec"],
        json!({
            "apiVersion": { "const": version },
            "kind": { "const": kind },
            "metadata": metadata,
            "spec": spec,
        }),
    ))
}

#[expect(clippy::needless_pass_by_value, reason = "it is written in place")]
fn object(required: &[&str], properties: Value) -> Value {
    json!({ "type": "object", "required": required, "additionalProperties": false, "properties": properties })
}

#[expect(clippy::needless_pass_by_value, reason = "it is written in place")]
fn list(items: Value) -> Value {
    json!({ "type": "array", "minItems": 1, "items": items })
}

fn route() -> Value {
    let text = json!({ "type": "string" });
    let port = json!({ "type": "integer", "minimum": 1, "maximum": 65535 });
    let parent = json!({
        "group": text, "kind": text, "name": text, "namespace": text, "port": port, "sectionName": text
    });
    let path = json!({
        "type": { "enum": ["Exact", "PathPrefix", "RegularExpression"] },
        "value": { "type": "string", "pattern": "^/" },
    });
    let rule = json!({
        "matches": list(object(&[], json!({
            "path": object(&[], path), "headers": {}, "queryParams": {}, "method": text
        }))),
        "filters": list(json!({ "type": "object", "required": ["type"] })),
        "timeouts": object(&[], json!({ "request": text, "backendRequest": text })),
        "backendRefs": list(object(&["name", "port"], json!({ "name": text, "port": port }))),
    });
    object(
        &["parentRefs", "rules"],
        json!({
            "parentRefs": list(object(&["name"], parent)),
            "hostnames": list(text),
            "rules": list(object(&["matches", "backendRefs"], rule)),
        }),
    )
}

fn monitor() -> Value {
    let text = json!({ "type": "string" });
    let endpoint = json!({ "port": text, "path": text, "interval": text });
    object(
        &["selector", "endpoints"],
        json!({
            "selector": object(&["matchLabels"], json!({ "matchLabels": { "type": "object" } })),
            "endpoints": list(object(&["port"], endpoint)),
        }),
    )
}

fn rules() -> Value {
    let text = json!({ "type": "string", "minLength": 1 });
    let texts = json!({ "type": "object", "additionalProperties": text });
    let rule =
        json!({ "alert": text, "expr": text, "for": text, "labels": texts, "annotations": texts });
    let group = json!({ "name": text, "rules": list(object(&["alert", "expr"], rule)) });
    object(
        &["groups"],
        json!({ "groups": list(object(&["name", "rules"], group)) }),
    )
}

/// The rules of all groups.
fn all(groups: &Value) -> Vec<Value> {
    let groups = groups.as_array().unwrap().iter();
    groups
        .flat_map(|group| group["rules"].as_array().unwrap().clone())
        .collect()
}

fn alerts() -> Value {
    let text = std::fs::read_to_string(root().join("packaging/portcullis-alerts.yml")).unwrap();
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn kinds_of_operators_are_made_only_on_demand() {
    let Some(helm) = helm() else { return };
    let made: BTreeSet<String> = documents(&rendered(&helm, "{}"))
        .iter()
        .map(|document| document["kind"].as_str().unwrap().to_owned())
        .collect();
    for kind in ["HTTPRoute", "Ingress", "ServiceMonitor", "PrometheusRule"] {
        assert!(!made.contains(kind), "{kind}");
    }
    assert!(!rendered(&helm, "{}").contains("dashboard"));
}

#[test]
fn the_rule_has_the_alerts_of_the_file_for_this_release() {
    let Some(helm) = helm() else { return };
    let manifests = rendered(
        &helm,
        "prometheusRule: { enabled: true }\nserviceMonitor: { enabled: true }",
    );
    let made = all(&of_kind(&manifests, "PrometheusRule")["spec"]["groups"]);
    // The job of a monitor is the name of its service.
    let monitored = documents(&manifests).iter().any(|document| {
        document["kind"] == "Service"
            && document["metadata"]["name"] == "gw-portcullis-metrics"
            && document["metadata"]["labels"]["app.kubernetes.io/component"] == "metrics"
    });
    assert!(monitored);
    let own = r#"namespace="default",job="gw-portcullis-metrics""#;
    let mut expected = all(&alerts()["groups"]);
    for rule in &mut expected {
        let expression = rule["expr"].as_str().unwrap();
        rule["expr"] = expression.replace(r#"job="portcullis""#, own).into();
    }
    assert_eq!(made, expected);
    assert!(
        made.iter()
            .any(|rule| rule["expr"].as_str().unwrap().contains(own))
    );

    let fewer = rendered(
        &helm,
        "prometheusRule: { enabled: true, disabled: [PortcullisSlow] }",
    );
    let fewer = all(&of_kind(&fewer, "PrometheusRule")["spec"]["groups"]);
    assert_eq!(fewer.len(), expected.len() - 1);
    assert!(fewer.iter().all(|rule| rule["alert"] != "PortcullisSlow"));
}

#[test]
fn prometheus_can_read_the_rule() {
    let Some(helm) = helm() else { return };
    let rule = of_kind(&rendered(&helm, EVERYTHING), "PrometheusRule");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("rules.yml");
    std::fs::write(&file, rule["spec"].to_string()).unwrap();
    let Ok(output) = std::process::Command::new("promtool")
        .args(["check", "rules"])
        .arg(&file)
        .output()
    else {
        println!("promtool is not installed");
        return;
    };
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_dashboards_are_those_of_the_files() {
    let Some(helm) = helm() else { return };
    let manifests = rendered(&helm, "grafanaDashboards: { enabled: true }");
    let mut found = BTreeSet::new();
    for document in documents(&manifests) {
        let name = document["metadata"]["name"].as_str().unwrap();
        if document["kind"] != "ConfigMap" || !name.contains("-dashboard-") {
            continue;
        }
        // The label that the sidecar of Grafana's chart looks for.
        assert_eq!(document["metadata"]["labels"]["grafana_dashboard"], "1");
        for (file, text) in document["data"].as_object().unwrap() {
            let source =
                std::fs::read_to_string(root().join("packaging/grafana").join(file)).unwrap();
            assert_eq!(
                text.as_str().unwrap().trim_end(),
                source.trim_end(),
                "{file}"
            );
            found.insert(file.clone());
        }
    }
    let sources = std::fs::read_dir(root().join("packaging/grafana")).unwrap();
    let sources: BTreeSet<String> = sources
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(found, sources);
}

#[test]
fn the_route_leads_to_the_service() {
    let Some(helm) = helm() else { return };
    let manifests = rendered(&helm, EVERYTHING);
    let backend = &of_kind(&manifests, "HTTPRoute")["spec"]["rules"][0]["backendRefs"][0];
    let service = of_kind(&manifests, "Service");
    assert_eq!(backend["name"], service["metadata"]["name"]);
    assert_eq!(backend["port"], service["spec"]["ports"][0]["port"]);
}
