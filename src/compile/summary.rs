//! The output of `check -d`: a summary of the configuration without secrets.

use std::net::IpAddr;

use crate::compile::agents;
use crate::config::{Backend, Endpoint, Extra, Service, duration};
use crate::runtime::listen::Listen;
use crate::telemetry::mask::without_password;
use crate::telemetry::url_secrets::UrlSecrets;

/// The lines of the summary.
pub(super) fn lines(file: &Service<'_>, listen: &Listen) -> Vec<String> {
    let mut lines = vec![
        "Global settings".to_owned(),
        format!("\tName: {}", file.name.as_deref().unwrap_or_default()),
        format!("\tAddress: {}", address(listen.address.ip())),
        format!("\tPort: {}", listen.address.port()),
        components("\t", "service", &file.extra),
        format!("{} API endpoints:", file.endpoints.len()),
    ];
    for endpoint in &file.endpoints {
        describe(endpoint, &mut lines);
    }
    if !file.async_agent.is_empty() {
        lines.push(format!("{} async agents:", file.async_agent.len()));
    }
    for (index, agent) in file.async_agent.iter().enumerate() {
        lines.push(format!("\t- {}", agents::name(agent, index)));
        lines.push(components("\t  ", "agent", &agent.work.extra));
        describe_backends(&agent.work.backend, "GET", &mut lines);
    }
    lines
}

fn address(ip: IpAddr) -> String {
    if ip.is_unspecified() {
        "all".to_owned()
    } else {
        ip.to_string()
    }
}

fn describe(endpoint: &Endpoint<'_>, lines: &mut Vec<String>) {
    let method = endpoint.method.as_deref().unwrap_or("GET");
    let path = endpoint.endpoint.as_deref().unwrap_or("/");
    lines.push(format!("\t- {method} {path}"));
    if let Some(timeout) = endpoint.timeout {
        lines.push(format!("\t  Timeout: {}", duration::print(timeout)));
    }
    if !endpoint.input_query_strings.is_empty() {
        lines.push(format!(
            "\t  QueryString: {}",
            endpoint.input_query_strings.join(", ")
        ));
    }
    if !endpoint.input_headers.is_empty() {
        lines.push(format!(
            "\t  Headers: {}",
            endpoint.input_headers.join(", ")
        ));
    }
    lines.push(components("\t  ", "endpoint", &endpoint.extra));
    describe_backends(&endpoint.backend, method, lines);
}

fn describe_backends(backends: &[Backend<'_>], method: &str, lines: &mut Vec<String>) {
    for backend in backends {
        let method = backend.method.as_deref().unwrap_or(method);
        let pattern = backend.url_pattern.as_deref().unwrap_or("/");
        let hidden = match backend.block.get("url_pattern") {
            Some(node) if node.value().masked => UrlSecrets::all_of(pattern),
            _ => UrlSecrets::of(pattern),
        };
        let pattern = hidden.clean(pattern);
        lines.push(format!("\t\t[+] {method} {pattern}"));
        let hosts: Vec<String> = backend
            .host
            .iter()
            .map(|host| without_password(&host.shown()).into_owned())
            .collect();
        if !hosts.is_empty() {
            lines.push(format!("\t\t    Hosts: {}", hosts.join(", ")));
        }
        lines.push(components("\t\t    ", "backend", &backend.extra));
    }
}

fn components(indent: &str, level: &str, extra: &Extra<'_>) -> String {
    let mut names: Vec<&str> = extra
        .namespaces()
        .iter()
        .filter(|(_, node)| !node.value().is_null())
        .map(|(name, _)| *name)
        .collect();
    names.sort_unstable();
    if names.is_empty() {
        format!("{indent}No {level} components")
    } else {
        format!(
            "{indent}{} {level} components: {}",
            names.len(),
            names.join(", ")
        )
    }
}
