//! Values that contradict each other or the configuration: the manifests follow the configuration, or are not rendered.

use serde_json::{Value, json};

use super::{configuration, helm, of_kind, rendered, template};

/// The text of the chart's own error; empty if it renders.
fn refusal(values: &Value) -> String {
    let helm = helm().unwrap();
    let output = template(&helm, &values.to_string());
    if output.status.success() {
        return String::new();
    }
    String::from_utf8(output.stderr).unwrap()
}

fn text(file: &Value) -> Value {
    json!({ "configText": file.to_string() })
}

fn grace(manifests: &str) -> Value {
    of_kind(manifests, "Deployment")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
        .clone()
}

/// The ports of the container, by name.
fn ports(manifests: &str) -> Vec<(String, u64)> {
    let pod = &of_kind(manifests, "Deployment")["spec"]["template"]["spec"];
    let ports = pod["containers"][0]["ports"].as_array().unwrap();
    let each = ports.iter().map(|port| {
        let name = port["name"].as_str().unwrap().to_owned();
        (name, port["containerPort"].as_u64().unwrap())
    });
    each.collect()
}

/// What the schema of the values rejects. The texts are Helm's.
#[test]
fn values_with_wrong_names_and_types_are_rejected() {
    if helm().is_none() {
        return;
    }
    for (wrong, right) in [
        (json!({ "replicas": 3 }), json!({ "replicaCount": 3 })),
        (json!({ "port": 70000 }), json!({ "port": 7000 })),
        (json!({ "port": "7000" }), json!({ "port": 7000 })),
        (
            json!({ "configKey": "krakend.jsn" }),
            json!({ "configKey": "krakend.json" }),
        ),
        (
            json!({ "httpRoute": { "parents": [] } }),
            json!({ "httpRoute": { "parentRefs": [] } }),
        ),
        (
            json!({ "prometheusRule": { "enable": true } }),
            json!({ "prometheusRule": { "enabled": true } }),
        ),
    ] {
        assert_ne!(refusal(&wrong), "", "{wrong}");
        assert_eq!(refusal(&right), "", "{right}");
    }
}

/// The texts are the chart's own.
#[test]
fn values_that_contradict_each_other_are_rejected() {
    if helm().is_none() {
        return;
    }
    for (values, said) in [
        (
            json!({ "existingSecret": "a", "existingConfigMap": "b" }),
            "set only one of",
        ),
        (
            json!({ "serviceMonitor": { "enabled": true }, "metrics": { "enabled": false } }),
            "serviceMonitor.enabled needs metrics.enabled",
        ),
        (
            json!({ "prometheusRule": { "enabled": true }, "metrics": { "enabled": false } }),
            "prometheusRule.enabled needs metrics.enabled",
        ),
        (
            json!({ "networkPolicy": { "enabled": true, "metricsFrom": [{}] }, "metrics": { "enabled": false } }),
            "networkPolicy.metricsFrom needs metrics.enabled",
        ),
        (json!({ "metrics": { "port": 8080 } }), "the same port 8080"),
        (
            json!({ "flexible": { "enabled": true, "settings": { "configMap": "a", "secret": "b" } } }),
            "flexible.settings has configMap and secret",
        ),
        (
            json!({ "flexible": { "enabled": true, "partials": { "configMap": "a", "files": { "a": "b" } } } }),
            "flexible.partials has files and configMap",
        ),
        (
            json!({ "flexible": { "settings": { "configMap": "a" } } }),
            "no effect without flexible.enabled",
        ),
        (
            json!({ "podDisruptionBudget": { "maxUnavailable": 0 } }),
            "nodes cannot be drained",
        ),
        (
            json!({ "podDisruptionBudget": { "minAvailable": 2 } }),
            "nodes cannot be drained",
        ),
        (
            json!({ "podDisruptionBudget": { "minAvailable": 1, "maxUnavailable": 2 } }),
            "set only one of",
        ),
        (
            json!({ "autoscaling": { "enabled": true, "minReplicas": 11 } }),
            "more than maxReplicas",
        ),
        (
            json!({ "autoscaling": { "enabled": true }, "resources": { "requests": null } }),
            "needs resources.requests.cpu",
        ),
        (
            json!({ "ingress": { "enabled": true, "hosts": [] } }),
            "needs at least one entry",
        ),
        (
            json!({ "httpRoute": { "enabled": true } }),
            "needs httpRoute.parentRefs",
        ),
        (json!({ "port": 80 }), "port 80 is below 1024"),
    ] {
        let error = refusal(&values);
        assert!(error.contains(said), "{values}: {error}");
    }
    let sysctl = json!([{ "name": "net.ipv4.ip_unprivileged_port_start", "value": "0" }]);
    for values in [
        json!({ "port": 80, "podSecurityContext": { "sysctls": sysctl } }),
        json!({ "podDisruptionBudget": { "minAvailable": 1 } }),
    ] {
        assert_eq!(refusal(&values), "", "{values}");
    }
}

