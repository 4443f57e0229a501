//! Compiles `async_agent`.

use std::borrow::Cow;

use crate::compile::{backend, endpoint};
use crate::config::{Agent as File, ConfigError, Service};
use crate::ext::{Compile, amqp};
use crate::runtime::agents::Agent;
use crate::runtime::service::Options;

/// The name of the agent at this place of the list.
pub(super) fn name<'f>(file: &'f File<'_>, index: usize) -> Cow<'f, str> {
    match &file.name {
        Some(name) => Cow::Borrowed(name),
        None => Cow::Owned(format!("AsyncAgent-{index:02}")),
    }
}

/// All agents. Errors are reported.
pub(super) fn agents(file: &Service<'_>, options: &Options, cx: &mut Compile<'_>) -> Box<[Agent]> {
    let hosts = backend::cleaned(&file.host);
    let mut names: Vec<Cow<'_, str>> = Vec::with_capacity(file.async_agent.len());
    let mut agents = Vec::with_capacity(file.async_agent.len());
    for (index, written) in file.async_agent.iter().enumerate() {
        let name = name(written, index);
        if names.contains(&name) {
            let error = ConfigError::invalid(format!("two agents have the name {name:?}"));
            let node = written.block.get("name");
            node.unwrap_or_else(|| written.block.node().clone())
                .config_error_hint(error, "give each agent its own name");
        }
        let work = endpoint::agent(written, &name, file, &hosts, cx);
        agents.extend(amqp::agent(written, &name, work, options, cx));
        names.push(name);
    }
    agents.into()
}
