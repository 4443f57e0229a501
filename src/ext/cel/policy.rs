//! Expressions of policies: the same variables as in `validation/cel`, and more functions.

use std::sync::Arc;
use std::time::Instant;

use super::absent_names;
use super::facts::{
    CLIENT, GEO, JWT, NOW, PolicyFacts, REQ_HEADERS, REQ_PARAMS, REQ_QUERY, RESP_DATA, RESPONSE,
    open, variables,
};
use super::language::{self, Dialect, Path, Places, Program, Type, Variable};
use super::runtime::{Denied, Verdict, verdict};
use crate::config::{ConfigError, Node};
use crate::ext::context::{Compile, EndpointSite};
use crate::ext::geoip::Locator;
use crate::runtime::failure::Failure;
use crate::runtime::json::Growth;
use crate::runtime::pipe::PipeResponse;
use crate::upstream::budget::Charge;

/// What a policy judges.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Subject {
    Request,
    /// The response, together with the request.
    Response,
    Token,
}

/// How policies of one block are compiled.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub subject: Subject,
    pub macros: bool,
    /// Whether the claims of a verified token are known.
    pub has_token: bool,
    pub locator: Option<Arc<Locator>>,
}

/// A compiled policy.
#[derive(Debug)]
pub(crate) struct Policy(Program);

/// What is the matter with an expression, and a hint.
pub(super) type Flaw = (ConfigError, Option<String>);

impl Policy {
    /// The policy as it is written.
    pub(crate) fn text(&self) -> &str {
        self.0.text()
    }

    /// Compiles `text`, which is at `node`. An error is reported there.
    pub(crate) fn compile(
        text: &str,
        node: &Node<'_>,
        rules: &Rules,
        site: &EndpointSite<'_>,
        cx: &Compile<'_>,
    ) -> Option<Policy> {
        match Policy::parse(text, rules).map_err(|flaw| *flaw) {
            Ok(policy) => {
                if rules.subject != Subject::Token {
                    absent_names::missing(node, &policy.0, site, cx);
                }
                if policy.0.takes_as_number(RESP_DATA) {
                    node.warn_hint(
                        ConfigError::invalid(
                            "numbers of \"resp_data\" are texts: this comparison is never true",
                        ),
                        "int(resp_data.x) and double(resp_data.x) make them numbers",
                    );
                }
                Some(policy)
            }
            Err((config_error, Some(hint))) => {
                node.config_error_hint(config_error, hint);
                None
            }
            Err((config_error, None)) => {
                node.config_error(config_error);
                None
            }
        }
    }

    /// Compiles `text` without reporting an error.
    ///
    /// # Errors
    /// The expression is invalid.
    pub(crate) fn parse(text: &str, rules: &Rules) -> Result<Policy, Box<Flaw>> {
        let dialect = Dialect::Policy {
            macros: rules.macros,
            places: Places {
                headers: REQ_HEADERS,
                query: REQ_QUERY,
                client: CLIENT,
                geo: GEO,
            },
        };
        let program = language::compile_policy(text, &declared(rules), dialect)
            .map_err(|flaw| Box::new((ConfigError::invalid(flaw.to_string()), flaw.hint)))?;
        if !matches!(program.kind(), Type::Bool | Type::Dyn) {
            let text = format!(
                "the result of the expression is {}, not a bool",
                program.kind()
            );
            let hint = "compare it with something".to_owned();
            return Err(Box::new((ConfigError::invalid(text), Some(hint))));
        }
        Ok(Policy(program))
    }

    /// Whether the policy is true. Otherwise the reason for the log. A policy that fails is not true.
    pub(crate) fn judge(&self, scene: &PolicyFacts<'_>, deadline: Instant) -> Result<(), Denied> {
        match verdict(&self.0, scene, deadline) {
            Verdict::Overload(overload) => Err(Denied::Overload(overload)),
            _ if scene.lacks_place() => Err(Denied::For(
                "the location of the client cannot be read".to_owned(),
            )),
            Verdict::True => Ok(()),
            Verdict::False => Err(Denied::For("false".to_owned())),
            Verdict::Failed(why) => Err(Denied::For(format!("failed: {why}"))),
        }
    }

    /// The parts of the response's data that the policy reads.
    pub(crate) fn reads(&self) -> Vec<Path> {
        self.0.reads(RESP_DATA)
    }

    /// The names of the path parameters that the policy reads.
    pub(crate) fn params(&self) -> Vec<String> {
        self.0.members(REQ_PARAMS)
    }
}

/// The variables that are known to the subject. Others have no name, so that no expression can use them.
fn declared(rules: &Rules) -> Vec<Variable> {
    let mut all = variables().to_vec();
    all.push(Variable {
        name: "@client",
        kind: Type::String,
    });
    if rules.locator.is_some() {
        all.push(Variable {
            name: "@geo",
            kind: Type::map(Type::Dyn),
        });
    }
    for (index, variable) in all.iter_mut().enumerate() {
        let known = match rules.subject {
            Subject::Request => !RESPONSE.contains(&index),
            Subject::Response => true,
            Subject::Token => index == NOW || index == JWT,
        };
        if !known || (index == JWT && !rules.has_token) {
            variable.name = "";
        }
    }
    all
}

/// Parses the parts of a response that expressions read. What is charged for them is held by the result.
///
/// # Errors
/// There is no memory for them.
pub(crate) fn open_reads(
    reads: &[Path],
    response: &mut PipeResponse,
) -> Result<Vec<Charge>, Failure> {
    let mut held = Vec::new();
    if !reads.is_empty() {
        let mut growth = Growth::default();
        let opened = response.data.open_within(&mut growth);
        opened.map_err(|_| Failure::full())?;
        held.push(growth.into_charge());
    }
    for path in reads {
        open(&mut response.data, path, &mut held).map_err(|_| Failure::full())?;
    }
    Ok(held)
}