#[test]
fn a_configuration_that_the_manifests_contradict_is_rejected() {
    if helm().is_none() {
        return;
    }
    for (file, values, said) in [
        (json!({ "port": 9000 }), json!({}), "the value port is 8080"),
        (
            json!({ "listen_ip": "127.0.0.1" }),
            json!({}),
            "nothing outside of the pod",
        ),
        (
            json!({ "tls": { "public_key": "a", "private_key": "b" } }),
            json!({}),
            "set scheme to HTTPS",
        ),
        (
            json!({ "tls": { "enable_mtls": true } }),
            json!({ "scheme": "HTTPS" }),
            "no client certificate",
        ),
        (json!({}), json!({ "scheme": "HTTPS" }), "has no \"tls\""),
        (
            json!({ "max_shutdown_wait_time": "1m" }),
            json!({ "shutdown": { "drainSeconds": 10 } }),
            "drainSeconds is 10, but max_shutdown_wait_time of the configuration is 60",
        ),
        (
            json!({ "extra_config": { "portcullis/server": { "shutdown_delay": "20s" } } }),
            json!({ "shutdown": { "delaySeconds": 10 } }),
            "delaySeconds is 10, but shutdown_delay of the configuration is 20",
        ),
        (
            json!({ "extra_config": { "portcullis/metrics": { "listen": "127.0.0.1:9095" } } }),
            json!({ "serviceMonitor": { "enabled": true } }),
            "listens on 127.0.0.1:9095: write \"listen\": \"0.0.0.0:9095\"",
        ),
        (
            json!({ "extra_config": { "portcullis/metrics": {} } }),
            json!({ "serviceMonitor": { "enabled": true } }),
            "listens on 127.0.0.1:9090",
        ),
        (
            json!({ "extra_config": { "portcullis/metrics": { "listen": "0.0.0.0:9095" } } }),
            json!({ "metrics": { "port": 9096 } }),
            "metrics.port is 9096",
        ),
        (
            json!({ "extra_config": { "router": { "disable_health": true } } }),
            json!({}),
            "the liveness probe would fail",
        ),
        (
            json!({ "extra_config": { "router": { "health_path": "/up" } } }),
            json!({ "probes": { "liveness": { "path": "/down" } } }),
            "set only one of them",
        ),
    ] {
        let mut file = file;
        file["version"] = 3.into();
        for form in [json!({ "config": file }), text(&file)] {
            let mut all = form;
            for (name, value) in values.as_object().unwrap() {
                all[name] = value.clone();
            }
            let error = refusal(&all);
            assert!(error.contains(said), "{all}: {error}");
        }
    }
    // A text that the gateway could not read, either.
    let broken = json!({ "configText": "{\"version\": 3,}" });
    assert!(refusal(&broken).contains("cannot be read"));
    // A variable sets the port.
    let port = |value: &str| json!([{ "name": "KRAKEND_PORT", "value": value }]);
    let mut values = text(&json!({ "version": 3, "port": 9000 }));
    values["env"] = port("8080");
    assert_eq!(refusal(&values), "");
    values["env"] = port("9000");
    assert!(refusal(&values).contains("KRAKEND_PORT in env is 9000"));
    values["port"] = 9000.into();
    assert_eq!(refusal(&values), "");
    let yaml = json!({ "configKey": "gateway.yaml", "configText": "version: 3\nport: 9000\n" });
    assert!(refusal(&yaml).contains("listens on port 9000"));
}

