//! Steps that a block of the service adds to every endpoint, after those that identify the client.

use std::sync::Arc;

use http::HeaderName;

use super::context::Compile;
use crate::config::{ConfigError, Finding, Node, Severity};
use crate::runtime::step::EndpointStep;

/// The steps so far, in the order of their blocks.
#[derive(Debug, Default, Clone)]
pub(in crate::ext) struct InheritedSteps(Vec<Entry>);

#[derive(Debug, Clone)]
struct Entry {
    step: Arc<dyn EndpointStep>,
    /// The header whose value clients must not choose, and where it is configured.
    trusted: Option<(HeaderName, String, crate::config::Position)>,
}

/// Adds a step to all endpoints that are compiled later.
pub(super) fn imply(step: Arc<dyn EndpointStep>, cx: &mut Compile<'_>) {
    add(
        Entry {
            step,
            trusted: None,
        },
        cx,
    );
}

/// Adds a step that depends on a header to all endpoints that are compiled later. Endpoints where nothing but the
/// client sets it give a warning at `node`.
pub(super) fn imply_by_header(
    step: Arc<dyn EndpointStep>,
    header: HeaderName,
    node: &Node<'_>,
    cx: &mut Compile<'_>,
) {
    let trusted = Some((header, node.pointer(), node.at()));
    add(Entry { step, trusted }, cx);
}

fn add(entry: Entry, cx: &mut Compile<'_>) {
    let mut all = cx
        .fact::<InheritedSteps>()
        .map(|all| (*all).clone())
        .unwrap_or_default();
    all.0.push(entry);
    cx.set_fact(Arc::new(all));
}

/// The steps for the current endpoint, whose own blocks about identity are compiled.
pub(crate) fn steps(cx: &Compile<'_>) -> Vec<Box<dyn EndpointStep>> {
    let Some(all) = cx.fact::<InheritedSteps>() else {
        return Vec::new();
    };
    let steps = all.0.iter().map(|entry| {
        if let Some((header, pointer, at)) = &entry.trusted
            && !cx.is_set_by_gateway(header)
        {
            cx.report.add(Finding {
                severity: Severity::Warning,
                pointer: pointer.clone(),
                at: *at,
                config_error: clients_choose(header),
                hint: Some(
                    "set it from the token or the key: \"propagate_claims\", \"propagate_role\""
                        .into(),
                ),
            });
        }
        Box::new(Arc::clone(&entry.step)) as Box<dyn EndpointStep>
    });
    steps.collect()
}

/// The steps for requests that no endpoint takes, when all endpoints are compiled. A step that depends on a header is one
/// of them only if no endpoint sets the header: otherwise the header is known only after the steps of an endpoint.
pub(crate) fn unrouted(cx: &Compile<'_>) -> Vec<Box<dyn EndpointStep>> {
    let Some(all) = cx.fact::<InheritedSteps>() else {
        return Vec::new();
    };
    let is_set = |entry: &&Entry| {
        let header = entry.trusted.as_ref().map(|(header, _, _)| header);
        header.is_some_and(|header| cx.identifies(header))
    };
    let steps = all.0.iter().filter(|entry| !is_set(entry));
    steps
        .map(|entry| Box::new(Arc::clone(&entry.step)) as Box<dyn EndpointStep>)
        .collect()
}

/// The warning about a tier that the client names itself.
pub(super) fn clients_choose(header: &HeaderName) -> ConfigError {
    ConfigError::invalid(format!(
        "no step of an endpoint sets {header}: clients can choose their tier with it"
    ))
}
