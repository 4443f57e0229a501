//! The gateway in Kubernetes: the Helm chart, and the manifests that are rendered from it.
//!
//! The schemas are those of Kubernetes 1.30 for the kinds of the chart (`tests/data/kubernetes-1.30.json`): an
//! unknown field fails as in a cluster that validates strictly. A cluster does more than that: whether pods
//! start, and whether a rolling update loses nothing, is not tested here.

mod contradictions;
mod operators;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::gateway::command;
use crate::support::{Gateway, http, ports};

const MANIFESTS: &str = include_str!("../../deploy/kubernetes/portcullis.yaml");
const SCHEMAS: &str = include_str!("../data/kubernetes-1.30.json");

/// Values that use every feature of the chart.
const EVERYTHING: &str = r#"
config:
  version: 3
  tls: { public_key: /tls/tls.crt, private_key: /tls/tls.key }
  extra_config: { security/cors: { allow_origins: ["https://app.example.com"] } }
  endpoints:
    - endpoint: /users/{id}
      backend: [{ host: ["http://users:8080"], url_pattern: "/users/{id}" }]
port: 8443
scheme: HTTPS
flexible:
  enabled: true
  settings: { files: { service.json: '{"a": 1}' } }
  partials: { configMap: partials }
  templates: { secret: templates }
watch: false
strict: true
extraArgs: ["-d"]
service:
  type: LoadBalancer
  externalTrafficPolicy: Local
  loadBalancerSourceRanges: [10.0.0.0/8]
  annotations: { example.com/name: "value" }
ingress: { enabled: true, className: nginx, annotations: { a: b }, tls: [{ hosts: [a], secretName: s }] }
httpRoute:
  enabled: true
  labels: { a: b }
  annotations: { a: b }
  parentRefs: [{ name: public, namespace: gateways, sectionName: https }]
  hostnames: [api.example.com]
  filters: [{ type: RequestHeaderModifier, requestHeaderModifier: { remove: [x-a] } }]
  timeouts: { request: 30s }
serviceMonitor: { enabled: true, labels: { release: prometheus } }
prometheusRule: { enabled: true, labels: { release: prometheus }, disabled: [PortcullisSlow] }
grafanaDashboards: { enabled: true, annotations: { grafana_folder: Edge } }
autoscaling: { enabled: true, behavior: { scaleDown: { stabilizationWindowSeconds: 60 } } }
networkPolicy:
  enabled: true
  clients: [{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: ingress } } }]
  metricsFrom: [{ namespaceSelector: { matchLabels: { kubernetes.io/metadata.name: monitoring } } }]
  egress: [{ to: [{ ipBlock: { cidr: 10.0.0.0/8 } }] }]
shutdown: { preStopSleep: true }
env: [{ name: USERS, valueFrom: { secretKeyRef: { name: users, key: host } } }]
envFrom: [{ secretRef: { name: vault } }]
extraVolumes: [{ name: tls, secret: { secretName: tls } }]
extraVolumeMounts: [{ name: tls, mountPath: /tls, readOnly: true }]
podAnnotations: { example.com/a: b }
podLabels: { team: edge }
nodeSelector: { kubernetes.io/os: linux }
tolerations: [{ key: edge, operator: Exists }]
topologySpreadConstraints: [{ maxSkew: 1, topologyKey: zone, whenUnsatisfiable: DoNotSchedule }]
priorityClassName: high
imagePullSecrets: [{ name: registry }]
serviceAccount: { annotations: { example.com/role: gateway } }
"#;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The errors of these manifests, by kind and name.
fn config_errors(manifests: &str) -> Vec<String> {
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap();
    let mut found = Vec::new();
    for document in documents(manifests) {
        let kind = document["kind"].as_str().unwrap_or_default();
        let name = document["metadata"]["name"].as_str().unwrap_or_default();
        let schema = if let Some(place) = schemas["kinds"][kind].as_str() {
            json!({ "$schema": schemas["$schema"], "$ref": place, "$defs": schemas["$defs"] })
        } else if let Some(schema) = operators::schema(kind) {
            schema
        } else {
            found.push(format!("{kind} {name}: no schema"));
            continue;
        };
        let validator = jsonschema::validator_for(&schema).unwrap();
        for error in validator.iter_errors(&document) {
            found.push(format!("{kind} {name}: {}: {error}", error.instance_path()));
        }
    }
    found
}