#[test]
fn a_text_that_the_chart_cannot_read_is_used_with_the_values() {
    if helm().is_none() {
        return;
    }
    for values in [
        json!({ "configText": "{ {{ include \"port.tmpl\" . }} }", "flexible": { "enabled": true } }),
        json!({ "config": { "version": 3, "port": "{{ .service.port }}" }, "flexible": { "enabled": true } }),
        json!({ "configText": "version = 3\nport = 9000\n", "configKey": "gateway.toml" }),
    ] {
        assert_eq!(refusal(&values), "", "{values}");
    }
}

#[test]
fn pods_have_the_time_that_the_configuration_takes_to_stop() {
    let Some(helm) = helm() else { return };
    for (delay, drain, seconds) in [
        ("20s", "50s", 75),
        ("1m1.5s", "50s", 117),
        ("500ms", "1h", 3606),
        ("0", "0", 5),
    ] {
        let file = json!({
            "version": 3,
            "max_shutdown_wait_time": drain,
            "extra_config": { "portcullis/server": { "shutdown_delay": delay } },
        });
        for values in [json!({ "config": file }), text(&file)] {
            let manifests = rendered(&helm, &values.to_string());
            assert_eq!(grace(&manifests), seconds, "{values}");
        }
        // Kubernetes' own delay comes before that of the gateway.
        let values = json!({ "config": file, "shutdown": { "preStopSleep": true } });
        let manifests = rendered(&helm, &values.to_string());
        assert_eq!(grace(&manifests), seconds + 5, "{values}");
    }
    // The file has no times: those of the gateway and of the values.
    let manifests = rendered(&helm, &text(&json!({ "version": 3 })).to_string());
    assert_eq!(grace(&manifests), 40);
}

#[test]
fn services_and_monitors_follow_the_metrics_of_the_configuration() {
    let Some(helm) = helm() else { return };
    let with = |listen: &str| json!({ "version": 3, "extra_config": { "portcullis/metrics": { "listen": listen } } });
    for listen in ["0.0.0.0:9095", ":9095", "[::]:9095"] {
        for mut values in [json!({ "config": with(listen) }), text(&with(listen))] {
            values["serviceMonitor"] = json!({ "enabled": true });
            let manifests = rendered(&helm, &values.to_string());
            assert_eq!(ports(&manifests)[1], ("metrics".to_owned(), 9095));
            let of_metrics = super::documents(&manifests).into_iter().find(|document| {
                document["kind"] == "Service"
                    && document["metadata"]["name"] == "gw-portcullis-metrics"
            });
            assert_eq!(of_metrics.unwrap()["spec"]["ports"][0]["port"], 9095);
        }
    }
    // Nobody else can read these: there is no service that leads nowhere.
    for values in [
        json!({ "config": with("127.0.0.1:9095") }),
        text(&with("localhost:9095")),
        text(&json!({ "version": 3 })),
    ] {
        let manifests = rendered(&helm, &values.to_string());
        assert_eq!(ports(&manifests).len(), 1, "{values}");
        assert!(!manifests.contains("-metrics"), "{values}");
    }
}

#[test]
fn the_liveness_probe_follows_the_configuration() {
    let Some(helm) = helm() else { return };
    let file = json!({ "version": 3, "extra_config": { "router": { "health_path": "up" } } });
    let manifests = rendered(&helm, &json!({ "config": file }).to_string());
    let pod = &of_kind(&manifests, "Deployment")["spec"]["template"]["spec"];
    let probe = &pod["containers"][0]["livenessProbe"]["httpGet"]["path"];
    assert_eq!(probe, "/up");
    assert_eq!(
        configuration(&manifests)["extra_config"]["router"]["health_path"],
        "up"
    );
}
