//! The environment variables that the program reads, for the manual pages and the page of keys.

/// Variables that mean the same thing, and what they do.
pub(crate) type Variable = (&'static [&'static str], &'static str);

/// A group of variables with its title.
pub(crate) struct Group {
    pub title: &'static str,
    pub variables: &'static [Variable],
}

/// All variables, by subject.
pub(crate) const GROUPS: &[Group] = &[
    Group {
        title: "Configuration",
        variables: &[
            (
                &["KRAKEND_<KEY>", "PORTCULLIS_<KEY>"],
                "Replaces the key <key> at the root of the file: KRAKEND_PORT, KRAKEND_NAME, KRAKEND_HOST (a list separated by commas). PORTCULLIS_<KEY> takes precedence. Values that begin with tcp:// are ignored, because Kubernetes sets such variables itself.",
            ),
            (
                &["PORTCULLIS_STRICT"],
                "1 rejects a file with warnings, as --strict does.",
            ),
            (
                &["FC_ENABLE"],
                "Any value makes the file a template (flexible configuration).",
            ),
            (&["FC_SETTINGS"], "The folder of settings of templates."),
            (
                &["FC_PARTIALS"],
                "The folder of texts that templates include.",
            ),
            (
                &["FC_TEMPLATES"],
                "The folder of templates that templates call.",
            ),
            (
                &["FC_OUT"],
                "The file to which the result of the templates is written.",
            ),
            (
                &["FC_CONFIG"],
                "Not supported: gives a warning that names its replacement.",
            ),
            (&["TZ"], "The time zone of dates in templates."),
            (
                &["CREDENTIALS_DIRECTORY"],
                "The folder of ${credential:NAME}. systemd sets it.",
            ),
        ],
    },
    Group {
        title: "Output",
        variables: &[
            (&["NO_COLOR"], "Any value switches colours off."),
            (&["TERM"], "\"dumb\" switches colours off."),
            (
                &["TMPDIR"],
                "The folder for the file of the demo. The default is /tmp.",
            ),
        ],
    },
    Group {
        title: "Process",
        variables: &[
            (
                &["RUNTIME_DIRECTORY", "XDG_RUNTIME_DIR"],
                "The folder of the control socket and of the socket for upgrades.",
            ),
            (
                &["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"],
                "systemd sets them to learn that the gateway is ready, reloads, stops, or hangs.",
            ),
            (
                &["MIMALLOC_PURGE_DELAY"],
                "The milliseconds for which the allocator keeps freed memory. The default is 100, which the gateway sets for itself when it starts.",
            ),
        ],
    },
    Group {
        title: "Connections",
        variables: &[
            (
                &["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"],
                "The proxies for calls to http:// and https:// hosts.",
            ),
            (
                &["NO_PROXY", "no_proxy"],
                "Hosts that are called without a proxy: names with their subdomains, .suffix, addresses, networks, ports and *.",
            ),
            (
                &["REQUEST_METHOD"],
                "If it is set, HTTP_PROXY is ignored, as in Go: in a CGI program, a client can set that variable.",
            ),
            (
                &["SSL_CERT_FILE", "SSL_CERT_DIR"],
                "Trusted certificates, instead of those of the system.",
            ),
        ],
    },
    Group {
        title: "Traces and metrics (if telemetry/opentelemetry does not set the value)",
        variables: &[
            (
                &["OTEL_SDK_DISABLED"],
                "true switches traces and metrics over OTLP off.",
            ),
            (&["OTEL_SERVICE_NAME"], "The name of the service."),
            (
                &["OTEL_RESOURCE_ATTRIBUTES"],
                "Attributes of the resource: key=value,key=value.",
            ),
            (
                &["OTEL_PROPAGATORS"],
                "The header formats of trace contexts: tracecontext, b3, b3multi, jaeger, baggage.",
            ),
            (
                &["OTEL_TRACES_SAMPLER", "OTEL_TRACES_SAMPLER_ARG"],
                "Which requests are traced: parentbased_always_on, parentbased_always_off or parentbased_traceidratio, and its ratio.",
            ),
            (
                &["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_PROTOCOL"],
                "The collector, if the block names no exporter.",
            ),
            (
                &["OTEL_EXPORTER_OTLP_HEADERS"],
                "Headers for the collector: key=value,key=value.",
            ),
            (&["OTEL_EXPORTER_OTLP_COMPRESSION"], "gzip or none."),
            (
                &["OTEL_EXPORTER_OTLP_TIMEOUT"],
                "The timeout of one export, in milliseconds.",
            ),
            (
                &[
                    "OTEL_EXPORTER_OTLP_CERTIFICATE",
                    "OTEL_EXPORTER_OTLP_CLIENT_CERTIFICATE",
                    "OTEL_EXPORTER_OTLP_CLIENT_KEY",
                ],
                "Files in PEM: the authority of the collector, and the certificate and key for it.",
            ),
            (
                &[
                    "OTEL_BSP_SCHEDULE_DELAY",
                    "OTEL_BSP_MAX_QUEUE_SIZE",
                    "OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
                ],
                "Spans: milliseconds between exports, the longest queue, the most spans of one export.",
            ),
            (
                &["OTEL_METRIC_EXPORT_INTERVAL"],
                "Milliseconds between exports of metrics.",
            ),
            (
                &["OTEL_METRICS_EXEMPLAR_FILTER"],
                "trace_based, always_on or always_off.",
            ),
            (
                &[
                    "OTEL_SPAN_ATTRIBUTE_VALUE_LENGTH_LIMIT",
                    "OTEL_ATTRIBUTE_VALUE_LENGTH_LIMIT",
                ],
                "Attributes of spans are cut to this number of characters.",
            ),
        ],
    },
    Group {
        title: "AWS (aws/sigv4, backend/lambda, SNS and SQS)",
        variables: &[
            (
                &["AWS_REGION", "AWS_DEFAULT_REGION"],
                "The region, if the file has none. SNS and SQS also read it from the address.",
            ),
            (
                &[
                    "AWS_ACCESS_KEY_ID",
                    "AWS_SECRET_ACCESS_KEY",
                    "AWS_SESSION_TOKEN",
                ],
                "Fixed keys.",
            ),
            (
                &[
                    "AWS_WEB_IDENTITY_TOKEN_FILE",
                    "AWS_ROLE_ARN",
                    "AWS_ROLE_SESSION_NAME",
                ],
                "A role with a web identity, as in EKS.",
            ),
            (
                &["AWS_ENDPOINT_URL_STS"],
                "The address of the token service (STS).",
            ),
            (
                &[
                    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
                    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
                    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
                ],
                "Keys of the container's agent, as in ECS.",
            ),
            (
                &["AWS_PROFILE", "AWS_SHARED_CREDENTIALS_FILE"],
                "A profile of the file with credentials. The default file is $HOME/.aws/credentials.",
            ),
            (
                &[
                    "AWS_EC2_METADATA_DISABLED",
                    "AWS_EC2_METADATA_SERVICE_ENDPOINT",
                ],
                "Keys of the machine: true switches them off, or another address of the service.",
            ),
        ],
    },
    Group {
        title: "Google Pub/Sub",
        variables: &[
            (
                &["GOOGLE_APPLICATION_CREDENTIALS"],
                "The file with credentials.",
            ),
            (
                &["CLOUDSDK_CONFIG"],
                "The folder of gcloud with application_default_credentials.json. The default is $HOME/.config/gcloud.",
            ),
            (&["HOME"], "Where the default files of AWS and Google are."),
            (&["GCE_METADATA_HOST"], "The host of the metadata server."),
            (
                &[
                    "PUBSUB_EMULATOR_HOST",
                    "CLOUDSDK_API_ENDPOINT_OVERRIDES_PUBSUB",
                ],
                "An emulator, or another address of the service.",
            ),
        ],
    },
    Group {
        title: "Other services",
        variables: &[
            (
                &["RABBIT_SERVER_URL"],
                "RabbitMQ for pubsub: amqp://user:password@host:5672/vhost.",
            ),
            (&["NATS_SERVER_URL"], "NATS for pubsub: nats://host:4222."),
            (
                &["VAULT_ADDR", "VAULT_SERVER_URL"],
                "HashiCorp Vault for hashivault:// keys. VAULT_SERVER_URL takes precedence.",
            ),
            (
                &["VAULT_TOKEN", "VAULT_SERVER_TOKEN"],
                "The token for Vault. VAULT_SERVER_TOKEN takes precedence.",
            ),
            (
                &["VAULT_NAMESPACE", "VAULT_CACERT"],
                "The namespace in Vault, and the file with its authority (PEM).",
            ),
        ],
    },
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::path::Path;

    use super::*;

    /// Words in capitals that are not environment variables.
    const OTHER: &[&str] = &[
        "CARGO_PKG_VERSION",
        "CARGO_MANIFEST_DIR",
        "NOT_SERVING",
        "PATH_OR_URL",
        // Between the processes of an upgrade.
        "PORTCULLIS_UPGRADE_OF",
    ];

    fn sources(folder: &Path, found: &mut Vec<std::path::PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            if path.is_dir() && name != "tests" {
                sources(&path, found);
            } else if name.ends_with(".rs")
                && !["tests.rs", "testing.rs", "variables.rs"].contains(&&*name)
            {
                found.push(path);
            }
        }
    }

    fn looks_like_a_variable(text: &str) -> bool {
        let letters = text
            .bytes()
            .all(|b| b.is_ascii_uppercase() || b == b'_' || b.is_ascii_digit());
        let is_prefix = text.ends_with('_');
        letters
            && !is_prefix
            && text.starts_with(|c: char| c.is_ascii_uppercase())
            && text.contains('_')
    }

    /// Texts of the program that look like variables, and all that are asked for by name.
    fn read_by_the_program() -> BTreeSet<String> {
        let mut files = Vec::new();
        sources(
            &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
            &mut files,
        );
        let mut found = BTreeSet::new();
        for file in files {
            let text = std::fs::read_to_string(&file).unwrap();
            let text = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
            let mut parts = text.split('"');
            let mut before = parts.next().unwrap();
            for part in parts {
                let is_asked = ["env::var(", "env::var_os(", "environment.get("]
                    .iter()
                    .any(|call| before.ends_with(call));
                if is_asked || looks_like_a_variable(part) {
                    found.insert(part.to_owned());
                }
                before = part;
            }
        }
        found.retain(|name| !OTHER.contains(&name.as_str()));
        found
    }

    #[test]
    fn every_variable_that_the_program_reads_is_listed() {
        let read = read_by_the_program();
        assert!(
            read.len() > 50 && read.contains("TZ") && read.contains("NO_COLOR"),
            "{read:?}"
        );
        let listed: Vec<&str> = GROUPS
            .iter()
            .flat_map(|group| group.variables)
            .flat_map(|(names, _)| names.iter().copied())
            .collect();
        let of_keys = |name: &str| name == "KRAKEND_PORT" || name == "PORTCULLIS_PORT";
        let missing: Vec<_> = read
            .iter()
            .filter(|name| !listed.contains(&name.as_str()) && !of_keys(name))
            .collect();
        assert!(missing.is_empty(), "not listed: {missing:?}");
        // Read by libraries, or as a part of a name.
        let elsewhere = [
            "KRAKEND_<KEY>",
            "PORTCULLIS_<KEY>",
            "NOTIFY_SOCKET",
            "WATCHDOG_USEC",
            "TMPDIR",
            "TERM",
            "HOME",
        ];
        let lower = |name: &str| name.to_uppercase() != name;
        let gone: Vec<_> = listed
            .iter()
            .filter(|name| !read.contains(**name) && !elsewhere.contains(name) && !lower(name))
            .collect();
        assert!(gone.is_empty(), "listed, but not read: {gone:?}");
    }
}