fn documents(manifests: &str) -> Vec<Value> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(manifests).unwrap();
    documents.into_iter().filter(|d| !d.is_null()).collect()
}

fn of_kind(manifests: &str, kind: &str) -> Value {
    let mut documents = documents(manifests).into_iter();
    documents
        .find(|document| document["kind"] == kind)
        .unwrap_or_else(|| panic!("no {kind}"))
}

/// Helm, if it is installed. `scripts/setup test` installs it if Go is present.
fn helm() -> Option<PathBuf> {
    let home = std::env::var_os("HOME").map(PathBuf::from);
    let places = [
        Some(PathBuf::from("helm")),
        home.map(|h| h.join("go/bin/helm")),
    ];
    let found = places
        .into_iter()
        .flatten()
        .find(|program| Command::new(program).arg("version").output().is_ok());
    if found.is_none() {
        println!(
            "helm is not installed: the chart is not rendered, only the manifests are checked"
        );
    }
    found
}

fn template(helm: &Path, values: &str) -> Output {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("values.yaml");
    std::fs::write(&file, values).unwrap();
    Command::new(helm)
        .args(["template", "gw"])
        .arg(root().join("deploy/helm/portcullis"))
        // A Helm that was built from source assumes a very old cluster unless it is told the version.
        .args(["--kube-version", "1.30.0", "-f"])
        .arg(&file)
        .output()
        .unwrap()
}

fn rendered(helm: &Path, values: &str) -> String {
    let output = template(helm, values);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{values}\n{said}");
    String::from_utf8(output.stdout).unwrap()
}

/// The file in the chart's ConfigMap.
fn configuration(manifests: &str) -> Value {
    let map = of_kind(manifests, "ConfigMap");
    serde_json::from_str(map["data"]["krakend.json"].as_str().unwrap()).unwrap()
}

fn seconds(text: &Value) -> u64 {
    let text = text.as_str().unwrap();
    text.strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn kubernetes_accepts_the_manifests() {
    assert_eq!(config_errors(MANIFESTS), Vec::<String>::new());
    // The schemas detect what they should: an unknown field, a wrong type.
    let broken = MANIFESTS.replace("replicas: 2", "replicas: two\n  replica: 2");
    assert_eq!(
        config_errors(&broken).len(),
        2,
        "{:?}",
        config_errors(&broken)
    );
}

#[test]
fn a_stop_has_the_time_that_the_file_takes() {
    let file = configuration(MANIFESTS);
    let delay = seconds(&file["extra_config"]["portcullis/server"]["shutdown_delay"]);
    let drain = seconds(&file["max_shutdown_wait_time"]);
    let pod = &of_kind(MANIFESTS, "Deployment")["spec"]["template"]["spec"];
    let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
    assert!(grace > delay + drain, "{grace} for {delay} and {drain}");
    // Probes must detect the stop before the delay is over.
    let readiness = &pod["containers"][0]["readinessProbe"];
    let period = readiness["periodSeconds"].as_u64().unwrap();
    assert!(period * readiness["failureThreshold"].as_u64().unwrap() < delay);
}

#[test]
fn the_gateway_of_the_manifests_responds_to_probes_and_serves_metrics() {
    let mut file = configuration(MANIFESTS);
    let metrics = ports::free();
    let listen = &mut file["extra_config"]["portcullis/metrics"]["listen"];
    assert_eq!(*listen, "0.0.0.0:9090", "another pod must reach it");
    *listen = json!(format!("127.0.0.1:{metrics}"));
    let gateway = Gateway::start(&file.to_string());
    let container = &of_kind(MANIFESTS, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    for probe in ["startupProbe", "livenessProbe", "readinessProbe"] {
        let path = container[probe]["httpGet"]["path"].as_str().unwrap();
        crate::support::eventually(path, Duration::from_secs(30), || {
            gateway.get(path).status == 200
        });
    }
    let mut client = http::Client::connect(metrics).unwrap();
    client
        .send("GET /metrics HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        .unwrap();
    let response = client.response("GET").unwrap();
    assert_eq!(response.status, 200);
    assert!(response.text().contains("portcullis_build_info"));
}

#[test]
fn its_command_line_and_file_pass_a_strict_check() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("krakend.json");
    std::fs::write(&path, configuration(MANIFESTS).to_string()).unwrap();
    let output = command()
        .args(["check", "--strict", "-c"])
        .arg(&path)
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let container = &of_kind(MANIFESTS, "Deployment")["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        container["args"],
        json!(["run", "-c", "/etc/krakend/krakend.json", "--watch"])
    );
}

#[test]
fn the_manifests_are_made_from_the_chart() {
    if helm().is_none() {
        return;
    }
    let output = Command::new(root().join("scripts/manifests"))
        .arg("--check")
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&said)
    );
}

#[test]
fn every_value_of_the_chart_gives_manifests_that_kubernetes_accepts() {
    let Some(helm) = helm() else { return };
    for values in [
        "{}",
        EVERYTHING,
        "existingConfigMap: mine\nconfigKey: gateway.yaml",
        "existingSecret: mine\nmetrics: { enabled: false }",
        "configText: '{\"version\": 3}'",
        "podDisruptionBudget: { minAvailable: 50%, maxUnavailable: null }",
        "podDisruptionBudget: { enabled: false }\nserviceAccount: { create: false }",
    ] {
        let manifests = rendered(&helm, values);
        assert_eq!(config_errors(&manifests), Vec::<String>::new(), "{values}");
    }
}

#[test]
fn the_chart_puts_port_metrics_and_times_into_the_file() {
    let Some(helm) = helm() else { return };
    let manifests = rendered(
        &helm,
        "port: 9000\nshutdown: { delaySeconds: 7, drainSeconds: 11 }",
    );
    let file = configuration(&manifests);
    assert_eq!(file["port"], 9000);
    assert_eq!(file["max_shutdown_wait_time"], "11s");
    let extra = &file["extra_config"];
    assert_eq!(extra["portcullis/server"]["shutdown_delay"], "7s");
    assert_eq!(extra["portcullis/metrics"]["listen"], "0.0.0.0:9090");
    let pod = &of_kind(&manifests, "Deployment")["spec"]["template"]["spec"];
    assert_eq!(pod["terminationGracePeriodSeconds"], 23);
    // The file's own settings stay.
    let own = "config: { extra_config: { portcullis/metrics: { listen: \"127.0.0.1:1\" } } }";
    let file = configuration(&rendered(&helm, own));
    assert_eq!(
        file["extra_config"]["portcullis/metrics"]["listen"],
        "127.0.0.1:1"
    );
}

#[test]
fn a_custom_file_is_used_exactly() {
    let Some(helm) = helm() else { return };
    let text = "{\"version\": 3, \"name\": \"{{ mine }}\", \"endpoints\": []}";
    let values = json!({ "configText": text, "watch": false }).to_string();
    let manifests = rendered(&helm, &values);
    let map = of_kind(&manifests, "ConfigMap");
    assert_eq!(
        map["data"]["krakend.json"].as_str().unwrap().trim_end(),
        text
    );
    let sum = |manifests: &str| {
        let pod = &of_kind(manifests, "Deployment")["spec"]["template"]["metadata"];
        pod["annotations"]["checksum/config"].clone()
    };
    // A different file replaces the pods.
    assert_ne!(
        sum(&manifests),
        sum(&rendered(&helm, &values.replace("mine", "yours")))
    );
    assert!(sum(&rendered(&helm, "watch: true")).is_null());
}
